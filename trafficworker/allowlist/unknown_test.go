package allowlist

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// pointer adds a PTR record.
func (a *answer) pointer(owner name.Name, target string) *answer {
	i := a.index(owner)
	a.Pointers = append(a.Pointers, ipc.Target{Owner: i, Target: a.index(wire(target))})
	a.Others = append(a.Others[:0], i)
	return a
}

func unknownPolicy() *ipc.Policy {
	p := askingPolicy()
	for i := range p.Filters[:2] {
		p.Filters[i].LookupUnknown = true
	}
	return p
}

func unknownEngine(t *testing.T) *Engine {
	e := testEngine(t, unknownPolicy())
	due(e, start)
	return e
}

func arrives(t *testing.T, e *Engine, now ipc.Instant, filter uint32, address string) {
	t.Helper()
	u := ipc.Unknown{Filter: filter, Address: ipc.AddressOf(ip(address))}
	if err := u.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := e.Unknown(now, &u); err != nil {
		t.Fatal(err)
	}
}

func pointerOf(address string) ipc.Lookup {
	return ipc.Lookup{Name: name.Reverse(ip(address)), Type: ipc.TypePTR}
}

// named answers the question for an address's name.
func named(t *testing.T, e *Engine, now ipc.Instant, address string, names ...string) {
	t.Helper()
	q := own(pointerOf(address), 9)
	p := exchange(t, e, now, q, func(a *answer) {
		a.NoRecords = len(names) == 0
		for _, n := range names {
			a.pointer(q.Questions[0].Name, n)
		}
	})
	if len(p.Grants)+len(p.Names)+len(p.addresses) > 0 {
		t.Errorf("a pointer gives %+v", p)
	}
}

func wantSettled(t *testing.T, what string, out Lookups, until ipc.Instant, filter uint32, address string) {
	t.Helper()
	if len(out.Settled) != 1 {
		t.Fatalf("%s: settled %+v", what, out.Settled)
	}
	g := out.Settled[0]
	if err := g.Validate(); err != nil || g.Kind != ipc.GrantsSettled {
		t.Errorf("%s: %+v: %v", what, g, err)
	}
	g.Each(func(a netip.Addr) {
		if a != ip(address) {
			t.Errorf("%s: settled %v", what, a)
		}
	})
	if g.Filter != filter || g.Until != until {
		t.Errorf("%s: settled for filter %d until %v after the start, should be %d, %v", what, g.Filter, g.Until.Sub(start), filter, until.Sub(start))
	}
}

// TestUnknownAddress is the whole way: its name, the way back, the address open.
func TestUnknownAddress(t *testing.T) {
	for _, c := range []struct{ address, other, forward string }{
		{"203.0.113.5", "203.0.113.6", "A"}, {"2001:db8:5::5", "2001:db8:5::6", "AAAA"},
	} {
		e := unknownEngine(t)
		arrives(t, e, start, 0, c.address)
		out := e.Lookups()
		wantQuestions(t, "first", out.Ask, "PTR "+name.Reverse(ip(c.address)).String())
		if out.Ask[0].Until != start.Add(unknownFor) {
			t.Errorf("waits until %v after the start", out.Ask[0].Until.Sub(start))
		}
		named(t, e, start, c.address, "host.evil.example", "Host.Example.COM", "example.com")
		out = e.Lookups()
		wantQuestions(t, "then", out.Ask, c.forward+" example.com", c.forward+" host.example.com")

		q := own(lookup("host.example.com", out.Ask[0].Type), 3)
		p := exchange(t, e, start, q, func(a *answer) {
			a.cname("host.example.com", "edge.other.net").addr("edge.other.net", c.other, c.address)
		})
		if len(p.Grants) != 1 || len(p.Names) != 0 {
			t.Errorf("opens %+v and teaches %v", p.Grants, p.Names)
		}
		if got := granted(e, start, 0, c.address); got != start.Add(webLasts) {
			t.Errorf("open for %v", got.Sub(start))
		}
		if granted(e, start, 0, c.other) != 0 || granted(e, start, 1, c.address) != 0 {
			t.Error("something else is open, or for another filter")
		}
		wantSettled(t, c.address, e.Lookups(), start.Add(settledFor), 0, c.address)
		nothingUnderWay(t, e)
	}
}

