package allowlist

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

const handleSelf = 30

// askingPolicy has the daemon ask: filter 0 looks unknown addresses up, and
// caches cdn.net; filter 1 caches it too, and mirror.net.
func askingPolicy() *ipc.Policy {
	p := testPolicy()
	p.Settings.AskA, p.Settings.AskAAAA = true, true
	p.Queues = append(p.Queues, ipc.Queue{Handle: handleSelf, Number: 5, Kind: ipc.QueueSelf})
	p.Servers = []ipc.Address{ipc.AddressOf(ip("10.0.0.53"))}
	for i, names := range [][]string{{"cdn.net"}, {"cdn.net", "mirror.net"}} {
		f := &p.Filters[i]
		f.ReCacheEvery = time.Duration(10*(i+1)) * time.Minute
		f.CachedFor = f.ReCacheEvery + time.Minute
		for _, n := range names {
			p.Hostnames[i].Add(wire(n), ipc.ScopeCached, nil)
		}
	}
	p.Filters[0].LookupUnknown = true
	return p
}

// own is a request of the daemon's own, from a port of its own.
func own(l ipc.Lookup, port uint16) *ipc.RequestFact {
	q := query(handleSelf)
	q.SrcPort = port
	q.Questions = []ipc.Question{{Name: l.Name, Type: l.Type, Class: classIN}}
	return q
}

// due runs what is due and returns what comes up of it.
func due(e *Engine, now ipc.Instant) Lookups {
	e.Due(now)
	return e.Lookups()
}

func lookup(n string, typ uint16) ipc.Lookup { return ipc.Lookup{Name: wire(n), Type: typ} }

// questions are the lookups as text, sorted.
func questions(all []ipc.Lookup) (texts []string) {
	for _, l := range all {
		texts = append(texts, ipc.TypeName(l.Type)+" "+l.Name.String())
	}
	slices.Sort(texts)
	return texts
}

func wantQuestions(t *testing.T, what string, got []ipc.Lookup, want ...string) {
	t.Helper()
	if q := questions(got); !slices.Equal(q, want) {
		t.Errorf("%s: asks %q, should be %q", what, q, want)
	}
}

func TestCachedNames(t *testing.T) {
	e := testEngine(t, askingPolicy())
	all := []string{"A cdn.net", "A mirror.net", "AAAA cdn.net", "AAAA mirror.net"}
	out := due(e, start)
	wantQuestions(t, "at start", out.Ask, all...)
	for _, l := range out.Ask {
		if err := l.Validate(); err != nil || l.Until != start.Add(cachedFor) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	wantQuestions(t, "a moment later", due(e, start.Add(1)).Ask)

	p := exchange(t, e, start, own(lookup("cdn.net", ipc.TypeA), 1), func(a *answer) {
		a.cname("cdn.net", "edge.cdn.net").addrFor(1, "edge.cdn.net", "203.0.113.1", "203.0.113.2", "127.0.0.1")
	})
	if len(p.Grants) != 2 || len(p.Names) != 0 || len(p.Special) == 0 {
		t.Errorf("the answer gives %+v, %v, refuses %v", p.Grants, p.Names, p.Special)
	}
	for filter, lasts := range []time.Duration{11 * time.Minute, 11 * time.Minute} { // the shorter of both
		for _, a := range []string{"203.0.113.1", "203.0.113.2"} {
			if got := granted(e, start, filter, a); got != start.Add(lasts) {
				t.Errorf("filter %d: %s is open until %v after the start, should be %v", filter, a, got.Sub(start), lasts)
			}
		}
	}
	if granted(e, start, 0, "127.0.0.1") != 0 {
		t.Error("a special address is open")
	}
	// Nobody else may ask for it, neither it nor what it is an alias of.
	for _, n := range []string{"cdn.net", "edge.cdn.net", "below.cdn.net"} {
		wantReason(t, n, ask(t, e, start, query(handleWeb, n)), ipc.ReasonNameNotAllowed)
	}
	if next := e.Due(start); next != start.Add(cachedFor) {
		t.Errorf("next at %v, when the others end", next.Sub(start))
	}
}

// TestCachedRetries: a question that is not answered is asked again after 1 s,
// then twice as long, at most a minute, whatever became of the others.
func TestCachedRetries(t *testing.T) {
	e := testEngine(t, askingPolicy())
	due(e, start)
	exchange(t, e, start, own(lookup("mirror.net", ipc.TypeA), 1), func(a *answer) { a.addr("mirror.net", "203.0.113.9") })
	now, pauses := start, []time.Duration(nil)
	for len(pauses) < 9 {
		end := now.Add(cachedFor)
		if out := due(e, end-1); len(out.Failed)+len(out.Ask) > 0 {
			t.Fatalf("before the end of a lookup: %+v", out)
		}
		out := due(e, end)
		if len(out.Failed) != 3 {
			t.Fatalf("failed: %+v", out.Failed)
		}
		again := out.Failed[0].Again
		if out := due(e, end.Add(again)-1); len(out.Ask) > 0 {
			t.Fatalf("asked %d before its time", len(out.Ask))
		}
		now = end.Add(again)
		wantQuestions(t, "again", due(e, now).Ask, "A cdn.net", "AAAA cdn.net", "AAAA mirror.net")
		pauses = append(pauses, again/time.Second)
	}
	if !slices.Equal(pauses, []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60}) {
		t.Errorf("pauses of %v s", pauses)
	}
	// With an answer it goes back to its own time.
	exchange(t, e, now, own(lookup("cdn.net", ipc.TypeA), 2), func(a *answer) { a.addr("cdn.net", "203.0.113.1") })
	c := e.lookups.cached[inquiry{wire("cdn.net"), ipc.TypeA}]
	if c.failures != 0 || c.due != now.Add(10*time.Minute) || c.until != 0 {
		t.Errorf("after the answer: %+v", c)
	}
}

