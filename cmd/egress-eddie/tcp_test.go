package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// tcpServer is a DNS server over TCP in the test's hands. It keeps every octet
// that came to it.
type tcpServer struct {
	t *testing.T

	mu       sync.Mutex
	streams  []*bytes.Buffer // by connection
	messages []string        // names asked for
}

// tcpServer starts a server at an address of the server's namespace, port 53.
// answer is called for every query, in the order of each connection.
func (l *lab) tcpServer(at netip.Addr, answer func(conn net.Conn, q *dns.Msg)) *tcpServer {
	l.t.Helper()
	s := &tcpServer{t: l.t}
	listener := l.server.listenTCP(l.t, netip.AddrPortFrom(at, 53))
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			buf := &bytes.Buffer{}
			s.mu.Lock()
			s.streams = append(s.streams, buf)
			s.mu.Unlock()
			wait.Go(func() { s.serve(conn, buf, answer) })
			l.t.Cleanup(func() { conn.Close() })
		}
	})
	l.t.Cleanup(func() { listener.Close() })
	return s
}

func (s *tcpServer) serve(conn net.Conn, into *bytes.Buffer, answer func(net.Conn, *dns.Msg)) {
	defer conn.Close()
	tee := io.TeeReader(conn, &locked{&s.mu, into})
	for {
		wire, err := readMessage(tee)
		if err != nil {
			return
		}
		m := new(dns.Msg)
		if m.Unpack(wire) != nil || len(m.Question) == 0 {
			continue
		}
		s.mu.Lock()
		s.messages = append(s.messages, strings.ToLower(m.Question[0].Name))
		s.mu.Unlock()
		answer(conn, m)
	}
}

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// got is every octet that came by connection i, and nil before there is one.
func (s *tcpServer) got(i int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i >= len(s.streams) {
		return nil
	}
	return bytes.Clone(s.streams[i].Bytes())
}

// asked is how often whole queries for a name came.
func (s *tcpServer) asked(name string) (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.messages {
		if m == dns.Fqdn(name) {
			count++
		}
	}
	return count
}

// readMessage reads a message behind its length.
func readMessage(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	wire := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, wire)
	return wire, err
}

// framed are messages as a stream carries them.
func framed(t *testing.T, messages ...*dns.Msg) []byte {
	t.Helper()
	var b []byte
	for _, m := range messages {
		wire := pack(t, m)
		b = binary.BigEndian.AppendUint16(b, uint16(len(wire)))
		b = append(b, wire...)
	}
	return b
}

// tcpZone answers wN.example.com with web N, over TCP.
func tcpZone(t *testing.T, f family) func(net.Conn, *dns.Msg) {
	return func(conn net.Conn, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		var i int
		if _, err := fmt.Sscanf(strings.ToLower(q.Question[0].Name), "w%d.", &i); err == nil {
			m.Answer = rrs(t, fmt.Sprintf("%s 60 IN %s %v", q.Question[0].Name, f.record(), f.web(i)))
		}
		conn.Write(framed(t, m))
	}
}

// stream is a client's connection to a DNS server.
type stream struct {
	t *testing.T
	net.Conn
}

func (l *lab) dns(t *testing.T, f family) *stream {
	t.Helper()
	conn, err := l.client.dial(t, f.client, f.dns(), patience)
	if err != nil {
		t.Fatalf("no connection to the server: %v", err)
	}
	return &stream{t, conn}
}

// write sends octets in one call, which is one segment while they are few and
// nothing else is under way: Go sets TCP_NODELAY.
func (s *stream) write(octets []byte) {
	s.t.Helper()
	if _, err := s.Write(octets); err != nil {
		s.t.Errorf("sending: %v", err)
	}
}

// answer waits for the next message, which must be the answer to q.
func (s *stream) answer(q *dns.Msg) *dns.Msg {
	s.t.Helper()
	s.SetReadDeadline(time.Now().Add(patience))
	wire, err := readMessage(s)
	m := new(dns.Msg)
	if err != nil || m.Unpack(wire) != nil || m.Id != q.Id {
		s.t.Fatalf("answer to %s: %v, %v", q.Question[0].Name, err, m)
	}
	return m
}

