package dnsworker

import (
	"fmt"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
	"github.com/capnspacehook/egress-eddie/trafficworker/allowlist"
)

// bothWays is both parsers and a holder of filters that allow good.test.
type bothWays struct {
	t    *testing.T
	now  ipc.Instant
	id   uint32
	last ipc.Reason

	grants    []ipc.Grants
	requests  *requestStreams
	responses *responseStreams
}

func newBothWays(t *testing.T, filters int) *bothWays {
	n, err := name.FromWire([]byte("\x04good\x04test\x00"))
	if err != nil {
		t.Fatal(err)
	}
	policy := &ipc.Policy{
		Settings: ipc.Settings{InterfaceCheck: true},
		Queues:   []ipc.Queue{{Handle: 1, Number: 1, Kind: ipc.QueueRequests}, {Handle: 2, Number: 2, Kind: ipc.QueueResponses}},
	}
	if filters > 1 {
		policy.Queues = append(policy.Queues, ipc.Queue{Handle: 3, Number: 3, Kind: ipc.QueueRequests, Filter: 1})
	}
	for i := range filters {
		policy.Filters = append(policy.Filters, ipc.Filter{Index: uint32(i), Name: fmt.Sprint("f", i), AllowAnswersFor: time.Minute})
		policy.Hostnames = append(policy.Hostnames, ipc.Tree(n))
	}
	e, err := allowlist.New(policy)
	if err != nil {
		t.Fatal(err)
	}
	p := &bothWays{t: t, now: testStart}
	var batch []*ipc.RequestFact
	p.requests = newRequestStreams(policy, NewParser(false), func(f *ipc.RequestFact) error {
		valid(t, f)
		if batch = append(batch, f); f.Segment.More {
			return nil
		}
		o, err := e.Requests(p.now, batch)
		if err != nil {
			t.Fatal(err)
		}
		batch, p.last = nil, o[0].Reason
		return nil
	})
	p.responses = newResponseStreams(NewParser(false), func(f *ipc.ResponseFact) error {
		valid(t, f)
		plan, err := e.Response(p.now, f)
		if err != nil {
			t.Fatal(err)
		}
		p.grants = append(p.grants, plan.Grants...)
		e.Commit(p.now, &plan)
		p.last = plan.Reason
		return nil
	})
	return p
}

func (p *bothWays) client(port uint16, seq, ack uint32, flags uint8, data []byte) ipc.Reason {
	p.t.Helper()
	return p.clientFrom(1, 5, port, seq, ack, flags, data)
}

// clientFrom sends a client's segment to a queue by an interface.
func (p *bothWays) clientFrom(handle, inIf uint32, port uint16, seq, ack uint32, flags uint8, data []byte) ipc.Reason {
	p.t.Helper()
	p.id, p.now = p.id+1, p.now.Add(time.Microsecond)
	if err := p.requests.packet(p.now, Meta{Handle: handle, ID: p.id, InIf: inIf, OutIf: 3}, tcpPacket(port, false, seq, ack, flags, data)); err != nil {
		p.t.Fatal(err)
	}
	return p.last
}

func (p *bothWays) server(from uint32, port uint16, seq, ack uint32, flags uint8, data []byte) ipc.Reason {
	p.t.Helper()
	p.id, p.now = p.id+1, p.now.Add(time.Microsecond)
	if err := p.responses.packet(p.now, Meta{Handle: 2, ID: p.id, InIf: from, OutIf: 5}, tcpPacket(port, true, seq, ack, flags, data)); err != nil {
		p.t.Fatal(err)
	}
	return p.last
}

