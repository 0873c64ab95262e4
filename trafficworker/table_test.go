package trafficworker

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

const testNow = ipc.Instant(1_000_000)

// startedTable is one that has been told what was open before.
func startedTable(filters []ipc.Filter, addresses [][]ipc.AllowedAddress) (*table, error) {
	t, err := newTable(filters, addresses)
	if err == nil {
		_, err = t.take(0, &ipc.Grants{Kind: ipc.GrantsAll})
	}
	return t, err
}

func testTable(t *testing.T) *table {
	t.Helper()
	tab, err := startedTable([]ipc.Filter{
		{Index: 0, Name: "web", AllowAnswersFor: time.Minute},
		{Index: 1, Name: "all", AllowAll: true},
		{Index: 2, Name: "long", AllowAnswersFor: 1 << 62},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// opens reports whether an address is open for packets without ports.
func opens(tab *table, now ipc.Instant, filter uint32, a netip.Addr) bool {
	return tab.open(now, filter, a, ipc.Port{})
}

func octets(addresses ...string) string {
	var b strings.Builder
	for _, a := range addresses {
		b.Write(netip.MustParseAddr(a).AsSlice())
	}
	return b.String()
}

func TestGrant(t *testing.T) {
	tab := testTable(t)
	a4, a6, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.2")
	g := &ipc.Grants{Kind: ipc.GrantsOpen, Filter: 0, Until: testNow.Add(time.Minute), V4: octets("192.0.2.1"), V6: octets("2001:db8::1")}
	if _, err := tab.take(testNow, g); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		now    ipc.Instant
		filter uint32
		a      netip.Addr
		open   bool
	}{
		{testNow, 0, a4, true},
		{testNow, 0, a6, true},
		{testNow, 0, other, false},
		{testNow, 1, a4, false}, // another filter's grant
		{testNow, 2, a4, false},
		{testNow, 0, netip.MustParseAddr("::ffff:192.0.2.1"), false},
		{testNow, 0, netip.Addr{}, false},
		{g.Until - 1, 0, a4, true},
		{g.Until, 0, a4, false},
	} {
		if open := opens(tab, test.now, test.filter, test.a); open != test.open {
			t.Errorf("at %d, filter %d, %v: open is %t", test.now, test.filter, test.a, open)
		}
	}
}

// TestGrantExtends: a later end counts, an earlier one does not.
func TestGrantExtends(t *testing.T) {
	tab := testTable(t)
	a := netip.MustParseAddr("192.0.2.1")
	for _, until := range []ipc.Instant{testNow + 10, testNow + 30, testNow + 20} {
		if _, err := tab.take(testNow, &ipc.Grants{Kind: ipc.GrantsOpen, Until: until, V4: octets("192.0.2.1")}); err != nil {
			t.Fatal(err)
		}
	}
	if !opens(tab, testNow+29, 0, a) || opens(tab, testNow+30, 0, a) {
		t.Error("the grant does not end with the latest one")
	}
}

// TestUnbelievedGrants: what an owned holder may send opens nothing, not even
// the honest addresses beside it.
func TestUnbelievedGrants(t *testing.T) {
	minute := testNow.Add(time.Minute)
	const honest4, honest6 = "192.0.2.1", "2001:db8::1"
	for what, g := range map[string]ipc.Grants{
		"unknown filter":      {Filter: 3, Until: minute, V4: octets(honest4)},
		"filter 2^32-1":       {Filter: math.MaxUint32, Until: minute, V4: octets(honest4)},
		"filter of all names": {Filter: 1, Until: minute, V4: octets(honest4)},
		"all names, ended":    {Filter: 1, Until: testNow, V4: octets(honest4)},
		"too long by one":     {Filter: 0, Until: minute + 1, V4: octets(honest4)},
		"for ever":            {Filter: 0, Until: math.MaxInt64, V4: octets(honest4)},
		"metadata service":    {Filter: 0, Until: minute, V4: octets(honest4, "169.254.169.254")},
		"loopback":            {Filter: 0, Until: minute, V4: octets("127.0.0.1", honest4)},
		"loopback 6":          {Filter: 0, Until: minute, V4: octets(honest4), V6: octets(honest6, "::1")},
		"mapped":              {Filter: 0, Until: minute, V4: octets(honest4), V6: octets("::ffff:192.0.2.9", honest6)},
		"mapped loopback":     {Filter: 0, Until: minute, V4: octets(honest4), V6: octets("::ffff:127.0.0.1")},
		"NAT64 of metadata":   {Filter: 0, Until: minute, V4: octets(honest4), V6: octets("64:ff9b::a9fe:a9fe")},
	} {
		for _, g.Kind = range []ipc.GrantsKind{ipc.GrantsOpen, ipc.GrantsKeep} {
			if err := g.Validate(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			tab := testTable(t)
			if g.Kind == ipc.GrantsKeep {
				if err := tab.announce(tab.filters, nil); err != nil {
					t.Fatal(err)
				}
				mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsChange})
			}
			// To keep what is not there is no offence, and opens nothing.
			if _, err := tab.take(testNow, &g); err == nil && g.Kind == ipc.GrantsOpen {
				t.Errorf("%s: believed", what)
			}
			if g.Kind == ipc.GrantsKeep {
				mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsDone})
			}
			for filter := range uint32(3) {
				g.Each(func(a netip.Addr) {
					if opens(tab, testNow, filter, a) {
						t.Errorf("%s: %v is open in filter %d", what, a, filter)
					}
				})
			}
		}
	}
}

