package main_test

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// resolver is a DNS server in the test's hands.
type resolver struct {
	t    *testing.T
	conn *net.UDPConn

	mu      sync.Mutex
	queries []*query
}

// query is one datagram that came to it.
type query struct {
	t    *testing.T
	conn *net.UDPConn // the server's socket
	wire []byte
	msg  *dns.Msg // nil when it is no DNS message
	from netip.AddrPort
}

// resolver starts a server at an address of the server's namespace, port 53.
// answer is called for every datagram, one after the other, and may send
// nothing, or anything, from anywhere.
func (l *lab) resolver(at netip.Addr, answer func(q *query)) *resolver {
	l.t.Helper()
	return l.resolverAt(l.server, at, answer)
}

func (l *lab) resolverAt(n *netns, at netip.Addr, answer func(q *query)) *resolver {
	l.t.Helper()
	return l.resolverOn(n, netip.AddrPortFrom(at, 53), answer)
}

func (l *lab) resolverOn(n *netns, at netip.AddrPort, answer func(q *query)) *resolver {
	l.t.Helper()
	r := &resolver{t: l.t, conn: n.listenUDP(l.t, at)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.serve(answer)
	}()
	l.t.Cleanup(func() { r.conn.Close(); <-done })
	return r
}

func (r *resolver) serve(answer func(q *query)) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		q := &query{t: r.t, conn: r.conn, wire: append([]byte(nil), buf[:n]...), from: from}
		if msg := new(dns.Msg); msg.Unpack(q.wire) == nil {
			q.msg = msg
		}
		r.mu.Lock()
		r.queries = append(r.queries, q)
		r.mu.Unlock()
		answer(q)
	}
}

// got is every datagram that came so far.
func (r *resolver) got() []*query {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queries[:len(r.queries):len(r.queries)]
}

// asked is how often a question for a name came, in any case.
func (r *resolver) asked(name string) int {
	count := 0
	for _, q := range r.got() {
		if q.msg == nil {
			continue
		}
		for _, question := range q.msg.Question {
			if strings.EqualFold(question.Name, dns.Fqdn(name)) {
				count++
			}
		}
	}
	return count
}

// name is what the query asks for.
func (q *query) name() string {
	if q.msg == nil || len(q.msg.Question) == 0 {
		return ""
	}
	return q.msg.Question[0].Name
}

// reply is an honest answer with these records (zone file lines) in it.
func (q *query) reply(records ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(q.msg)
	m.Answer = rrs(q.t, records...)
	m.Compress = true
	if opt := q.msg.IsEdns0(); opt != nil {
		m.SetEdns0(opt.UDPSize(), false)
	}
	return m
}

// send sends a message to the client from the server's own socket.
func (q *query) send(m *dns.Msg) { q.sendWire(pack(q.t, m)) }

func (q *query) sendWire(wire []byte) { q.sendFrom(q.conn, wire) }

// sendFrom sends from another socket.
func (q *query) sendFrom(conn *net.UDPConn, wire []byte) {
	if _, err := conn.WriteToUDPAddrPort(wire, q.from); err != nil {
		q.t.Errorf("resolver: %v", err)
	}
}

// rrs makes records of zone file lines.
func rrs(t *testing.T, lines ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Errorf("record %q: %v", line, err)
			continue
		}
		out = append(out, rr)
	}
	return out
}

func pack(t *testing.T, m *dns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Errorf("packing a message: %v", err)
	}
	return wire
}

// zone answers questions from records by name (with the final dot, lower
// case); names that it does not have do not exist. Records of other owners
// come with a name if they are listed with it.
func zone(records map[string][]string) func(q *query) {
	return func(q *query) {
		lines, ok := records[strings.ToLower(q.name())]
		m := q.reply(lines...)
		if !ok {
			m.Rcode = dns.RcodeNameError
		}
		q.send(m)
	}
}
