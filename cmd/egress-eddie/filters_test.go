package main_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// Users whose packets go to the queues of filter 0 and 1.
const (
	userA = 2001
	userB = 2002
)

// userRules send each user's requests to a filter of his own; his traffic
// too, where that filter has a queue for it. Root is not filtered.
func userRules(traffic ...bool) func(f family) []string {
	return func(f family) []string {
		lines := []string{fmt.Sprintf("-A INPUT -p udp --sport 53 -j NFQUEUE --queue-num %d", inboundQueue(f))}
		for i, hasTraffic := range traffic {
			user := fmt.Sprintf("-A OUTPUT -m owner --uid-owner %d ", userA+i)
			lines = append(lines, user+fmt.Sprintf("-p udp --dport 53 -j NFQUEUE --queue-num %d", dnsQueue(i, f)))
			if hasTraffic {
				lines = append(lines, user+fmt.Sprintf("-m conntrack --ctstate NEW -j NFQUEUE --queue-num %d", trafficQueue(i, f)))
			}
		}
		return lines
	}
}

// Two filters with the same resolver: each response belongs to the filter of
// its request, whatever order they come in, and opens for that filter only.
func TestTwoFilters(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		answer := zone(map[string][]string{
			"a.test.":      {"a.test. 60 IN CNAME shared.test.", fmt.Sprintf("shared.test. 60 IN %s %v", f.record(), f.web(1))},
			"b.test.":      {fmt.Sprintf("b.test. 60 IN %s %v", f.record(), f.web(2))},
			"shared.test.": {fmt.Sprintf("shared.test. 60 IN %s %v", f.record(), f.web(1))},
		})
		var held *query
		l.resolver(f.resolver, func(q *query) {
			if q.name() == "a.test." { // answered only after the other one
				held = q
				return
			}
			answer(q)
			if held != nil {
				answer(held)
				held = nil
			}
		})
		l.start(config{filters: []filter{{name: "A", allowed: []string{"a.test"}}, {name: "B", allowed: []string{"b.test"}}}})
		l.rules(userRules(true, true))

		a, b := l.client.askerAs(t, userA, f.client), l.client.askerAs(t, userB, f.client)
		askA, askB := question("a.test", typeOf(f)), question("b.test", typeOf(f))
		askB.Id = askA.Id
		a.send(f.dns(), askA)
		l.daemon.sees(t, eventRequest, fields{"name": "a.test", "filter": "A", "queue": dnsQueue(0, f), "uid": userA, "verdict": "accept"})
		b.send(f.dns(), askB)
		sameData(t, b.answer(askB), f.web(2))
		sameData(t, a.answer(askA), "shared.test.", f.web(1))
		l.daemon.sees(t, eventRequest, fields{"name": "b.test", "filter": "B", "queue": dnsQueue(1, f), "uid": userB, "verdict": "accept"})
		l.daemon.sees(t, eventResponse, fields{"name": "a.test", "filter": "A", "granted": f.web(1), "learnt": "shared.test"})
		l.daemon.sees(t, eventResponse, fields{"name": "b.test", "filter": "B", "granted": f.web(2), "learnt": nil})

		for _, c := range []struct {
			user   uint32
			filter string
			web    int
			open   bool
		}{{userA, "A", 1, true}, {userB, "B", 2, true}, {userA, "A", 2, false}, {userB, "B", 1, false}} {
			seconds, verdict, reason := 0.3, "drop", any("address not granted")
			if c.open {
				seconds, verdict, reason = patience.Seconds(), "accept", nil
			}
			if got := l.client.curl(t, c.user, f.web(c.web), seconds); (got != "") != c.open {
				t.Errorf("user %d, web %d: %q", c.user, c.web, got)
			}
			l.daemon.sees(t, eventTraffic, fields{"filter": c.filter, "dst": f.web(c.web), "uid": c.user, "verdict": verdict, "reason": reason})
		}

		// Names neither.
		for _, c := range []struct {
			user         int
			filter, name string
		}{{userA, "A", "b.test"}, {userB, "B", "a.test"}, {userB, "B", "shared.test"}} {
			asker := l.client.askerAs(t, c.user, f.client)
			asker.send(f.dns(), question(c.name, dns.TypeTXT))
			l.daemon.sees(t, eventRequest, fields{"filter": c.filter, "name": c.name, "type": "TXT", "verdict": "drop", "reason": "name not allowed"})
			asker.nothing()
		}
		l.idle(t)
	})
}

