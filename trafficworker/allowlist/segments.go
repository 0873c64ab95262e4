package allowlist

import (
	"errors"
	"fmt"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Requests judges one packet of a request queue and those that it decides
// besides: facts are all that was told of it, more than one for a TCP segment
// with several messages. There is an outcome for each fact, and all have the
// same verdict. Otherwise it is as Request.
func (e *Engine) Requests(now ipc.Instant, facts []*ipc.RequestFact) ([]Outcome, error) {
	last := facts[len(facts)-1]
	if last.Proto != ipc.ProtoTCP && len(facts) == 1 {
		o, err := e.Request(now, last)
		return []Outcome{o}, err
	}
	q, err := e.checkSegment(facts)
	if err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, len(facts))
	for i := range outcomes {
		outcomes[i] = Outcome{Verdict: ipc.Drop, Queue: q.Number, Filter: e.shown(q.Filter)}
	}
	e.segments(now, q.Filter, facts, outcomes)
	e.countSegments(facts, outcomes)
	return outcomes, nil
}

// checkSegment is the queue of a segment, or how the sender broke the protocol.
func (e *Engine) checkSegment(facts []*ipc.RequestFact) (ipc.Queue, error) {
	last := facts[len(facts)-1]
	q, ok := e.queues[last.Handle]
	if !ok || !isRequests(q.Kind) {
		return q, fmt.Errorf("allowlist: request on handle %d, which is no request queue", last.Handle)
	}
	for _, f := range facts[:len(facts)-1] {
		if f.Packet != last.Packet || last.Segment.Kind != ipc.SegmentMessage {
			return q, errors.New("allowlist: messages of two packets, or of none")
		}
	}
	for _, also := range last.Segment.Also {
		other, ok := e.queues[also.Handle]
		if !ok || other.Kind != q.Kind || other.Filter != q.Filter {
			return q, fmt.Errorf("allowlist: a request decides a packet of handle %d, which is not of its filter", also.Handle)
		}
	}
	return q, nil
}

// segments judges facts of one segment and writes the reasons down. With one
// message that cannot pass none does, and nothing after them in this stream.
func (e *Engine) segments(now ipc.Instant, filter uint32, facts []*ipc.RequestFact, outcomes []Outcome) {
	last := facts[len(facts)-1]
	if last.Segment.Kind != ipc.SegmentMessage {
		outcomes[0].Reason = e.requestSegment(now, filter, last)
		return
	}
	conn, all := e.requestConnection(now, filter, last)
	early := all == ipc.ReasonEarly // judged all the same: what comes again is decided
	if early {
		all = ipc.ReasonNone
	}
	if all == ipc.ReasonNone {
		for i, f := range facts {
			if outcomes[i].Reason = e.requestMessage(now, filter, f, &outcomes[i]); outcomes[i].Reason != ipc.ReasonNone {
				all = ipc.ReasonConnRefused
			}
		}
	}
	// Only when all are good does any become a request that can be answered.
	for i := 0; i < len(facts) && all == ipc.ReasonNone; i++ {
		if outcomes[i].Reason = e.pending.add(now, filter, facts[i]); outcomes[i].Reason != ipc.ReasonNone {
			all = ipc.ReasonConnRefused
		}
	}
	refused := all != ipc.ReasonNone
	if early && !refused {
		all = ipc.ReasonEarly
	}
	for i := range outcomes {
		if outcomes[i].Reason == ipc.ReasonNone {
			outcomes[i].Reason = all
		}
	}
	if refused && conn != nil { // for whatever reason: to the parser it is decided, and may pass as such when it comes again
		conn.requestsRefused = true
	}
}

