package allowlist

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// changed is the test policy with other names and another length for "web".
func changed(lasts time.Duration, names ...string) *ipc.Policy {
	p := testPolicy()
	p.Filters[0].AllowAnswersFor = lasts
	p.Hostnames[0] = ipc.Hostnames{}
	for _, n := range names {
		p.Hostnames[0].Add(wire(n), ipc.ScopeTree, nil)
	}
	return p
}

func mustChange(t *testing.T, e *Engine, now ipc.Instant, p *ipc.Policy) Change {
	t.Helper()
	c, err := e.Change(now, p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Grants {
		if err := c.Grants[i].Validate(); err != nil {
			t.Fatalf("invalid grants: %v", err)
		}
	}
	return c
}

// told is what a trafficworker that hears of a change does with an address of
// filter 0: whether it keeps it, and until when at the latest if that is sooner.
func told(c Change, address string) (kept bool, shortened []ipc.Instant) {
	for i := range c.Grants {
		g := &c.Grants[i]
		g.Each(func(a netip.Addr) {
			switch {
			case a != ip(address) || g.Filter != 0:
			case g.Kind == ipc.GrantsKeep:
				kept = true
				if g.Until != 0 {
					shortened = append(shortened, g.Until)
				}
			}
		})
	}
	return kept, shortened
}

// opened is an engine whose filter "web" has had answers to five names.
func opened(t *testing.T) *Engine {
	t.Helper()
	e := testEngine(t, testPolicy())
	for n, addr := range map[string]string{
		"example.com":     "192.0.2.1",
		"api.example.com": "192.0.2.2",
		"www.example.com": "192.0.2.3",
		"other.org":       "192.0.2.4",
	} {
		exchange(t, e, start, query(handleWeb, n), func(a *answer) { a.addr(n, addr) })
	}
	exchange(t, e, start, query(handleWeb, "cdn.other.org"), func(a *answer) {
		a.cname("cdn.other.org", "edge.cdn.net").addr("edge.cdn.net", "2001:db8::5")
	})
	exchange(t, e, start, query(handleApt, "debian.org"), func(a *answer) { a.addr("debian.org", "192.0.2.1") })
	return e
}

// TestChangeKeepsAndCloses: a name taken away loses its grants and what it
// taught at once, everything else stays as it was.
func TestChangeKeepsAndCloses(t *testing.T) {
	e := opened(t)
	c := mustChange(t, e, start, changed(webLasts, "new.example", "example.com"))
	until := start.Add(webLasts)
	// www.example.com is allowed by example.com, which is above it.
	for address, want := range map[string]ipc.Instant{
		"192.0.2.1": until, "192.0.2.2": until, "192.0.2.3": until, "192.0.2.4": 0, "2001:db8::5": 0,
	} {
		kept, set := told(c, address)
		if got := granted(e, start, 0, address); got != want || kept != (want != 0) || len(set) > 0 {
			t.Errorf("%s: until %d, want %d; told kept %t, shortened %v", address, got, want, kept, set)
		}
	}
	if got := granted(e, start, 1, "192.0.2.1"); got != start.Add(aptLasts) {
		t.Errorf("another filter's grant ends at %d", got)
	}
	if knows(e, start, 0, "edge.cdn.net") != 0 {
		t.Error("a name is still known that a name taken away had taught")
	}
	if c.Kept != 4 || c.Closed != 2 || c.Shortened != 0 || c.NamesForgotten != 1 || c.NamesKept != 0 {
		t.Errorf("%+v", c)
	}
	wantReason(t, "taken away", ask(t, e, start, query(handleWeb, "other.org")), ipc.ReasonNameNotAllowed)
	wantReason(t, "taught by it", ask(t, e, start, query(handleWeb, "edge.cdn.net")), ipc.ReasonNameNotAllowed)
	wantReason(t, "new", ask(t, e, start, query(handleWeb, "new.example")), ipc.ReasonNone)
	if o := ask(t, e, start, query(handleWeb, "api.example.com")); o.Entry != wire("example.com") {
		t.Errorf("allowed by %s", o.Entry)
	}
}

// TestChangeBackAndForth: entries are known by their names, not by their
// places in a list, however often the lists change.
func TestChangeBackAndForth(t *testing.T) {
	e := opened(t)
	for range 3 {
		mustChange(t, e, start, changed(webLasts, "z.org", "other.org", "y.org", "www.example.com", "example.com"))
		mustChange(t, e, start, testPolicy())
	}
	if c := mustChange(t, e, start, testPolicy()); c.Kept != 6 || c.NamesKept != 1 || c.Closed+c.Shortened != 0 {
		t.Errorf("%+v", c)
	}
	if c := mustChange(t, e, start, changed(webLasts, "other.org")); c.Closed != 3 || granted(e, start, 0, "192.0.2.4") == 0 {
		t.Errorf("%+v", c)
	}
}

// TestChangeNarrows: a grant that an entry justified which is gone does not
// stay because of one below it.
func TestChangeNarrows(t *testing.T) {
	e := testEngine(t, testPolicy())
	exchange(t, e, start, query(handleWeb, "api.example.com"), func(a *answer) { a.addr("api.example.com", "192.0.2.2") })
	if c := mustChange(t, e, start, changed(webLasts, "www.example.com")); c.Closed != 1 {
		t.Errorf("%+v", c)
	}
}

// TestChangeLasts: shorter counts for what is open, longer only from the next
// answer on. The trafficworker, who knows the new length, need not be told.
func TestChangeLasts(t *testing.T) {
	e := opened(t)
	later := start.Add(time.Minute)
	c := mustChange(t, e, later, changed(time.Second, "example.com", "www.example.com", "other.org"))
	until := later.Add(time.Second)
	for _, address := range []string{"192.0.2.1", "192.0.2.4", "2001:db8::5"} {
		kept, set := told(c, address)
		if got := granted(e, later, 0, address); got != until || !kept || len(set) > 0 {
			t.Errorf("%s: until %d; told kept %t, shortened %v", address, got, kept, set)
		}
	}
	if knows(e, later, 0, "edge.cdn.net") != until || c.Shortened != 5 {
		t.Errorf("learnt until %d, %+v", knows(e, later, 0, "edge.cdn.net"), c)
	}
	if c = mustChange(t, e, later, testPolicy()); c.Shortened != 0 || granted(e, later, 0, "192.0.2.1") != until {
		t.Errorf("a longer policy lengthens: %+v", c)
	}
}

// TestChangeOfOneOfTwo: an address that two entries justify ends with the one
// that is left.
func TestChangeOfOneOfTwo(t *testing.T) {
	e := testEngine(t, testPolicy())
	open := func(now ipc.Instant, n string) {
		exchange(t, e, now, query(handleWeb, n), func(a *answer) { a.addr(n, "192.0.2.1") })
	}
	open(start, "example.com")
	later := start.Add(time.Minute)
	open(later, "other.org")
	c := mustChange(t, e, later, changed(webLasts, "example.com"))
	kept, set := told(c, "192.0.2.1")
	if want := start.Add(webLasts); granted(e, later, 0, "192.0.2.1") != want || !kept || len(set) != 1 || set[0] != want {
		t.Errorf("until %d, told kept %t, shortened %v", granted(e, later, 0, "192.0.2.1"), kept, set)
	}
}

// TestChangeJudgesResponses: a request that went out under the old policy is
// answered under the new one.
func TestChangeJudgesResponses(t *testing.T) {
	for what, c := range map[string]struct {
		policy *ipc.Policy
		want   ipc.Reason
	}{
		"the name stays":     {changed(webLasts, "other.org"), ipc.ReasonNone},
		"the name is gone":   {changed(webLasts, "example.com"), ipc.ReasonNameNotAllowed},
		"another resolver":   {withResolver(testPolicy(), "10.0.0.1"), ipc.ReasonResolverNotTrusted},
		"the same resolver":  {withResolver(testPolicy(), "10.0.0.53"), ipc.ReasonNone},
		"interface no issue": {withoutInterfaceCheck(testPolicy()), ipc.ReasonNone},
	} {
		e := testEngine(t, testPolicy())
		q := query(handleWeb, "other.org")
		wantReason(t, what, ask(t, e, start, q), ipc.ReasonNone)
		if got := mustChange(t, e, start, c.policy); got.PendingRequests != 1 {
			t.Errorf("%s: %d pending", what, got.PendingRequests)
		}
		a := reply(q).addr("other.org", "192.0.2.1")
		if what == "interface no issue" {
			a.InIf = 77
		}
		wantReason(t, what, respond(t, e, start, a).Outcome, c.want)
	}
}

func withResolver(p *ipc.Policy, address string) *ipc.Policy {
	p.Resolvers = append(p.Resolvers, ipc.AddressOf(ip(address)))
	return p
}

func withoutInterfaceCheck(p *ipc.Policy) *ipc.Policy {
	p.Settings.InterfaceCheck = false
	return p
}

// TestChangeRefused: with an error nothing has changed.
func TestChangeRefused(t *testing.T) {
	for what, spoil := range map[string]func(*ipc.Policy){
		"a queue more": func(p *ipc.Policy) {
			p.Queues = append(p.Queues, ipc.Queue{Handle: 77, Number: 77, Kind: ipc.QueueRequests})
		},
		"a queue less":     func(p *ipc.Policy) { p.Queues = p.Queues[:3] },
		"another number":   func(p *ipc.Policy) { p.Queues[0].Number = 99 },
		"another filter's": func(p *ipc.Policy) { p.Queues[0].Filter = 1 },
		"a filter more": func(p *ipc.Policy) {
			p.Filters = append(p.Filters, ipc.Filter{Index: 3, Name: "n", AllowAll: true})
			p.Hostnames = append(p.Hostnames, ipc.Hostnames{})
		},
		"grants no more": func(p *ipc.Policy) {
			p.Filters[0] = ipc.Filter{Name: "web", AllowAll: true}
			p.Hostnames[0] = ipc.Hostnames{}
		},
		"a host name twice":  func(p *ipc.Policy) { p.Hostnames[0] = ipc.Tree(wire("a.b"), wire("a.b")) },
		"contradicts itself": func(p *ipc.Policy) { p.Filters[0].AllowAnswersFor = 0 },
	} {
		e := opened(t)
		p := testPolicy()
		spoil(p)
		if c, err := e.Change(start, p); err == nil || len(c.Grants) > 0 {
			t.Errorf("%s: taken", what)
		}
		if granted(e, start, 0, "192.0.2.4") == 0 || knows(e, start, 0, "edge.cdn.net") == 0 {
			t.Errorf("%s: something changed", what)
		}
		wantReason(t, what, ask(t, e, start, query(handleWeb, "other.org")), ipc.ReasonNone)
	}
}

// TestChangeOfInUse: maxInUse counts from the answer, however often it is
// turned on and off, and whatever the record's TTL was.
func TestChangeOfInUse(t *testing.T) {
	policy := func(lasts, inUse time.Duration) *ipc.Policy {
		p := changed(lasts, "example.com")
		p.Filters[0].MaxInUse = inUse
		p.Filters[0].RespectTTL, p.Filters[0].MinTTL = true, time.Second
		return p
	}
	const address = "192.0.2.1"
	e := testEngine(t, policy(10*time.Minute, 0))
	exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.addrFor(120, "example.com", address) })
	now := start.Add(time.Minute)
	for i, step := range []struct {
		lasts, inUse time.Duration
		want         ipc.Instant
	}{
		{10 * time.Minute, time.Hour, start.Add(time.Hour)},
		{10 * time.Minute, 2 * time.Hour, start.Add(2 * time.Hour)},
		{10 * time.Minute, 30 * time.Minute, start.Add(30 * time.Minute)},
		{10 * time.Minute, 0, now.Add(10 * time.Minute)}, // it may be in use
		{5 * time.Minute, 0, now.Add(5 * time.Minute)},
		{10 * time.Minute, time.Hour, start.Add(time.Hour)},
	} {
		mustChange(t, e, now, policy(step.lasts, step.inUse))
		if got := granted(e, now, 0, address); got != step.want {
			t.Errorf("step %d: until %v after the answer", i, got.Sub(start))
		}
	}
}