// A filter that allows all names: every answer passes, nothing is granted to
// anyone, and the user's traffic is not filtered.
func TestAllowAll(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, func(q *query) {
			m := q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1)),
				fmt.Sprintf("unrelated.test. 60 IN %s %v", f.record(), f.web(2)))
			q.send(m)
		})
		l.start(config{filters: []filter{{name: "A", allowed: []string{"example.com"}}, {name: "all"}}})
		l.rules(userRules(true, false))

		b := l.client.askerAs(t, userB, f.client)
		sameData(t, b.ask(f.dns(), "anything.test", typeOf(f)), f.web(1), f.web(2))
		l.daemon.sees(t, eventRequest, fields{"name": "anything.test", "filter": "all", "queue": dnsQueue(1, f), "verdict": "accept"})
		l.daemon.sees(t, eventResponse, fields{"name": "anything.test", "filter": "all", "verdict": "accept", "granted": nil, "learnt": nil, "refused": nil})
		for i := 1; i <= 3; i++ {
			if got := l.client.curl(t, userB, f.web(i), patience.Seconds()); got == "" {
				t.Errorf("user B cannot reach web %d", i)
			}
		}
		if got := l.client.curl(t, userA, f.web(1), 0.3); got != "" {
			t.Errorf("user A reached web 1, which was opened by nobody: %q", got)
		}
		l.daemon.sees(t, eventTraffic, fields{"filter": "A", "dst": f.web(1), "verdict": "drop", "reason": "address not granted"})
		l.daemon.never(t, eventTraffic, fields{"uid": userB})

		// Pairing is required of it as of any other.
		unasked := question("anything.test", typeOf(f)).SetReply(question("unasked.test", typeOf(f)))
		server := l.server.listenUDP(t, netip.AddrPortFrom(f.other, 53))
		if _, err := server.WriteToUDPAddrPort(pack(t, unasked), b.at); err != nil {
			t.Fatal(err)
		}
		l.daemon.sees(t, eventResponse, fields{"name": "unasked.test", "verdict": "drop", "reason": "no pending request"})
		b.ask(f.dns(), "more.test", typeOf(f))
		b.nothing()
		l.idle(t)
	})
}

// With resolvers set, a filter that grants may ask only these; one that grants
// nothing may ask any server.
func TestResolvers(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		answer := func(q *query) { q.send(q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1)))) }
		l.resolver(f.resolver, answer)
		rogue := l.resolver(f.other, answer)
		l.start(config{
			resolvers: []any{families[0].resolver, families[1].resolver},
			filters:   []filter{{name: "A", allowed: []string{"example.com"}}, {name: "all"}},
		})
		l.rules(userRules(true, false))

		a, b := l.client.askerAs(t, userA, f.client), l.client.askerAs(t, userB, f.client)
		a.send(netip.AddrPortFrom(f.other, 53), question("evil.example.com", typeOf(f)))
		l.daemon.sees(t, eventRequest, fields{"filter": "A", "name": "evil.example.com", "dst": netip.AddrPortFrom(f.other, 53),
			"verdict": "drop", "reason": "resolver not trusted"})
		sameData(t, a.ask(f.dns(), "www.example.com", typeOf(f)), f.web(1))
		a.nothing()
		if rogue.asked("evil.example.com") > 0 {
			t.Error("the question reached a server that is not trusted")
		}
		sameData(t, b.ask(netip.AddrPortFrom(f.other, 53), "any.test", typeOf(f)), f.web(1))
		l.daemon.sees(t, eventResponse, fields{"filter": "all", "name": "any.test", "verdict": "accept", "granted": nil})
		l.idle(t)
	})
}