// requestSegment judges a segment that completes no message. What holds no
// data may go to every server that may be asked, also of a connection that is
// not known: its end after a restart.
func (e *Engine) requestSegment(now ipc.Instant, filter uint32, f *ipc.RequestFact) ipc.Reason {
	reason := f.Drop
	switch {
	case reason != ipc.ReasonNone:
	case !requestState(f.State):
		reason = ipc.ReasonConnState
	case !e.mayAsk(filter, f.Dst):
		reason = ipc.ReasonResolverNotTrusted
	}
	if f.Segment.Kind == ipc.SegmentOpen && reason == ipc.ReasonNone {
		reason = e.connections.open(now, filter, f)
	}
	// The parser has begun anew with a SYN that does not pass, too.
	if f.Segment.Kind == ipc.SegmentHalt || f.Segment.Kind == ipc.SegmentOpen && reason != ipc.ReasonNone {
		if conn := e.ownConnection(now, filter, f); conn != nil {
			conn.requestsRefused = true
		}
	}
	if reason != ipc.ReasonNone {
		return reason
	}
	switch f.Segment.Kind {
	case ipc.SegmentOpen:
		return ipc.ReasonNone
	case ipc.SegmentAgain:
		return e.synAgain(now, filter, f)
	case ipc.SegmentBare:
		return e.bareRequest(now, filter, f)
	case ipc.SegmentData:
		_, reason := e.requestConnection(now, filter, f)
		return reason
	}
	return ipc.ReasonNoConnection // not reached: the fact is valid
}

// synAgain judges a SYN to which nothing has come since: its parser's stream is
// empty still. Where it is not that of a connection that is known (forgotten
// meanwhile, or one that there was no room for, or another had its place), or that
// has been refused, it begins one.
func (e *Engine) synAgain(now ipc.Instant, filter uint32, f *ipc.RequestFact) ipc.Reason {
	conn := e.ownConnection(now, filter, f)
	if conn == nil || conn.number != f.Segment.Number || conn.requestsRefused {
		return e.connections.open(now, filter, f)
	}
	e.connections.use(now, conn)
	return ipc.ReasonNone // it carries nothing that could not fit
}

// bareRequest judges a segment without data. In a connection that is known it
// must fit, or a server that keeps no state before the handshake's end (SYN
// cookies) would take from it where both streams begin.
func (e *Engine) bareRequest(now ipc.Instant, filter uint32, f *ipc.RequestFact) ipc.Reason {
	conn := e.connections.find(now, requestKey(f))
	switch {
	case conn == nil && (f.Segment.Closes || f.Segment.Fin): // nothing more passes of it but its end
		return ipc.ReasonNone
	case conn == nil || !conn.isOf(filter, f):
		return ipc.ReasonNoConnection
	}
	switch {
	case f.Segment.Closes: // for who takes it nothing can follow, but of a handshake another SYN
		conn.requestsRefused = conn.requestsRefused || conn.confirmed
		e.connections.use(now, conn)
		return ipc.ReasonNone
	case !conn.confirmed || !f.Segment.Known || f.Segment.Number != conn.number:
		return ipc.ReasonNoConnection
	// To a server that has ended, this is a handshake that begins where it stands.
	case conn.requestsRefused && !f.Segment.Fin && int32(f.Seq-(conn.number+1)-conn.acked) < 0:
		return ipc.ReasonConnRefused
	}
	reason := conn.fit(f.Numbers)
	if reason == ipc.ReasonNone { // or one that is dropped would keep its ports and its room
		e.connections.use(now, conn)
	}
	return reason
}

func requestKey(f *ipc.RequestFact) pendingKey {
	return keyOf(&f.Packet, 0, f.Src, f.Dst, f.SrcPort, f.DstPort)
}

// ownConnection is the connection that a segment of a filter belongs to, or nil.
func (e *Engine) ownConnection(now ipc.Instant, filter uint32, f *ipc.RequestFact) *connection {
	if conn := e.connections.find(now, requestKey(f)); conn != nil && conn.isOf(filter, f) {
		return conn
	}
	return nil
}

// requestConnection is the connection of a segment with data, and why the
// data cannot pass, if so.
func (e *Engine) requestConnection(now ipc.Instant, filter uint32, f *ipc.RequestFact) (*connection, ipc.Reason) {
	conn := e.ownConnection(now, filter, f)
	if conn == nil {
		return nil, ipc.ReasonNoConnection
	}
	switch {
	case conn.requestsRefused:
		return conn, ipc.ReasonConnRefused
	case !conn.confirmed || f.Segment.Number != conn.number:
		return conn, ipc.ReasonNoConnection
	}
	reason := conn.fit(append(f.Segment.AlsoAt, f.Numbers)...)
	if reason == ipc.ReasonNone {
		conn.asked = true
		e.connections.use(now, conn)
	}
	return conn, reason
}

