package main_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestTCPSpliceBehindNAT: a router that masquerades gives one connection of a
// container, as the filter sees it, to two of the server's: the container has
// conntrack forget the first one and its port taken, begins a second, confirmed
// by the server, and has conntrack forget that. What follows goes to the first,
// in which the server has half of a message.
func TestTCPSpliceBehindNAT(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	guest := l.router(t)
	guest.feed(t, "*filter\n-A OUTPUT -p tcp --tcp-flags RST RST -j DROP\nCOMMIT\n", "iptables-restore")
	server := l.tcpServer(f.resolver, tcpZone(t, f))
	c := allowing("example.com")
	c.resolvers = []any{f.resolver}
	l.start(c)
	l.rules(tcpForwardRules)
	l.client.feed(t, "*nat\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n", "iptables-restore")

	next := guest.segments4(t)
	const port = 4321
	other := f.guest.Next()
	hw := l.client.hardwareAddr(t, "veth0")
	from := func(a netip.Addr, s segment) { // a packet socket: past the guest's own rules
		guest.sendFrame(t, "eth0", hw, s.packet(t, netip.AddrPortFrom(a, port), f.dns()))
	}
	synAckFor := func(isn uint32) uint32 {
		its, _ := next(func(_, ack uint32, flags tcpFlags, to uint16) bool {
			return flags == synAck && to == port && ack == isn+1
		})
		return its
	}
	forget := func(a netip.Addr, at, ack uint32) {
		from(a, segment{seq: at, ack: ack, flags: flagACK})
		time.Sleep(20 * time.Millisecond)
		from(a, segment{seq: at, flags: flagRST})
	}

	hidden := framed(t, question("secret.evil.test", typeOf(f)))
	outer := question("www.example.com", typeOf(f))
	outer.SetEdns0(1232, false)
	outer.IsEdns0().Option = append(outer.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: 65001, Data: slices.Clone(hidden)})
	wire := framed(t, outer)
	at := uint32(len(wire) - len(hidden))

	const half = 20 // octets that the server waits for
	const first = 1_000_000
	from(f.guest, segment{seq: first, flags: flagSYN})
	its := synAckFor(first)
	from(f.guest, segment{seq: first + 1, ack: its + 1, flags: flagACK})
	from(f.guest, segment{seq: first + 1, ack: its + 1, flags: pushAck, data: []byte{0, half}})
	if !eventually(func() bool { return len(server.got(0)) == 2 }) {
		t.Fatal("no length came")
	}
	forget(f.guest, first+3+1000, its+1)
	time.Sleep(11 * time.Second) // nf_conntrack_tcp_timeout_close

	from(other, segment{seq: 5_000_000, flags: flagSYN}) // has the port now
	time.Sleep(100 * time.Millisecond)
	second := uint32(first + 2 - (at - half))
	from(f.guest, segment{seq: second, flags: flagSYN})
	its2 := synAckFor(second)
	forget(f.guest, second+1+1000, its2+1)
	from(other, segment{seq: 5_000_001, flags: flagRST})
	time.Sleep(11 * time.Second)

	from(f.guest, segment{seq: second + 1, ack: its + 1, flags: pushAck, data: wire})
	l.daemon.sees(t, eventRequest, fields{"verdict": "drop", "reason": "connection was refused before"})
	time.Sleep(300 * time.Millisecond)
	if server.asked("secret.evil.test") > 0 {
		t.Error("the server was asked for secret.evil.test")
	}
	l.daemon.never(t, eventRequest, fields{"name": "secret.evil.test"})
}
