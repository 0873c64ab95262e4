package allowlist

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

func TestAResponseMustMatchTheWholeKey(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(a *answer)
		want  ipc.Reason
	}{
		"transaction id":   {func(a *answer) { a.TxID++ }, ipc.ReasonNoRequest},
		"protocol":         {func(a *answer) { a.Proto, a.Segment.Kind = ipc.ProtoTCP, ipc.SegmentMessage }, ipc.ReasonNoConnection},
		"server":           {func(a *answer) { a.Src = ipc.AddressOf(ip("10.0.0.54")) }, ipc.ReasonNoRequest},
		"client":           {func(a *answer) { a.Dst = ipc.AddressOf(ip("10.0.0.3")) }, ipc.ReasonNoRequest},
		"server port":      {func(a *answer) { a.SrcPort++ }, ipc.ReasonNoRequest},
		"client port":      {func(a *answer) { a.DstPort++ }, ipc.ReasonNoRequest},
		"not turned round": {func(a *answer) { a.Src, a.Dst, a.SrcPort, a.DstPort = a.Dst, a.Src, a.DstPort, a.SrcPort }, ipc.ReasonNoRequest},
		"other name":       {func(a *answer) { a.Questions = query(0, "www.example.com").Questions }, ipc.ReasonNoRequest},
		"other type":       {func(a *answer) { a.Questions = query(0, "example.com").Questions; a.Questions[0].Type = 28 }, ipc.ReasonNoRequest},
		"other class":      {func(a *answer) { a.Questions = query(0, "example.com").Questions; a.Questions[0].Class = 3 }, ipc.ReasonNoRequest},
		"more questions":   {func(a *answer) { a.Questions = query(0, "example.com", "example.com").Questions }, ipc.ReasonNoRequest},
		"no question":      {func(a *answer) { a.Questions, a.NoRecords = nil, true }, ipc.ReasonNoQuestion},
		"no question, but records": {func(a *answer) { a.Questions, a.RCode = nil, 1 },
			ipc.ReasonNoQuestion},
		"arrives elsewhere":  {func(a *answer) { a.InIf = 9 }, ipc.ReasonInterface},
		"leaves elsewhere":   {func(a *answer) { a.OutIf = 9 }, ipc.ReasonInterface},
		"new connection":     {func(a *answer) { a.State = ipc.ConnNew }, ipc.ReasonConnState},
		"related connection": {func(a *answer) { a.State = ipc.ConnOther }, ipc.ReasonConnState},
		"refused by the parser": {func(a *answer) { a.Drop, a.Questions = ipc.ReasonBadMessage, nil },
			ipc.ReasonBadMessage},
	} {
		e := testEngine(t, testPolicy())
		q := query(handleWeb, "example.com")
		q.InIf = 3
		ask(t, e, start, q)
		a := reply(q)
		c.spoil(a)
		p := respond(t, e, start, a)
		wantReason(t, what, p.Outcome, c.want)
		if p.Filter != -1 {
			t.Errorf("%s: filter %d named", what, p.Filter)
		}
		// What does not match must not burn the honest answer.
		p = respond(t, e, start, reply(q))
		wantReason(t, what+", then the honest one", p.Outcome, ipc.ReasonNone)
		if p.Filter != 0 {
			t.Errorf("%s: the honest one is of filter %d", what, p.Filter)
		}
	}
}

func TestOneResponseARequest(t *testing.T) {
	e := testEngine(t, testPolicy())
	q := query(handleWeb, "example.com")
	wantReason(t, "unsolicited", respond(t, e, start, reply(q)).Outcome, ipc.ReasonNoRequest)
	ask(t, e, start, q)
	ask(t, e, start, q) // a retransmission counts as one
	wantReason(t, "first", respond(t, e, start, reply(q)).Outcome, ipc.ReasonNone)
	wantReason(t, "second", respond(t, e, start, reply(q)).Outcome, ipc.ReasonNoRequest)

	ask(t, e, start, q)
	wantReason(t, "poisoned", respond(t, e, start, reply(q).addr("evil.net", "192.0.2.1")).Outcome, ipc.ReasonForeignAnswer)
	wantReason(t, "after the poisoned one", respond(t, e, start, reply(q)).Outcome, ipc.ReasonNoRequest)
	if n := e.Counts().Pending; n != 0 {
		t.Errorf("%d still pending", n)
	}
}

func TestARequestWaitsOneMinute(t *testing.T) {
	q := query(handleWeb, "example.com")
	for _, c := range []struct {
		again, after time.Duration
		want         ipc.Reason
	}{
		{0, time.Minute - 1, ipc.ReasonNone},
		{0, time.Minute, ipc.ReasonNoRequest},
		{50 * time.Second, 110*time.Second - 1, ipc.ReasonNone},
		{50 * time.Second, 110 * time.Second, ipc.ReasonNoRequest},
	} {
		e := testEngine(t, testPolicy())
		ask(t, e, start, q)
		ask(t, e, start.Add(c.again), q)
		wantReason(t, fmt.Sprint(c.again, c.after), respond(t, e, start.Add(c.after), reply(q)).Outcome, c.want)
	}
}