// TestEndedGrant: a grant that has ended on its way is no fault, and opens
// nothing.
func TestEndedGrant(t *testing.T) {
	tab := testTable(t)
	if _, err := tab.take(testNow, &ipc.Grants{Kind: ipc.GrantsOpen, Filter: 0, Until: testNow, V4: octets("192.0.2.1")}); err != nil {
		t.Error(err)
	}
	if opens(tab, testNow, 0, netip.MustParseAddr("192.0.2.1")) {
		t.Error("it is open")
	}
}

// TestLongestGrant: the longest allowAnswersFor does not overflow.
func TestLongestGrant(t *testing.T) {
	tab := testTable(t)
	now := ipc.Instant(1 << 61)
	if _, err := tab.take(now, &ipc.Grants{Kind: ipc.GrantsOpen, Filter: 2, Until: now + 1<<62, V4: octets("192.0.2.1")}); err != nil {
		t.Error(err)
	}
	if !opens(tab, now, 2, netip.MustParseAddr("192.0.2.1")) {
		t.Error("it is not open")
	}
}

// TestTableIsBounded: a filter that is flooded pays for it itself.
func TestTableIsBounded(t *testing.T) {
	tab := testTable(t)
	last := netip.MustParseAddr("10.0.0.0")
	for n := 0; n < ipc.MaxGrantsOfFilter+5000; {
		g := ipc.Grants{Kind: ipc.GrantsOpen, Filter: 0, Until: testNow.Add(time.Minute)}
		var b []byte
		for range 1000 {
			b, last = append(b, last.AsSlice()...), last.Next()
			n++
		}
		g.V4 = string(b)
		if _, err := tab.take(testNow, &g); err != nil {
			t.Fatal(err)
		}
	}
	if n := tab.grants.Len(); n != ipc.MaxGrantsOfFilter {
		t.Errorf("%d grants", n)
	}
	if !opens(tab, testNow, 0, last.Prev()) {
		t.Error("the newest is not open")
	}
}

func TestNewTable(t *testing.T) {
	for what, f := range map[string]ipc.Filter{
		"by answers":      {Name: "f", AllowAll: true, AllowAnswersFor: 1},
		"by cached names": {Name: "f", AllowAll: true, CachedFor: 1},
	} {
		if _, err := startedTable([]ipc.Filter{f}, nil); err == nil {
			t.Errorf("%s: a filter that allows everything may grant", what)
		}
	}
}

// TestCachedGrants: what cached names had lasts for as long as they say, also
// where answers grant nothing, or for a shorter time.
func TestCachedGrants(t *testing.T) {
	for _, f := range []ipc.Filter{
		{Name: "cached alone", CachedFor: time.Hour},
		{Name: "cached longer", AllowAnswersFor: time.Minute, CachedFor: time.Hour},
		{Name: "cached shorter", AllowAnswersFor: time.Hour, CachedFor: time.Minute},
	} {
		tab, err := startedTable([]ipc.Filter{f}, nil)
		if err != nil {
			t.Fatal(err)
		}
		hour := testNow.Add(time.Hour)
		if _, err := tab.take(testNow, grants(ipc.GrantsOpen, hour+1)); err == nil || opens(tab, testNow, 0, changedAddress) {
			t.Errorf("%s: longer than the longest is taken", f.Name)
		}
		mustTake(t, tab, testNow, grants(ipc.GrantsOpen, hour))
		ends(t, tab, f.Name, hour)
	}
	tab, err := startedTable([]ipc.Filter{{Name: "addresses alone"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tab.take(testNow, grants(ipc.GrantsOpen, testNow)); err == nil {
		t.Error("a filter that grants nothing takes a grant")
	}
}