// TestRefusedPassesNever: what the holder has refused does not pass when it has
// forgotten the connection, or never had room for it, and the SYN comes again.
func TestRefusedPassesNever(t *testing.T) {
	const isn, later = 1000, 6 * time.Second
	evil := inStream(query(t, "secret.evil.test.", typeA))
	forget := map[string]func(p *bothWays){
		"in an hour": func(p *bothWays) { p.now = p.now.Add(time.Hour + time.Second) },
		"in a flood": func(p *bothWays) {
			p.now = p.now.Add(later)
			for port := range uint16(4096) {
				if port%100 == 99 { // keeps the parser's stream, and is not told of to the connection
					p.client(4000, isn+999, 78, tcpACK, []byte("x"))
				}
				p.client(10000+port, 1, 0, tcpSYN, nil)
			}
		},
	}
	for what, forget := range forget {
		p := newBothWays(t, 1)
		p.client(4000, isn, 0, tcpSYN, nil)
		p.server(3, 4000, 77, isn+1, tcpSYN|tcpACK, nil)
		if reason := p.client(4000, isn+1, 78, tcpACK, evil); reason != ipc.ReasonNameNotAllowed {
			t.Fatal(reason)
		}
		p.client(4000, isn+1, 0, tcpRST, nil) // with which the server forgets
		forget(p)
		p.client(4000, isn, 0, tcpSYN, nil)
		p.server(3, 4000, 99_077, isn+1, tcpSYN|tcpACK, nil)
		if p.client(4000, isn+1, 99_078, tcpACK, evil) == ipc.ReasonNone {
			t.Errorf("the holder forgets %s: a refused query left", what)
		}
	}

	// All that a client may have is in use.
	p := newBothWays(t, 8192)
	for port := range uint16(64) {
		p.client(20000+port, 1, 0, tcpSYN, nil)
		p.server(3, 20000+port, 1, 2, tcpSYN|tcpACK, nil)
	}
	if reason := p.client(4000, isn, 0, tcpSYN, nil); reason != ipc.ReasonConnectionsFull {
		t.Fatal(reason)
	}
	if reason := p.client(4000, isn+1, 78, tcpACK, evil); reason != ipc.ReasonNoConnection {
		t.Fatal(reason)
	}
	p.now = p.now.Add(later)
	p.client(4000, isn, 0, tcpSYN, nil)
	p.server(3, 4000, 77, isn+1, tcpSYN|tcpACK, nil)
	if p.client(4000, isn+1, 78, tcpACK, evil) == ipc.ReasonNone {
		t.Error("without room: a refused query left")
	}
}

// TestRefusedSynAck: a SYN-ACK that the holder refuses moves the stream of
// responses nowhere. (The parser begins anew with it.)
func TestRefusedSynAck(t *testing.T) {
	const isn, its, skip = 1000, 77, 50
	for what, forge := range map[string]func(p *bothWays) ipc.Reason{
		"by another interface":           func(p *bothWays) ipc.Reason { return p.server(5, 4000, its+skip, isn+1, tcpSYN|tcpACK, nil) },
		"of a connection that has begun": func(p *bothWays) ipc.Reason { return p.server(3, 4000, its+skip, isn+1, tcpSYN|tcpACK, nil) },
		"for another SYN":                func(p *bothWays) ipc.Reason { return p.server(3, 4000, its+skip, isn+7, tcpSYN|tcpACK, nil) },
	} {
		p := newBothWays(t, 1)
		p.client(4000, isn, 0, tcpSYN, nil)
		p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
		if reason := p.client(4000, isn+1, its+1, tcpACK, inStream(query(t, "a.good.test.", typeA))); reason != ipc.ReasonNone {
			t.Fatal(reason)
		}
		if reason := forge(p); reason == ipc.ReasonNone {
			t.Fatalf("%s: it passes", what)
		}
		// The server sends skip octets, of which the filter takes no notice, and
		// behind them what looks like an answer.
		p.server(3, 4000, its+1+skip, isn+1, tcpACK, inStream(answer(t, "a.good.test.", typeA, "a.good.test. 60 IN A 203.0.113.9")))
		if len(p.grants) > 0 {
			t.Errorf("%s: the server's octets %d and following are taken for its first, and open an address", what, skip)
		}
	}
}

// TestCookieBeginsAnywhere: a server with SYN cookies takes the place where both
// streams begin from the segment that ends the handshake. What it acknowledges
// the server has not sent: nothing else shows that it does not fit.
func TestCookieBeginsAnywhere(t *testing.T) {
	const isn, its, skip = 1000, 77, 50
	p := newBothWays(t, 1)
	p.client(4000, isn, 0, tcpSYN, nil)
	p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
	if p.client(4000, isn+1+skip, its+1+skip, tcpACK, nil) == ipc.ReasonNone {
		t.Errorf("an acknowledgement passes of %d octets that the server has not sent, and behind %d that the client has not", skip, skip)
	}
	q := inStream(query(t, "a.good.test.", typeA))
	if p.client(4000, isn+1, its+1+skip, tcpACK, q) == ipc.ReasonNone {
		t.Error("and so does data")
	}
}