// nothing requires that nothing (more) came, by now or within a moment.
func (s *stream) nothing() {
	s.t.Helper()
	s.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	var buf [100]byte
	if n, err := s.Read(buf[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Errorf("%d octets came (%v): %x", n, err, buf[:n])
	}
}

// TestTCPDig: the real client, over TCP alone and where a server says that
// its answer did not fit; what it got is open.
func TestTCPDig(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		server := l.tcpServer(f.resolver, tcpZone(t, f))
		l.resolver(f.resolver, func(q *query) {
			m := q.reply()
			m.Truncated = true
			q.send(m)
		})
		l.start(allowing("example.com"))
		l.rules(tcpRules)
		for i, args := range [][]string{{"+tcp"}, {"+notcp"}} {
			name := fmt.Sprintf("w%d.example.com", i+1)
			l.isShut(t, f.web(i+1))
			if out, ok := l.client.dig(t, 0, f.resolver, 10, append(args, name, f.record())...); !ok || len(out) != 1 || out[0] != f.web(i+1).String() {
				t.Errorf("dig %v: %v", args, out)
			}
			if server.asked(name) != 1 {
				t.Errorf("%d queries for %s over TCP", server.asked(name), name)
			}
			l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "accept", "granted": f.web(i + 1)})
			l.reaches(t, f.web(i+1))
		}
		if out, ok := l.client.dig(t, 0, f.resolver, 1, "+tcp", "evil.test", f.record()); ok {
			t.Errorf("dig for a refused name: %v", out)
		}
		l.daemon.sees(t, eventRequest, fields{"name": "evil.test", "verdict": "drop", "reason": "name not allowed"})
		if server.asked("evil.test") > 0 {
			t.Error("it left the host")
		}
		l.idle(t)
	})
}

// wN is a question for web N.
func wN(f family, i int) *dns.Msg { return question(fmt.Sprintf("w%d.example.com", i), typeOf(f)) }

// pieces sends octets in so many segments, of which each reaches the filter
// alone. NB: what is held is not acknowledged, and the kernel sends no more
// than ten segments ahead of that.
func (s *stream) pieces(octets []byte, count int) {
	s.t.Helper()
	for i := range count {
		s.write(octets[len(octets)*i/count : len(octets)*(i+1)/count])
	}
}

// TestTCPStream: queries however they are cut or put together, on one
// connection, and their answers.
func TestTCPStream(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		server := l.tcpServer(f.resolver, tcpZone(t, f))
		l.start(allowing("example.com"))
		l.rules(tcpRules)
		c := l.dns(t, f)
		var q []*dns.Msg
		for i := range 8 {
			q = append(q, wN(f, i+1))
		}
		wire := framed(t, q[0])
		c.write(wire[:2]) // the length goes ahead
		if !eventually(func() bool { return bytes.Equal(server.got(0), wire[:2]) }) {
			t.Errorf("of a length alone %x came", server.got(0))
		}
		c.write(wire[2:])
		sameData(t, c.answer(q[0]), f.web(1))

		c.pieces(framed(t, q[1]), 9)
		sameData(t, c.answer(q[1]), f.web(2))

		c.write(framed(t, q[2:5]...)) // three in one
		c.pieces(framed(t, q[5:]...), 5)
		for i := 2; i < len(q); i++ {
			sameData(t, c.answer(q[i]), f.web(i+1))
		}
		wantOctets(t, server, 0, framed(t, q...))
		for i := range q {
			l.daemon.sees(t, eventResponse, fields{"name": fmt.Sprintf("w%d.example.com", i+1), "verdict": "accept", "granted": f.web(i + 1)})
		}
		l.reaches(t, f.web(8))
		l.isShut(t, f.web(9))
		l.idle(t)
	})
}

