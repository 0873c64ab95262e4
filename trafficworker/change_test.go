package trafficworker

import (
	"net/netip"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

var changedAddress = netip.MustParseAddr("192.0.2.1")

// grants is a message about one address of filter 0.
func grants(kind ipc.GrantsKind, until ipc.Instant) *ipc.Grants {
	return &ipc.Grants{Kind: kind, Until: until, V4: octets("192.0.2.1")}
}

// mustTake takes what an honest holder sends.
func mustTake(t *testing.T, tab *table, now ipc.Instant, g *ipc.Grants) (inForce bool) {
	t.Helper()
	inForce, err := tab.take(now, g)
	if err != nil {
		t.Fatal(err)
	}
	return inForce
}

// ends requires that the address is open until then and no longer.
func ends(t *testing.T, tab *table, what string, until ipc.Instant) {
	t.Helper()
	if until > testNow && !opens(tab, until-1, 0, changedAddress) {
		t.Errorf("%s: not open until %d", what, until)
	}
	if opens(tab, until, 0, changedAddress) {
		t.Errorf("%s: open longer than until %d", what, until)
	}
}

// TestKeepUntil: what is open ends sooner, and nothing is opened or lengthened.
func TestKeepUntil(t *testing.T) {
	minute := testNow.Add(time.Minute)
	for what, c := range map[string]struct {
		open  bool
		until []ipc.Instant
		want  ipc.Instant
	}{
		"as it would": {true, []ipc.Instant{0}, minute},
		"to later":    {true, []ipc.Instant{minute + 10}, minute},
		"to sooner":   {true, []ipc.Instant{minute - 10}, minute - 10},
		"the later":   {true, []ipc.Instant{minute - 10, minute - 20}, minute - 10},
		"either":      {true, []ipc.Instant{0, minute - 20}, minute},
		"not open":    {false, []ipc.Instant{0, minute}, testNow},
	} {
		tab := testTable(t)
		if c.open {
			mustTake(t, tab, testNow, grants(ipc.GrantsOpen, minute))
			mustTake(t, tab, testNow, grants(ipc.GrantsOpen, minute-10))
		}
		if err := tab.announce(tab.filters, nil); err != nil {
			t.Fatal(err)
		}
		mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsChange})
		for _, until := range c.until {
			mustTake(t, tab, testNow, grants(ipc.GrantsKeep, until))
		}
		mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsDone})
		ends(t, tab, what, c.want)
	}
}

// changed is testTable's policy with another length for filter 0.
func changed(lasts time.Duration) []ipc.Filter {
	return []ipc.Filter{
		{Index: 0, Name: "net", AllowAnswersFor: lasts},
		{Index: 1, Name: "all", AllowAll: true},
		{Index: 2, Name: "long", AllowAnswersFor: 1 << 62},
	}
}

// TestChange: an announced policy judges nothing before the holder's word, and
// from then on nothing outlives it, whatever the holder says.
func TestChange(t *testing.T) {
	minute, second := testNow.Add(time.Minute), testNow.Add(time.Second)
	tab := testTable(t)
	mustTake(t, tab, testNow, grants(ipc.GrantsOpen, minute))
	if err := tab.announce(changed(time.Second), nil); err != nil {
		t.Fatal(err)
	}
	if tab.filters[0].Name != "web" {
		t.Error("in force at once")
	}
	// A holder that has not heard of it yet.
	if mustTake(t, tab, testNow, grants(ipc.GrantsOpen, minute)) {
		t.Error("a grant puts a policy in force")
	}
	if !opens(tab, minute-1, 0, changedAddress) { // a look any later would take it back
		t.Error("shortened at once")
	}
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsChange})
	mustTake(t, tab, testNow, grants(ipc.GrantsKeep, 0))
	if !mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsDone}) || tab.filters[0].Name != "net" || tab.next != nil {
		t.Error("not in force")
	}
	ends(t, tab, "after", second)
	if _, err := tab.take(testNow, grants(ipc.GrantsOpen, minute)); err == nil {
		t.Error("the old policy still grants")
	}

	// The other way round: a holder that knows the longer one already.
	if err := tab.announce(changed(time.Minute), nil); err != nil {
		t.Fatal(err)
	}
	mustTake(t, tab, testNow, grants(ipc.GrantsOpen, minute))
	if _, err := tab.take(testNow, grants(ipc.GrantsOpen, minute+1)); err == nil {
		t.Error("longer than either policy")
	}
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsChange})
	mustTake(t, tab, testNow, grants(ipc.GrantsKeep, 0))
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsDone})
	ends(t, tab, "lengthened", minute)
}

