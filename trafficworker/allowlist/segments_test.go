package allowlist

import (
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// segment is a fact of the connection of query, without a question.
func segment(kind ipc.SegmentKind, handle uint32) *ipc.RequestFact {
	f := query(handle)
	f.Proto, f.TxID, f.Segment.Kind = ipc.ProtoTCP, 0, kind
	f.Segment.Number, f.Segment.Known = 100, kind == ipc.SegmentBare
	f.Numbers = atBegin
	return f
}

// atBegin are the numbers of a segment at the beginning of a stream that is
// confirmed with the number 0.
var atBegin = ipc.Numbers{Seq: 101, Ack: 1}

// streamQuery is query by TCP.
func streamQuery(handle uint32, names ...string) *ipc.RequestFact {
	f := query(handle, names...)
	f.Proto, f.Segment = ipc.ProtoTCP, ipc.Segment{Kind: ipc.SegmentMessage, Number: 100}
	f.Numbers = atBegin
	return f
}

// streamReply is an answer to it, or with another kind a segment of its server.
func streamReply(q *ipc.RequestFact, kind ipc.SegmentKind) *answer {
	a := reply(q)
	a.Segment.Kind, a.Segment.Known = kind, kind == ipc.SegmentBare
	if kind == ipc.SegmentOpen {
		a.Segment.Number = 100
	}
	if kind != ipc.SegmentMessage {
		a.TxID, a.Questions = 0, nil
	}
	return a
}

// hand hands the engine all facts of a segment, as its loop does.
func hand(t testing.TB, e *Engine, now ipc.Instant, facts ...*ipc.RequestFact) []Outcome {
	t.Helper()
	for i, f := range facts {
		f.Segment.More = i < len(facts)-1
		if err := f.Validate(); err != nil {
			t.Fatalf("the test's segment is not valid: %v", err)
		}
	}
	outcomes, err := e.Requests(now, facts)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		checkOutcome(t, o)
		if o.Verdict != outcomes[0].Verdict {
			t.Fatalf("one segment, two verdicts: %+v", outcomes)
		}
	}
	return outcomes
}

func wantSegment(t testing.TB, what string, e *Engine, now ipc.Instant, f *ipc.RequestFact, want ipc.Reason) {
	t.Helper()
	wantReason(t, what, hand(t, e, now, f)[0], want)
}

// connect has a client of a filter's queue and its server shake hands.
func connect(t testing.TB, e *Engine, now ipc.Instant, handle uint32) {
	t.Helper()
	syn := segment(ipc.SegmentOpen, handle)
	wantSegment(t, "SYN", e, now, syn, ipc.ReasonNone)
	wantReason(t, "SYN-ACK", respond(t, e, now, streamReply(syn, ipc.SegmentOpen)).Outcome, ipc.ReasonNone)
}

