package main_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// opens has an address granted to filter 0.
func (l *lab) opens(t *testing.T, f family, name string, i int) {
	t.Helper()
	l.resolves(t, f, name, typeOf(f), f.web(i))
	l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "accept", "granted": f.web(i)})
}

// webZone answers wN.example.com with web N.
func webZone(f family) func(q *query) {
	names := map[string][]string{}
	for i := 1; i <= 9; i++ {
		name := fmt.Sprintf("w%d.example.com.", i)
		names[name] = []string{fmt.Sprintf("%s 60 IN %s %v", name, f.record(), f.web(i))}
	}
	return zone(names)
}

// At PREROUTING the direction of a packet is not known: it is dropped, even
// one from or to a granted address, and one line of the log says why.
func TestPrerouting(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, webZone(f))
		l.serve(l.client)
		l.start(allowing("example.com"))
		l.rules(dnsRules)
		l.opens(t, f, "w1.example.com", 1)
		here := netip.AddrPortFrom(f.client, 80)
		if !l.server.connects(t, f.web(1), here, patience) {
			t.Error("the host's web server cannot be reached without the rule")
		}
		l.rules(func(f family) []string {
			return []string{"*mangle", fmt.Sprintf("-A PREROUTING -m conntrack --ctstate NEW -j NFQUEUE --queue-num %d", trafficQueue(0, f))}
		})
		if l.server.connects(t, f.web(1), here, shortly) {
			t.Error("a connection from a granted address came about")
		}
		if l.server.connects(t, f.resolver, here, shortly) {
			t.Error("a connection from another address came about")
		}
		l.daemon.sees(t, eventTraffic, fields{"src": f.web(1), "dst": f.client, "verdict": "drop", "reason": "hook PREROUTING is not supported"})
		if got := l.queued(t, trafficQueue(0, f)); got < 2 {
			t.Errorf("%d packets came to the queue", got)
		}
		warnings := 0
		for _, line := range l.daemon.log() {
			if line.text("hook") == "PREROUTING" {
				warnings++
				if line.text("@level") != "warn" || line.text("queue") != fmt.Sprint(trafficQueue(0, f)) {
					t.Errorf("the warning is %v", line)
				}
			}
		}
		if warnings != 1 {
			t.Errorf("%d warnings name the hook", warnings)
		}
		l.idle(t)
	})
}

// Packets that arrive are judged by where they come from.
func TestInput(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, webZone(f))
		l.serve(l.client)
		l.start(allowing("example.com"))
		l.rules(func(f family) []string {
			return append(dnsRules(f), fmt.Sprintf("-A INPUT -m conntrack --ctstate NEW -j NFQUEUE --queue-num %d", trafficQueue(0, f)))
		})
		l.opens(t, f, "w1.example.com", 1)
		here := netip.AddrPortFrom(f.client, 80)
		if !l.server.connects(t, f.web(1), here, patience) {
			t.Error("no connection from a granted address")
		}
		l.daemon.sees(t, eventTraffic, fields{"src": f.web(1), "dst": f.client, "verdict": "accept"})
		if l.server.connects(t, f.web(2), here, shortly) {
			t.Error("a connection from an address that is not granted came about")
		}
		l.daemon.sees(t, eventTraffic, fields{"src": f.web(2), "dst": f.client, "verdict": "drop", "reason": "address not granted"})
		l.idle(t)
	})
}

// A packet that leaves never passes because of where it claims to come from.
func TestOwnSource(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, webZone(f))
		sink := l.server.listenUDP(t, netip.AddrPortFrom(f.resolver, 4000))
		l.start(allowing("example.com"))
		l.rules(standardRules)
		l.opens(t, f, "w1.example.com", 1)
		from, to := netip.AddrPortFrom(f.web(1), 4000), netip.AddrPortFrom(f.resolver, 4000)
		l.client.sendRaw(t, datagram(t, from, to, []byte("leak")))
		l.daemon.sees(t, eventTraffic, fields{"src": f.web(1), "dst": f.resolver, "verdict": "drop", "reason": "address not granted"})

		// One to a granted address arrives, after which the other cannot.
		open := l.server.listenUDP(t, netip.AddrPortFrom(f.web(1), 4000))
		l.client.sendRaw(t, datagram(t, netip.AddrPortFrom(f.client, 4000), netip.AddrPortFrom(f.web(1), 4000), []byte("hello")))
		receives(t, open, "hello")
		(&asker{t: t, conn: sink}).nothing()
		l.idle(t)
	})
}

