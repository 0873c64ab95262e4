package main_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// router makes the filtered host the router of a container, which has
// CAP_NET_RAW there as Docker gives it, and returns the container.
func (l *lab) router(t *testing.T) *netns {
	t.Helper()
	guest := newNetns(t, "container")
	cable(t, l.client, guest, "veth0", "eth0")
	for _, f := range families {
		l.client.ip(t, f.address(f.inside, "veth0"))
		guest.ip(t, f.address(f.guest, "eth0"), fmt.Sprintf("route add default via %v", f.inside))
	}
	l.client.sysctl(t, "ipv4/ip_forward", "1")
	l.client.sysctl(t, "ipv6/conf/all/forwarding", "1")
	for _, device := range []string{"eth0", "veth0"} {
		l.client.sysctl(t, "ipv4/conf/"+device+"/rp_filter", "0")
	}
	return guest
}

func forwardRules(f family) []string {
	return []string{
		fmt.Sprintf("-A FORWARD -p udp --sport 53 -j NFQUEUE --queue-num %d", inboundQueue(f)),
		fmt.Sprintf("-A FORWARD -p udp --dport 53 -j NFQUEUE --queue-num %d", dnsQueue(0, f)),
		fmt.Sprintf("-A FORWARD -m conntrack --ctstate NEW -j NFQUEUE --queue-num %d", trafficQueue(0, f)),
	}
}

// A router judges what it forwards by where it goes.
func TestForward(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		guest := l.router(t)
		l.serve(guest)
		l.dnsmasq(fmt.Sprintf("--host-record=example.com,%v", f.web(1)), fmt.Sprintf("--host-record=evil.test,%v", f.web(2)))
		l.start(allowing("example.com"))
		l.rules(forwardRules)

		if out, ok := guest.dig(t, 0, f.resolver, 10, "example.com", f.record()); !ok || len(out) != 1 {
			t.Fatalf("dig in the container: %v", out)
		}
		l.daemon.sees(t, eventResponse, fields{"name": "example.com", "verdict": "accept", "granted": f.web(1)})
		if got := guest.curl(t, 0, f.web(1), patience.Seconds()); got == "" {
			t.Error("the container cannot reach a granted address")
		}
		l.daemon.sees(t, eventTraffic, fields{"src": f.guest, "dst": f.web(1), "verdict": "accept"})
		if out, ok := guest.dig(t, 0, f.resolver, 1, "evil.test", f.record()); ok {
			t.Errorf("the container got an answer: %v", out)
		}
		l.daemon.sees(t, eventRequest, fields{"name": "evil.test", "verdict": "drop", "reason": "name not allowed"})
		if got := guest.curl(t, 0, f.web(2), 0.3); got != "" {
			t.Errorf("the container reached an address that is not granted: %q", got)
		}
		l.daemon.sees(t, eventTraffic, fields{"src": f.guest, "dst": f.web(2), "verdict": "drop", "reason": "address not granted"})
		// The other way: from a granted address, to one that is not.
		if l.server.connects(t, f.web(1), netip.AddrPortFrom(f.guest, 80), shortly) {
			t.Error("a connection from a granted address to the container came about")
		}
		l.daemon.sees(t, eventTraffic, fields{"src": f.web(1), "dst": f.guest, "verdict": "drop", "reason": "address not granted"})
		l.idle(t)
	})
}

// askRouterRules are for a container that asks the router's own resolver: its
// requests come in at INPUT, the answers leave at OUTPUT.
func askRouterRules(f family) []string {
	return append([]string{
		fmt.Sprintf("-A INPUT -i veth0 -p udp --dport 53 -j NFQUEUE --queue-num %d", dnsQueue(0, f)),
		fmt.Sprintf("-A OUTPUT -o veth0 -p udp --sport 53 -j NFQUEUE --queue-num %d", inboundQueue(f)),
	}, forwardRules(f)...)
}

// spoof is a container that asks for an allowed name and then sends the
// resolver's answer itself, with an address of its choice.
type spoof struct {
	l       *lab
	server  netip.AddrPort
	asker   *asker
	request *dns.Msg
	release func() // sends the true answer
}