// TestSynAckAgainEvicted is TestSynAckAgain with a holder that has forgotten the
// connection before: with 32 filters, 128 SYNs do that while a SYN-ACK is on its
// way.
func TestSynAckAgainEvicted(t *testing.T) {
	p := newBothWays(t, 32)
	const isn, its = 1000, 77
	p.client(4000, isn, 0, tcpSYN, nil)
	p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
	for port := range uint16(maxResponseStreams / shareOfClient) { // makes the parser of responses forget
		if port%100 == 99 {
			p.client(4000, isn+999, 1, tcpACK, []byte("x"))
			p.client(4000, isn+1, 1, tcpACK, nil)
		}
		p.client(5000+port, 1, 0, tcpSYN, nil)
		p.server(3, 5000+port, 1, 2, tcpSYN|tcpACK, nil)
	}
	// The server's SYN-ACK, sent again after a second, is on its way from here.
	plain := inStream(fat(t, len(query(t, "a.good.test.", typeA))+15, nil))
	if reason := p.client(4000, isn+1, its+1, tcpACK, plain); reason != ipc.ReasonNone {
		t.Fatalf("an allowed query: %v", reason)
	}
	p.client(4000, isn+1+uint32(len(plain)), 0, tcpRST, nil) // with a checksum that the server does not take
	begin := p.now
	for port := range uint16(128) {
		p.client(20000+port, 1, 0, tcpSYN, nil)
	}
	p.client(4000, isn, 0, tcpSYN, nil) // the server answers with a challenge ACK
	p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
	hidden := inStream(query(t, "secret.evil.test.", typeA))
	if p.client(4000, isn+1, its+1, tcpACK, inStream(fat(t, len(plain)-lengthSize+len(hidden), hidden))) == ipc.ReasonNone {
		t.Errorf("octets of %q left at place %d, where the server waits for a query; 130 packets while the SYN-ACK is on its way (%v)", hidden, len(plain), p.now-begin)
	}
}

// TestLateSynAck: a server with SYN cookies answers every SYN until it has state. The
// answer to an earlier one, or another answer to the same (for the segment size of
// another), comes when the server has begun already, and confirms nothing: to the
// filter it would begin anew, while the server has octets.
func TestLateSynAck(t *testing.T) {
	const isn, its, before = 1000, 77, 990
	plain := inStream(fat(t, len(query(t, "a.good.test.", typeA))+15, nil))
	hidden := inStream(query(t, "secret.evil.test.", typeA))
	for what, c := range map[string]struct {
		begun  []uint32 // SYNs that pass before the server's answer to the last
		again  []uint32 // and after the query
		number uint32   // what the late SYN-ACK answers
		server uint32
	}{
		"of another segment size":   {[]uint32{isn}, []uint32{isn + 5_000_000, isn}, isn, its + 3},
		"the same":                  {[]uint32{isn}, []uint32{isn + 5_000_000, isn}, isn, its},
		"of a SYN before":           {[]uint32{before, isn}, []uint32{before}, before, 2077},
		"of one that came first":    {[]uint32{isn, before, isn}, []uint32{before}, before, 2077},
		"of one by way of another":  {[]uint32{before, isn}, []uint32{isn + 5_000_000, before}, before, 2077},
		"of one by way of the same": {[]uint32{before, isn}, []uint32{isn, before}, before, 2077},
	} {
		for _, flood := range []bool{false, true} {
			p := newBothWays(t, 8192)
			for _, number := range c.begun {
				p.client(4000, number, 0, tcpSYN, nil)
			}
			if reason := p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil); reason != ipc.ReasonNone {
				t.Fatal(reason)
			}
			if reason := p.client(4000, isn+1, its+1, tcpACK, plain); reason != ipc.ReasonNone {
				t.Fatal(reason)
			}
			// The server has begun, and answers all of these with a challenge.
			for i, number := range c.again {
				p.client(4000, number, 0, tcpSYN, nil)
				for port := range uint16(64) {
					if flood && i == 0 { // what remembers must not be forgotten for it
						p.client(20000+port, 1, 0, tcpSYN, nil)
					}
				}
			}
			p.server(3, 4000, c.server, c.number+1, tcpSYN|tcpACK, nil)
			at := int(isn + 1 + uint32(len(plain)) - (c.number + 1)) // where the server waits for a query
			second := inStream(fat(t, at-lengthSize+len(hidden), hidden))
			if p.client(4000, c.number+1, c.server+1, tcpACK, second) == ipc.ReasonNone {
				t.Errorf("%s (flood: %t): %q left at place %d, where the server waits for a query", what, flood, hidden, at)
			}
		}
	}
}