// TestUnknownEnds: each way a lookup ends without opening anything.
func TestUnknownEnds(t *testing.T) {
	const a = "203.0.113.5"
	later := start.Add(time.Second)
	for what, c := range map[string]func(t *testing.T, e *Engine){
		"no name":                                func(t *testing.T, e *Engine) { named(t, e, later, a) },
		"a name of nobody's":                     func(t *testing.T, e *Engine) { named(t, e, later, a, "host.evil.example", "com") },
		"a name that only another filter allows": func(t *testing.T, e *Engine) { named(t, e, later, a, "debian.org") },
		"a cached name":                          func(t *testing.T, e *Engine) { named(t, e, later, a, "cdn.net") },
		"forged": func(t *testing.T, e *Engine) {
			named(t, e, later, a, "example.com")
			exchange(t, e, later, own(lookup("example.com", ipc.TypeA), 3), func(x *answer) { x.addr("example.com", "203.0.113.99") })
		},
		"a name that does not exist": func(t *testing.T, e *Engine) {
			named(t, e, later, a, "example.com")
			exchange(t, e, later, own(lookup("example.com", ipc.TypeA), 3), func(x *answer) { x.RCode = 3; x.addr("example.com", a) })
		},
	} {
		e := unknownEngine(t)
		arrives(t, e, start, 0, a)
		c(t, e)
		wantSettled(t, what, e.Lookups(), later.Add(settledFor), 0, a)
		// Remembered: no question, the same end; and then forgotten.
		arrives(t, e, later.Add(time.Second), 0, a)
		out := e.Lookups()
		wantSettled(t, what+", again", out, later.Add(settledFor), 0, a)
		wantQuestions(t, what+", again", out.Ask)
		arrives(t, e, later.Add(settledFor), 0, a)
		if out := e.Lookups(); len(out.Ask) != 1 || len(out.Settled) > 0 {
			t.Errorf("%s: at the end %+v", what, out)
		}
		for filter := range 2 {
			if granted(e, later, filter, a) != 0 || granted(e, later, filter, "203.0.113.99") != 0 {
				t.Errorf("%s: open", what)
			}
		}
	}
}

// TestUnknownTime: without an answer it ends after 2 s, at either step, and a
// late answer opens nothing.
func TestUnknownTime(t *testing.T) {
	const a = "203.0.113.5"
	for _, pointed := range []bool{false, true} {
		e := unknownEngine(t)
		arrives(t, e, start, 0, a)
		q := own(pointerOf(a), 3)
		if pointed {
			named(t, e, start, a, "example.com")
			q = own(lookup("example.com", ipc.TypeA), 3)
		}
		wantReason(t, "in time", ask(t, e, start, q), ipc.ReasonNone)
		e.Lookups()
		end := start.Add(unknownFor)
		if due(e, end-1); len(e.lookups.unknown.all) != 1 {
			t.Error("given up early")
		}
		again := *q
		again.SrcPort++
		wantReason(t, "not in time", ask(t, e, end, &again), ipc.ReasonLookupOver)
		if out := due(e, end); len(out.Settled) > 0 {
			t.Errorf("what had no answer is settled: %+v", out)
		}
		p := respond(t, e, end, reply(q).addr(q.Questions[0].Name.String(), a))
		wantReason(t, "late", p.Outcome, ipc.ReasonLookupOver)
		wantReason(t, "late question", ask(t, e, end, own(pointerOf(a), 4)), ipc.ReasonLookupOver)
		nothingUnderWay(t, e)
	}
}