// TestDataNeedsAHandshake: data passes only in a connection that a server
// confirmed as the client began it.
func TestDataNeedsAHandshake(t *testing.T) {
	e := testEngine(t, testPolicy())
	q := streamQuery(handleWeb, "example.com")
	wantSegment(t, "a query for nobody", e, start, q, ipc.ReasonNoConnection)
	wantSegment(t, "data for nobody", e, start, segment(ipc.SegmentData, handleWeb), ipc.ReasonNoConnection)
	end := segment(ipc.SegmentBare, handleWeb)
	end.Segment.Fin = true
	wantSegment(t, "the end of an older connection", e, start, end, ipc.ReasonNone)
	for _, kind := range []ipc.SegmentKind{ipc.SegmentOpen, ipc.SegmentBare, ipc.SegmentData, ipc.SegmentMessage} {
		wantReason(t, "from a server nobody asked", respond(t, e, start, streamReply(q, kind)).Outcome, ipc.ReasonNoConnection)
	}

	wantSegment(t, "SYN", e, start, segment(ipc.SegmentOpen, handleWeb), ipc.ReasonNone)
	wantSegment(t, "a length before the SYN-ACK", e, start, segment(ipc.SegmentData, handleWeb), ipc.ReasonNoConnection)
	wantReason(t, "an answer before it", respond(t, e, start, streamReply(q, ipc.SegmentData)).Outcome, ipc.ReasonNoConnection)
	other := streamReply(q, ipc.SegmentOpen)
	other.Segment.Number++
	wantReason(t, "another SYN's", respond(t, e, start, other).Outcome, ipc.ReasonNoConnection)
	wantReason(t, "SYN-ACK", respond(t, e, start, streamReply(q, ipc.SegmentOpen)).Outcome, ipc.ReasonNone)
	wantReason(t, "a second one", respond(t, e, start, streamReply(q, ipc.SegmentOpen)).Outcome, ipc.ReasonNoConnection)
	wantSegment(t, "a length", e, start, segment(ipc.SegmentData, handleWeb), ipc.ReasonNone)
	wantSegment(t, "after the SYN-ACK", e, start, q, ipc.ReasonNone)
	wantReason(t, "a part of the answer", respond(t, e, start, streamReply(q, ipc.SegmentData)).Outcome, ipc.ReasonNone)

	// Begun anew, nothing passes before the server has begun anew too.
	now := start.Add(inUseFor)
	wantSegment(t, "another SYN", e, now, segment(ipc.SegmentOpen, handleWeb), ipc.ReasonNone)
	wantSegment(t, "before its SYN-ACK", e, now, q, ipc.ReasonNoConnection)
	its := streamReply(q, ipc.SegmentOpen)
	its.Segment.Server = 7
	wantReason(t, "its SYN-ACK", respond(t, e, now, its).Outcome, ipc.ReasonNone)
	wantSegment(t, "the query again", e, now, segment(ipc.SegmentData, handleWeb), ipc.ReasonConnRefused)
	if w := &e.connections.filters[0]; w.n != 1 || len(e.connections.byKey) != 1 {
		t.Errorf("of a connection begun twice %d are left", w.n)
	}
}

// TestRefusedSyn: the parser begins anew with a SYN that is refused too, where
// the server does not.
func TestRefusedSyn(t *testing.T) {
	for want, spoil := range map[ipc.Reason]func(*ipc.RequestFact){
		ipc.ReasonConnState: func(f *ipc.RequestFact) { f.State = ipc.ConnOther },
		ipc.ReasonInUse:     func(*ipc.RequestFact) {},
	} {
		e := testEngine(t, testPolicy())
		connect(t, e, start, handleWeb)
		syn := segment(ipc.SegmentOpen, handleWeb)
		spoil(syn)
		wantSegment(t, "SYN", e, start, syn, want)
		wantSegment(t, want.String()+", then a query", e, start, streamQuery(handleWeb, "example.com"), ipc.ReasonConnRefused)
	}
}

