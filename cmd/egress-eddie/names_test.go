package main_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// What most people want of it: an allowed name and what lies below it can be
// asked for and reached, everything else cannot.
func TestNames(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		server := l.dnsmasq(
			fmt.Sprintf("--host-record=example.com,%v", f.web(1)),
			fmt.Sprintf("--host-record=deep.sub.example.com,%v", f.web(2)),
			fmt.Sprintf("--address=/xexample.com/example.com.evil/evil.test/com/%v", f.web(3)))
		l.start(allowing("example.com"))
		l.rules(standardRules)

		l.isShut(t, f.web(1)) // before anybody asked
		for i, name := range []string{"example.com", "deep.sub.example.com"} {
			out, ok := l.client.dig(t, 0, f.resolver, 10, name, f.record())
			if !ok || strings.Join(out, " ") != f.web(i+1).String() {
				t.Fatalf("dig %s: %v, answered %v", name, out, ok)
			}
			l.daemon.sees(t, eventRequest, fields{"name": name, "type": f.record(), "verdict": "accept", "filter": "filter 0",
				"queue": dnsQueue(0, f), "reason": nil, "uid": 0, "allowed_by": "example.com", "by_answer": nil})
			l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "accept", "granted": f.web(i + 1), "filter": "filter 0",
				"queue": inboundQueue(f), "reason": nil, "learnt": nil, "refused": nil})
			l.reaches(t, f.web(i+1))
		}
		for _, name := range []string{"xexample.com", "example.com.evil", "evil.test", "com"} {
			if out, ok := l.client.dig(t, 0, f.resolver, 1, name, f.record()); ok {
				t.Errorf("dig %s was answered: %v", name, out)
			}
			l.daemon.sees(t, eventRequest, fields{"name": name, "verdict": "drop", "reason": "name not allowed", "allowed_by": nil})
			if server.asked(name) {
				t.Errorf("the question for %s left the host", name)
			}
			// The same question, unfiltered: the server would have answered.
			if out, ok := l.server.dig(t, 0, f.resolver, 10, name, f.record()); !ok || len(out) != 1 {
				t.Errorf("dig %s beside the filter: %v", name, out)
			}
		}
		l.isShut(t, f.web(3))
		l.idle(t)
	})
}

// DNS with 0x20 case randomisation, and a server that answers in another case.
func TestMixedCase(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		r := l.resolver(f.resolver, func(q *query) {
			m := q.reply(fmt.Sprintf("%s 60 IN %s %v", strings.ToUpper(q.name()), f.record(), f.web(1)))
			if strings.HasPrefix(q.name(), "L") {
				m.Question[0].Name = strings.ToLower(q.name())
			}
			m.Compress = false
			q.send(m)
		})
		l.start(allowing("eXample.COM"))
		l.rules(standardRules)
		for _, name := range []string{"wWw.eXaMPle.cOm.", "LoWer.ExAmPlE.com."} {
			a := l.client.asker(t, f.client)
			m := question(name, typeOf(f))
			a.send(f.dns(), m)
			got := a.answer(m)
			sameData(t, got, f.web(1))
			l.daemon.sees(t, eventResponse, fields{"name": strings.ToLower(strings.TrimSuffix(name, ".")), "verdict": "accept", "granted": f.web(1)})
			if q := r.got()[len(r.got())-1]; q.name() != name {
				t.Errorf("the server saw %s, not %s", q.name(), name)
			}
		}
		l.reaches(t, f.web(1))
		l.idle(t)
	})
}

// dig with all that it sends by default, a DNS cookie among it.
func TestEDNS(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		r := l.resolver(f.resolver, zone(map[string][]string{
			"example.com.": {fmt.Sprintf("example.com. 60 IN %s %v", f.record(), f.web(1))},
		}))
		l.start(allowing("example.com"))
		l.rules(standardRules)
		if out, ok := l.client.dig(t, 0, f.resolver, 10, "example.com", f.record()); !ok || len(out) != 1 {
			t.Fatalf("dig: %v", out)
		}
		opt := r.got()[0].msg.IsEdns0()
		if opt == nil || len(opt.Option) != 1 || opt.Option[0].Option() != dns.EDNS0COOKIE {
			t.Errorf("the server saw the options %v, not a cookie", opt)
		}
		l.reaches(t, f.web(1))
		l.idle(t)
	})
}