// TestChangeOfOneOfTwoInUse: of an address that two entries justify, what is
// left ends as the one opened it, by port.
func TestChangeOfOneOfTwoInUse(t *testing.T) {
	http, end := ipc.Port{Number: 80}, start.Add(webLasts)
	org := func(ports ...ipc.Port) host { return host{"other.org", ipc.ScopeTree, ports} }
	com := func(ports ...ipc.Port) host { return host{"example.com", ipc.ScopeTree, ports} }
	for what, c := range map[string]struct {
		from, to []host
		late     bool // after the end of what example.com opened, unless it was used
		want     map[ipc.Port]ipc.Instant
	}{
		"nothing is lost":         {[]host{com(), org()}, []host{com(), org()}, true, map[ipc.Port]ipc.Instant{{}: 0}},
		"one":                     {[]host{com(), org()}, []host{com()}, false, map[ipc.Port]ipc.Instant{{}: end}},
		"one, late":               {[]host{com(), org()}, []host{com()}, true, nil},
		"a port of one":           {[]host{com(https), org(https, http)}, []host{com(https), org(http)}, false, map[ipc.Port]ipc.Instant{https: end, http: 0}},
		"a port of one, late":     {[]host{com(https), org(https, http)}, []host{com(https), org(http)}, true, map[ipc.Port]ipc.Instant{http: 0}},
		"a port of both":          {[]host{com(https), org(https, http)}, []host{com(https), org(https)}, true, map[ipc.Port]ipc.Instant{https: 0}},
		"all ports of one":        {[]host{com(https), org()}, []host{com(https), org(https)}, true, map[ipc.Port]ipc.Instant{https: 0}},
		"a protocol of one":       {[]host{com(https), org(https)}, []host{com(https), org(httpsT)}, true, map[ipc.Port]ipc.Instant{httpsT: 0}},
		"a port of one, the rest": {[]host{com(), org(http, https)}, []host{com(), org(https)}, true, map[ipc.Port]ipc.Instant{https: 0}},
		"a protocol of both":      {[]host{com(https), org(https)}, []host{com(httpsT), org(httpsT)}, true, map[ipc.Port]ipc.Instant{httpsT: 0}},
		"wider, nothing is lost":  {[]host{com(httpsT), org(httpsT)}, []host{com(https), org()}, true, map[ipc.Port]ipc.Instant{https: 0, {}: 0}},
	} {
		inUse := func(hosts []host) *ipc.Policy {
			p := portPolicy(hosts...)
			p.Filters[0].MaxInUse = time.Hour
			return p
		}
		e := testEngine(t, inUse(c.from))
		exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.addr("example.com", "192.0.2.1") })
		now := end - 1
		if c.late {
			now = end
		}
		exchange(t, e, now, query(handleWeb, "other.org"), func(a *answer) { a.addr("other.org", "192.0.2.1") })
		got := map[ipc.Port]ipc.Instant{}
		change := mustChange(t, e, now, inUse(c.to))
		if kept := change.Kept == 1; kept != (what == "nothing is lost") || change.Kept+change.Shortened+change.Closed != 1 {
			t.Errorf("%s: %+v", what, change)
		}
		for _, g := range change.Grants {
			if g.Kind == ipc.GrantsKeep {
				got[g.Port] = g.Until
			}
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: kept %v, want %v", what, got, c.want)
		}
		if held := granted(e, now, 0, "192.0.2.1") != 0; held != (len(c.want) > 0) {
			t.Errorf("%s: remembered is %t", what, held)
		}
	}
}

