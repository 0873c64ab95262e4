package allowlist

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// A zone that was once pointed to must not keep its name allowed by teaching
// it itself, neither directly nor by way of another name.
func TestLearntNamesDoNotRenewThemselves(t *testing.T) {
	for what, renew := range map[string]func(t *testing.T, e *Engine, now ipc.Instant){
		"N NS N": func(t *testing.T, e *Engine, now ipc.Instant) {
			exchange(t, e, now, query(handleWeb, "n.evil"), func(a *answer) { a.target("n.evil", "n.evil") })
		},
		"N CNAME M CNAME N": func(t *testing.T, e *Engine, now ipc.Instant) {
			exchange(t, e, now, query(handleWeb, "n.evil"), func(a *answer) { a.cname("n.evil", "m.evil").cname("m.evil", "n.evil") })
		},
		"N to M, then M to N": func(t *testing.T, e *Engine, now ipc.Instant) {
			exchange(t, e, now, query(handleWeb, "n.evil"), func(a *answer) { a.cname("n.evil", "m.evil") })
			exchange(t, e, now, query(handleWeb, "m.evil"), func(a *answer) { a.target("m.evil", "n.evil") })
		},
		"N by its DNAME": func(t *testing.T, e *Engine, now ipc.Instant) {
			exchange(t, e, now, query(handleWeb, "n.evil"), func(a *answer) { a.cname("n.evil", "x.y.evil").dname("y.evil", "evil") })
			exchange(t, e, now, query(handleWeb, "x.evil"), func(a *answer) { a.target("x.evil", "n.evil") })
		},
	} {
		e := testEngine(t, testPolicy())
		exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.cname("example.com", "n.evil") })
		ends := start.Add(webLasts)
		for now := start; now < ends; now = now.Add(time.Minute - 1) {
			renew(t, e, now)
			e.learnt.Each(now, 0, func(n name.Name, p proofs, until ipc.Instant) {
				if until != ends || p.until() != ends {
					t.Fatalf("%s: %v lasts until %d, want %d", what, n, until, ends)
				}
			})
		}
		o := ask(t, e, ends, query(handleWeb, "n.evil"))
		wantReason(t, what+", at its end", o, ipc.ReasonNameNotAllowed)
	}
}

func TestAConfiguredNameStartsANewPeriod(t *testing.T) {
	e := testEngine(t, testPolicy())
	teach := func(a *answer) { a.cname("example.com", "cdn.net") }
	exchange(t, e, start, query(handleWeb, "example.com"), teach)
	later := start.Add(4 * time.Minute)
	o := ask(t, e, later, query(handleWeb, "CDN.net"))
	if wantReason(t, "learnt", o, ipc.ReasonNone); !o.Learnt || o.Entry != wire("example.com") {
		t.Errorf("learnt %v by %v", o.Learnt, o.Entry)
	}
	wantReason(t, "below a learnt name", ask(t, e, later, query(handleWeb, "x.cdn.net")), ipc.ReasonNameNotAllowed)
	wantReason(t, "learnt by another filter", ask(t, e, later, query(handleApt, "cdn.net")), ipc.ReasonNameNotAllowed)

	exchange(t, e, later, query(handleWeb, "example.com"), teach)
	if got, want := knows(e, later, 0, "cdn.net"), later.Add(webLasts); got != want {
		t.Errorf("lasts until %d, want %d", got, want)
	}
	ends := later.Add(webLasts)
	wantReason(t, "just before its end", ask(t, e, ends-1, query(handleWeb, "cdn.net")), ipc.ReasonNone)
	wantReason(t, "at its end", ask(t, e, ends, query(handleWeb, "cdn.net")), ipc.ReasonNameNotAllowed)
}

