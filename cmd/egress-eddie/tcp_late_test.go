package main_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"github.com/miekg/dns"
)

// late has what a namespace's server on port 53 sends come so much later.
func (n *netns) late(t *testing.T, by time.Duration) {
	t.Helper()
	const number = 77
	type packet struct {
		id  uint32
		due time.Time
	}
	waits := make(chan packet, 1024)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	n.inside(t, func() error {
		nf, err := nfqueue.Open(&nfqueue.Config{NfQueue: number, MaxQueueLen: 1024, Copymode: nfqueue.NfQnlCopyMeta})
		if err != nil {
			return err
		}
		go func() {
			defer close(done)
			for {
				select {
				case p := <-waits:
					time.Sleep(time.Until(p.due))
					nf.SetVerdict(p.id, nfqueue.NfAccept)
				case <-ctx.Done():
					return
				}
			}
		}()
		return nf.RegisterWithErrorFunc(ctx, func(a nfqueue.Attribute) int {
			waits <- packet{*a.PacketID, time.Now().Add(by)}
			return 0
		}, func(error) int { return 0 })
	})
	n.feed(t, fmt.Sprintf("*filter\n-A OUTPUT -p tcp --sport 53 -j NFQUEUE --queue-num %d\nCOMMIT\n", number), "iptables-restore")
}

// withOption is a framed query that is allowed, with octets in an EDNS option.
func withOption(t *testing.T, f family, octets []byte) []byte {
	t.Helper()
	m := question("www.example.com", typeOf(f))
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: 65001, Data: octets})
	return framed(t, m)
}

// TestTCPLateSynAck: a server with SYN cookies answers every SYN until it has state.
// While the answer to an earlier one is under way a container begins, sends a query,
// and then that SYN again: for the filter the late answer would begin a connection
// anew, in which an allowed query has another where the server waits for one.
func TestTCPLateSynAck(t *testing.T) {
	t.Parallel()
	f := families[0]
	const port, isn = 4321, 1_000_000
	syn := segment{seq: isn, flags: flagSYN}
	small, before, after := syn, syn, syn
	small.small, before.seq, after.seq = true, isn+10, isn+5_000_000
	for what, c := range map[string]struct {
		first          segment
		second, again  []segment // a little later, and after the query
		number, server uint32    // of the late SYN-ACK: what it answers, and its own relative to that of the first
	}{
		"to the same one, for another segment size": {small, []segment{syn}, []segment{after, syn}, isn, 3},
		"to one before": {syn, []segment{before, syn}, []segment{before}, before.seq, before.seq - isn},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t)
			guest := l.router(t)
			guest.feed(t, "*filter\n-A OUTPUT -p tcp --tcp-flags RST RST -j DROP\nCOMMIT\n", "iptables-restore")
			l.server.sysctl(t, "ipv4/tcp_syncookies", "2")
			server := l.tcpServer(f.resolver, tcpZone(t, f))
			l.server.late(t, 300*time.Millisecond)
			allow := allowing("example.com")
			allow.resolvers = []any{f.resolver}
			l.start(allow)
			l.rules(tcpForwardRules)
			next := guest.segments4(t)
			hw := l.client.hardwareAddr(t, "veth0")
			at := netip.AddrPortFrom(f.guest, port)
			send := func(all ...segment) {
				for _, s := range all {
					guest.sendFrame(t, "eth0", hw, s.packet(t, at, f.dns()))
				}
			}
			send(c.first)
			time.Sleep(100 * time.Millisecond)
			send(c.second...)
			its, _ := next(func(_, _ uint32, flags tcpFlags, to uint16) bool { return flags == synAck && to == port })
			plain := withOption(t, f, make([]byte, c.number-isn))
			send(segment{seq: isn + 1, ack: its + 1, flags: pushAck, data: plain})
			send(c.again...)
			time.Sleep(600 * time.Millisecond) // the late one has come, and the answer

			hidden := framed(t, question("secret.evil.test", typeOf(f)))
			data := withOption(t, f, hidden) // which stands where the server has all of plain
			send(segment{seq: c.number + 1, ack: its + c.server + 1, flags: pushAck, data: data})
			l.daemon.sees(t, eventRequest, fields{"name": "www.example.com", "verdict": "accept"})
			eventually(func() bool { return server.asked("www.example.com") > 0 })
			time.Sleep(300 * time.Millisecond)
			if server.asked("secret.evil.test") > 0 {
				t.Errorf("the server was asked for secret.evil.test: it got %q", server.got(0))
			}
		})
	}
}

// TestTCPForgedSyn: a container sends a SYN with the address and port of a neighbour
// that has another filter.
func TestTCPForgedSyn(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	guest, neighbour := l.router(t), newNetns(t, "neighbour")
	cable(t, l.client, neighbour, "veth1", "eth0")
	l.client.ip(t, "addr add 198.18.0.1/24 dev veth1")
	for _, device := range []string{"veth0", "veth1"} { // as systemd has it
		l.client.sysctl(t, "ipv4/conf/"+device+"/rp_filter", "2")
	}
	neighbour.ip(t, "addr add 198.18.0.2/24 dev eth0", "route add default via 198.18.0.1")
	l.server.ip(t, fmt.Sprintf("route add 198.18.0.0/24 via %v", f.client))
	l.tcpServer(f.resolver, tcpZone(t, f))
	c := allowing("example.com")
	c.filters = append(c.filters, filter{allowed: []string{"example.com"}})
	c.resolvers = []any{f.resolver}
	l.start(c)
	l.rules(func(f family) []string {
		return []string{
			fmt.Sprintf("-A FORWARD -p tcp --sport 53 -j NFQUEUE --queue-num %d", inboundQueue(f)),
			fmt.Sprintf("-A FORWARD -i veth0 -p tcp --dport 53 -j NFQUEUE --queue-num %d", dnsQueue(0, f)),
			fmt.Sprintf("-A FORWARD -i veth1 -p tcp --dport 53 -j NFQUEUE --queue-num %d", dnsQueue(1, f)),
			"-A FORWARD -p tcp -j DROP",
		}
	})
	from := netip.MustParseAddr("198.18.0.2")
	conn, err := neighbour.dial(t, from, f.dns(), patience)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t, conn}
	one, two := wN(f, 1), wN(f, 2)
	s.write(framed(t, one))
	s.answer(one)
	port := conn.LocalAddr().(*net.TCPAddr).Port
	guest.sendFrame(t, "eth0", l.client.hardwareAddr(t, "veth0"),
		segment{seq: 5, flags: flagSYN}.packet(t, netip.AddrPortFrom(from, uint16(port)), f.dns()))
	l.daemon.sees(t, eventRequest, fields{"verdict": "drop", "reason": "ports of a TCP connection in use"})
	s.write(framed(t, two))
	s.answer(two)
}