// TestCachedOutcomes: what counts as an answer. Only one with success ends the
// lookup for good.
func TestCachedOutcomes(t *testing.T) {
	for what, c := range map[string]struct {
		build            func(*answer)
		asked, succeeded bool // goes on being asked; was a success
	}{
		"addresses":                {func(a *answer) { a.addr("cdn.net", "203.0.113.1") }, false, true},
		"no record":                {func(a *answer) { a.NoRecords = true }, false, true},
		"no name":                  {func(a *answer) { a.RCode = 3; a.NoRecords = true }, false, false},
		"no name, with an address": {func(a *answer) { a.RCode = 3; a.addr("cdn.net", "203.0.113.1") }, false, false},
		"server fails":             {func(a *answer) { a.RCode = 2; a.NoRecords = true }, true, false},
		"refused":                  {func(a *answer) { a.RCode = 5; a.addr("cdn.net", "203.0.113.1") }, true, false},
		"truncated":                {func(a *answer) { a.Truncated = true }, true, false},
	} {
		e := testEngine(t, askingPolicy())
		due(e, start)
		p := exchange(t, e, start, own(lookup("cdn.net", ipc.TypeA), 1), c.build)
		x := e.lookups.cached[inquiry{wire("cdn.net"), ipc.TypeA}]
		if asked := x.until != 0; asked != c.asked {
			t.Errorf("%s: under way is %t", what, asked)
		}
		if failed := x.failures > 0; !c.asked && failed == c.succeeded {
			t.Errorf("%s: failed is %t", what, failed)
		}
		if opens := len(p.Grants) > 0; opens != (what == "addresses") {
			t.Errorf("%s: opens %+v", what, p.Grants)
		}
	}
}

// TestCachedNotSent: an answer whose grants found no room leaves the lookup
// under way, so that it is asked again.
func TestCachedNotSent(t *testing.T) {
	e := testEngine(t, askingPolicy())
	due(e, start)
	q := own(lookup("cdn.net", ipc.TypeA), 1)
	ask(t, e, start, q)
	p := respond(t, e, start, reply(q).addr("cdn.net", "203.0.113.1"))
	e.NotSent(p)
	e.Commit(start, p)
	if granted(e, start, 0, "203.0.113.1") != 0 || e.lookups.cached[inquiry{wire("cdn.net"), ipc.TypeA}].until == 0 {
		t.Error("what was not sent counts")
	}
}

