package allowlist

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// of makes a segment one of the n-th connection of a client.
func of(f *ipc.RequestFact, client, n int) *ipc.RequestFact {
	f = from(f, client, n)
	f.TxID = 0
	return f
}

func synOf(handle uint32, client, n int) *ipc.RequestFact {
	return of(segment(ipc.SegmentOpen, handle), client, n)
}

// knownOf is the n-th connection of a client, nil if it is forgotten.
func knownOf(e *Engine, client, n int) *connection {
	f := synOf(handleWeb, client, n)
	return e.connections.byKey[keyOf(&f.Packet, 0, f.Src, f.Dst, f.SrcPort, f.DstPort)]
}

// inUse has the n-th connection of a client confirmed, if it may begin.
func inUse(t *testing.T, e *Engine, now ipc.Instant, client, n int) ipc.Reason {
	t.Helper()
	syn := synOf(handleWeb, client, n)
	reason := hand(t, e, now, syn)[0].Reason
	if reason == ipc.ReasonNone {
		wantReason(t, "SYN-ACK", respond(t, e, now, streamReply(syn, ipc.SegmentOpen)).Outcome, ipc.ReasonNone)
	}
	return reason
}

// checkConnections requires that all that is known stands where it should, in
// order and within its bounds.
func checkConnections(t *testing.T, e *Engine) {
	t.Helper()
	c, all := e.connections, 0
	for i := range c.filters {
		w, ofClients := &c.filters[i], 0
		for client, mine := range w.clients {
			n := checkHolding(t, e, mine)
			for _, l := range mine.lines {
				if l.first != nil && (l.first.key.client != client || int(l.first.filter) != i) {
					t.Errorf("a connection of %v in filter %d stands with those of %v in %d", l.first.key.client, l.first.filter, client, i)
				}
			}
			if n == 0 || n > w.roomOfClient {
				t.Errorf("%d connections of a client", n)
			}
			ofClients += n
		}
		n := checkHolding(t, e, &w.holding)
		if n > w.room || n != ofClients {
			t.Errorf("%d connections of a filter, %d of its clients", n, ofClients)
		}
		all += n
	}
	if all != len(c.byKey) {
		t.Errorf("%d connections in the filters, %d known", all, len(c.byKey))
	}
}

func checkHolding(t *testing.T, e *Engine, h *holding) (n int) {
	t.Helper()
	for i, l := range h.lines {
		var before *connection
		for conn := l.first; conn != nil; before, conn = conn, conn.places[h.level].after {
			if conn.places[h.level].before != before || conn.confirmed != (i == 1) || before != nil && conn.until < before.until {
				t.Fatalf("a connection at the wrong place: %+v", conn)
			}
			if e.connections.byKey[conn.key] != conn {
				t.Fatalf("a connection that is not known: %+v", conn)
			}
			n++
		}
		if l.last != before {
			t.Fatalf("the last is %+v, not %+v", l.last, before)
		}
	}
	if n != h.n {
		t.Errorf("%d connections, counted as %d", n, h.n)
	}
	return n
}

// TestConnectionsOfAClient: a client that has all it may have in use is refused
// alone, and makes room itself as soon as it may be made.
func TestConnectionsOfAClient(t *testing.T) {
	e := testEngine(t, testPolicy())
	w := &e.connections.filters[0]
	most := 0
	for most < w.room && inUse(t, e, start, 1, most) == ipc.ReasonNone {
		most++
	}
	if most != w.room/4 {
		t.Errorf("one client has %d of %d", most, w.room)
	}
	if got := inUse(t, e, start, 1, most); got != ipc.ReasonConnectionsFull {
		t.Errorf("one more: %v", got)
	}
	for client := 2; client <= 4; client++ {
		for i := range w.roomOfClient {
			if got := inUse(t, e, start, client, i); got != ipc.ReasonNone {
				t.Fatalf("client %d, connection %d: %v", client, i, got)
			}
		}
	}
	checkConnections(t, e)

	// Its own first, though another's was used less recently.
	now := start.Add(inUseFor)
	for i := range w.roomOfClient {
		wantSegment(t, "goes on", e, now, of(segment(ipc.SegmentBare, handleWeb), 3, i), ipc.ReasonNone)
	}
	now = now.Add(inUseFor)
	if got := inUse(t, e, now, 3, w.roomOfClient); got != ipc.ReasonNone {
		t.Errorf("when its own are idle: %v", got)
	}
	for client, want := range map[int]bool{1: true, 2: true, 3: false, 4: true} {
		if got := knownOf(e, client, 0) != nil; got != want {
			t.Errorf("the first connection of client %d is known: %t", client, got)
		}
	}
	// And of a client that has room, of a filter that has none, the oldest of all.
	for i := 0; knownOf(e, 1, 0) != nil; i++ {
		full := w.n == w.room
		if got := inUse(t, e, now, 5, i); got != ipc.ReasonNone || i > w.room%4 {
			t.Fatalf("in a full filter: %v, with %d connections", got, i)
		}
		if !full && knownOf(e, 1, 0) == nil {
			t.Fatal("forgotten while there is room")
		}
	}
	checkConnections(t, e)
}