func TestTheSameRequestOfAnotherFilter(t *testing.T) {
	e := testEngine(t, testPolicy())
	ask(t, e, start, query(handleWeb, "example.com"))
	wantReason(t, "other filter", ask(t, e, start, query(handleApt, "example.com")), ipc.ReasonPendingOther)
	wantReason(t, "allow-all", ask(t, e, start, query(handleAll, "example.com")), ipc.ReasonPendingOther)
	other := query(handleApt, "debian.org")
	wantReason(t, "other question", ask(t, e, start, other), ipc.ReasonNone)
	if p := respond(t, e, start, reply(other)); p.Filter != 1 {
		t.Errorf("answered for filter %d, want 1", p.Filter)
	}
	later := start.Add(time.Minute)
	wantReason(t, "when the first has ended", ask(t, e, later, query(handleApt, "example.com")), ipc.ReasonNone)
	if p := respond(t, e, later, reply(query(handleApt, "example.com"))); p.Filter != 1 || e.Counts().Pending != 0 {
		t.Errorf("answered for filter %d, %d pending, want filter 1 and none", p.Filter, e.Counts().Pending)
	}
}

func TestInterfaces(t *testing.T) {
	for _, c := range []struct {
		check                        bool
		reqIn, reqOut, respIn, resp2 uint32
		want                         ipc.Reason
	}{
		{true, 0, 2, 2, 0, ipc.ReasonNone},
		{true, 3, 2, 2, 3, ipc.ReasonNone},
		{true, 3, 2, 3, 2, ipc.ReasonInterface},
		{true, 3, 2, 3, 0, ipc.ReasonInterface}, // a container forging from its own side
		{true, 3, 2, 2, 4, ipc.ReasonInterface},
		{true, 0, 0, 5, 6, ipc.ReasonNone},      // the kernel named none
		{true, 3, 0, 0, 3, ipc.ReasonNone},      // a container asks this host's own resolver
		{true, 3, 0, 3, 3, ipc.ReasonInterface}, // and forges the answer by a hairpin
		{true, 3, 0, 3, 0, ipc.ReasonInterface},
		{true, 3, 0, 4, 3, ipc.ReasonInterface},
		{false, 3, 0, 3, 3, ipc.ReasonNone},
		{false, 3, 2, 3, 2, ipc.ReasonNone},
	} {
		p := testPolicy()
		p.Settings.InterfaceCheck = c.check
		e := testEngine(t, p)
		q := query(handleWeb, "example.com")
		q.InIf, q.OutIf = c.reqIn, c.reqOut
		ask(t, e, start, q)
		a := reply(q)
		a.InIf, a.OutIf = c.respIn, c.resp2
		wantReason(t, fmt.Sprint(c), respond(t, e, start, a).Outcome, c.want)
	}
}

// The same request by two interfaces is two, each with its own response.
func TestInterfacesArePartOfTheKey(t *testing.T) {
	e := testEngine(t, testPolicy())
	a, b := query(handleWeb, "example.com"), query(handleWeb, "example.com")
	a.OutIf, b.OutIf = 2, 3
	ask(t, e, start, a)
	ask(t, e, start, b)
	for _, q := range []*ipc.RequestFact{a, b} {
		wantReason(t, "its own", respond(t, e, start, reply(q)).Outcome, ipc.ReasonNone)
		wantReason(t, "again", respond(t, e, start, reply(q)).Outcome, []ipc.Reason{ipc.ReasonInterface, ipc.ReasonNoRequest}[q.OutIf-2])
	}
	p := testPolicy()
	p.Settings.InterfaceCheck = false
	e = testEngine(t, p)
	ask(t, e, start, a)
	ask(t, e, start, b)
	if n := e.Counts().Pending; n != 1 {
		t.Errorf("%d pending without the check, want 1", n)
	}
}