// Packets of IPv6 on a queue whose number stands under ipv4 are judged by
// what they are; nftables' inet tables send them so.
func TestMixedFamily(t *testing.T) {
	t.Parallel()
	v4, v6 := families[0], families[1]
	l := newLab(t)
	l.resolver(v6.resolver, webZone(v6))
	l.resolver(v4.resolver, webZone(v4))
	c := allowing("example.com")
	c.onlyV4Queues = true
	l.start(c)
	l.rules(func(f family) []string {
		rules := standardRules(v4)
		if f.v6 {
			rules = append([]string{"-A OUTPUT -p ipv6-icmp -j ACCEPT"}, rules...)
		}
		return rules
	})
	for _, f := range []family{v6, v4} {
		l.opens(t, f, "w1.example.com", 1)
		l.reaches(t, f.web(1))
		l.isShut(t, f.web(2))
		l.isRefused(t, f, f.name+".evil.test", typeOf(f))
	}
	for _, q := range l.client.queues(t) {
		if q.number == inboundQueue(v6) || q.number == trafficQueue(0, v6) {
			t.Errorf("there is a queue for IPv6: %+v", q)
		}
	}
	l.idle(t)
}

// IPv6 extension headers: what does not change where a packet goes passes and
// is judged by its destination, a routing header does not pass. On DNS queues
// the same.
func TestExtensionHeaders(t *testing.T) {
	t.Parallel()
	f := families[1]
	l := newLab(t)
	r := l.resolver(f.resolver, webZone(f))
	l.start(allowing("example.com"))
	l.rules(standardRules)
	l.opens(t, f, "w1.example.com", 1)
	sink := l.server.listenUDP(t, netip.AddrPortFrom(f.web(1), 4000))
	from := netip.AddrPortFrom(f.client, 4000)
	pad := []byte{0, 1, 4, 0, 0, 0, 0} // PadN
	destination := extension{unix.IPPROTO_DSTOPTS, pad}
	// Segment routing over web 9, none left: the kernel lets one through.
	routing := extension{unix.IPPROTO_ROUTING, append([]byte{2, 4, 0, 0, 0, 0, 0}, f.web(9).AsSlice()...)}

	l.client.sendRaw(t, datagram6(t, from, netip.AddrPortFrom(f.web(2), 4000), []byte("leak"), destination))
	l.daemon.sees(t, eventTraffic, fields{"dst": f.web(2), "verdict": "drop", "reason": "address not granted"})
	l.client.sendRaw(t, datagram6(t, from, netip.AddrPortFrom(f.web(1), 4000), []byte("leak"), destination, routing))
	l.daemon.sees(t, eventTraffic, fields{"dst": f.web(1), "verdict": "drop", "reason": "source route"})
	l.client.sendRaw(t, datagram6(t, from, netip.AddrPortFrom(f.web(1), 4000), []byte("hello"), destination))
	receives(t, sink, "hello")

	a := l.client.asker(t, f.client)
	l.client.sendRaw(t, datagram6(t, a.at, f.dns(), pack(t, question("routed.example.com", dns.TypeAAAA)), routing))
	l.daemon.sees(t, eventRequest, fields{"verdict": "drop", "reason": "IPv6 extension headers not acceptable", "queue": dnsQueue(0, f)})
	m := question("w2.example.com", dns.TypeAAAA)
	l.client.sendRaw(t, datagram6(t, a.at, f.dns(), pack(t, m), destination))
	sameData(t, a.answer(m), f.web(2))
	for _, q := range r.got() {
		if q.name() != "w1.example.com." && q.name() != "w2.example.com." {
			t.Errorf("a request left the host: %s", q.name())
		}
	}
	l.idle(t)
}

// A source route sends an IPv4 packet on from the address that it is judged
// by. A program needs no privilege to set one.
func TestSourceRoute(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	r := l.resolver(f.resolver, webZone(f))
	l.start(allowing("example.com"))
	l.rules(standardRules)
	l.opens(t, f, "w1.example.com", 1)
	sink := l.server.listenUDP(t, netip.AddrPortFrom(f.web(1), 4000))

	a := l.client.askerAs(t, userA, f.client)
	// Loose, by way of a granted address; strict, which the kernel allows to a
	// neighbour only.
	a.options(append([]byte{131, 7, 4}, f.web(1).AsSlice()...))
	a.sendWire(netip.AddrPortFrom(f.web(9), 4000), []byte("leak"))
	a.options(append([]byte{137, 7, 4}, f.other.AsSlice()...))
	a.sendWire(netip.AddrPortFrom(f.web(1), 4000), []byte("leak"))
	l.daemon.sees(t, eventTraffic, fields{"dst": f.other, "uid": userA, "verdict": "drop", "reason": "source route"})
	l.daemon.sees(t, eventTraffic, fields{"dst": f.web(1), "uid": userA, "verdict": "drop", "reason": "source route"})
	a.options(append([]byte{131, 7, 4}, f.resolver.AsSlice()...))
	a.send(netip.AddrPortFrom(f.other, 53), question("evil.example.com", dns.TypeA))
	l.daemon.sees(t, eventRequest, fields{"verdict": "drop", "reason": "source route", "uid": userA})

	a.options(nil)
	a.sendWire(netip.AddrPortFrom(f.web(1), 4000), []byte("hello"))
	receives(t, sink, "hello")
	if a.ask(f.dns(), "w2.example.com", dns.TypeA); r.asked("evil.example.com") > 0 {
		t.Error("a request with a source route left the host")
	}
	l.idle(t)
}