// A learnt name's addresses last a full period, and carry its entries.
func TestAddressesOfLearntNames(t *testing.T) {
	e := testEngine(t, testPolicy())
	exchange(t, e, start, query(handleWeb, "www.example.com"), func(a *answer) { a.cname("www.example.com", "cdn.net") })
	exchange(t, e, start, query(handleWeb, "other.org"), func(a *answer) { a.cname("other.org", "cdn.net") })
	later := start.Add(time.Minute)
	exchange(t, e, later, query(handleWeb, "cdn.net"), func(a *answer) {
		a.cname("cdn.net", "edge.net").addr("edge.net", "192.0.2.1")
	})
	g, until, _ := e.grants.Get(later, 0, ip("192.0.2.1").As16())
	if got := entries(&g, later); got != "[0 1 2]" || until != later.Add(webLasts) {
		t.Errorf("granted until %d by %s", until, got)
	}
	n, until, _ := e.learnt.Get(later, 0, wire("edge.net"))
	if got := entries(&n, later); got != "[0 1 2]" || until != start.Add(webLasts) {
		t.Errorf("edge.net learnt until %d by %s", until, got)
	}
}

// Each entry keeps its own end: when one is taken away later, what the others
// justify must still be known.
func TestEveryEntryIsKeptWithItsOwnEnd(t *testing.T) {
	e := testEngine(t, testPolicy())
	teach := func(q string) func(*answer) {
		return func(a *answer) { a.cname(q, "cdn.net").addr("cdn.net", "192.0.2.1") }
	}
	exchange(t, e, start, query(handleWeb, "www.example.com"), teach("www.example.com"))
	later := start.Add(time.Minute)
	exchange(t, e, later, query(handleWeb, "other.org"), teach("other.org"))
	// cdn.net is only learnt: its answer renews no name.
	last := start.Add(2 * time.Minute)
	exchange(t, e, last, query(handleWeb, "cdn.net"), func(a *answer) { a.cname("cdn.net", "edge.net") })
	want := map[uint32]ipc.Instant{0: start.Add(webLasts), 1: start.Add(webLasts), 2: later.Add(webLasts)}
	address, _, _ := e.grants.Get(last, 0, ip("192.0.2.1").As16())
	for _, n := range []string{"cdn.net", "edge.net"} {
		learnt, _, _ := e.learnt.Get(last, 0, wire(n))
		for what, p := range map[string]*proofs{n: &learnt, "the address": &address} {
			got := p.appendTo(nil, last)
			if len(got) != len(want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
			for _, proof := range got {
				if proof.until != want[proof.entry] {
					t.Errorf("%s: entry %d until %d, want %d", what, proof.entry, proof.until, want[proof.entry])
				}
			}
		}
	}
}

// A name that is allowed and learnt has both justifications, the learnt one
// with its own end.
func TestANameAllowedAndLearnt(t *testing.T) {
	e := testEngine(t, testPolicy())
	exchange(t, e, start, query(handleWeb, "other.org"), func(a *answer) { a.cname("other.org", "x.example.com") })
	later := start.Add(time.Minute)
	exchange(t, e, later, query(handleWeb, "x.example.com"), func(a *answer) { a.cname("x.example.com", "cdn.net") })
	learnt, _, _ := e.learnt.Get(later, 0, wire("cdn.net"))
	for _, p := range learnt.appendTo(nil, later) {
		want := map[uint32]ipc.Instant{0: later.Add(webLasts), 2: start.Add(webLasts)}[p.entry]
		if p.until != want {
			t.Errorf("entry %d until %d, want %d", p.entry, p.until, want)
		}
	}
	if got := entries(&learnt, later); got != "[0 2]" {
		t.Errorf("justified by %s", got)
	}
}

func TestALearntNameThatEndsBeforeItsAnswer(t *testing.T) {
	e := testEngine(t, testPolicy())
	exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.cname("example.com", "cdn.net") })
	ends := start.Add(webLasts)
	q := query(handleWeb, "cdn.net")
	wantReason(t, "asked in time", ask(t, e, ends-1, q), ipc.ReasonNone)
	wantReason(t, "answered too late", respond(t, e, ends, reply(q).addr("cdn.net", "192.0.2.1")).Outcome, ipc.ReasonNameNotAllowed)
	if granted(e, ends, 0, "192.0.2.1") != 0 {
		t.Error("granted")
	}
}

// slowProofs is the obvious list: all that is live, sorted out at each step.
type slowProofs []proof