// TestInUse: in place of a connection in use none begins, whatever its number: a
// SYN-ACK may be under way that was sent before the server took that one. What is
// refused does not keep it in use.
func TestInUse(t *testing.T) {
	syn := func(kind ipc.SegmentKind, number uint32) *ipc.RequestFact {
		f := segment(kind, handleWeb)
		f.Segment.Number = number
		return f
	}
	its := func(number, server uint32) *answer {
		a := streamReply(syn(ipc.SegmentOpen, number), ipc.SegmentOpen)
		a.Segment.Number, a.Segment.Server = number, server
		return a
	}
	for what, others := range map[string][]uint32{
		"with its number and another one of its server": {100},
		"with one that came before":                     {100, 50},
		"by two others":                                 {100, 50, 70, 50},
	} {
		e := testEngine(t, testPolicy())
		for i := range others { // of which no SYN-ACK has come
			wantSegment(t, what, e, start, syn(ipc.SegmentOpen, others[len(others)-1-i]), ipc.ReasonNone)
		}
		wantReason(t, what, respond(t, e, start, its(100, 0)).Outcome, ipc.ReasonNone)
		wantSegment(t, what+": a query", e, start, streamQuery(handleWeb, "example.com"), ipc.ReasonNone)
		now := start
		for _, number := range others {
			now = now.Add(inUseFor / 8)
			for _, kind := range []ipc.SegmentKind{ipc.SegmentOpen, ipc.SegmentAgain} {
				wantSegment(t, what+": SYN", e, now, syn(kind, number), ipc.ReasonInUse)
				wantReason(t, what+": the SYN-ACK that is late", respond(t, e, start, its(number, 3)).Outcome, ipc.ReasonNoConnection)
				f := streamQuery(handleWeb, "example.com")
				f.Segment.Number, f.Numbers = number, ipc.Numbers{Seq: number + 1, Ack: 4}
				if o := hand(t, e, start, f)[0]; o.Verdict != ipc.Drop {
					t.Errorf("%s: another query passes", what)
				}
			}
		}
	}

	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	for i, want := range []ipc.Reason{ipc.ReasonInUse, ipc.ReasonInUse, ipc.ReasonInUse, ipc.ReasonNone} { // as TCP sends it again
		kind, now := ipc.SegmentAgain, start.Add(time.Duration(1<<i)*time.Second)
		if i == 0 {
			kind = ipc.SegmentOpen
		}
		wantSegment(t, "an honest one", e, now, syn(kind, 50), want)
	}
	wantReason(t, "its SYN-ACK", respond(t, e, start.Add(9*time.Second), its(50, 9)).Outcome, ipc.ReasonNone)
}

func TestSegmentsOfOthers(t *testing.T) {
	p := testPolicy()
	p.Resolvers = []ipc.Address{ipc.AddressOf(ip("10.0.0.54"))}
	e := testEngine(t, p)
	for _, kind := range []ipc.SegmentKind{ipc.SegmentBare, ipc.SegmentOpen} {
		wantSegment(t, "to a server that is not trusted", e, start, segment(kind, handleWeb), ipc.ReasonResolverNotTrusted)
		all := segment(kind, handleAll)
		all.Segment.Fin = kind == ipc.SegmentBare
		wantSegment(t, "of a filter that grants nothing", e, start, all, ipc.ReasonNone)
	}

	// Judged by the policy in force.
	e = testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	if _, err := e.Change(start, p); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "of a server that is not trusted any more",
		respond(t, e, start, streamReply(segment(ipc.SegmentData, handleWeb), ipc.SegmentData)).Outcome, ipc.ReasonResolverNotTrusted)

	e = testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	q := streamQuery(handleApt, "debian.org")
	wantSegment(t, "another filter's query", e, start, q, ipc.ReasonNoConnection)
	halt := segment(ipc.SegmentHalt, handleApt)
	halt.Drop = ipc.ReasonOverlap
	wantSegment(t, "another filter's fault", e, start, halt, ipc.ReasonOverlap)
	q = streamQuery(handleWeb, "example.com")
	wantSegment(t, "its own", e, start, q, ipc.ReasonNone)
	elsewhere := streamReply(q, ipc.SegmentData)
	elsewhere.InIf = 9
	wantReason(t, "a part of an answer from elsewhere", respond(t, e, start, elsewhere).Outcome, ipc.ReasonInterface)
	wantReason(t, "a part of the answer", respond(t, e, start, streamReply(q, ipc.SegmentData)).Outcome, ipc.ReasonNone)
	elsewhere = streamReply(q, ipc.SegmentMessage)
	elsewhere.InIf = 9
	wantReason(t, "an answer from elsewhere", respond(t, e, start, elsewhere).Outcome, ipc.ReasonInterface)
	wantReason(t, "the same from the server", respond(t, e, start, streamReply(q, ipc.SegmentMessage)).Outcome, ipc.ReasonNone)
	related := segment(ipc.SegmentBare, handleWeb)
	related.State = ipc.ConnOther
	wantSegment(t, "a related one", e, start, related, ipc.ReasonConnState)
	a := streamReply(q, ipc.SegmentBare)
	a.State = ipc.ConnNew
	wantReason(t, "a new one", respond(t, e, start, a).Outcome, ipc.ReasonConnState)
}