// TestServerEnds: what the server ends is ended, also where its parser has forgotten
// the stream or drops the segment. A server that does not have a connection any more
// begins one, by SYN cookies, with every acknowledgement of it: in the middle of what
// was allowed.
func TestServerEnds(t *testing.T) {
	const isn, its = 1000, 77
	hidden := inStream(query(t, "secret.evil.test.", typeA))
	outer := inStream(fat(t, len(query(t, "a.good.test.", typeA))+15+len(hidden), hidden))
	place := uint32(len(outer) - len(hidden))
	next := isn + 1 + uint32(len(outer))
	good := inStream(answer(t, "a.good.test.", typeA, "a.good.test. 60 IN A 203.0.113.9"))
	bad := inStream(answer(t, "b.good.test.", typeA, "b.good.test. 60 IN A 203.0.113.9"))
	for what, c := range map[string]struct {
		forgets bool
		end     func(p *bothWays, seq uint32)
	}{
		"FIN":               {true, func(p *bothWays, seq uint32) { p.server(3, 4000, seq, next, tcpFIN|tcpACK, nil) }},
		"RST":               {true, func(p *bothWays, seq uint32) { p.server(3, 4000, seq, 0, tcpRST, nil) }},
		"FIN with data":     {true, func(p *bothWays, seq uint32) { p.server(3, 4000, seq, next, tcpFIN|tcpACK, good) }},
		"RST with data":     {false, func(p *bothWays, seq uint32) { p.server(3, 4000, seq, next, tcpRST|tcpACK, good) }},
		"FIN behind a gap":  {false, func(p *bothWays, seq uint32) { p.server(3, 4000, seq+9, next, tcpFIN|tcpACK, nil) }},
		"and data":          {false, func(p *bothWays, seq uint32) { p.server(3, 4000, seq+9, next, tcpFIN|tcpACK, good) }},
		"and what differs":  {false, func(p *bothWays, seq uint32) { p.server(3, 4000, seq-2, next, tcpFIN|tcpACK, hidden) }},
		"and what is none":  {false, func(p *bothWays, seq uint32) { p.server(3, 4000, seq, next, tcpFIN|tcpACK, bad) }},
		"and what is known": {false, func(p *bothWays, seq uint32) { p.server(3, 4000, seq-1, next, tcpFIN|tcpACK, good[len(good)-1:]) }},
	} {
		p := newBothWays(t, 1)
		p.client(4000, isn, 0, tcpSYN, nil)
		p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
		if reason := p.client(4000, isn+1, its+1, tcpACK, outer); reason != ipc.ReasonNone {
			t.Fatal(reason)
		}
		if reason := p.server(3, 4000, its+1, next, tcpACK, good); reason != ipc.ReasonNone {
			t.Fatal(reason)
		}
		for port := range uint16(maxResponseStreams / shareOfClient) {
			if !c.forgets {
				break
			}
			if port%100 == 99 { // keeps it in the parser of requests
				p.client(4000, isn+1, its+1, tcpACK, outer)
			}
			p.client(5000+port, 1, 0, tcpSYN, nil)
			p.server(3, 5000+port, 1, 2, tcpSYN|tcpACK, nil)
		}
		c.end(p, its+1+uint32(len(good)))
		p.client(4000, isn+1+place, its+1+min(place, uint32(len(good))), tcpACK, nil)
		if p.client(4000, isn+1+place, its+1+min(place, uint32(len(good))), tcpACK, hidden) == ipc.ReasonNone {
			t.Errorf("%s: the hidden query left, after a handshake that begins with it", what)
		}
	}
}

