package trafficworker

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// slow is the obvious worker: it looks at everything, every time.
type slow struct {
	now     ipc.Instant
	filters []ipc.Filter
	always  map[place]bool
	grants  []slowGrant
	waits   []slowPacket             // in the order in which they came
	ends    map[place]ipc.Instant    // of what waits
	settled map[place]ipc.Instant    // until when nobody asks again
	credit  map[uint32]time.Duration // of a filter, in time for new questions
	decided map[uint32]ipc.Verdict
	asked   []place
}

type slowGrant struct {
	place
	port  ipc.Port
	until ipc.Instant
}

type slowPacket struct {
	id   uint32
	to   place
	port ipc.Port
}

func (s *slow) open(p slowPacket) bool {
	if s.always[p.to] {
		return true
	}
	return slices.ContainsFunc(s.grants, func(g slowGrant) bool {
		covers := g.port == none || s.filters[g.filter].Ports && (g.port == p.port || g.port == ipc.Port{Number: p.port.Number})
		return g.place == p.to && g.until > s.now && covers
	})
}

func (s *slow) packet(p slowPacket) {
	f, same := &s.filters[p.to.filter], 0
	ofFilter := 0
	for _, q := range s.waits {
		if q.to == p.to {
			same++
		}
		if q.to.filter == p.to.filter {
			ofFilter++
		}
	}
	switch {
	case s.open(p):
		s.decided[p.id] = ipc.Accept
		return
	case !f.LookupUnknown, ipc.Private(p.to.address), s.settled[p.to] > s.now, ofFilter >= 256, len(s.waits) >= 1024, same >= 16:
		s.decided[p.id] = ipc.Drop
		return
	case same == 0 && s.credit[p.to.filter] < time.Second/20:
		s.decided[p.id] = ipc.Drop
		return
	case same == 0:
		s.credit[p.to.filter] -= time.Second / 20
		s.asked = append(s.asked, p.to)
		s.ends[p.to] = s.now.Add(2 * time.Second)
	}
	s.waits = append(s.waits, p)
}

// look decides on what waits: on what is open, on all of filters that look
// nothing up, and on all of places that must not wait any more.
func (s *slow) look(over func(place) bool) {
	s.waits = slices.DeleteFunc(s.waits, func(p slowPacket) bool {
		switch {
		case s.open(p):
			s.decided[p.id] = ipc.Accept
		case over(p.to) || !s.filters[p.to.filter].LookupUnknown:
			s.decided[p.id] = ipc.Drop
		default:
			return false
		}
		return true
	})
}

func (s *slow) waitsFor(at place) bool {
	return slices.ContainsFunc(s.waits, func(p slowPacket) bool { return p.to == at })
}

func (s *slow) take(g ipc.Grants, kept []ipc.Grants, filters []ipc.Filter, always map[place]bool) {
	never := func(place) bool { return false }
	switch g.Kind {
	case ipc.GrantsOpen:
		g.Each(func(a netip.Addr) {
			s.grants = append(s.grants, slowGrant{place{g.Filter, a}, g.Port, g.Until})
		})
		s.look(never)
	case ipc.GrantsSettled:
		g.Each(func(a netip.Addr) {
			at := place{g.Filter, a}
			if s.waitsFor(at) {
				s.settled[at] = g.Until
			}
			s.look(func(to place) bool { return to == at })
		})
	case ipc.GrantsDone:
		var stay []slowGrant
		for _, old := range s.grants {
			for _, k := range kept {
				k.Each(func(a netip.Addr) {
					if old.place == (place{k.Filter, a}) && old.until > s.now {
						longest := s.now.Add(max(filters[k.Filter].AllowAnswersFor, filters[k.Filter].CachedFor))
						stay = append(stay, slowGrant{old.place, old.port, min(old.until, longest)})
					}
				})
			}
		}
		s.grants, s.filters, s.always = stay, filters, always
		clear(s.settled)
		s.look(never)
	}
}

func (s *slow) pass(d time.Duration) {
	s.now = s.now.Add(d)
	for i := range s.filters {
		s.credit[uint32(i)] = min(time.Second, s.credit[uint32(i)]+d)
	}
}

// tick drops what has waited too long, and says for how long nothing has.
func (s *slow) tick() time.Duration {
	s.look(func(to place) bool { return s.ends[to] <= s.now })
	limit := ipc.Forever
	for _, p := range s.waits {
		if d := s.ends[p.to].Sub(s.now); limit == ipc.Forever || d < limit {
			limit = d
		}
	}
	return limit
}