// TestChangeOfCached: a grant that stays lasts no longer than the new policy's
// longest, by answers or by cached names, and so does each stretch of its use.
func TestChangeOfCached(t *testing.T) {
	const inUse = 10 * time.Hour
	for what, c := range map[string]struct {
		to         ipc.Filter
		idle, used time.Duration // how long it is open from the change on: not used, and used once right after it
	}{
		"the same":            {ipc.Filter{AllowAnswersFor: time.Minute, CachedFor: time.Hour}, time.Hour, time.Hour},
		"cached shorter":      {ipc.Filter{AllowAnswersFor: time.Minute, CachedFor: 2 * time.Minute}, 2 * time.Minute, 2 * time.Minute},
		"cached no more":      {ipc.Filter{AllowAnswersFor: time.Minute}, time.Minute, time.Minute},
		"answers no more":     {ipc.Filter{CachedFor: time.Minute}, time.Minute, time.Minute},
		"grants nothing now":  {ipc.Filter{}, 0, 0},
		"cached, and in use":  {ipc.Filter{CachedFor: time.Minute, MaxInUse: inUse}, time.Minute, 2 * time.Minute},
		"answers, and in use": {ipc.Filter{AllowAnswersFor: time.Minute, MaxInUse: inUse}, time.Minute, 2 * time.Minute},
	} {
		for _, use := range []bool{false, true} {
			tab, err := startedTable([]ipc.Filter{{Name: "f", AllowAnswersFor: time.Minute, CachedFor: time.Hour}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			mustTake(t, tab, testNow, grants(ipc.GrantsOpen, testNow.Add(time.Hour)))
			if err := tab.announce([]ipc.Filter{c.to}, nil); err != nil {
				t.Fatal(err)
			}
			mustTake(t, tab, testNow, grants(ipc.GrantsOpen, testNow.Add(time.Hour))) // by the old policy still
			mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsChange})
			mustTake(t, tab, testNow, grants(ipc.GrantsKeep, 0))
			mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsDone})
			want := c.idle
			if use {
				want = c.used
				opens(tab, testNow+1, 0, changedAddress)
			}
			a := opening{address: changedAddress.As16()}
			if _, until, live := tab.grants.Get(testNow, 0, a); live != (want > 0) || live && until != testNow.Add(want) {
				t.Errorf("%s, used %t: open for %v, not %v", what, use, until.Sub(testNow), want)
			}
		}
	}
}

// TestAnnouncedCached: between two policies the longest of either counts.
func TestAnnouncedCached(t *testing.T) {
	tab := testTable(t)
	to := changed(time.Second)
	to[0].CachedFor = time.Hour
	if err := tab.announce(to, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := tab.take(testNow, grants(ipc.GrantsOpen, testNow.Add(time.Hour)+1)); err == nil {
		t.Error("longer than either")
	}
	mustTake(t, tab, testNow, grants(ipc.GrantsOpen, testNow.Add(time.Hour)))
}

// TestChangeClosesWhatIsNotNamed: the two tables need not be equal; what the
// holder does not name is closed, even if it never knew of it.
func TestChangeClosesWhatIsNotNamed(t *testing.T) {
	minute := testNow.Add(time.Minute)
	tab := testTable(t)
	all := &ipc.Grants{Kind: ipc.GrantsOpen, Until: minute, V4: octets("192.0.2.1", "192.0.2.2"), V6: octets("2001:db8::1")}
	mustTake(t, tab, testNow, all)
	if err := tab.announce(changed(time.Minute), nil); err != nil {
		t.Fatal(err)
	}
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsOpen, Until: minute, V4: octets("192.0.2.3")}) // by the old policy still
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsChange})
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsKeep, V4: octets("192.0.2.2", "192.0.2.9")})
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsKeep, Filter: 2, V4: octets("192.0.2.1")})
	if !opens(tab, testNow, 0, changedAddress) {
		t.Error("closed before the end of the change")
	}
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsDone})
	for address, want := range map[string]bool{
		"192.0.2.1": false, "192.0.2.2": true, "192.0.2.3": false, "192.0.2.9": false, "2001:db8::1": false,
	} {
		if got := opens(tab, testNow, 0, netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: open is %t", address, got)
		}
	}
	if opens(tab, testNow, 2, changedAddress) {
		t.Error("kept in a filter where it was not open")
	}
}