// TestForgedPartOfAnswer: what the holder refuses for its interface is no part of
// the server's stream. The container forges the beginning of an answer where the
// server's first segment was lost (or came while a forged RST had the parser
// forget the connection), and acknowledges it to the server, which sends the end.
func TestForgedPartOfAnswer(t *testing.T) {
	const isn, its = 1000, 77
	p := newBothWays(t, 1)
	p.client(4000, isn, 0, tcpSYN, nil)
	p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
	if reason := p.client(4000, isn+1, its+1, tcpACK, inStream(query(t, "a.good.test.", typeA))); reason != ipc.ReasonNone {
		t.Fatal(reason)
	}
	wire := inStream(answer(t, "a.good.test.", typeA, "a.good.test. 60 IN A 203.0.113.9", "a.good.test. 60 IN A 198.51.100.1"))
	head := len(wire) - 4
	if reason := p.server(5, 4000, its+1, isn+1, tcpACK, wire[:head]); reason == ipc.ReasonNone {
		t.Fatal("it passes")
	}
	p.server(3, 4000, its+1+uint32(head), isn+1, tcpACK, wire[head:])
	if len(p.grants) > 0 {
		t.Errorf("%d octets of an answer that were refused and the last 4 open addresses", head)
	}
}

// TestForgedSyn: a container sends SYNs with a neighbour's address and port. They end
// no connection in use, and keep none from beginning.
func TestForgedSyn(t *testing.T) {
	const isn, its = 1000, 77
	q := inStream(query(t, "a.good.test.", typeA))
	for what, by := range map[string][2]uint32{
		"of another filter": {3, 6}, "of another filter by the same interface": {3, 5}, "by another interface": {1, 6},
	} {
		forge := func(p *bothWays, seq uint32, flags uint8) ipc.Reason {
			return p.clientFrom(by[0], by[1], 4000, seq, 0, flags, nil)
		}
		wants := func(p *bothWays, step string, got ipc.Reason) {
			if got != ipc.ReasonNone {
				t.Errorf("%s: %s: %v", what, step, got)
			}
		}
		p := newBothWays(t, 2)
		p.client(4000, isn, 0, tcpSYN, nil)
		p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
		wants(p, "a query", p.client(4000, isn+1, its+1, tcpACK, q))
		for _, seq := range []uint32{5, isn, 5} {
			if reason := forge(p, seq, tcpSYN); reason != ipc.ReasonInUse {
				t.Errorf("%s: the forged SYN: %v", what, reason)
			}
			if reason := p.clientFrom(by[0], by[1], 4000, seq+1, its+1, tcpACK, q); reason == ipc.ReasonNone {
				t.Errorf("%s: a query by the forger passes", what)
			}
			forge(p, isn+1, tcpRST)
		}
		end := isn + 1 + uint32(len(q))
		wants(p, "the answer", p.server(3, 4000, its+1, end, tcpACK, inStream(answer(t, "a.good.test.", typeA, "a.good.test. 60 IN A 203.0.113.9"))))
		wants(p, "the next query", p.client(4000, end, its+1, tcpACK, q))

		// In the handshake it has to be sent again.
		p = newBothWays(t, 2)
		p.client(4000, isn, 0, tcpSYN, nil)
		wants(p, "a SYN in a handshake", forge(p, 5, tcpSYN))
		p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
		if by[1] != 5 && p.server(3, 4000, its, 6, tcpSYN|tcpACK, nil) == ipc.ReasonNone {
			t.Errorf("%s: an answer to the forged SYN goes to the neighbour", what)
		}
		wants(p, "the SYN again", p.client(4000, isn, 0, tcpSYN, nil))
		p.server(3, 4000, its+1000, isn+1, tcpSYN|tcpACK, nil)
		wants(p, "then a query", p.client(4000, isn+1, its+1001, tcpACK, q))

		p = newBothWays(t, 2)
		forge(p, 5, tcpSYN)
		p.client(4000, isn, 0, tcpSYN, nil)
		p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
		wants(p, "after a forged SYN", p.client(4000, isn+1, its+1, tcpACK, q))
	}
}