// TestSelfQueue: the daemon's own queue lets exactly those questions pass that
// are under way, in the form in which the resolver asks.
func TestSelfQueue(t *testing.T) {
	p := askingPolicy()
	p.Resolvers = []ipc.Address{ipc.AddressOf(ip("10.0.0.53"))}
	e := testEngine(t, p)
	due(e, start)
	good := func() *ipc.RequestFact { return own(lookup("cdn.net", ipc.TypeA), 1) }
	wantReason(t, "under way", ask(t, e, start, good()), ipc.ReasonNone)
	for what, c := range map[string]struct {
		spoil func(*ipc.RequestFact)
		want  ipc.Reason
	}{
		"another type":    {func(f *ipc.RequestFact) { f.Questions[0].Type = 16 }, ipc.ReasonNotLookedUp},
		"another class":   {func(f *ipc.RequestFact) { f.Questions[0].Class = 3 }, ipc.ReasonNotLookedUp},
		"a name below":    {func(f *ipc.RequestFact) { f.Questions[0].Name = wire("x.cdn.net") }, ipc.ReasonNotLookedUp},
		"a name above":    {func(f *ipc.RequestFact) { f.Questions[0].Name = wire("net") }, ipc.ReasonNotLookedUp},
		"an allowed name": {func(f *ipc.RequestFact) { f.Questions[0].Name = wire("example.com") }, ipc.ReasonNotLookedUp},
		"two questions":   {func(f *ipc.RequestFact) { f.Questions = append(f.Questions, f.Questions[0]) }, ipc.ReasonNotLookedUp},
		"a pointer": {func(f *ipc.RequestFact) {
			f.Questions[0] = ipc.Question{Name: name.Reverse(ip("203.0.113.1")), Type: ipc.TypePTR, Class: 1}
		}, ipc.ReasonNotLookedUp},
		"additional records": {func(f *ipc.RequestFact) { f.Extras = true }, ipc.ReasonSections},
		"another server":     {func(f *ipc.RequestFact) { f.Dst = ipc.AddressOf(ip("10.0.0.54")) }, ipc.ReasonResolverNotTrusted},
	} {
		f := good()
		c.spoil(f)
		wantReason(t, what, ask(t, e, start, f), c.want)
	}
	// Its answer ends it: nothing is asked twice for nothing.
	a := reply(good()).addr("cdn.net", "203.0.113.1")
	e.Commit(start, respond(t, e, start, a))
	wantReason(t, "after the answer", ask(t, e, start, good()), ipc.ReasonLookupOver)
	mirror := own(lookup("mirror.net", ipc.TypeA), 1)
	wantReason(t, "after its time", ask(t, e, start.Add(cachedFor), mirror), ipc.ReasonLookupOver)
	wantReason(t, "almost 10 s after it", ask(t, e, start.Add(cachedFor+10*time.Second-1), mirror), ipc.ReasonLookupOver)
	wantReason(t, "10 s after it", ask(t, e, start.Add(cachedFor+10*time.Second), mirror), ipc.ReasonNotLookedUp)
	// Extras are nobody else's concern.
	q := query(handleWeb, "example.com")
	q.Extras = true
	wantReason(t, "a client's OPT", ask(t, e, start, q), ipc.ReasonNone)
}

// TestAskedTooOften: a resolver that repeats its question has as many of them
// leave as an honest one may, and no more before it is to ask again.
func TestAskedTooOften(t *testing.T) {
	e := testEngine(t, askingPolicy())
	due(e, start)
	for i := range maxAsked {
		q := own(lookup("cdn.net", ipc.TypeA), uint16(i/4+1))
		wantReason(t, "a question", ask(t, e, start, q), ipc.ReasonNone)
	}
	wantReason(t, "one more", ask(t, e, start, own(lookup("cdn.net", ipc.TypeA), 999)), ipc.ReasonLookupOver)
	wantReason(t, "another", ask(t, e, start, own(lookup("cdn.net", ipc.TypeAAAA), 999)), ipc.ReasonNone)
	now := start.Add(cachedFor)
	due(e, now)
	due(e, now.Add(firstRetry))
	wantReason(t, "in the next lookup", ask(t, e, now.Add(firstRetry), own(lookup("cdn.net", ipc.TypeA), 999)), ipc.ReasonNone)
}