func TestErrorWithoutAQuestion(t *testing.T) {
	formErr := func(q *ipc.RequestFact) *answer {
		a := reply(q)
		a.Questions, a.NoRecords, a.RCode = nil, true, 1
		return a
	}
	e := testEngine(t, testPolicy())
	q := query(handleWeb, "example.com")
	wantReason(t, "unsolicited", respond(t, e, start, formErr(q)).Outcome, ipc.ReasonNoRequest)
	ask(t, e, start, q)
	elsewhere := formErr(q)
	elsewhere.InIf = 9
	wantReason(t, "elsewhere", respond(t, e, start, elsewhere).Outcome, ipc.ReasonInterface)
	p := respond(t, e, start, formErr(q))
	wantReason(t, "one request", p.Outcome, ipc.ReasonNone)
	if len(p.Questions) != 1 || p.Questions[0].Name != wire("example.com") {
		t.Errorf("answers %v", p.Questions)
	}
	wantReason(t, "used up", respond(t, e, start, formErr(q)).Outcome, ipc.ReasonNoRequest)

	ask(t, e, start, q)
	ask(t, e, start, query(handleWeb, "other.org"))
	wantReason(t, "two requests", respond(t, e, start, formErr(q)).Outcome, ipc.ReasonNoRequest)
	wantReason(t, "left alone", respond(t, e, start, reply(q)).Outcome, ipc.ReasonNone)
}

// from gives a query the n-th source and a port and id of its own.
func from(q *ipc.RequestFact, source, n int) *ipc.RequestFact {
	q.Src = ipc.AddressOf(netip.AddrFrom4([4]byte{10, 1, byte(source >> 8), byte(source)}))
	q.SrcPort, q.TxID = uint16(1024+n%60000), uint16(n)
	return q
}

func TestPendingBounds(t *testing.T) {
	e := testEngine(t, testPolicy())
	room, ofSource := e.pending.filters[0].room, e.pending.filters[0].roomOfSource
	if room != MaxPendingOfFilter || ofSource != room/4 {
		t.Fatalf("room %d, of a source %d", room, ofSource)
	}
	// A flooding source ends at its share, the others in its filter go on.
	for i := range ofSource {
		wantReason(t, "flood", ask(t, e, start, from(query(handleWeb, "example.com"), 1, i)), ipc.ReasonNone)
	}
	wantReason(t, "over the source's bound", ask(t, e, start, from(query(handleWeb, "example.com"), 1, ofSource)), ipc.ReasonPendingFull)
	wantReason(t, "another source", ask(t, e, start, from(query(handleWeb, "example.com"), 2, 0)), ipc.ReasonNone)
	wantReason(t, "a retransmission", ask(t, e, start, from(query(handleWeb, "example.com"), 1, 5)), ipc.ReasonNone)
	for i := 1; i < room-ofSource; i++ {
		wantReason(t, "many sources", ask(t, e, start, from(query(handleWeb, "example.com"), 2+i/1000, i)), ipc.ReasonNone)
	}
	wantReason(t, "over the filter's bound", ask(t, e, start, from(query(handleWeb, "example.com"), 999, 0)), ipc.ReasonPendingFull)
	wantReason(t, "another filter", ask(t, e, start, from(query(handleApt, "debian.org"), 999, 0)), ipc.ReasonNone)
	wantReason(t, "the oldest is still there", respond(t, e, start, reply(from(query(handleWeb, "example.com"), 1, 0))).Outcome, ipc.ReasonNone)
	wantReason(t, "room again", ask(t, e, start, from(query(handleWeb, "example.com"), 999, 0)), ipc.ReasonNone)

	later := start.Add(time.Minute)
	wantReason(t, "after a minute", ask(t, e, later, from(query(handleWeb, "example.com"), 1, 7)), ipc.ReasonNone)
	if n := e.pending.filters[0].Len(); n != 1 || len(e.pending.filters[0].sources) != 1 {
		t.Errorf("%d pending of %d sources after a minute, want 1 of 1", n, len(e.pending.filters[0].sources))
	}
}

func TestPendingRoomIsShared(t *testing.T) {
	for _, c := range [][3]int{{1, 16384, 4096}, {4, 16384, 4096}, {64, 1024, 256}, {1024, 64, 64}, {8192, 64, 64}} {
		if w := newPending(c[0], true).filters[0]; w.room != c[1] || w.roomOfSource != c[2] {
			t.Errorf("%d filters: room %d, of a source %d, want %d and %d", c[0], w.room, w.roomOfSource, c[1], c[2])
		}
	}
}

func TestPendingOfOneKey(t *testing.T) {
	e := testEngine(t, testPolicy())
	for i := range maxPendingOfKey {
		wantReason(t, "under one key", ask(t, e, start, query(handleWeb, fmt.Sprintf("%d.example.com", i))), ipc.ReasonNone)
	}
	wantReason(t, "one too many", ask(t, e, start, query(handleWeb, "9.example.com")), ipc.ReasonPendingFull)
	for _, i := range []int{1, 3, 0, 2} { // the chain of siblings holds in any order
		wantReason(t, "answer", respond(t, e, start, reply(query(handleWeb, fmt.Sprintf("%d.example.com", i)))).Outcome, ipc.ReasonNone)
	}
	if len(e.pending.byKey) != 0 || e.pending.len != 0 || e.pending.filters[0].Len() != 0 {
		t.Error("something is left of answered requests")
	}
}