// TestChangeSharesNothing: after a change the addresses of one answer are
// justified each for itself.
func TestChangeSharesNothing(t *testing.T) {
	e := testEngine(t, changed(webLasts, "example.com"))
	exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.addr("example.com", "192.0.2.1", "192.0.2.2") })
	mustChange(t, e, start, changed(webLasts, "com", "example.com", "org"))
	later := start.Add(webLasts / 2)
	exchange(t, e, later, query(handleWeb, "debian.org"), func(a *answer) { a.addr("debian.org", "192.0.2.1") })
	exchange(t, e, later, query(handleWeb, "x.com"), func(a *answer) { a.addr("x.com", "192.0.2.1") })
	mustChange(t, e, later, changed(webLasts, "com", "org"))
	if got := granted(e, later, 0, "192.0.2.1"); got != later.Add(webLasts) {
		t.Errorf("answered again: until %d", got)
	}
	e.grants.Each(later, 0, func(a [16]byte, p proofs, _ ipc.Instant) {
		if netip.AddrFrom16(a).Unmap() == ip("192.0.2.2") && p.until() != start.Add(webLasts) {
			t.Errorf("not answered again: until %d, proofs %v", p.until(), p.appendTo(nil, later))
		}
	})
	if c := mustChange(t, e, later, changed(webLasts, "org")); c.Kept+c.Shortened != 1 {
		t.Errorf("%+v", c)
	}
}