// TestTCPRefused: a query for a name that is not allowed takes what is behind
// it in its connection along, and what is before it in its segment; and not
// one octet of it leaves, however it is cut.
func TestTCPRefused(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		server := l.tcpServer(f.resolver, tcpZone(t, f))
		l.start(allowing("example.com"))
		l.rules(tcpRules)
		refused := func(name, reason string) {
			t.Helper()
			l.daemon.sees(t, eventRequest, fields{"name": name, "verdict": "drop", "reason": reason})
		}
		bad := func(name string) *dns.Msg { return question(name, typeOf(f)) }

		after := l.dns(t, f)
		after.write(framed(t, wN(f, 1)))
		first := server.await(t, 0, "w1.example.com")
		after.write(framed(t, bad("after.evil.test")))
		refused("after.evil.test", "name not allowed")
		after.write(framed(t, wN(f, 2)))
		refused("w2.example.com", "connection was refused before")

		within := l.dns(t, f)
		within.write(framed(t, wN(f, 3), bad("within.evil.test"), wN(f, 4)))
		refused("within.evil.test", "name not allowed")
		refused("w3.example.com", "connection was refused before")

		split := l.dns(t, f)
		wire := framed(t, bad("split.evil.test"))
		split.write(wire[:1])
		split.pieces(wire[1:], 8)
		refused("split.evil.test", "name not allowed")

		// Everything that left is at the server before this.
		last := l.dns(t, f)
		last.write(framed(t, wN(f, 5)))
		server.await(t, 3, "w5.example.com")
		wantOctets(t, server, 0, first)
		wantOctets(t, server, 1, nil)
		wantOctets(t, server, 2, wire[:1])
		l.idle(t)
	})
}

// await waits for a query, and returns all that came by its connection until then.
func (s *tcpServer) await(t *testing.T, i int, name string) []byte {
	t.Helper()
	if !eventually(func() bool { return s.asked(name) == 1 }) {
		t.Fatalf("no query for %s came", name)
	}
	return s.got(i)
}

// wantOctets requires that exactly these came to a server by a connection.
// NB: only after something that shows that others would be there.
func wantOctets(t *testing.T, s *tcpServer, i int, want []byte) {
	t.Helper()
	if got := s.got(i); !bytes.Equal(got, want) {
		t.Errorf("by connection %d the server got %x, not %x", i, got, want)
	}
}

// TestTCPLargeAnswer: 60 KiB with 1,200 addresses, which are all open when the
// client has them.
func TestTCPLargeAnswer(t *testing.T) {
	const addresses = 1200
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		name := strings.Repeat("l", 63) + "." + strings.Repeat("m", 20) + ".example.com"
		address := func(i int) netip.Addr {
			return netip.MustParseAddr(fmt.Sprintf(pick(f, "198.18.%d.%d", "2001:db8:9:%x::%x"), i/200, i%200+1))
		}
		var size atomic.Int64
		l.tcpServer(f.resolver, func(conn net.Conn, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Compress = true
			for i := range addresses {
				m.Answer = append(m.Answer, rrs(t, fmt.Sprintf("%s 60 IN %s %v", q.Question[0].Name, f.record(), address(i)))...)
			}
			// What fills it up to 60 KiB grants nothing.
			filler := strings.Repeat("x", 240)
			for m.Len() < 60<<10 {
				m.Answer = append(m.Answer, rrs(t, fmt.Sprintf("%s 60 IN TXT %q", q.Question[0].Name, filler))...)
			}
			wire := framed(t, m)
			size.Store(int64(len(wire)))
			conn.Write(wire)
		})
		l.start(allowing("example.com"))
		l.rules(tcpRules)
		c, q := l.dns(t, f), question(name, typeOf(f))
		c.write(framed(t, q))
		if m := c.answer(q); len(m.Answer) < addresses || size.Load() < 60<<10 {
			t.Fatalf("%d records in %d octets", len(m.Answer), size.Load())
		}
		granted := map[string]bool{}
		all := func() bool {
			for _, line := range l.daemon.log() {
				if line.message() == eventResponse && line.text("verdict") == "accept" {
					for _, a := range strings.Fields(strings.NewReplacer(",", " ", "[", " ", "]", " ").Replace(line.text("granted"))) {
						granted[a] = true
					}
				}
			}
			return len(granted) == addresses
		}
		if !eventually(all) {
			t.Errorf("%d addresses are granted", len(granted))
		}
		for _, i := range []int{0, addresses / 2, addresses - 1} {
			l.client.dial(t, netip.Addr{}, netip.AddrPortFrom(address(i), 80), shortly)
			l.daemon.sees(t, eventTraffic, fields{"dst": address(i), "verdict": "accept"})
		}
		l.idle(t)
	})
}

