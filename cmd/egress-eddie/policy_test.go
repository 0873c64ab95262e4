package main_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// one is the configuration of one filter with further lines.
func one(more string, names ...string) config {
	return config{filters: []filter{{allowed: names, more: more}}}
}

// A name says whether it means itself, what is below it, or both.
func TestScopes(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		zone := map[string][]string{}
		for i, n := range []string{"only.test.", "x.only.test.", "below.test.", "x.below.test.", "tree.test.", "x.tree.test.", "xn--bcher-kva.test."} {
			zone[n] = []string{fmt.Sprintf("%s 60 IN %s %v", n, f.record(), f.web(i+1))}
		}
		l.resolver(f.resolver, zoneOf(zone))
		l.start(allowing("=only.test", "*.below.test", "tree.test", "bücher.test"))
		l.rules(standardRules)
		for _, n := range []string{"only.test", "x.below.test", "tree.test", "x.tree.test", "xn--bcher-kva.test"} {
			l.daemon.never(t, eventRequest, fields{"name": n})
			if m := l.client.asker(t, f.client).ask(f.dns(), n, typeOf(f)); len(m.Answer) != 1 {
				t.Errorf("%s: %v", n, m)
			}
		}
		for _, n := range []string{"x.only.test", "below.test"} {
			l.isRefused(t, f, n, typeOf(f))
		}
		l.reaches(t, f.web(4))
		l.isShut(t, f.web(2))
		l.idle(t)
	})
}

// zoneOf is zone: a short name for tests that call a variable so.
func zoneOf(records map[string][]string) func(q *query) { return zone(records) }

// A name with ports opens those ports of its addresses; several entries add up;
// a name that its answer teaches has the same.
func TestNamePorts(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, webZone(f))
		l.start(allowing("w1.example.com:80/tcp", "w1.example.com:4000/udp", "w2.example.com:81", "w3.example.com:80/udp", "w4.example.com"))
		l.rules(standardRules)
		at := func(i int) string { return pick(f, f.web(i).String(), "["+f.web(i).String()+"]") }
		for i, granted := range map[int]string{
			1: at(1) + ":80/tcp " + at(1) + ":4000/udp", 2: at(2) + ":81", 3: at(3) + ":80/udp", 4: f.web(4).String(),
		} {
			name := fmt.Sprintf("w%d.example.com", i)
			l.resolves(t, f, name, typeOf(f), f.web(i))
			l.daemon.sees(t, eventResponse, fields{"name": name, "granted": granted})
		}
		l.reachesPort(t, f.web(1), "80/tcp")
		l.reachesPort(t, f.web(4), "80/tcp")
		for _, i := range []int{2, 3} {
			if got := l.client.curl(t, 0, f.web(i), 0.3); got != "" {
				t.Errorf("web %d: %q", i, got)
			}
			l.daemon.sees(t, eventTraffic, fields{"dst": f.web(i), "verdict": "drop", "reason": "address not granted", "port": "80/tcp"})
		}
		sink := l.server.listenUDP(t, netip.AddrPortFrom(f.web(1), 4000))
		other := l.server.listenUDP(t, netip.AddrPortFrom(f.web(1), 4001))
		a := l.client.asker(t, f.client)
		a.sendWire(netip.AddrPortFrom(f.web(1), 4001), []byte("leak"))
		l.daemon.sees(t, eventTraffic, fields{"dst": f.web(1), "verdict": "drop", "port": "4001/udp"})
		a.sendWire(netip.AddrPortFrom(f.web(1), 4000), []byte("hello"))
		receives(t, sink, "hello")
		(&asker{t: t, conn: other}).nothing()
		l.idle(t)
	})
}

func (l *lab) reachesPort(t *testing.T, at netip.Addr, port string) {
	t.Helper()
	if got := l.client.curl(t, 0, at, patience.Seconds()); got == "" {
		t.Errorf("%v is not reached", at)
	}
	l.daemon.sees(t, eventTraffic, fields{"dst": at, "verdict": "accept", "port": port})
}