// TestOneBadMessageTakesAll: of the messages of a segment none becomes a request
// that can be answered unless all pass, and none after them.
func TestOneBadMessageTakesAll(t *testing.T) {
	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	good := []*ipc.RequestFact{streamQuery(handleWeb, "example.com"), streamQuery(handleWeb, "other.org")}
	for _, o := range hand(t, e, start, good...) {
		wantReason(t, "two queries", o, ipc.ReasonNone)
	}
	if n := e.Counts(); n.Pending != 2 || n.Requests != 2 {
		t.Errorf("%+v", n)
	}
	bad := []*ipc.RequestFact{streamQuery(handleWeb, "www.example.com"), streamQuery(handleWeb, "evil.net"), streamQuery(handleWeb, "a.other.org")}
	for i, o := range hand(t, e, start, bad...) {
		want := ipc.ReasonConnRefused
		if i == 1 {
			want = ipc.ReasonNameNotAllowed
		}
		wantReason(t, "a bad one among them", o, want)
	}
	if n := e.Counts(); n.Pending != 2 || n.Requests != 2 {
		t.Errorf("%+v", n)
	}
	wantSegment(t, "after it", e, start, streamQuery(handleWeb, "example.com"), ipc.ReasonConnRefused)
	wantSegment(t, "again", e, start, segment(ipc.SegmentData, handleWeb), ipc.ReasonConnRefused)
	wantSegment(t, "its end", e, start, segment(ipc.SegmentBare, handleWeb), ipc.ReasonNone)
	wantReason(t, "the answer to what left", respond(t, e, start, streamReply(good[0], ipc.SegmentMessage)).Outcome, ipc.ReasonNone)
}

// TestRefusedAnswers: after an answer that did not pass none of its connection
// does, and what came before it still counts.
func TestRefusedAnswers(t *testing.T) {
	for what, spoil := range map[string]func(e *Engine, a *answer){
		"of nobody's query": func(_ *Engine, a *answer) { a.TxID++ },
		"malformed":         func(_ *Engine, a *answer) { a.Drop, a.Questions = ipc.ReasonBadMessage, nil },
		"foreign":           func(_ *Engine, a *answer) { a.addr("evil.net", "192.0.2.1") },
	} {
		e := testEngine(t, testPolicy())
		connect(t, e, start, handleWeb)
		q, second := streamQuery(handleWeb, "example.com"), streamQuery(handleWeb, "other.org")
		hand(t, e, start, q, second)
		a := streamReply(q, ipc.SegmentMessage)
		spoil(e, a)
		if p := respond(t, e, start, a); p.Verdict != ipc.Drop {
			t.Errorf("%s: %v", what, p.Verdict)
		}
		for _, kind := range []ipc.SegmentKind{ipc.SegmentData, ipc.SegmentMessage} {
			wantReason(t, what+", then more", respond(t, e, start, streamReply(second, kind)).Outcome, ipc.ReasonConnRefused)
		}
		wantSegment(t, what+", then a query", e, start, streamQuery(handleWeb, "www.example.com"), ipc.ReasonNone)
	}

	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	q := streamQuery(handleWeb, "example.com")
	hand(t, e, start, q)
	p := respond(t, e, start, streamReply(q, ipc.SegmentMessage).addr("example.com", "192.0.2.1"))
	e.NotSent(p)
	wantReason(t, "again, without its grants", respond(t, e, start, streamReply(q, ipc.SegmentData)).Outcome, ipc.ReasonConnRefused)
}

// TestStreamGrants: an answer by TCP gives what one by UDP does, to the query
// by TCP alone.
func TestStreamGrants(t *testing.T) {
	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	q := streamQuery(handleWeb, "example.com")
	hand(t, e, start, q)
	byUDP := reply(query(handleWeb, "example.com"))
	wantReason(t, "by UDP", respond(t, e, start, byUDP).Outcome, ipc.ReasonNoRequest)
	p := respond(t, e, start, streamReply(q, ipc.SegmentMessage).addr("example.com", "192.0.2.1"))
	wantReason(t, "by TCP", p.Outcome, ipc.ReasonNone)
	e.Commit(start, p)
	if granted(e, start, 0, "192.0.2.1") != start.Add(webLasts) {
		t.Error("nothing is granted")
	}
}