// TestConnectionsClosedAtOnce: what an honest client begins and ends within
// seconds leaves room for more.
func TestConnectionsClosedAtOnce(t *testing.T) {
	for filters, each := range map[int]int{32: 2048, 512: 128} {
		e := testEngine(t, manyFilters(filters))
		for i := range each {
			if got := inUse(t, e, start, 1, i); got != ipc.ReasonNone {
				t.Fatalf("%d filters: connection %d: %v", filters, i, got)
			}
			end := of(segment(ipc.SegmentBare, handleWeb), 1, i)
			end.Segment.Fin = true
			wantSegment(t, "its end", e, start, end, ipc.ReasonNone)
		}
	}
}

func TestConnectionRoomIsShared(t *testing.T) {
	for _, c := range [][3]int{{1, 16384, 4096}, {16, 16384, 4096}, {32, 8192, 2048}, {512, 512, 128}, {1024, 256, 64}, {2730, 96, 64}, {8192, 96, 64}} {
		if w := newConnections(c[0]).filters[0]; w.room != c[1] || w.roomOfClient != c[2] {
			t.Errorf("%d filters: room %d, of a client %d, want %d and %d", c[0], w.room, w.roomOfClient, c[1], c[2])
		}
	}
}

// TestHandshakesInAFlood: SYNs from ever other addresses have the oldest
// handshakes forgotten, and not those of who has more connections than one.
func TestHandshakesInAFlood(t *testing.T) {
	e := testEngine(t, testPolicy())
	w := &e.connections.filters[0]
	for i := range 3 {
		inUse(t, e, start, 1, i)
	}
	for i := range w.room {
		wantSegment(t, "flood", e, start, synOf(handleWeb, 2+i, 0), ipc.ReasonNone)
	}
	wantSegment(t, "SYN", e, start, synOf(handleWeb, 1, 3), ipc.ReasonNone)
	for i := range w.room / 2 {
		wantSegment(t, "flood", e, start.Add(time.Millisecond), synOf(handleWeb, 20_000+i, 0), ipc.ReasonNone)
	}
	wantReason(t, "SYN-ACK", respond(t, e, start.Add(time.Millisecond), streamReply(synOf(handleWeb, 1, 3), ipc.SegmentOpen)).Outcome, ipc.ReasonNone)
	checkConnections(t, e)
}

// TestRefusedForgetsNothing: a SYN for which a filter has no room leaves another
// filter's connection with the same addresses and ports as it was.
func TestRefusedForgetsNothing(t *testing.T) {
	e := testEngine(t, testPolicy())
	apt := &e.connections.filters[1]
	apt.room, apt.roomOfClient = 1, 1
	other := synOf(handleApt, 9, 0)
	wantSegment(t, "SYN", e, start, other, ipc.ReasonNone)
	wantReason(t, "SYN-ACK", respond(t, e, start, streamReply(other, ipc.SegmentOpen)).Outcome, ipc.ReasonNone)

	inUse(t, e, start, 1, 0)
	now := start.Add(inUseFor)
	wantSegment(t, "in use, too", e, now, of(segment(ipc.SegmentBare, handleApt), 9, 0), ipc.ReasonNone)
	wantSegment(t, "the other filter's SYN", e, now, synOf(handleApt, 1, 0), ipc.ReasonConnectionsFull)
	wantSegment(t, "goes on", e, now, of(segment(ipc.SegmentBare, handleWeb), 1, 0), ipc.ReasonNone)

	// With room it is the other's.
	now = now.Add(inUseFor)
	wantSegment(t, "the other filter's", e, now, synOf(handleApt, 1, 0), ipc.ReasonNone)
	wantSegment(t, "the first", e, now, of(segment(ipc.SegmentBare, handleWeb), 1, 0), ipc.ReasonNoConnection)
	checkConnections(t, e)
}