// TestForgedHalt: nor does a contradiction in a stream that somebody forges, with the
// numbers of the server's.
func TestForgedHalt(t *testing.T) {
	const isn, its = 1000, 77
	p := newBothWays(t, 1)
	p.client(4000, isn, 0, tcpSYN, nil)
	p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
	q := inStream(query(t, "a.good.test.", typeA))
	if reason := p.client(4000, isn+1, its+1, tcpACK, q); reason != ipc.ReasonNone {
		t.Fatal(reason)
	}
	p.server(5, 4000, its, isn+1, tcpSYN|tcpACK, nil)
	p.server(5, 4000, its+1, isn+1, tcpACK, []byte("one"))
	if reason := p.server(5, 4000, its+1, isn+1, tcpACK, []byte("two")); reason != ipc.ReasonOverlap {
		t.Fatal(reason)
	}
	if reason := p.server(3, 4000, its+1, isn+1, tcpACK, inStream(answer(t, "a.good.test.", typeA, "a.good.test. 60 IN A 198.51.100.1"))); reason != ipc.ReasonNone {
		t.Errorf("the server's answer: %v", reason)
	}
}

// TestForgedRST: a RST that the holder refuses for its interface ends nothing.
func TestForgedRST(t *testing.T) {
	const isn, its = 1000, 77
	p := newBothWays(t, 1)
	p.client(4000, isn, 0, tcpSYN, nil)
	p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
	q := inStream(query(t, "a.good.test.", typeA))
	if reason := p.client(4000, isn+1, its+1, tcpACK, q); reason != ipc.ReasonNone {
		t.Fatal(reason)
	}
	if reason := p.server(5, 4000, its+1, 0, tcpRST, nil); reason != ipc.ReasonInterface {
		t.Fatal(reason)
	}
	if reason := p.server(3, 4000, its+1, isn+1, tcpACK, inStream(answer(t, "a.good.test.", typeA, "a.good.test. 60 IN A 198.51.100.1"))); reason != ipc.ReasonNone {
		t.Errorf("the server's answer: %v", reason)
	}
}

// TestAckOfAnotherConnection: a challenge ACK of the connection that the server
// had with these ports before, which comes behind the SYN-ACK, acknowledges nothing
// of this one, wherever it stands: else a handshake that is shifted would pass.
func TestAckOfAnotherConnection(t *testing.T) {
	const isn, its, far = 1000, 77, 4_000_000
	for what, seq := range map[string]uint32{"elsewhere": its + 5000, "where the stream stands": its + 1} {
		p := newBothWays(t, 1)
		p.client(4000, isn, 0, tcpSYN, nil)
		p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
		if r := p.server(3, 4000, seq, isn+far, tcpACK, nil); r != ipc.ReasonNone {
			t.Errorf("%s: it is dropped: %v", what, r)
		}
		if r := p.client(4000, isn+1+3, its+1, tcpACK, nil); r != ipc.ReasonEarly {
			t.Errorf("%s: a shifted handshake: %v", what, r)
		}
		q := inStream(query(t, "a.good.test.", typeA))
		if r := p.client(4000, isn+1, its+1, tcpACK, q); r != ipc.ReasonNone {
			t.Errorf("%s: the query: %v", what, r)
		}
		if r := p.client(4000, isn+1+3, its+1, tcpACK, q[3:]); r != ipc.ReasonEarly {
			t.Errorf("%s: shifted data: %v", what, r)
		}
	}
}

// TestDroppedIsNoUse: what is dropped keeps no ports in use.
func TestDroppedIsNoUse(t *testing.T) {
	const isn, its = 1000, 77
	p := newBothWays(t, 1)
	p.client(4000, isn, 0, tcpSYN, nil)
	p.server(3, 4000, its, isn+1, tcpSYN|tcpACK, nil)
	for range 4 {
		p.now = p.now.Add(2 * time.Second)
		if r := p.client(4000, isn+77, its+99, tcpACK, nil); r == ipc.ReasonNone {
			t.Fatal("it passes")
		}
		if r := p.client(4000, isn+1, its+99, tcpACK, []byte("x")); r == ipc.ReasonNone {
			t.Fatal("it passes")
		}
	}
	if r := p.client(4000, isn+9000, 0, tcpSYN, nil); r != ipc.ReasonNone {
		t.Errorf("a SYN 8 s after the last segment that passed: %v", r)
	}
}
