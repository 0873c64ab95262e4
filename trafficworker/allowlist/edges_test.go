package allowlist

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// TestForgetStreams: when a parser was started again no connection that was open
// goes on, in either direction, and one that is begun anew does.
func TestForgetStreams(t *testing.T) {
	e := testEngine(t, testPolicy())
	connect(t, e, start, handleWeb)
	q := streamQuery(handleWeb, "example.com")
	wantSegment(t, "before", e, start, q, ipc.ReasonNone)
	e.ForgetStreams()
	wantSegment(t, "a query", e, start, streamQuery(handleWeb, "example.com"), ipc.ReasonConnRefused)
	wantSegment(t, "a part of one", e, start, segment(ipc.SegmentData, handleWeb), ipc.ReasonConnRefused)
	for _, kind := range []ipc.SegmentKind{ipc.SegmentMessage, ipc.SegmentData} {
		wantReason(t, "an answer", respond(t, e, start, streamReply(q, kind)).Outcome, ipc.ReasonConnRefused)
	}
	wantReason(t, "a copy of the SYN-ACK", respond(t, e, start, streamReply(q, ipc.SegmentOpen)).Outcome, ipc.ReasonNoConnection)

	later := start.Add(inUseFor) // its ports are in use until then
	syn, its := segment(ipc.SegmentOpen, handleWeb), streamReply(q, ipc.SegmentOpen)
	syn.Segment.Number, its.Segment.Number, its.Segment.Server = 200, 200, 7
	wantSegment(t, "a SYN", e, later, syn, ipc.ReasonNone)
	wantReason(t, "its SYN-ACK", respond(t, e, later, its).Outcome, ipc.ReasonNone)
	again := streamQuery(handleWeb, "example.com")
	again.Segment.Number, again.Numbers = 200, ipc.Numbers{Seq: 201, Ack: 8}
	wantSegment(t, "begun anew", e, later, again, ipc.ReasonNone)
}

// TestOpen: what is open is told by filter, end and port, with no end put off.
func TestOpen(t *testing.T) {
	p := testPolicy()
	p.Filters[0].Ports, p.Filters[0].MaxInUse = true, 12*webLasts
	p.Hostnames[0] = ipc.Hostnames{}
	p.Hostnames[0].Add(wire("example.com"), ipc.ScopeTree, []ipc.Port{{Number: 443}, {Number: 80, Proto: ipc.ProtoTCP}})
	p.Hostnames[0].Add(wire("other.org"), ipc.ScopeTree, nil)
	e := testEngine(t, p)
	if all := e.Open(start, func() {}); len(all) != 0 {
		t.Errorf("before any answer: %+v", all)
	}
	exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.addr("example.com", "192.0.2.1", "2001:db8::1") })
	exchange(t, e, start, query(handleApt, "debian.org"), func(a *answer) { a.addr("debian.org", "192.0.2.9") })
	later := start.Add(webLasts / 2)
	exchange(t, e, later, query(handleWeb, "other.org"), func(a *answer) { a.addr("other.org", "192.0.2.1") })
	v4, v6 := "\xc0\x00\x02\x01", ip("2001:db8::1").AsSlice()
	want := []ipc.Grants{
		{Kind: ipc.GrantsOpen, Until: start.Add(webLasts), Port: ipc.Port{Number: 80, Proto: ipc.ProtoTCP}, V4: v4, V6: string(v6)},
		{Kind: ipc.GrantsOpen, Until: start.Add(webLasts), Port: ipc.Port{Number: 443}, V4: v4, V6: string(v6)},
		{Kind: ipc.GrantsOpen, Until: later.Add(webLasts), V4: v4},
	}
	if got := e.Open(later, func() {}); !slices.Equal(got, want) { // the other filter's has ended
		t.Errorf("got %+v", got)
	}
	for i := range want {
		if err := want[i].Validate(); err != nil {
			t.Error(err)
		}
	}
	if got := e.Open(start.Add(webLasts), func() {}); !slices.Equal(got, want[2:]) {
		t.Errorf("when the first has ended: %+v", got)
	}
	if got := e.Open(later.Add(webLasts), func() {}); len(got) != 0 {
		t.Errorf("at the end: %+v", got)
	}
}

// TestOpenMany: with many grants turn is called in between, and what comes of them
// is not a message for each.
func TestOpenMany(t *testing.T) {
	p := testPolicy()
	p.Filters[0].RespectTTL, p.Filters[0].TTLGrace, p.Filters[0].AllowAnswersFor = true, 0, time.Hour
	e := testEngine(t, p)
	const answers, each = 40, 250
	now := start
	for i := range answers {
		exchange(t, e, now, query(handleWeb, "example.com"), func(a *answer) {
			for j := range each {
				a.addrFor(uint32(600+j), "example.com", fmt.Sprintf("198.18.%d.%d", i, j))
			}
		})
		now = now.Add(7 * time.Millisecond)
	}
	turns, addresses := 0, 0
	all := e.Open(now, func() { turns++ })
	for i := range all {
		all[i].Each(func(netip.Addr) { addresses++ })
	}
	if addresses != answers*each || turns != answers*each/1024 || len(all) > 2*each {
		t.Errorf("%d addresses in %d messages, %d turns", addresses, len(all), turns)
	}
}