// TestTCPHeld: a query that is not complete waits for two seconds; what is
// sent after that is judged as if it came for the first time.
func TestTCPHeld(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		server := l.tcpServer(f.resolver, tcpZone(t, f))
		l.start(allowing("example.com"))
		l.rules(tcpRules)
		holds := func() {
			t.Helper()
			if !eventually(func() bool { return l.waits(t, dnsQueue(0, f)) == 1 }) {
				t.Error("nothing is held")
			}
		}
		c, q := l.dns(t, f), wN(f, 1)
		wire := framed(t, q)
		c.write(wire[:20])
		holds()
		wantOctets(t, server, 0, nil)
		c.write(wire[20:])
		sameData(t, c.answer(q), f.web(1))

		gone := l.dns(t, f) // held, and then the client is gone
		gone.write(wire[:20])
		holds()
		gone.Conn.(*net.TCPConn).SetLinger(0)
		gone.Close()
		l.daemon.sees(t, eventRequest, fields{"verdict": "drop", "reason": "connection not known"})

		late := l.forger(t, f)
		begin := time.Now()
		late.send(0, wire[:20])
		late.dropped(f, "rest of the message did not come")
		if waited := time.Since(begin); waited < 2*time.Second {
			t.Errorf("it was dropped after %v", waited)
		}
		wantOctets(t, server, 1, nil)
		wantOctets(t, server, 2, nil)
		late.send(0, wire)
		if !eventually(func() bool { return bytes.Equal(server.got(2), wire) }) {
			t.Errorf("what was sent again did not leave: %x", server.got(2))
		}
		l.idle(t)
	})
}

// waits is how many packets wait in a queue.
func (l *lab) waits(t *testing.T, number int) int {
	t.Helper()
	for _, q := range l.client.queues(t) {
		if q.number == number {
			return q.waiting
		}
	}
	t.Fatalf("no queue %d", number)
	return 0
}

// TestTCPUnknown: what belongs to no connection that was seen to begin does
// not pass, in either direction, nor does one to another server.
func TestTCPUnknown(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		server := l.tcpServer(f.resolver, tcpZone(t, f))
		l.tcpServer(f.other, tcpZone(t, f))
		early := l.dns(t, f)
		c := allowing("example.com")
		c.resolvers = []any{f.resolver}
		l.start(c)
		l.rules(tcpRules)

		early.write(framed(t, wN(f, 1)))
		l.daemon.sees(t, eventRequest, fields{"name": nil, "verdict": "drop", "reason": "connection not known"})
		wantOctets(t, server, 0, nil)

		if l.client.connects(t, f.client, netip.AddrPortFrom(f.other, 53), shortly) {
			t.Error("a connection to another server came about")
		}
		l.daemon.sees(t, eventRequest, fields{"dst": netip.AddrPortFrom(f.other, 53), "verdict": "drop", "reason": "resolver not trusted"})

		// A handshake's second half, and an answer, for nobody.
		nobody := netip.AddrPortFrom(f.client, 4321)
		answer := framed(t, new(dns.Msg).SetReply(wN(f, 2)))
		for _, s := range []segment{
			{seq: 1, ack: 77, flags: synAck},
			{seq: 2, ack: 77, flags: pushAck, data: answer},
		} {
			before := l.queued(t, inboundQueue(f))
			l.server.sendRaw(t, s.packet(t, f.dns(), nobody))
			if !eventually(func() bool { return l.queued(t, inboundQueue(f)) > before }) {
				t.Error("nothing came to the queue")
			}
		}
		l.daemon.sees(t, eventResponse, fields{"dst": nobody, "verdict": "drop", "reason": "connection not known"})
		l.idle(t)
	})
}

// TestTCPEvicted: when more connections are open than are followed, the idlest
// is not known any more.
func TestTCPEvicted(t *testing.T) {
	const more = 520
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		server := l.tcpServer(f.resolver, tcpZone(t, f))
		l.start(allowing("example.com"))
		l.rules(tcpRules)
		first, q := l.dns(t, f), wN(f, 1)
		first.write(framed(t, q))
		sameData(t, first.answer(q), f.web(1))
		for range more {
			l.dns(t, f)
		}
		first.write(framed(t, wN(f, 2)))
		l.daemon.sees(t, eventRequest, fields{"src": first.LocalAddr(), "verdict": "drop", "reason": "connection not known"})
		last := l.dns(t, f)
		last.write(framed(t, wN(f, 3)))
		server.await(t, 0, "w3.example.com")
		if server.asked("w2.example.com") > 0 {
			t.Error("data of a connection that had to make room left")
		}
		l.idle(t)
	})
}