// TestUnknownShortly: an address that is open for less than settled lookups are
// remembered is looked up again when it no longer is.
func TestUnknownShortly(t *testing.T) {
	p := unknownPolicy()
	p.Filters[0].RespectTTL, p.Filters[0].MinTTL = true, time.Second
	e := testEngine(t, p)
	arrives(t, e, start, 0, "203.0.113.5")
	named(t, e, start, "203.0.113.5", "example.com")
	e.Lookups()
	exchange(t, e, start, own(lookup("example.com", ipc.TypeA), 3), func(a *answer) { a.addrFor(3, "example.com", "203.0.113.5") })
	wantSettled(t, "for 3 s", e.Lookups(), start.Add(3*time.Second), 0, "203.0.113.5")
}

// TestUnknownPorts: the address is opened with the ports of the entries that
// allow its name.
func TestUnknownPorts(t *testing.T) {
	p := unknownPolicy()
	p.Filters[0].Ports = true
	p.Hostnames[0] = ipc.Hostnames{}
	p.Hostnames[0].Add(wire("example.com"), ipc.ScopeTree, []ipc.Port{{Number: 443, Proto: ipc.ProtoTCP}})
	p.Hostnames[0].Add(wire("cdn.net"), ipc.ScopeCached, nil)
	e := testEngine(t, p)
	arrives(t, e, start, 0, "203.0.113.5")
	named(t, e, start, "203.0.113.5", "example.com")
	plan := exchange(t, e, start, own(lookup("example.com", ipc.TypeA), 3), func(a *answer) { a.addr("example.com", "203.0.113.5") })
	if len(plan.Grants) != 1 || plan.Grants[0].Port != (ipc.Port{Number: 443, Proto: ipc.ProtoTCP}) {
		t.Errorf("opens %+v", plan.Grants)
	}
}

// TestUnknownShared: two filters wait for one address, which is asked about
// once; only the one that allows the name is given it, and both hear of the end.
func TestUnknownShared(t *testing.T) {
	e := unknownEngine(t)
	arrives(t, e, start, 0, "203.0.113.5")
	arrives(t, e, start, 1, "203.0.113.5")
	arrives(t, e, start, 1, "203.0.113.5")
	if out := e.Lookups(); len(out.Ask) != 1 || len(out.Settled) > 0 {
		t.Fatalf("%+v", out)
	}
	named(t, e, start, "203.0.113.5", "debian.org")
	exchange(t, e, start, own(lookup("debian.org", ipc.TypeA), 3), func(a *answer) { a.addr("debian.org", "203.0.113.5") })
	if granted(e, start, 0, "203.0.113.5") != 0 || granted(e, start, 1, "203.0.113.5") != start.Add(aptLasts) {
		t.Error("open for the wrong filter")
	}
	if out := e.Lookups(); len(out.Settled) != 2 {
		t.Errorf("settled %+v", out.Settled)
	}
}

// TestUnknownSharedName: two addresses with one name are confirmed by one
// answer, each if it is there.
func TestUnknownSharedName(t *testing.T) {
	e := unknownEngine(t)
	for _, a := range []string{"203.0.113.5", "203.0.113.6", "203.0.113.7"} {
		arrives(t, e, start, 0, a)
		named(t, e, start, a, "example.com")
	}
	wantQuestions(t, "all", e.Lookups().Ask, "A example.com", "PTR 5.113.0.203.in-addr.arpa", "PTR 6.113.0.203.in-addr.arpa", "PTR 7.113.0.203.in-addr.arpa")
	exchange(t, e, start, own(lookup("example.com", ipc.TypeA), 3), func(a *answer) { a.addr("example.com", "203.0.113.7", "203.0.113.5") })
	for a, open := range map[string]bool{"203.0.113.5": true, "203.0.113.6": false, "203.0.113.7": true} {
		if got := granted(e, start, 0, a) != 0; got != open {
			t.Errorf("%s: open is %t", a, got)
		}
	}
	if out := e.Lookups(); len(out.Settled) != 3 {
		t.Errorf("settled %+v", out.Settled)
	}
}