// A later fragment has no ports: it passes only where all ports are open. (By
// a rule that does not use conntrack, which would make the packet whole first.)
func TestFragmentsAndPorts(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	l.resolver(f.resolver, webZone(f))
	l.start(allowing("w1.example.com:4000/udp", "w2.example.com"))
	l.rules(func(f family) []string {
		return append([]string{"*raw", "-A OUTPUT -j CT --notrack", "COMMIT", "*filter"},
			append(dnsRules(f), fmt.Sprintf("-A OUTPUT -j NFQUEUE --queue-num %d", trafficQueue(0, f)))...)
	})
	l.resolves(t, f, "w1.example.com", dns.TypeA, f.web(1))
	l.resolves(t, f, "w2.example.com", dns.TypeA, f.web(2))
	for _, i := range []int{1, 2} {
		later := datagram(t, netip.AddrPortFrom(f.client, 4000), netip.AddrPortFrom(f.web(i), 4000), []byte("aaaaaaaa"))
		later[6], later[7] = 0, 2 // offset 16
		l.client.sendRaw(t, later)
	}
	l.daemon.sees(t, eventTraffic, fields{"dst": f.web(1), "verdict": "drop", "reason": "address not granted for all ports, and the ports cannot be read"})
	l.daemon.sees(t, eventTraffic, fields{"dst": f.web(2), "verdict": "accept"})
}

// Addresses and networks of the configuration are open without any name, on
// their ports; a filter may have nothing else, and then no DNS at all.
func TestAllowedAddresses(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		network := netip.PrefixFrom(f.web(4), f.bits+pick(f, 6, 62)).Masked() // web 4 and some neighbours
		text := config{filters: []filter{{allowed: []string{"example.com"}, more: fmt.Sprintf("allowedAddresses = [%q, %q]\n", f.web(1), bracketed(network)+":80/tcp")}}}
		l.start(text)
		l.rules(standardRules)
		l.reachesPort(t, f.web(1), "80/tcp")
		l.reachesPort(t, f.web(4), "80/tcp")
		l.isShut(t, f.web(9))
		sink := l.server.listenUDP(t, netip.AddrPortFrom(f.web(4), 80))
		l.client.asker(t, f.client).sendWire(netip.AddrPortFrom(f.web(4), 80), []byte("leak"))
		l.daemon.sees(t, eventTraffic, fields{"dst": f.web(4), "verdict": "drop", "port": "80/udp"})
		(&asker{t: t, conn: sink}).nothing()
		l.idle(t)
	})
}

func bracketed(p netip.Prefix) string {
	if p.Addr().Is6() {
		return "[" + p.String() + "]"
	}
	return p.String()
}

// Filters of one kind only: processes without a queue have no work, and no
// harm comes of it.
func TestFiltersOfOneKind(t *testing.T) {
	t.Parallel()
	f := families[0]
	for what, text := range map[string]string{
		"all names":      config{filters: []filter{{}}}.String(),
		"addresses only": fmt.Sprintf("inboundDNSQueue.ipv4 = 1\n[[filters]]\nname = \"a\"\ntrafficQueue.ipv4 = 1002\nallowedAddresses = [%q]\n", f.web(1)),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.daemon = startDaemon(t, l.client, builtBinary, "-c", configFile(t, text), "-d", "-log-format", "json")
			l.daemon.sees(t, "filtering", nil)
			if what == "all names" {
				l.resolver(f.resolver, webZone(f))
				l.rules(dnsRules)
				l.resolves(t, f, "w1.example.com", dns.TypeA, f.web(1))
				return
			}
			l.rules(func(f family) []string { return []string{trafficRule(families[0])}[:pick(f, 1, 0)] })
			l.reaches(t, f.web(1))
			l.isShut(t, f.web(2))
		})
	}
}

// Answers in private ranges pass and open nothing, if the filter says so.
func TestPrivateAnswers(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	l.server.ip(t, "route add local 10.9.9.9/32 dev lo")
	l.resolver(f.resolver, zone(map[string][]string{"example.com.": {"example.com. 60 IN A 10.9.9.9", fmt.Sprintf("example.com. 60 IN A %v", f.web(1))}}))
	l.start(one("privateAnswers = \"deny\"\n", "example.com"))
	l.rules(standardRules)
	l.resolves(t, f, "example.com", dns.TypeA, "10.9.9.9", f.web(1))
	l.daemon.sees(t, eventResponse, fields{"name": "example.com", "verdict": "accept", "granted": f.web(1), "refused": "10.9.9.9"})
	l.reaches(t, f.web(1))
	l.isShut(t, netip.MustParseAddr("10.9.9.9"))
	l.idle(t)
}