// TestConnectionsEnd: idle ones are forgotten, and at its bound a filter's
// own, so that it takes none of another's.
func TestConnectionsEnd(t *testing.T) {
	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	q := streamQuery(handleWeb, "example.com")
	now := start.Add(connectionFor - time.Nanosecond)
	wantSegment(t, "almost idle", e, now, segment(ipc.SegmentData, handleWeb), ipc.ReasonNone)
	now = now.Add(connectionFor - time.Nanosecond)
	wantReason(t, "kept by its answers", respond(t, e, now, streamReply(q, ipc.SegmentBare)).Outcome, ipc.ReasonNone)
	now = now.Add(connectionFor)
	wantSegment(t, "idle", e, now, q, ipc.ReasonNoConnection)
	if n := len(e.connections.byKey); n != 0 {
		t.Errorf("%d connections", n)
	}

	connect(t, e, now, handleApt)
	w := &e.connections.filters[0]
	if w.room != maxConnectionsOfFilter || w.roomOfClient != w.room/4 {
		t.Errorf("room for %d, of a client %d", w.room, w.roomOfClient)
	}
	var all []*ipc.RequestFact
	for i := range 2 * w.room {
		syn := synOf(handleWeb, i%7, i)
		wantSegment(t, "SYN", e, now.Add(time.Duration(i)), syn, ipc.ReasonNone)
		all = append(all, syn)
	}
	if w.n != w.room || len(e.connections.byKey) != w.room+1 {
		t.Errorf("%d connections of a filter, %d in all", w.n, len(e.connections.byKey))
	}
	wantReason(t, "the oldest that has room", respond(t, e, now, streamReply(all[w.room], ipc.SegmentOpen)).Outcome, ipc.ReasonNone)
	wantReason(t, "the newest that has none", respond(t, e, now, streamReply(all[w.room-1], ipc.SegmentOpen)).Outcome, ipc.ReasonNoConnection)
	wantSegment(t, "the other filter's", e, now, streamQuery(handleApt, "debian.org"), ipc.ReasonNone)
	checkConnections(t, e)
}

// TestSegmentProtocol: what an honest request parser would never tell ends it.
func TestSegmentProtocol(t *testing.T) {
	two := func(change func(f *ipc.RequestFact)) []*ipc.RequestFact {
		facts := []*ipc.RequestFact{streamQuery(handleWeb, "example.com"), streamQuery(handleWeb, "example.com")}
		change(facts[1])
		return facts
	}
	also := func(handle uint32) []*ipc.RequestFact {
		f := streamQuery(handleWeb, "example.com")
		f.Segment.Also = []ipc.PacketID{{Handle: handle, ID: 2}}
		return []*ipc.RequestFact{f}
	}
	for what, facts := range map[string][]*ipc.RequestFact{
		"a response queue":          {segment(ipc.SegmentBare, handleResponses)},
		"an unknown queue":          {segment(ipc.SegmentBare, handleUnknown)},
		"two packets":               two(func(f *ipc.RequestFact) { f.ID++ }),
		"two queues":                two(func(f *ipc.RequestFact) { f.Handle = handleApt }),
		"two connections":           two(func(f *ipc.RequestFact) { f.SrcPort++ }),
		"no message":                two(func(f *ipc.RequestFact) { f.Questions, f.Segment.Kind = nil, ipc.SegmentData }),
		"UDP":                       two(func(f *ipc.RequestFact) { f.Proto, f.Segment.Kind = ipc.ProtoUDP, ipc.SegmentNone }),
		"another filter's":          also(handleApt),
		"a response":                also(handleResponses),
		"of an unknown queue":       also(handleUnknown),
		"of a filter without names": also(handleAll),
	} {
		e := testEngine(t, testPolicy())
		connect(t, e, start, handleWeb)
		if o, err := e.Requests(start, facts); err == nil {
			t.Errorf("%s: %+v", what, o)
		}
	}
}