// TestUnknownSharedNames: an address has two names, of which each filter allows
// one. The end for one filter is none for the other, nor is that of one name.
func TestUnknownSharedNames(t *testing.T) {
	const a = "203.0.113.5"
	for what, forged := range map[string]bool{"opened": false, "forged": true} {
		e := unknownEngine(t)
		arrives(t, e, start, 0, a)
		arrives(t, e, start, 1, a)
		named(t, e, start, a, "other.org", "www.other.org", "debian.org") // of filter 0, and the last of filter 1
		e.Lookups()
		at := map[bool]string{false: a, true: "203.0.113.77"}[forged]
		exchange(t, e, start, own(lookup("other.org", ipc.TypeA), 3), func(x *answer) { x.addr("other.org", at) })
		if out := e.Lookups(); forged && len(out.Settled) != 0 {
			t.Errorf("%s: settled with names left: %+v", what, out.Settled)
		} else if !forged {
			wantSettled(t, what, out, start.Add(settledFor), 0, a)
		}
		exchange(t, e, start, own(lookup("debian.org", ipc.TypeA), 4), func(x *answer) { x.addr("debian.org", a) })
		wantSettled(t, what+", the other", e.Lookups(), start.Add(settledFor), 1, a)
		if granted(e, start, 1, a) == 0 || granted(e, start, 0, a) != 0 == forged {
			t.Errorf("%s: open for filter 0 is %t, for filter 1 %t", what, granted(e, start, 0, a) != 0, granted(e, start, 1, a) != 0)
		}
		due(e, start.Add(unknownFor))
		nothingUnderWay(t, e)
	}
}

// nothingUnderWay requires that no lookup of an address has left anything.
func nothingUnderWay(t *testing.T, e *Engine) {
	t.Helper()
	u := &e.lookups.unknown
	if len(u.all)+len(u.byPointer)+len(u.confirming) > 0 {
		t.Errorf("left behind: %+v", u)
	}
	for filter, n := range u.asked {
		if n != 0 {
			t.Errorf("filter %d is thought to have %d questions under way", filter, n)
		}
	}
}

// TestUnknownJoins: a filter that comes to wait while another's name is being
// confirmed has its own names looked at.
func TestUnknownJoins(t *testing.T) {
	const a = "203.0.113.5"
	e := unknownEngine(t)
	arrives(t, e, start, 0, a)
	named(t, e, start, a, "other.org", "debian.org")
	e.Lookups()
	arrives(t, e, start, 1, a)
	wantQuestions(t, "the other filter's", e.Lookups().Ask, "A debian.org")
	exchange(t, e, start, own(lookup("other.org", ipc.TypeA), 3), func(x *answer) { x.addr("other.org", "203.0.113.77") })
	wantSettled(t, "the first filter", e.Lookups(), start.Add(settledFor), 0, a)
	exchange(t, e, start, own(lookup("debian.org", ipc.TypeA), 4), func(x *answer) { x.addr("debian.org", a) })
	wantSettled(t, "the second filter", e.Lookups(), start.Add(settledFor), 1, a)
	if granted(e, start, 1, a) == 0 || granted(e, start, 0, a) != 0 {
		t.Error("open for the wrong filter")
	}

	arrives(t, e, start, 0, "203.0.113.6") // with no name of filter 1's
	named(t, e, start, "203.0.113.6", "other.org")
	e.Lookups()
	arrives(t, e, start, 1, "203.0.113.6")
	wantSettled(t, "without a name of its own", e.Lookups(), start.Add(settledFor), 1, "203.0.113.6")
	due(e, start.Add(unknownFor))
	nothingUnderWay(t, e)
}