// run is a worker and the obvious one side by side.
type run struct {
	*lab
	slow   *slow
	random *rand.Rand
	told   []func() // by the holder, not yet read
	since  map[uint32]ipc.Instant
	fresh  netip.Addr
}

var randomAddresses = []netip.Addr{
	netip.MustParseAddr(unknown1), netip.MustParseAddr(unknown2), netip.MustParseAddr(unknown6),
	netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("10.0.0.1"),
}

func (r *run) place() place {
	return place{uint32(r.random.IntN(3)), randomAddresses[r.random.IntN(len(randomAddresses))]}
}

func (r *run) port() ipc.Port {
	return []ipc.Port{tcp443, tcp443, udp123, none}[r.random.IntN(4)]
}

func randomFilters(r *rand.Rand) []ipc.Filter {
	filters := []ipc.Filter{
		{Name: "ports", AllowAnswersFor: time.Minute, Ports: true},
		{Name: "cached", CachedFor: time.Minute},
		{Name: "both", AllowAnswersFor: time.Second, CachedFor: time.Minute},
	}
	for i := range filters {
		filters[i].LookupUnknown = r.IntN(4) > 0
	}
	return filters
}

// read has the slow one take what the worker has just read.
func (r *run) read() {
	for _, f := range r.told {
		f()
	}
	r.told = nil
}

func (r *run) hold(g ipc.Grants, then func()) {
	r.t.Helper()
	if err := r.holder.Send(&g); err != nil {
		r.t.Fatal(err)
	}
	if then == nil {
		then = func() { r.slow.take(g, nil, nil, nil) }
	}
	r.told = append(r.told, then)
}

func (r *run) packets() {
	filter := r.random.IntN(3)
	var b [][]byte
	var all []slowPacket
	one := r.random.IntN(20) == 0 // many of one address
	at := r.place()
	for range 1 + r.random.IntN(30) {
		if !one {
			at = r.place()
		}
		if !one && r.random.IntN(3) == 0 {
			r.fresh = r.fresh.Next()
			at.address = r.fresh
		}
		p := slowPacket{r.id + 1 + uint32(len(all)), place{uint32(filter), at.address}, r.port()}
		all, b = append(all, p), append(b, packetTo(p.to.address, p.port))
	}
	r.send(filter, b...)
	r.read()
	for _, p := range all {
		r.since[p.id] = r.now
		r.slow.packet(p)
	}
}

func (r *run) opens() {
	at := r.place()
	g := about(ipc.GrantsOpen, at.filter, r.now.Add(time.Duration(r.random.IntN(3000))*time.Millisecond), at.address.String())
	if r.random.IntN(2) == 0 {
		g.Port = r.port()
	}
	r.hold(g, nil)
}

func (r *run) settles() {
	at := r.place()
	if waits := r.slow.waits; len(waits) > 0 && r.random.IntN(4) > 0 {
		at = waits[r.random.IntN(len(waits))].to
	}
	// What is in the edge already may change the policy; the holder knows.
	if r.slow.filters[at.filter].LookupUnknown {
		until := r.now.Add(time.Duration(r.random.IntN(2)*r.random.IntN(5000)) * time.Millisecond)
		g := about(ipc.GrantsSettled, at.filter, until, at.address.String())
		r.hold(g, nil)
	}
}

// changes has the policy changed, with some packets in between.
func (r *run) changes() {
	filters, always := randomFilters(r.random), map[place]bool{}
	p := r.policy(filters)
	p.Addresses = make([][]ipc.AllowedAddress, 3)
	if r.random.IntN(3) == 0 {
		at := r.place()
		always[at] = true
		p.Addresses[at.filter] = []ipc.AllowedAddress{network(netip.PrefixFrom(at.address, at.address.BitLen()).String())}
	}
	if err := r.w.Change(p); err != nil {
		r.t.Fatal(err)
	}
	if r.random.IntN(2) == 0 {
		r.packets()
	}
	var kept []ipc.Grants
	r.hold(ipc.Grants{Kind: ipc.GrantsChange}, func() {})
	for _, a := range randomAddresses {
		for filter := range uint32(3) {
			if r.random.IntN(2) == 0 {
				k := about(ipc.GrantsKeep, filter, 0, a.String())
				kept = append(kept, k)
				r.hold(k, func() {})
			}
		}
	}
	if r.random.IntN(2) == 0 {
		r.packets()
	}
	done := ipc.Grants{Kind: ipc.GrantsDone}
	r.hold(done, func() { r.slow.take(done, kept, filters, always) })
	r.look() // the parent announces no other before this one is in force
}

