package allowlist

import (
	"fmt"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// manyFilters is unknownPolicy with n filters, those after the third like the first.
func manyFilters(n int) *ipc.Policy {
	p := unknownPolicy()
	for i := len(p.Filters); i < n; i++ {
		f := p.Filters[0]
		f.Index, f.Name = uint32(i), fmt.Sprint(i)
		p.Filters = append(p.Filters, f)
		p.Hostnames = append(p.Hostnames, p.Hostnames[0])
	}
	return p
}

// TestPendingOfSelf: a program of one filter sends 20 packets a second to
// addresses whose reverse zone is silent, so that the resolver asks three times
// for each. The daemon can still ask for what other filters cache.
func TestPendingOfSelf(t *testing.T) {
	for _, filters := range []int{3, 64, 256} {
		e := testEngine(t, manyFilters(filters))
		due(e, start)
		now, port := start, uint16(1024)
		for i := range 20 * 60 {
			a := fmt.Sprintf("203.0.%d.%d", 114+i/250, 1+i%250)
			arrives(t, e, now, 0, a)
			for range 3 * len(e.Lookups().Ask) { // none beyond the filter's share
				port++
				wantReason(t, "a pointer", ask(t, e, now, own(pointerOf(a), port)), ipc.ReasonNone)
			}
			now = now.Add(50 * time.Millisecond)
			due(e, now)
			if t.Failed() {
				t.Fatalf("%d filters: after %v", filters, now.Sub(start))
			}
		}
		e.lookups.cached[inquiry{wire("mirror.net"), ipc.TypeA}].until = now.Add(cachedFor)
		wantReason(t, "a cached name", ask(t, e, now, own(lookup("mirror.net", ipc.TypeA), port+1)), ipc.ReasonNone)
		if n := len(e.pending.filters[e.self].sources); n != 1 {
			t.Errorf("%d sources of the daemon's own", n)
		}
	}
}

// TestRoomOfSelf: the daemon's own requests and connections are bounded, apart
// from the filters', whose rooms are the same as without them; and its requests
// wait as long as the resolver.
func TestRoomOfSelf(t *testing.T) {
	e, without := testEngine(t, askingPolicy()), testEngine(t, testPolicy())
	due(e, start)
	if a, b := e.pending.filters[0], without.pending.filters[0]; a.room != b.room || a.roomOfSource != b.roomOfSource {
		t.Errorf("room %d, of a source %d; without the daemon's own %d, %d", a.room, a.roomOfSource, b.room, b.roomOfSource)
	}
	if a, b := e.connections.filters[0], without.connections.filters[0]; a.room != b.room || a.roomOfClient != b.roomOfClient {
		t.Errorf("room for %d connections, of a client %d; without the daemon's own %d, %d", a.room, a.roomOfClient, b.room, b.roomOfClient)
	}
	good := func(i int) *ipc.RequestFact { return own(lookup("cdn.net", ipc.TypeA), uint16(1024+i)) }
	pending := func(i int) ipc.Reason { return e.pending.add(start, uint32(e.self), good(i)) } // one lookup has not so many
	for i := range 4096 {
		if reason := pending(i); reason != ipc.ReasonNone {
			t.Fatalf("request %d: %v", i, reason)
		}
	}
	if reason := pending(4096); reason != ipc.ReasonPendingFull {
		t.Errorf("beyond: %v", reason)
	}
	wantReason(t, "a filter's", ask(t, e, start, query(handleWeb, "example.com")), ipc.ReasonNone)

	q := reply(good(0)).addr("cdn.net", "203.0.113.1")
	wantReason(t, "in time", respond(t, e, start.Add(10*time.Second-1), q).Outcome, ipc.ReasonNone)
	q = reply(good(1)).addr("cdn.net", "203.0.113.1")
	wantReason(t, "too late", respond(t, e, start.Add(10*time.Second), q).Outcome, ipc.ReasonNoRequest)

	for i := range 300 {
		syn := segment(ipc.SegmentOpen, handleSelf)
		syn.SrcPort = uint16(10_000 + i)
		wantSegment(t, "SYN", e, start.Add(time.Duration(i)), syn, ipc.ReasonNone)
	}
	if n := e.connections.filters[e.self].n; n != 256 {
		t.Errorf("%d connections of the daemon's own", n)
	}
}

// TestCachedOpenings: the filters of a cached name share what one answer may
// open. Its owner does not push out what others opened.
func TestCachedOpenings(t *testing.T) {
	for _, c := range []struct{ filters, each int }{{3, 2048}, {40, 105}, {5000, 1}} {
		e := testEngine(t, manyFilters(c.filters))
		due(e, start)
		exchange(t, e, start, query(handleApt, "debian.org"), func(a *answer) { a.addr("debian.org", "198.51.100.7") })
		p := exchange(t, e, start, own(lookup("cdn.net", ipc.TypeA), 1), func(a *answer) {
			for i := range ipc.MaxAddresses - 1 {
				a.addr("cdn.net", fmt.Sprintf("203.0.%d.%d", 114+i>>8, i&255))
			}
			a.addr("cdn.net", "127.0.0.1")
		})
		opened := map[uint32]int{}
		for i := range p.Grants {
			opened[p.Grants[i].Filter] += len(p.Grants[i].V4) / 4
		}
		// Filter 2 allows everything and caches nothing.
		if len(opened) != c.filters-1 || opened[0] != c.each || opened[1] != c.each {
			t.Fatalf("%d filters: opens for %d, %d in the first", c.filters, len(opened), opened[0])
		}
		if refused := ipc.MaxAddresses - c.each; len(p.Special) != refused {
			t.Errorf("%d filters: refuses %d, should be %d", c.filters, len(p.Special), refused)
		}
		if granted(e, start, 1, "198.51.100.7") == 0 {
			t.Errorf("%d filters: what was open before was pushed out", c.filters)
		}
	}
}

// TestCachedRotates: a filter that has a name looked up once a day does not
// gather a day of the answers that another gets every second.
func TestCachedRotates(t *testing.T) {
	p := askingPolicy()
	for i, every := range []time.Duration{time.Second, 24 * time.Hour} {
		p.Filters[i].ReCacheEvery, p.Filters[i].CachedFor = every, every+time.Minute
	}
	e := testEngine(t, p)
	for i := range 600 {
		now := start.Add(time.Duration(i) * time.Second)
		due(e, now)
		exchange(t, e, now, own(lookup("cdn.net", ipc.TypeA), uint16(1024+i)), func(a *answer) {
			a.addr("cdn.net", fmt.Sprintf("203.%d.%d.1", 1+i>>8, i&255))
		})
	}
	for filter := range 2 {
		open := 0
		e.grants.Each(start.Add(600*time.Second), filter, func([16]byte, proofs, ipc.Instant) { open++ })
		if open != 60 {
			t.Errorf("%d addresses are open for filter %d, of 61 s of one a second", open, filter)
		}
	}
}

// TestServersAfterADeadOne: 64 questions that the first server never answers
// leave room for the same at the second one.
func TestServersAfterADeadOne(t *testing.T) {
	p := manyFilters(300)
	p.Servers = append(p.Servers, ipc.AddressOf(ip("10.0.0.54")))
	e := testEngine(t, p)
	for i := range 64 {
		q := lookup(fmt.Sprintf("n%d.net", i), ipc.TypeA)
		in := inquiry{q.Name, q.Type}
		e.lookups.cached[in] = &cached{inquiry: in, every: time.Hour, until: start.Add(cachedFor)}
		wantReason(t, "to the dead server", ask(t, e, start, own(q, uint16(2000+i))), ipc.ReasonNone)
	}
	r := own(lookup("n0.net", ipc.TypeA), 5000)
	r.Dst = ipc.AddressOf(ip("10.0.0.54"))
	wantReason(t, "to the living server", ask(t, e, start.Add(700*time.Millisecond), r), ipc.ReasonNone)
}