// TestUnknownRepeated: the trafficworker gives up 2 s after it asked. By then it
// is over here, or begun anew if it asks again after less than that.
func TestUnknownRepeated(t *testing.T) {
	const a = "203.0.113.5"
	for _, late := range []time.Duration{300 * time.Microsecond, 30 * time.Millisecond, 300 * time.Millisecond} { // with which it is heard
		for _, pointed := range []bool{false, true} {
			e := unknownEngine(t)
			heard, again := start.Add(late), start.Add(2*time.Second)
			arrives(t, e, heard, 0, a)
			want := "PTR 5.113.0.203.in-addr.arpa"
			if pointed {
				named(t, e, heard, a, "example.com")
			}
			e.Lookups()
			arrives(t, e, heard, 0, a)
			wantQuestions(t, "a moment later", e.Lookups().Ask)
			due(e, again)
			if pointed && late > 50*time.Millisecond {
				want = "A example.com"
			}
			arrives(t, e, again, 0, a)
			out := e.Lookups()
			wantQuestions(t, fmt.Sprint(late, pointed), out.Ask, want)
			if len(out.Ask) == 1 && out.Ask[0].Until != again.Add(unknownFor) {
				t.Errorf("%v: until %v after the start", late, out.Ask[0].Until.Sub(start))
			}
			if due(e, heard.Add(unknownFor)); len(e.lookups.unknown.all) != 1 {
				t.Errorf("%v: forgotten", late)
			}
			due(e, again.Add(unknownFor))
			nothingUnderWay(t, e)
		}
	}
}

// TestUnknownShares: one filter leaves room for the lookups of another, with the
// names that are being confirmed, and what it leaves out for want of room is not
// taken for looked up.
func TestUnknownShares(t *testing.T) {
	e := unknownEngine(t)
	now, mine := start, []string(nil)
	for i := range 32 {
		now = now.Add(50 * time.Millisecond)
		a := fmt.Sprintf("203.0.113.%d", i)
		mine = append(mine, a)
		arrives(t, e, now, 0, a)
		if out := e.Lookups(); len(out.Ask) != 1 {
			t.Fatalf("%d: %+v", i, out)
		}
	}
	arrives(t, e, now, 0, "203.0.113.99")
	wantSettled(t, "beyond the share", e.Lookups(), 0, 0, "203.0.113.99")
	for i, a := range mine[20:] {
		named(t, e, now, a, fmt.Sprintf("a%d.example.com", i), fmt.Sprintf("b%d.example.com", i), fmt.Sprintf("c%d.example.com", i))
	}
	if out := e.Lookups(); len(out.Ask) != 12 || len(out.Settled) != 0 {
		t.Errorf("%d names are asked for in the room of 12 pointers, settled %+v", len(out.Ask), out.Settled)
	}
	exchange(t, e, now, own(lookup("a0.example.com", ipc.TypeA), 3), func(x *answer) { x.addr("a0.example.com", "203.0.113.77") })
	wantSettled(t, "with names left out", e.Lookups(), 0, 0, mine[20])
	for i := range 20 {
		arrives(t, e, now, 1, fmt.Sprintf("198.51.100.%d", i))
	}
	if out := e.Lookups(); len(out.Ask) != 20 || len(out.Settled) != 0 {
		t.Errorf("the other filter: %d asked, settled %+v", len(out.Ask), out.Settled)
	}
	due(e, now.Add(unknownFor))
	nothingUnderWay(t, e)
}

// TestUnknownSharedQuestion: a name that two filters, or two addresses, wait for
// is asked for as long as one of them does.
func TestUnknownSharedQuestion(t *testing.T) {
	const a, b = "203.0.113.5", "203.0.113.6"
	e := unknownEngine(t)
	arrives(t, e, start, 0, a)
	arrives(t, e, start, 1, a)
	named(t, e, start, a, "example.com") // which both allow
	e.Lookups()
	next := unknownPolicy()
	next.Filters[0].LookupUnknown = false
	if _, err := e.Change(start, next); err != nil {
		t.Fatal(err)
	}
	exchange(t, e, start, own(lookup("example.com", ipc.TypeA), 3), func(x *answer) { x.addr("example.com", a) })
	wantSettled(t, "the other filter", e.Lookups(), start.Add(settledFor), 1, a)
	nothingUnderWay(t, e)

	e = unknownEngine(t)
	arrives(t, e, start, 0, a)
	named(t, e, start, a, "example.com")
	e.Lookups()
	later := start.Add(unknownFor - 1)
	arrives(t, e, later, 0, b)
	named(t, e, later, b, "example.com")
	wantQuestions(t, "the other address", e.Lookups().Ask, "A example.com", "PTR 6.113.0.203.in-addr.arpa")
	later = later.Add(1)
	due(e, later)
	exchange(t, e, later, own(lookup("example.com", ipc.TypeA), 3), func(x *answer) { x.addr("example.com", a, b) })
	if granted(e, later, 0, b) == 0 || granted(e, later, 0, a) != 0 {
		t.Error("what waits is not open, or what does not is")
	}
	nothingUnderWay(t, e)
}

