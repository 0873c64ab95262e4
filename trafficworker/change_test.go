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
	if until > testNow && !tab.open(until-1, 0, changedAddress) {
		t.Errorf("%s: not open until %d", what, until)
	}
	if tab.open(until, 0, changedAddress) {
		t.Errorf("%s: open longer than until %d", what, until)
	}
}

// TestSetAndClose: what only a change of policy does.
func TestSetAndClose(t *testing.T) {
	minute := testNow.Add(time.Minute)
	tab := testTable(t)
	mustTake(t, tab, testNow, grants(ipc.GrantsOpen, minute))
	mustTake(t, tab, testNow, grants(ipc.GrantsOpen, minute-10))
	ends(t, tab, "opened for less", minute)

	tab = testTable(t)
	mustTake(t, tab, testNow, grants(ipc.GrantsOpen, minute))
	mustTake(t, tab, testNow, grants(ipc.GrantsSet, minute-10))
	ends(t, tab, "set to less", minute-10)

	mustTake(t, tab, testNow, grants(ipc.GrantsOpen, minute))
	mustTake(t, tab, testNow, grants(ipc.GrantsClose, 0))
	ends(t, tab, "closed", testNow)
	if _, err := tab.take(testNow, &ipc.Grants{Kind: ipc.GrantsClose, Filter: 3, V4: octets("192.0.2.1")}); err == nil {
		t.Error("closed in an unknown filter")
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
	if err := tab.announce(changed(time.Second)); err != nil {
		t.Fatal(err)
	}
	if tab.filters[0].Name != "web" {
		t.Error("in force at once")
	}
	// A holder that has not heard of it yet.
	if mustTake(t, tab, testNow, grants(ipc.GrantsOpen, minute)) {
		t.Error("a grant puts a policy in force")
	}
	if !tab.open(minute-1, 0, changedAddress) { // a look any later would take it back
		t.Error("shortened at once")
	}
	if !mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsDone}) || tab.filters[0].Name != "net" || tab.next != nil {
		t.Error("not in force")
	}
	ends(t, tab, "after", second)
	if _, err := tab.take(testNow, grants(ipc.GrantsOpen, minute)); err == nil {
		t.Error("the old policy still grants")
	}

	// The other way round: a holder that knows the longer one already.
	if err := tab.announce(changed(time.Minute)); err != nil {
		t.Fatal(err)
	}
	mustTake(t, tab, testNow, grants(ipc.GrantsOpen, minute))
	if _, err := tab.take(testNow, grants(ipc.GrantsOpen, minute+1)); err == nil {
		t.Error("longer than either policy")
	}
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsDone})
	ends(t, tab, "lengthened", minute)
}

// TestChangeRefused: what neither an honest holder nor an honest parent does.
func TestChangeRefused(t *testing.T) {
	tab := testTable(t)
	if _, err := tab.take(testNow, &ipc.Grants{Kind: ipc.GrantsDone}); err == nil {
		t.Error("the end of no change")
	}
	for what, filters := range map[string][]ipc.Filter{
		"none":                {},
		"one less":            changed(time.Second)[:2],
		"one more":            append(changed(time.Second), ipc.Filter{Index: 3, Name: "new", AllowAnswersFor: 1}),
		"now everything":      {{Name: "web", AllowAll: true}, {Index: 1, Name: "all", AllowAll: true}, {Index: 2, Name: "long", AllowAnswersFor: 1}},
		"everything no more":  {{Name: "web", AllowAnswersFor: 1}, {Index: 1, Name: "all", AllowAnswersFor: 1}, {Index: 2, Name: "long", AllowAnswersFor: 1}},
		"everything, for now": {{Name: "web", AllowAnswersFor: 1}, {Index: 1, Name: "all", AllowAll: true, AllowAnswersFor: 1}, {Index: 2, Name: "long", AllowAnswersFor: 1}},
	} {
		if err := tab.announce(filters); err == nil || tab.next != nil {
			t.Errorf("%s: taken", what)
		}
	}
	if err := tab.announce(changed(time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := tab.announce(changed(time.Minute)); err == nil {
		t.Error("a change within another")
	}
}