// look has the worker read what the holder has said.
func (r *run) look() {
	r.t.Helper()
	if err := r.w.Ready(ipc.FDGrants); err != nil {
		r.t.Fatal(err)
	}
	r.read()
}

func (r *run) ticks() {
	r.t.Helper()
	due := len(r.slow.waits) > 0 && r.slow.ends[r.slow.waits[0].to] <= r.now
	limit, err := r.w.Tick()
	if err != nil {
		r.t.Fatal(err)
	}
	if due {
		r.read()
	}
	if want := r.slow.tick(); limit != want {
		r.t.Errorf("a tick in %v, not %v", limit, want)
	}
}

// check compares what has become of the packets since the last look.
func (r *run) check(step int) {
	r.t.Helper()
	got := r.decided()
	if !maps.Equal(got, r.slow.decided) {
		r.t.Fatalf("step %d: verdicts %v, want %v", step, got, r.slow.decided)
	}
	if asked := r.questions(); !slices.Equal(asked, r.slow.asked) {
		r.t.Fatalf("step %d: asked %v, want %v", step, asked, r.slow.asked)
	}
	for id := range got {
		if waited := r.now.Sub(r.since[id]); waited > waitFor+100*time.Millisecond {
			r.t.Fatalf("step %d: packet %d has waited %v", step, id, waited)
		}
		delete(r.since, id)
	}
	for id, since := range r.since { // which wait
		if r.now.Sub(since) > waitFor {
			r.t.Fatalf("step %d: packet %d waits still", step, id)
		}
	}
	clear(r.slow.decided)
	r.slow.asked = nil
	r.signals()
}

// TestWorkerAtRandom compares with the obvious one: packets, grants, settled
// addresses, time and changes of policy, in any order. Each packet gets one
// verdict, and within its time.
func TestWorkerAtRandom(t *testing.T) {
	var waited, asked, accepted uint64
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 5))
		filters := randomFilters(random)
		r := &run{
			lab: newLab(t, filters...).timed(), random: random, since: map[uint32]ipc.Instant{}, fresh: netip.MustParseAddr("100.128.0.0"),
			slow: &slow{
				filters: filters, ends: map[place]ipc.Instant{}, settled: map[place]ipc.Instant{},
				credit: map[uint32]time.Duration{}, decided: map[uint32]ipc.Verdict{},
			},
		}
		r.slow.now = r.now
		r.slow.pass(0)
		for i := range filters {
			r.slow.credit[uint32(i)] = time.Second
		}
		for step := range 400 {
			switch random.IntN(12) {
			case 0, 1, 2:
				r.packets()
			case 3, 4:
				r.opens()
			case 5, 6:
				r.settles()
			case 7:
				r.look()
			case 8:
				r.look()
				r.changes()
			default:
				d := time.Duration(random.IntN(100)) * time.Millisecond
				r.now = r.now.Add(d)
				r.slow.pass(d)
			}
			r.ticks()
			r.check(step)
		}
		// At the end nothing is left.
		r.now = r.now.Add(waitFor)
		r.slow.pass(waitFor)
		r.ticks()
		r.decided()
		if len(r.verdicts) != int(r.id) || len(r.w.waiting.order)+len(r.w.waiting.unknown)+r.w.waiting.packets != 0 {
			t.Fatalf("%d verdicts of %d, %+v", len(r.verdicts), r.id, r.w.waiting)
		}
		for i, f := range r.w.waiting.ofFilter {
			if f.packets != 0 || f.addresses != 0 {
				t.Errorf("filter %d: %+v", i, f)
			}
		}
		for _, v := range r.verdicts {
			if v == ipc.Accept {
				accepted++
			}
		}
		waited, asked = waited+r.w.waiting.waited, asked+r.w.waiting.asked
		r.close()
	}
	t.Logf("%d packets waited for %d lookups, %d of all were accepted", waited, asked, accepted)
	if waited < 1000 || asked < 1000 || accepted < 1000 {
		t.Error("hardly anything was tried")
	}
}