// obvious are the connections of one filter as what is written above its bounds
// says it, in one list.
type obvious struct {
	all                []*seen // as they were used
	room, roomOfClient int
}

type seen struct {
	client, n int
	used      ipc.Instant
	confirmed bool
}

func (o *obvious) find(client, n int) int {
	return slices.IndexFunc(o.all, func(s *seen) bool { return s.client == client && s.n == n })
}

func (o *obvious) touch(now ipc.Instant, client, n int, confirms bool) bool {
	i := o.find(client, n)
	if i < 0 {
		return false
	}
	s := o.all[i]
	fits := !confirms || !s.confirmed
	s.used, s.confirmed = now, s.confirmed || confirms
	o.all = append(slices.Delete(o.all, i, i+1), s)
	return fits
}

func (o *obvious) open(now ipc.Instant, client, n int) bool {
	if i := o.find(client, n); i >= 0 {
		if s := o.all[i]; s.confirmed && now.Sub(s.used) < inUseFor {
			return false
		}
		o.all = slices.Delete(o.all, i, i+1)
	}
	mine := 0
	for _, s := range o.all {
		if s.client == client {
			mine++
		}
	}
	if atBound := mine == o.roomOfClient; atBound || len(o.all) == o.room {
		i := slices.IndexFunc(o.all, func(s *seen) bool {
			return (!atBound || s.client == client) && (!s.confirmed || now.Sub(s.used) >= inUseFor)
		})
		if i < 0 {
			return false
		}
		o.all = slices.Delete(o.all, i, i+1)
	}
	o.all = append(o.all, &seen{client, n, now, false})
	return true
}

// TestConnectionsAtRandom compares with the obvious one.
func TestConnectionsAtRandom(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		e, o := testEngine(t, testPolicy()), &obvious{room: 9, roomOfClient: 3}
		e.connections.filters[0].room, e.connections.filters[0].roomOfClient = o.room, o.roomOfClient
		now, refused := start, 0
		for step := range 3000 {
			now = now.Add(time.Duration(1+r.IntN(50)) * time.Millisecond) // of two at one instant either may be the older
			if r.IntN(100) == 0 {
				now = now.Add(inUseFor)
			}
			client, n := r.IntN(5), r.IntN(6)
			kind := []ipc.SegmentKind{ipc.SegmentOpen, ipc.SegmentAgain}[r.IntN(2)]
			var got, want bool
			switch r.IntN(4) {
			default:
				syn := synOf(handleWeb, client, n)
				syn.Segment.Kind, syn.Segment.Number = kind, uint32(step)
				got, want = hand(t, e, now, syn)[0].Reason == ipc.ReasonNone, o.open(now, client, n)
				if !want {
					refused++
				}
			case 1, 2:
				a := streamReply(synOf(handleWeb, client, n), ipc.SegmentOpen)
				if c := knownOf(e, client, n); c != nil {
					a.Segment.Number = c.number
				}
				got, want = respond(t, e, now, a).Reason == ipc.ReasonNone, o.touch(now, client, n, true)
			case 3:
				s := of(segment(ipc.SegmentBare, handleWeb), client, n)
				c := knownOf(e, client, n)
				if want = c != nil && c.confirmed && r.IntN(2) == 0; want {
					s.Segment.Number, s.Numbers = c.number, ipc.Numbers{Seq: c.number + 1, Ack: c.server + 1}
					o.touch(now, client, n, false)
				} // else it is dropped, and no use
				got = hand(t, e, now, s)[0].Reason == ipc.ReasonNone
			}
			if got != want {
				t.Fatalf("seed %d, step %d: %t, should be %t", seed, step, got, want)
			}
			checkConnections(t, e)
			if len(e.connections.byKey) != len(o.all) {
				t.Fatalf("seed %d, step %d: %d known, should be %d", seed, step, len(e.connections.byKey), len(o.all))
			}
			for _, s := range o.all {
				if c := knownOf(e, s.client, s.n); c == nil || c.confirmed != s.confirmed || c.until != s.used.Add(connectionFor) {
					t.Fatalf("seed %d, step %d: %+v is %+v", seed, step, s, c)
				}
			}
		}
		if refused == 0 {
			t.Errorf("seed %d: nothing was refused", seed)
		}
	}
}