// TestUnknownBounds: 20 a second for a filter, its share of what the resolver
// has sockets for at once, no more than that for all, and no more than four
// names of one address.
func TestUnknownBounds(t *testing.T) {
	e := testEngine(t, manyFilters(26))
	flood := func(now ipc.Instant, filter uint32) (n int) {
		for i := range 100 {
			arrives(t, e, now, filter, fmt.Sprintf("203.%d.113.%d", filter, i))
			out := e.Lookups()
			if i < refusedPerSecond && len(out.Ask)+len(out.Settled) != 1 {
				t.Fatalf("%+v", out)
			}
			if len(out.Settled) == 1 {
				wantSettled(t, "beyond", out, 0, filter, fmt.Sprintf("203.%d.113.%d", filter, i))
			}
			n += len(out.Ask)
		}
		return n
	}
	asked := flood(start, 0)
	if asked != 4 { // the least that is a share
		t.Errorf("%d at once for one filter", asked)
	}
	for filter := uint32(3); filter < 26; filter++ {
		asked += flood(start, filter)
	}
	if asked != maxUnknownAsked {
		t.Errorf("%d at once for all", asked)
	}
	end := start.Add(unknownFor)
	if due(e, end); len(e.lookups.unknown.all) > 0 {
		t.Errorf("%d are left", len(e.lookups.unknown.all))
	}
	arrives(t, e, end, 1, "198.51.100.1")
	named(t, e, end, "198.51.100.1", "a.debian.org", "b.debian.org", "b.debian.org", "c.debian.org", "d.debian.org", "e.debian.org")
	wantQuestions(t, "names", e.Lookups().Ask, "A a.debian.org", "A b.debian.org", "A c.debian.org", "A d.debian.org", "PTR 1.100.51.198.in-addr.arpa")

	for _, c := range []struct{ filters, want int }{{3, lookupsPerSecond}, {9, 8}} { // 2 and 8 that look up
		e = testEngine(t, manyFilters(c.filters))
		if n := flood(start, 0); n != c.want {
			t.Errorf("%d filters: %d at once for one", c.filters, n)
		}
	}
}

// TestRefusedFlood: who asks without end is not answered without end, and
// another filter is as if he were not there.
func TestRefusedFlood(t *testing.T) {
	e := unknownEngine(t)
	flood := func(now ipc.Instant, filter uint32, n int) Lookups {
		for i := range n {
			arrives(t, e, now, filter, fmt.Sprintf("203.%d.%d.%d", 1+filter, i/250, i%250))
		}
		return e.Lookups()
	}
	if out := flood(start, 0, 10_000); len(out.Ask) != lookupsPerSecond || len(out.Settled) != refusedPerSecond {
		t.Errorf("%d asked, %d settled", len(out.Ask), len(out.Settled))
	}
	// As much as an honest trafficworker asks about for a filter in a second, kept
	// waiting for as long.
	honest := 2 * lookupsPerSecond
	if out := flood(start, 1, honest); len(out.Ask) != lookupsPerSecond || len(out.Settled) != honest-lookupsPerSecond {
		t.Errorf("the other filter: %d asked, %d settled", len(out.Ask), len(out.Settled))
	}
	now := start.Add(time.Second)
	if out := flood(now, 0, 10_000); len(out.Settled) != refusedPerSecond {
		t.Errorf("a second later: %d settled", len(out.Settled))
	}
}