// TestChangeRefused: what neither an honest holder nor an honest parent does.
func TestChangeRefused(t *testing.T) {
	tab := testTable(t)
	refused := func(what string, kinds ...ipc.GrantsKind) {
		t.Helper()
		for _, kind := range kinds {
			g := &ipc.Grants{Kind: kind}
			if kind == ipc.GrantsKeep {
				g = grants(kind, 0)
			}
			if _, err := tab.take(testNow, g); err == nil {
				t.Errorf("%s: kind %d is taken", what, kind)
			}
		}
	}
	refused("no change", ipc.GrantsChange, ipc.GrantsKeep, ipc.GrantsDone)
	for what, filters := range map[string][]ipc.Filter{
		"none":                {},
		"one less":            changed(time.Second)[:2],
		"one more":            append(changed(time.Second), ipc.Filter{Index: 3, Name: "new", AllowAnswersFor: 1}),
		"now everything":      {{Name: "web", AllowAll: true}, {Index: 1, Name: "all", AllowAll: true}, {Index: 2, Name: "long", AllowAnswersFor: 1}},
		"everything no more":  {{Name: "web", AllowAnswersFor: 1}, {Index: 1, Name: "all", AllowAnswersFor: 1}, {Index: 2, Name: "long", AllowAnswersFor: 1}},
		"everything, cached":  {{Name: "web", AllowAnswersFor: 1}, {Index: 1, Name: "all", AllowAll: true, CachedFor: 1}, {Index: 2, Name: "long", AllowAnswersFor: 1}},
		"everything, for now": {{Name: "web", AllowAnswersFor: 1}, {Index: 1, Name: "all", AllowAll: true, AllowAnswersFor: 1}, {Index: 2, Name: "long", AllowAnswersFor: 1}},
	} {
		if err := tab.announce(filters, nil); err == nil || tab.next != nil {
			t.Errorf("%s: taken", what)
		}
	}
	if err := tab.announce(changed(time.Second), nil); err != nil {
		t.Fatal(err)
	}
	if err := tab.announce(changed(time.Minute), nil); err == nil {
		t.Error("a change within another")
	}
	refused("announced", ipc.GrantsKeep, ipc.GrantsDone)
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsChange})
	refused("begun", ipc.GrantsChange)
	if _, err := tab.take(testNow, grants(ipc.GrantsOpen, testNow+1)); err == nil {
		t.Error("opened within a change")
	}
}

// TestKeptIsNotRenewed: what the holder has end at an instant ends then, used or
// not, under later policies too, until it is opened again.
func TestKeptIsNotRenewed(t *testing.T) {
	at := func(minutes int) ipc.Instant { return testNow.Add(time.Duration(minutes) * time.Minute) }
	inUse := func(longest int) []ipc.Filter {
		return []ipc.Filter{{Name: "f", AllowAnswersFor: 10 * time.Minute, MaxInUse: time.Duration(longest) * time.Minute}}
	}
	tab, err := startedTable(inUse(60), nil)
	if err != nil {
		t.Fatal(err)
	}
	change := func(now ipc.Instant, to []ipc.Filter, until ipc.Instant) {
		t.Helper()
		if err := tab.announce(to, nil); err != nil {
			t.Fatal(err)
		}
		mustTake(t, tab, now, &ipc.Grants{Kind: ipc.GrantsChange})
		mustTake(t, tab, now, grants(ipc.GrantsKeep, until))
		mustTake(t, tab, now, &ipc.Grants{Kind: ipc.GrantsDone})
	}
	want := func(minute int, open bool) {
		t.Helper()
		if opens(tab, at(minute), 0, changedAddress) != open {
			t.Errorf("minute %d: open is %t", minute, !open)
		}
	}
	mustTake(t, tab, testNow, grants(ipc.GrantsOpen, at(10)))
	want(5, true) // until 20
	change(at(6), inUse(15), at(12))
	want(7, true)
	change(at(8), inUse(600), 0)
	want(11, true)
	want(12, false)
	mustTake(t, tab, at(12), grants(ipc.GrantsOpen, at(22)))
	want(21, true)
	want(31, true)
}

// TestGrantsBecomeOne: what is left of two grants of an address has the best of
// both, whichever is looked at first.
func TestGrantsBecomeOne(t *testing.T) {
	early := grant{use{time.Minute, testNow}, testNow.Add(3 * time.Minute)}
	late := grant{use{time.Second, testNow + 7}, testNow.Add(2 * time.Minute)}
	want := grant{use{time.Minute, testNow + 7}, testNow.Add(3 * time.Minute)}
	filter := []ipc.Filter{{Name: "f", AllowAnswersFor: time.Hour, MaxInUse: time.Hour, Ports: true}}
	for _, grants := range [][2]grant{{early, late}, {late, early}} {
		tab, err := startedTable(filter, nil)
		if err != nil {
			t.Fatal(err)
		}
		a := changedAddress.As16()
		tab.grants.Put(testNow+8, 0, opening{address: a}, grants[0].use, grants[0].until)
		tab.grants.Put(testNow+8, 0, opening{a, https}, grants[1].use, grants[1].until)
		got := tab.stays(testNow+8, 0, map[[16]byte][]kept{a: {{https, forever}}})
		if len(got) != 1 || got[opening{a, https}] != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