// TestSelfByTCP: the daemon's own questions by TCP, as after a truncated answer.
func TestSelfByTCP(t *testing.T) {
	e := testEngine(t, askingPolicy())
	due(e, start)
	connect(t, e, start, handleSelf)
	q := streamQuery(handleSelf, "cdn.net")
	wantSegment(t, "the question", e, start, q, ipc.ReasonNone)
	wantSegment(t, "its length again", e, start, segment(ipc.SegmentData, handleSelf), ipc.ReasonNone)
	p := respond(t, e, start, streamReply(q, ipc.SegmentData))
	if p.Filter != -1 {
		t.Errorf("a part of the answer is of filter %d", p.Filter)
	}
	p = respond(t, e, start, &answer{streamReply(q, ipc.SegmentMessage).addr("cdn.net", "203.0.113.1").ResponseFact})
	e.Commit(start, p)
	if p.Filter != -1 || granted(e, start, 0, "203.0.113.1") == 0 {
		t.Errorf("the answer is of filter %d, and opens %+v", p.Filter, p.Grants)
	}
	other := streamQuery(handleSelf, "cdn.net")
	if o := hand(t, e, start, other)[0]; o.Reason != ipc.ReasonLookupOver || o.Filter != -1 {
		t.Errorf("another question: %+v", o)
	}
	wantSegment(t, "after it", e, start, segment(ipc.SegmentData, handleSelf), ipc.ReasonConnRefused)
}

// TestSelfServers: the daemon asks its own servers alone, whoever else may be
// asked, and by UDP and TCP.
func TestSelfServers(t *testing.T) {
	for _, resolvers := range [][]ipc.Address{nil, {ipc.AddressOf(ip("10.0.0.53")), ipc.AddressOf(ip("10.0.0.54"))}} {
		p := askingPolicy()
		p.Resolvers = resolvers
		e := testEngine(t, p)
		due(e, start)
		q := own(lookup("cdn.net", ipc.TypeA), 1)
		wantReason(t, "its own", ask(t, e, start, q), ipc.ReasonNone)
		q.Dst = ipc.AddressOf(ip("10.0.0.54"))
		wantReason(t, "another", ask(t, e, start, q), ipc.ReasonResolverNotTrusted)
		syn := segment(ipc.SegmentOpen, handleSelf)
		syn.Dst = q.Dst
		wantSegment(t, "another by TCP", e, start, syn, ipc.ReasonResolverNotTrusted)
		client := query(handleWeb, "example.com")
		client.Dst = q.Dst
		wantReason(t, "a client's", ask(t, e, start, client), ipc.ReasonNone)
	}
}

// TestSelfServerGone: the answer of a server that a change of policy took away.
func TestSelfServerGone(t *testing.T) {
	e := testEngine(t, askingPolicy())
	due(e, start)
	q := own(lookup("cdn.net", ipc.TypeA), 1)
	ask(t, e, start, q)
	next := askingPolicy()
	next.Servers = []ipc.Address{ipc.AddressOf(ip("10.0.0.54"))}
	if _, err := e.Change(start, next); err != nil {
		t.Fatal(err)
	}
	p := respond(t, e, start, reply(q).addr("cdn.net", "203.0.113.1"))
	wantReason(t, "its answer", p.Outcome, ipc.ReasonResolverNotTrusted)
}

// TestShortestTime: of two filters' times the shorter counts, wherever it stands.
func TestShortestTime(t *testing.T) {
	for _, every := range [][2]time.Duration{{time.Minute, time.Hour}, {time.Hour, time.Minute}} {
		p := askingPolicy()
		for i := range every {
			p.Filters[i].ReCacheEvery, p.Filters[i].CachedFor = every[i], every[i]+time.Minute
		}
		if c := testEngine(t, p).lookups.cached[inquiry{wire("cdn.net"), ipc.TypeA}]; c.every != time.Minute {
			t.Errorf("%v: every %v", every, c.every)
		}
	}
}