// Record types that are not named do not leave.
func TestQueryTypes(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	r := l.resolver(f.resolver, webZone(f))
	l.start(one("allowedQueryTypes = [\"A\", \"https\"]\n", "example.com"))
	l.rules(standardRules)
	a := l.client.asker(t, f.client)
	for _, typ := range []uint16{dns.TypeTXT, dns.TypeNULL, dns.TypeANY, dns.TypeAAAA, 64999} {
		a.send(f.dns(), question("secret.example.com", typ))
		name := dns.Type(typ).String()
		l.daemon.sees(t, eventRequest, fields{"name": "secret.example.com", "type": name, "verdict": "drop", "reason": "record type not allowed"})
	}
	a.ask(f.dns(), "w1.example.com", dns.TypeHTTPS)
	l.resolves(t, f, "w1.example.com", dns.TypeA, f.web(1))
	if r.asked("secret.example.com") > 0 {
		t.Error("a question left")
	}
	l.idle(t)
}

// An address is open as long as its record says, within the bounds.
func TestRespectTTL(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	l.resolver(f.resolver, zone(map[string][]string{
		"short.example.com.": {fmt.Sprintf("short.example.com. 1 IN A %v", f.web(1))},
		"long.example.com.":  {fmt.Sprintf("long.example.com. 3600 IN A %v", f.web(2))},
	}))
	l.start(one("respectTTL = true\nttlGrace = \"0s\"\nminTTL = \"100ms\"\n", "example.com"))
	l.rules(standardRules)
	l.resolves(t, f, "long.example.com", dns.TypeA, f.web(2))
	l.resolves(t, f, "short.example.com", dns.TypeA, f.web(1))
	l.daemon.sees(t, eventResponse, fields{"name": "short.example.com", "for": "1s"})
	l.daemon.sees(t, eventResponse, fields{"name": "long.example.com", "for": "10m0s"})
	time.Sleep(1100 * time.Millisecond) // what ends is time
	l.isShut(t, f.web(1))
	l.reaches(t, f.web(2))
}

// A grant in use lasts beyond its answer, and not beyond maxInUse.
func TestKeepInUse(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	l.resolver(f.resolver, webZone(f))
	c := one("keepInUse = true\nmaxInUse = \"6s\"\n", "example.com")
	c.filters[0].lasts = "2s"
	l.start(c)
	l.rules(standardRules)
	began := time.Now()
	l.opens(t, f, "w1.example.com", 1)
	l.opens(t, f, "w2.example.com", 2)
	for time.Since(began) < 4500*time.Millisecond { // more than twice the answer's time
		if l.client.curl(t, 0, f.web(1), 0.5) == "" {
			t.Fatalf("shut after %v of use", time.Since(began))
		}
		time.Sleep(300 * time.Millisecond)
	}
	if l.client.curl(t, 0, f.web(2), 0.3) != "" {
		t.Error("one that was not used lasts as long")
	}
	time.Sleep(time.Until(began.Add(6500 * time.Millisecond)))
	if l.client.curl(t, 0, f.web(1), 0.3) != "" {
		t.Error("it outlives maxInUse")
	}
}

// A change of the ports of a name closes those that are gone, in the running
// filter.
func TestReloadPorts(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	l.resolver(f.resolver, webZone(f))
	file := l.startFrom(t, allowing("w1.example.com", "w2.example.com:80"))
	l.rules(standardRules)
	l.resolves(t, f, "w1.example.com", dns.TypeA, f.web(1))
	l.resolves(t, f, "w2.example.com", dns.TypeA, f.web(2))
	l.reload(t, file, allowing("w1.example.com:80", "w2.example.com:81").String(), reloaded)
	l.daemon.sees(t, "policy changed", nil)
	l.reachesPort(t, f.web(1), "80/tcp")
	if got := l.client.curl(t, 0, f.web(2), 0.3); got != "" {
		t.Errorf("the old port still opens: %q", got)
	}
	l.client.asker(t, f.client).sendWire(netip.AddrPortFrom(f.web(1), 4000), []byte("leak"))
	l.daemon.sees(t, eventTraffic, fields{"dst": f.web(1), "verdict": "drop", "port": "4000/udp"})
	if strings.Contains(l.daemon.output(), "panic") {
		t.Error("a process panicked")
	}
}