// TestUnknownBreaches: what an honest trafficworker never asks about.
func TestUnknownBreaches(t *testing.T) {
	e := unknownEngine(t)
	for _, u := range []ipc.Unknown{
		{Filter: 3, Address: ipc.AddressOf(ip("203.0.113.1"))},
		{Filter: 1<<32 - 1, Address: ipc.AddressOf(ip("203.0.113.1"))},
		{Address: ipc.AddressOf(ip("127.0.0.1"))},
		{Address: ipc.AddressOf(ip("10.0.0.1"))},
		{Address: ipc.AddressOf(ip("fd00::1"))},
		{Address: ipc.AddressOf(ip("64:ff9b::a00:1"))},
	} {
		if e.Unknown(start, &u) == nil {
			t.Errorf("%+v: taken", u)
		}
	}
	if err := e.Unknown(start, &ipc.Unknown{Filter: 2, Address: ipc.AddressOf(ip("203.0.113.1"))}); err != nil {
		t.Errorf("of a filter that looks nothing up, perhaps any more: %v", err)
	}
	if out := e.Lookups(); len(out.Ask)+len(out.Settled) > 0 {
		t.Errorf("asks %+v", out)
	}
}

// TestUnknownAfterReload: a lookup under way is judged by the policy in force,
// and what it does not look up any more is forgotten.
func TestUnknownAfterReload(t *testing.T) {
	e := unknownEngine(t)
	arrives(t, e, start, 0, "203.0.113.5")
	arrives(t, e, start, 1, "203.0.113.6")
	named(t, e, start, "203.0.113.5", "example.com")
	q, other := own(lookup("example.com", ipc.TypeA), 3), own(pointerOf("203.0.113.6"), 4)
	ask(t, e, start, q)
	ask(t, e, start, other)
	e.Lookups()
	next := unknownPolicy()
	next.Hostnames[0] = ipc.Tree(wire("www.example.com"))
	next.Hostnames[0].Add(wire("cdn.net"), ipc.ScopeCached, nil)
	next.Filters[1].LookupUnknown = false
	if _, err := e.Change(start, next); err != nil {
		t.Fatal(err)
	}
	p := respond(t, e, start, reply(q).addr("example.com", "203.0.113.5"))
	e.Commit(start, p)
	if len(p.Grants) > 0 {
		t.Errorf("opened by the old policy: %+v", p.Grants)
	}
	wantSettled(t, "the first", e.Lookups(), start.Add(settledFor), 0, "203.0.113.5")
	wantReason(t, "the other", respond(t, e, start, reply(other)).Outcome, ipc.ReasonLookupOver)
	// What was settled before may have a name that is allowed now.
	if _, err := e.Change(start, unknownPolicy()); err != nil {
		t.Fatal(err)
	}
	arrives(t, e, start, 0, "203.0.113.5")
	if out := e.Lookups(); len(out.Ask) != 1 {
		t.Errorf("after another change: %+v", out)
	}
}

// TestPointersOfOthers: PTR records in the answer to somebody's question are
// nobody's business, and neither are those of another owner.
func TestPointersOfOthers(t *testing.T) {
	e := unknownEngine(t)
	arrives(t, e, start, 0, "203.0.113.5")
	q := query(handleWeb, "example.com")
	exchange(t, e, start, q, func(a *answer) { a.pointer(wire("example.com"), "www.example.com") })
	if knows(e, start, 0, "www.example.com") != 0 {
		t.Error("a pointer teaches a name")
	}
	mine := own(pointerOf("203.0.113.5"), 9)
	ask(t, e, start, mine)
	unowned := reply(mine).pointer(wire("x.example"), "example.com")
	unowned.Others = nil
	e.Commit(start, respond(t, e, start, unowned))
	wantSettled(t, "another owner's, who is not told", e.Lookups(), start.Add(settledFor), 0, "203.0.113.5")
	arrives(t, e, start.Add(settledFor), 0, "203.0.113.5")
	ask(t, e, start.Add(settledFor), mine)
	start := start.Add(settledFor)
	wantReason(t, "another owner's", respond(t, e, start, reply(mine).pointer(wire("x.example"), "example.com")).Outcome, ipc.ReasonForeignAnswer)
}
