package allowlist

import (
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// at is a segment with these numbers relative to where the two streams begin.
func at(f *ipc.RequestFact, place, acked uint32) *ipc.RequestFact {
	f.Numbers = ipc.Numbers{Seq: 101 + place, Ack: 1 + acked}
	return f
}

// fromServer is a segment of the server's that acknowledges so much.
func fromServer(q *ipc.RequestFact, kind ipc.SegmentKind, acked uint32) *answer {
	a := streamReply(q, kind)
	a.Ack = 101 + acked
	return a
}

// TestAcknowledged: what a client acknowledges has passed, in every segment of it.
func TestAcknowledged(t *testing.T) {
	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	for _, kind := range []ipc.SegmentKind{ipc.SegmentBare, ipc.SegmentData} {
		wantSegment(t, "of nothing", e, start, at(segment(kind, handleWeb), 0, 0), ipc.ReasonNone)
		wantSegment(t, "of an octet", e, start, at(segment(kind, handleWeb), 0, 1), ipc.ReasonNumbers)
		wantSegment(t, "of what was before", e, start, at(segment(kind, handleWeb), 0, 1<<32-1), ipc.ReasonNumbers)
	}
	q := streamQuery(handleWeb, "example.com")
	wantSegment(t, "a query", e, start, q, ipc.ReasonNone)
	part := fromServer(q, ipc.SegmentData, 30)
	part.Segment.Reach = 20
	e.Commit(start, respond(t, e, start, part))
	wantSegment(t, "of what has passed", e, start, at(segment(ipc.SegmentBare, handleWeb), 30, 20), ipc.ReasonNone)
	wantSegment(t, "of less", e, start, at(segment(ipc.SegmentBare, handleWeb), 30, 19), ipc.ReasonNone)
	wantSegment(t, "of more", e, start, at(segment(ipc.SegmentBare, handleWeb), 30, 21), ipc.ReasonNumbers)

	// What is refused has not passed.
	part = fromServer(q, ipc.SegmentData, 30)
	part.Segment.Reach, part.InIf = 50, 9
	wantReason(t, "from elsewhere", respond(t, e, start, part).Outcome, ipc.ReasonInterface)
	wantSegment(t, "of what was refused", e, start, at(segment(ipc.SegmentBare, handleWeb), 30, 50), ipc.ReasonNumbers)

	// One of several packets.
	held := at(streamQuery(handleWeb, "example.com"), 50, 20)
	held.Segment.Also = []ipc.PacketID{{Handle: handleWeb, ID: 7}, {Handle: handleWeb, ID: 8}}
	held.Segment.AlsoAt = []ipc.Numbers{{Seq: 131, Ack: 21}, {Seq: 141, Ack: 22}}
	wantSegment(t, "of a packet beside", e, start, held, ipc.ReasonNumbers)
	wantSegment(t, "and what is after it", e, start, at(segment(ipc.SegmentData, handleWeb), 30, 20), ipc.ReasonConnRefused)
}

// TestEarly: until the server has acknowledged something, a segment stands where
// the stream begins. A query that comes too early is judged, and passes when it
// comes again.
func TestEarly(t *testing.T) {
	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	for place, want := range map[uint32]ipc.Reason{
		0: ipc.ReasonNone, 1: ipc.ReasonEarly, 2: ipc.ReasonEarly, 40: ipc.ReasonEarly, 1 << 24: ipc.ReasonEarly, 1<<32 - 1: ipc.ReasonEarly,
	} {
		for _, kind := range []ipc.SegmentKind{ipc.SegmentBare, ipc.SegmentData} {
			if o := hand(t, e, start, at(segment(kind, handleWeb), place, 0))[0]; o.Reason != want {
				t.Errorf("kind %d at place %d: %v, want %v", kind, place, o.Reason, want)
			}
		}
	}
	q := at(streamQuery(handleWeb, "example.com"), 2, 0)
	wantSegment(t, "a query behind its length", e, start, q, ipc.ReasonEarly)
	wantReason(t, "an acknowledgement", respond(t, e, start, fromServer(q, ipc.SegmentBare, 0)).Outcome, ipc.ReasonNone)
	wantSegment(t, "of nothing", e, start, at(segment(ipc.SegmentData, handleWeb), 2, 0), ipc.ReasonEarly)
	forged := fromServer(q, ipc.SegmentBare, 2)
	forged.Segment.Server = 5
	e.Commit(start, respond(t, e, start, forged))
	unknown := fromServer(q, ipc.SegmentBare, 2)
	unknown.Segment.Known = false
	e.Commit(start, respond(t, e, start, unknown))
	wantSegment(t, "of another stream", e, start, at(segment(ipc.SegmentData, handleWeb), 2, 0), ipc.ReasonEarly)
	e.Commit(start, respond(t, e, start, fromServer(q, ipc.SegmentBare, 2)))
	wantSegment(t, "again, when the length is acknowledged", e, start, at(segment(ipc.SegmentData, handleWeb), 2, 0), ipc.ReasonNone)
	wantReason(t, "its answer", respond(t, e, start, fromServer(q, ipc.SegmentMessage, 34)).Outcome, ipc.ReasonNone)

	bad := at(streamQuery(handleWeb, "evil.test"), 1, 0)
	e = testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	wantSegment(t, "one that is not allowed", e, start, bad, ipc.ReasonNameNotAllowed)
	wantSegment(t, "and what is after it", e, start, segment(ipc.SegmentData, handleWeb), ipc.ReasonConnRefused)
}

// TestClosed: after either side has ended a connection no data of the client
// passes, whatever the other side still takes it for.
func TestClosed(t *testing.T) {
	ends := func(e *Engine, kind ipc.SegmentKind, want ipc.Reason, change func(*answer)) {
		end := fromServer(streamQuery(handleWeb, "example.com"), kind, 0)
		end.Segment.Closes = true
		change(end)
		wantReason(t, "the server's end", respond(t, e, start, end).Outcome, want)
	}
	for what, end := range map[string]func(e *Engine){
		"a RST of the client": func(e *Engine) {
			rst := segment(ipc.SegmentBare, handleWeb)
			rst.Segment.Closes, rst.Numbers = true, ipc.Numbers{Seq: 5}
			wantSegment(t, "RST", e, start, rst, ipc.ReasonNone)
		},
		"FIN or RST of the server": func(e *Engine) { ends(e, ipc.SegmentBare, ipc.ReasonNone, func(*answer) {}) },
		"one of a stream that its parser has forgotten": func(e *Engine) {
			ends(e, ipc.SegmentBare, ipc.ReasonNone, func(a *answer) { a.Segment.Known = false })
		},
		"one behind octets that are missing": func(e *Engine) {
			ends(e, ipc.SegmentNone, ipc.ReasonOutOfOrder, func(a *answer) { a.Drop = ipc.ReasonOutOfOrder })
		},
		"one in a state that does not fit": func(e *Engine) {
			ends(e, ipc.SegmentBare, ipc.ReasonConnState, func(a *answer) { a.State = ipc.ConnOther })
		},
		"one in an answer that is refused": func(e *Engine) { ends(e, ipc.SegmentMessage, ipc.ReasonNoRequest, func(*answer) {}) },
		"one in what contradicts": func(e *Engine) {
			ends(e, ipc.SegmentHalt, ipc.ReasonOverlap, func(a *answer) { a.Drop = ipc.ReasonOverlap })
		},
	} {
		e := testEngine(t, testPolicy())
		connect(t, e, start, handleWeb)
		end(e)
		wantSegment(t, what, e, start, streamQuery(handleWeb, "example.com"), ipc.ReasonConnRefused)
		wantSegment(t, what+", a length", e, start, segment(ipc.SegmentData, handleWeb), ipc.ReasonConnRefused)
		wantSegment(t, what+", the client's FIN", e, start, segment(ipc.SegmentBare, handleWeb), ipc.ReasonNone)
	}

	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	for _, kind := range []ipc.SegmentKind{ipc.SegmentBare, ipc.SegmentNone} {
		ends(e, kind, map[bool]ipc.Reason{true: ipc.ReasonInterface, false: ipc.ReasonNoConnection}[kind == ipc.SegmentBare], func(a *answer) {
			a.InIf = 9
			if kind == ipc.SegmentNone {
				a.Drop = ipc.ReasonNoConnection
			}
		})
	}
	wantSegment(t, "an end from elsewhere", e, start, streamQuery(handleWeb, "example.com"), ipc.ReasonNone)
}

// TestAcknowledgedAfterTheEnd: after the end the client may acknowledge what comes, and
// end too, but not from the middle of what the server has acknowledged.
func TestAcknowledgedAfterTheEnd(t *testing.T) {
	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	q := streamQuery(handleWeb, "example.com")
	wantSegment(t, "a query", e, start, q, ipc.ReasonNone)
	a := fromServer(q, ipc.SegmentMessage, 34)
	a.Segment.Reach = 50
	e.Commit(start, respond(t, e, start, a))
	ack, fin := segment(ipc.SegmentBare, handleWeb), segment(ipc.SegmentBare, handleWeb)
	fin.Segment.Fin = true
	wantSegment(t, "a probe", e, start, at(ack, 33, 50), ipc.ReasonNone)
	end := fromServer(q, ipc.SegmentBare, 34)
	end.Segment.Closes, end.Segment.Reach = true, 51
	e.Commit(start, respond(t, e, start, end))
	for place, want := range map[uint32]ipc.Reason{0: ipc.ReasonConnRefused, 20: ipc.ReasonConnRefused, 33: ipc.ReasonConnRefused, 34: ipc.ReasonNone, 60: ipc.ReasonNone} {
		wantSegment(t, "an acknowledgement", e, start, at(ack, place, 51), want)
	}
	wantSegment(t, "the client's end", e, start, at(fin, 34, 51), ipc.ReasonNone)
	wantSegment(t, "the last one", e, start, at(ack, 35, 51), ipc.ReasonNone)
}

// TestOfNobody: of a connection that is not known only its end passes, and a SYN
// that comes again begins it. A RST in the handshake ends nothing: it answers the
// challenge of a server that has an older one.
func TestOfNobody(t *testing.T) {
	e := testEngine(t, testPolicy())
	fin, rst, ack := segment(ipc.SegmentBare, handleWeb), segment(ipc.SegmentBare, handleWeb), segment(ipc.SegmentBare, handleWeb)
	fin.Segment.Fin, rst.Segment.Closes = true, true
	wantSegment(t, "a FIN", e, start, fin, ipc.ReasonNone)
	wantSegment(t, "a RST", e, start, rst, ipc.ReasonNone)
	wantSegment(t, "an acknowledgement", e, start, ack, ipc.ReasonNoConnection)

	again := segment(ipc.SegmentAgain, handleWeb)
	wantSegment(t, "a SYN that came before", e, start, again, ipc.ReasonNone)
	wantSegment(t, "a RST in the handshake", e, start, rst, ipc.ReasonNone)
	wantSegment(t, "the SYN again", e, start, again, ipc.ReasonNone)
	wantReason(t, "its SYN-ACK", respond(t, e, start, streamReply(again, ipc.SegmentOpen)).Outcome, ipc.ReasonNone)
	wantSegment(t, "a query", e, start, streamQuery(handleWeb, "example.com"), ipc.ReasonNone)
}

// TestRefusedPart: a part of an answer that is refused takes the rest along,
// since its parser holds it for a part of the stream.
func TestRefusedPart(t *testing.T) {
	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	q := streamQuery(handleWeb, "example.com")
	wantSegment(t, "a query", e, start, q, ipc.ReasonNone)
	part := fromServer(q, ipc.SegmentData, 30)
	part.State = ipc.ConnOther
	wantReason(t, "in another state", respond(t, e, start, part).Outcome, ipc.ReasonConnState)
	wantReason(t, "the rest", respond(t, e, start, fromServer(q, ipc.SegmentMessage, 30)).Outcome, ipc.ReasonConnRefused)
}

// TestStreamsOfOthers: facts of a stream that is not the connection's.
func TestStreamsOfOthers(t *testing.T) {
	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	q := streamQuery(handleWeb, "example.com")
	wantSegment(t, "a query", e, start, q, ipc.ReasonNone)
	for _, kind := range []ipc.SegmentKind{ipc.SegmentData, ipc.SegmentMessage, ipc.SegmentAgain} {
		a := fromServer(q, kind, 30)
		a.Segment.Server = 50
		wantReason(t, "the server's", respond(t, e, start, a).Outcome, ipc.ReasonNoConnection)
	}
	wantReason(t, "its own", respond(t, e, start, fromServer(q, ipc.SegmentMessage, 30)).Outcome, ipc.ReasonNone)
	for _, kind := range []ipc.SegmentKind{ipc.SegmentBare, ipc.SegmentData} {
		f := segment(kind, handleWeb)
		f.Segment.Number = 99
		wantSegment(t, "the client's", e, start, f, ipc.ReasonNoConnection)
	}
	forgotten := segment(ipc.SegmentBare, handleWeb)
	forgotten.Segment.Known, forgotten.Segment.Number = false, 0
	wantSegment(t, "what its parser has forgotten", e, start, forgotten, ipc.ReasonNoConnection)
	wantSegment(t, "of another filter", e, start, segment(ipc.SegmentBare, handleApt), ipc.ReasonNoConnection)
}

// TestRoomOfThoseInUse: a confirmed connection that was used just now makes no
// room for another; one that was not confirmed does.
func TestRoomOfThoseInUse(t *testing.T) {
	e := testEngine(t, testPolicy())
	e.connections.filters[0].room, e.connections.filters[0].roomOfClient = 3, 3
	syn := func(port uint16, confirmed bool) ipc.Reason {
		s := segment(ipc.SegmentOpen, handleWeb)
		s.SrcPort = port
		reason := hand(t, e, start, s)[0].Reason
		if confirmed {
			wantReason(t, "SYN-ACK", respond(t, e, start, streamReply(s, ipc.SegmentOpen)).Outcome, ipc.ReasonNone)
		}
		return reason
	}
	syn(1, true)
	syn(2, false)
	syn(3, true)
	if got := syn(4, true); got != ipc.ReasonNone || len(e.connections.byKey) != 3 {
		t.Errorf("with one that is not confirmed: %v, %d", got, len(e.connections.byKey))
	}
	if got := syn(5, false); got != ipc.ReasonConnectionsFull {
		t.Errorf("with all in use: %v", got)
	}
	start := start.Add(inUseFor)
	s := segment(ipc.SegmentOpen, handleWeb)
	s.SrcPort = 6
	wantSegment(t, "a little later", e, start, s, ipc.ReasonNone)
}