// newSpoof has it ask the server on the other side, or the router itself.
func newSpoof(t *testing.T, f family, c config, router bool) *spoof {
	t.Helper()
	l := newLab(t)
	guest := l.router(t)
	at, machine, rules := f.resolver, l.server, forwardRules
	if router {
		at, machine, rules = f.inside, l.client, askRouterRules
		// Not even the kernel objects that its own address comes from outside.
		l.client.sysctl(t, "ipv4/conf/veth0/accept_local", "1")
	}
	arrived, released := make(chan struct{}, 1), make(chan struct{})
	s := &spoof{l: l, server: netip.AddrPortFrom(at, 53), release: sync.OnceFunc(func() { close(released) })}
	l.resolverAt(machine, at, func(q *query) {
		arrived <- struct{}{}
		<-released
		q.send(q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1))))
	})
	t.Cleanup(s.release) // the resolver waits for it, and its end for the resolver
	l.start(c)
	l.rules(rules)
	s.asker, s.request = guest.asker(t, f.guest), question("www.example.com", typeOf(f))
	s.asker.send(s.server, s.request)
	<-arrived
	forged := new(dns.Msg).SetReply(s.request)
	forged.Answer = rrs(t, fmt.Sprintf("www.example.com. 60 IN %s %v", f.record(), f.web(9)))
	guest.sendFrame(t, "eth0", l.client.hardwareAddr(t, "veth0"), datagram(t, s.server, s.asker.at, pack(t, forged)))
	return s
}

func TestContainerForgesAnswers(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		for _, router := range []bool{false, true} {
			t.Run(fmt.Sprint("router ", router), func(t *testing.T) {
				s := newSpoof(t, f, allowing("example.com"), router)
				l := s.l
				l.daemon.sees(t, eventResponse, fields{"name": "www.example.com", "src": s.server, "dst": s.asker.at, "verdict": "drop", "reason": "wrong interface"})
				s.release()
				sameData(t, s.asker.answer(s.request), f.web(1)) // is the first that comes
				s.asker.nothing()
				l.daemon.sees(t, eventResponse, fields{"name": "www.example.com", "verdict": "accept", "granted": f.web(1)})
				l.daemon.never(t, eventResponse, fields{"granted": f.web(9)})
				l.idle(t)
			})
		}
	})
}

// Without the check the forged answer passes: this is what the test above
// would see.
func TestInterfaceCheckOff(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		for _, router := range []bool{false, true} {
			t.Run(fmt.Sprint("router ", router), func(t *testing.T) {
				c := allowing("example.com")
				c.noInterfaceTest = true
				s := newSpoof(t, f, c, router)
				sameData(t, s.asker.answer(s.request), f.web(9))
				s.l.daemon.sees(t, eventResponse, fields{"name": "www.example.com", "verdict": "accept", "granted": f.web(9)})
				s.release()
				s.l.daemon.sees(t, eventResponse, fields{"name": "www.example.com", "verdict": "drop", "reason": "no pending request"})
				s.l.idle(t)
			})
		}
	})
}

// A resolver on the host's own loopback, as systemd-resolved is: programs ask
// it under their filter, it asks the world under one that allows all names.
func TestResolverOnLoopback(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		stub := pick(f, netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("::1"))
		l := newLab(t)
		l.dnsmasq(fmt.Sprintf("--host-record=www.example.com,%v", f.web(1)), fmt.Sprintf("--host-record=evil.test,%v", f.web(2)))
		l.start(config{resolvers: []any{stub}, filters: []filter{{name: "A", allowed: []string{"example.com"}}, {name: "stub"}}})
		l.dnsmasqAt(l.client, []netip.Addr{stub}, fmt.Sprint("--server=", f.resolver))
		l.rules(func(f family) []string { // the stub is root's
			return append(userRules(true, false)(f),
				fmt.Sprintf("-A OUTPUT -m owner --uid-owner 0 -p udp --dport 53 -j NFQUEUE --queue-num %d", dnsQueue(1, f)))
		})
		a := l.client.askerAs(t, userA, stub)
		sameData(t, a.ask(netip.AddrPortFrom(stub, 53), "www.example.com", typeOf(f)), f.web(1))
		l.daemon.sees(t, eventResponse, fields{"filter": "stub", "name": "www.example.com", "src": f.dns(), "verdict": "accept", "granted": nil})
		l.daemon.sees(t, eventResponse, fields{"filter": "A", "name": "www.example.com", "src": netip.AddrPortFrom(stub, 53), "verdict": "accept", "granted": f.web(1)})
		if got := l.client.curl(t, userA, f.web(1), patience.Seconds()); got == "" {
			t.Error("user A cannot reach what the stub's answer opened")
		}
		a.send(netip.AddrPortFrom(stub, 53), question("evil.test", typeOf(f)))
		l.daemon.sees(t, eventRequest, fields{"filter": "A", "name": "evil.test", "verdict": "drop", "reason": "name not allowed"})
		direct := l.client.askerAs(t, userA, f.client)
		direct.send(f.dns(), question("direct.example.com", typeOf(f)))
		l.daemon.sees(t, eventRequest, fields{"filter": "A", "name": "direct.example.com", "verdict": "drop", "reason": "resolver not trusted"})
		l.idle(t)
	})
}