// TestSelfQueueOfNobody: where the daemon asks nothing, it has no queue.
func TestSelfQueueOfNobody(t *testing.T) {
	e := testEngine(t, testPolicy())
	if e.AsksItself() {
		t.Error("asks without a queue of its own")
	}
	if _, err := e.Request(start, own(lookup("cdn.net", ipc.TypeA), 1)); err == nil {
		t.Error("a request on a queue that there is not")
	}
}

// TestCachedBound: no more questions are under way than the resolver has
// sockets for, and in the end all have been asked.
func TestCachedBound(t *testing.T) {
	p := askingPolicy()
	for i := range 300 {
		p.Hostnames[1].Add(wire(fmt.Sprintf("n%d.mirror.net", i)), ipc.ScopeCached, nil)
	}
	e := testEngine(t, p)
	seen := map[ipc.Lookup]bool{}
	now := start
	for step := 0; len(seen) < 2*302; step++ {
		if step == 1000 {
			t.Fatalf("%d asked", len(seen))
		}
		now = now.Add(time.Millisecond)
		for i, l := range due(e, now).Ask {
			l.Until = 0
			if seen[l] {
				t.Fatalf("%v asked twice", l)
			}
			seen[l] = true
			exchange(t, e, now, own(l, uint16(i+1)), func(a *answer) { a.NoRecords = true })
		}
		if e.lookups.under != 0 {
			t.Fatalf("%d under way", e.lookups.under)
		}
	}
	due(e, now.Add(21*time.Minute))
	if e.lookups.under != maxCachedAsked {
		t.Errorf("%d under way at once, should be %d", e.lookups.under, maxCachedAsked)
	}
}

// TestCachedAfterReload: names that go close, names that come are asked for,
// and what is opened is opened by the rules that are in force.
func TestCachedAfterReload(t *testing.T) {
	e := testEngine(t, askingPolicy())
	for i, l := range due(e, start).Ask {
		exchange(t, e, start, own(l, uint16(i+1)), func(a *answer) {
			if l.Type == ipc.TypeA {
				a.addr(l.Name.String(), "203.0.113."+map[string]string{"cdn.net": "1", "mirror.net": "2"}[l.Name.String()])
			} else {
				a.NoRecords = true
			}
		})
	}
	next := askingPolicy()
	next.Filters[1].ReCacheEvery, next.Filters[1].CachedFor = time.Minute, 2*time.Minute
	next.Hostnames[1] = ipc.Tree(wire("debian.org"), wire("example.com"))
	next.Hostnames[1].Add(wire("cdn.net"), ipc.ScopeCached, nil)
	next.Hostnames[1].Add(wire("new.net"), ipc.ScopeCached, nil)
	now := start.Add(time.Second)
	c, err := e.Change(now, next)
	if err != nil {
		t.Fatal(err)
	}
	if c.Closed != 1 || granted(e, now, 1, "203.0.113.2") != 0 {
		t.Errorf("mirror.net is gone: %+v", c)
	}
	if got := granted(e, now, 1, "203.0.113.1"); got != now.Add(2*time.Minute) {
		t.Errorf("cdn.net stays for %v", got.Sub(now))
	}
	if got := granted(e, now, 0, "203.0.113.1"); got != start.Add(11*time.Minute) {
		t.Errorf("in the filter that is as it was it stays for %v", got.Sub(start))
	}
	wantQuestions(t, "after the change", due(e, now).Ask, "A cdn.net", "A new.net", "AAAA cdn.net", "AAAA new.net")
}

// TestShorterAnswersThanCache: what an answer to somebody opened does not last
// as long as a cached name's after a change that lets it last less.
func TestShorterAnswersThanCache(t *testing.T) {
	e := testEngine(t, askingPolicy())
	exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.addr("example.com", "203.0.113.7") })
	next := askingPolicy()
	next.Filters[0].AllowAnswersFor = time.Minute
	c, err := e.Change(start, next)
	if err != nil {
		t.Fatal(err)
	}
	if got := granted(e, start, 0, "203.0.113.7"); got != start.Add(time.Minute) {
		t.Errorf("open for %v", got.Sub(start))
	}
	for _, g := range c.Grants {
		if g.Kind == ipc.GrantsKeep && g.Filter == 0 && g.Until != start.Add(time.Minute) {
			t.Errorf("kept until %v after the start", g.Until.Sub(start))
		}
	}
}