func (s *slowProofs) add(now ipc.Instant, add proof) {
	var live slowProofs
	for _, p := range *s {
		if p.until > now {
			live = append(live, p)
		}
	}
	*s = live
	if add.until <= now {
		return
	}
	for i, p := range live {
		if p.entry == add.entry {
			live[i].until = max(p.until, add.until)
			live[i].plain, live[i].answered = max(p.plain, add.plain), max(p.answered, add.answered)
			return
		}
	}
	if len(live) < maxProofs {
		*s = append(live, add)
		return
	}
	soonest := 0
	for i, p := range live {
		if p.until < live[soonest].until {
			soonest = i
		}
	}
	if live[soonest].until < add.until {
		live[soonest] = add
	}
}

func TestProofsAgainstOracle(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 4))
		var p proofs
		var slow slowProofs
		now, last := ipc.Instant(1<<10), ipc.Instant(0) // low bits are the step's: no two ends tie
		for step := range 300 {
			now += ipc.Instant(r.IntN(3)) << 10
			add := proof{entry: uint32(r.IntN(12)), until: now + ipc.Instant(r.IntN(60)-2)<<10 | ipc.Instant(step)}
			add.plain, add.answered = ipc.Instant(r.IntN(1<<10)), ipc.Instant(r.IntN(1<<10))
			p.add(now, add)
			slow.add(now, add)
			want := map[uint32]proof{}
			for _, s := range slow {
				if s.until > now {
					want[s.entry] = s
				}
			}
			got := p.appendTo(nil, now)
			if len(got) != len(want) {
				t.Fatalf("seed %d step %d: %v, want %v", seed, step, got, want)
			}
			for _, g := range got {
				if want[g.entry] != g {
					t.Fatalf("seed %d step %d: %v, want %v", seed, step, got, want)
				}
			}
			if _, ok := p.one(now); ok != (len(want) > 0) {
				t.Fatalf("seed %d step %d: one says %v of %v", seed, step, ok, want)
			}
			if until := p.until(); until < last {
				t.Fatalf("seed %d step %d: shortened from %d to %d", seed, step, last, until)
			} else {
				last = until
			}
		}
	}
}

// One entry, renewed for ever, is the rule; it must not cost more room.
func TestOneProofNeedsNoFurtherRoom(t *testing.T) {
	var p proofs
	for now := ipc.Instant(1); now < 100; now++ {
		p.add(now, proof{entry: 3, until: now + 5})
	}
	for now := ipc.Instant(200); now < 300; now += 5 {
		p.add(now, proof{entry: uint32(now), until: now + 5}) // just as the one before it has ended
	}
	if p.more != nil {
		t.Error("room was made for proofs that never were good together")
	}
}

func TestAnEndDoesNotWrapRound(t *testing.T) {
	p := testPolicy()
	p.Filters[0].AllowAnswersFor = math.MaxInt64
	e := testEngine(t, p)
	exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.addr("example.com", "192.0.2.1") })
	if got := granted(e, start, 0, "192.0.2.1"); got != math.MaxInt64 {
		t.Errorf("granted until %d", got)
	}
	if got := ipc.Instant(5).Add(7); got != 12 {
		t.Errorf("5 + 7 is %d", got)
	}
}

func TestLearntBound(t *testing.T) {
	e := testEngine(t, testPolicy())
	for i := 0; e.learnt.Evicted() == 0; i += 100 {
		if i > MaxLearnt+200 {
			t.Fatal("no bound")
		}
		exchange(t, e, start.Add(time.Duration(i)), query(handleWeb, "example.com"), func(a *answer) {
			for j := range 100 {
				a.target("example.com", numbered(i+j))
			}
		})
	}
	if n := e.Counts().Learnt; n != MaxLearnt {
		t.Errorf("%d names, want %d", n, MaxLearnt)
	}
	if knows(e, start, 0, numbered(0)) != 0 {
		t.Error("what ends first is still there")
	}
	exchange(t, e, start, query(handleApt, "debian.org"), func(a *answer) { a.target("debian.org", "mx.net") })
	if knows(e, start, 1, "mx.net") == 0 {
		t.Error("a full filter shut another one out")
	}
}

func numbered(i int) string {
	return "n" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676%26)) + string(rune('a'+i/17576)) + ".net"
}