// responseSegment judges one fact of a TCP segment of a response queue. After
// a message that did not pass, for whatever reason, nothing does in this stream:
// to the parser it is decided, and may pass as such when it comes again.
func (e *Engine) responseSegment(now ipc.Instant, f *ipc.ResponseFact, p *Plan) ipc.Reason {
	conn, reason := e.responseConnection(now, f, p)
	// What comes by another interface is of another stream to the parser.
	ours := conn != nil && conn.confirmed && reason != ipc.ReasonInterface
	if ours && f.Segment.Closes { // whoever sends after it sends to another connection
		conn.requestsRefused = true
	}
	switch kind := f.Segment.Kind; {
	case f.Drop != ipc.ReasonNone && kind != ipc.SegmentMessage:
		reason = f.Drop
	case reason != ipc.ReasonNone:
	case !responseState(f.State):
		reason = ipc.ReasonConnState
	case kind == ipc.SegmentOpen:
		e.connections.confirm(conn, f.Segment.Server)
	case kind == ipc.SegmentMessage:
		reason = e.responseMessage(now, f, p)
	}
	p.connection, p.segment = conn, f
	if ours && f.Segment.Server == conn.server && reason != ipc.ReasonNone && endsResponses(f) {
		conn.responsesRefused = true
	}
	return reason
}

// endsResponses reports whether nothing of a server's stream may pass after a
// fact that is refused: its parser holds what it brought for a part of the stream.
func endsResponses(f *ipc.ResponseFact) bool {
	switch f.Segment.Kind {
	case ipc.SegmentMessage, ipc.SegmentHalt:
		return true
	case ipc.SegmentData:
		return f.Drop == ipc.ReasonNone
	}
	return false
}

// responseConnection is the connection of a response's segment, if it is
// known, and why it cannot pass, if so.
func (e *Engine) responseConnection(now ipc.Instant, f *ipc.ResponseFact, p *Plan) (*connection, ipc.Reason) {
	conn := e.connections.find(now, keyOf(&f.Packet, 0, f.Dst, f.Src, f.DstPort, f.SrcPort))
	if conn == nil {
		return nil, ipc.ReasonNoConnection
	}
	p.Filter = e.shown(conn.filter)
	if !e.pending.interfacesFit(conn.inIf, conn.outIf, &f.Packet) {
		return conn, ipc.ReasonInterface
	}
	e.connections.use(now, conn)
	switch kind := f.Segment.Kind; {
	case !e.mayAsk(conn.filter, f.Src):
		return conn, ipc.ReasonResolverNotTrusted
	case kind == ipc.SegmentBare:
	case kind == ipc.SegmentAgain:
		if !conn.confirmed || f.Segment.Server != conn.server {
			return conn, ipc.ReasonNoConnection
		}
	case kind == ipc.SegmentOpen:
		if conn.confirmed || f.Segment.Number != conn.number {
			return conn, ipc.ReasonNoConnection
		}
	case conn.responsesRefused:
		return conn, ipc.ReasonConnRefused
	case !conn.confirmed || f.Segment.Server != conn.server:
		return conn, ipc.ReasonNoConnection
	}
	return conn, ipc.ReasonNone
}

// isMessage reports whether a fact is about a message, and not a part of one
// or a segment without.
func isMessage(f *ipc.ResponseFact) bool {
	return f.Proto != ipc.ProtoTCP || f.Segment.Kind == ipc.SegmentMessage
}

// countSegments counts messages, and what else passed.
func (e *Engine) countSegments(facts []*ipc.RequestFact, outcomes []Outcome) {
	for i := range outcomes {
		o := &outcomes[i]
		if o.Reason != ipc.ReasonNone {
			e.counts.Drops[o.Reason]++
			continue
		}
		o.Verdict = ipc.Accept
		if facts[i].Segment.Kind == ipc.SegmentMessage {
			e.counts.Requests++
		} else {
			e.counts.Segments++
		}
	}
}

// ForgetStreams is for a parser that was started again: connections have to be
// begun anew.
func (e *Engine) ForgetStreams() { e.connections.forgetStreams() }
