package allowlist

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

var (
	https  = ipc.Port{Number: 443}
	httpsT = ipc.Port{Number: 443, Proto: ipc.ProtoTCP}
	ntp    = ipc.Port{Number: 123, Proto: ipc.ProtoUDP}
	all    = ipc.Port{}
)

// host is an entry with ports.
type host struct {
	name  string
	scope ipc.Scope
	ports []ipc.Port
}

func portPolicy(hosts ...host) *ipc.Policy {
	p := testPolicy()
	p.Hostnames[0] = ipc.Hostnames{}
	for _, h := range hosts {
		p.Hostnames[0].Add(wire(h.name), h.scope, h.ports)
	}
	return p
}

// opened lists "address port" of messages of a kind, sorted.
func listed(kind ipc.GrantsKind, messages []ipc.Grants) (out []string) {
	for i := range messages {
		if g := &messages[i]; g.Kind == kind {
			g.Each(func(a netip.Addr) { out = append(out, fmt.Sprint(a, " ", g.Port)) })
		}
	}
	slices.Sort(out)
	return out
}

func wantList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestPorts: a grant opens the ports of every entry that allows its name, and
// all if one of them opens all; a learnt name has those of the name that it
// was learnt under.
func TestPorts(t *testing.T) {
	e := testEngine(t, portPolicy(
		host{"example.com", ipc.ScopeTree, []ipc.Port{https}},
		host{"api.example.com", ipc.ScopeExact, []ipc.Port{ntp, httpsT}},
		host{"open.example.com", ipc.ScopeTree, nil},
		host{"other.org", ipc.ScopeTree, nil},
	))
	for n, want := range map[string][]string{
		"example.com":        {"192.0.2.1 443"},
		"api.example.com":    {"192.0.2.1 443", "192.0.2.1 443/tcp", "192.0.2.1 123/udp"},
		"x.api.example.com":  {"192.0.2.1 443"},
		"open.example.com":   {"192.0.2.1 all"},
		"x.open.example.com": {"192.0.2.1 all"},
		"other.org":          {"192.0.2.1 all"},
	} {
		p := exchange(t, e, start, query(handleWeb, n), func(a *answer) { a.addr(n, "192.0.2.1") })
		wantList(t, n, listed(ipc.GrantsOpen, p.Grants), want...)
	}
	exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.cname("example.com", "edge.net").addr("edge.net", "192.0.2.2") })
	p := exchange(t, e, start, query(handleWeb, "edge.net"), func(a *answer) { a.addr("edge.net", "192.0.2.3") })
	wantList(t, "learnt", listed(ipc.GrantsOpen, p.Grants), "192.0.2.3 443")
	p = exchange(t, e, start, query(handleWeb, "example.com", "other.org"), func(a *answer) {
		a.addr("example.com", "192.0.2.4").addr("other.org", "192.0.2.5")
	})
	wantList(t, "two questions", listed(ipc.GrantsOpen, p.Grants), "192.0.2.4 443", "192.0.2.5 all")
}

// TestChangeOfPorts: a change closes the ports that are gone, keeps those that
// stay, and opens none that was shut.
func TestChangeOfPorts(t *testing.T) {
	tree := func(ports ...ipc.Port) []host { return []host{{"example.com", ipc.ScopeTree, ports}} }
	for what, c := range map[string]struct {
		from, to []host
		kept     []string
		stays    bool
	}{
		"nothing":          {tree(https, ntp), tree(https, ntp), []string{"192.0.2.1 443", "192.0.2.1 123/udp"}, true},
		"one less":         {tree(https, ntp), tree(https), []string{"192.0.2.1 443"}, true},
		"another":          {tree(ntp), tree(https), nil, false},
		"one protocol":     {tree(httpsT), tree(https), []string{"192.0.2.1 443"}, true},
		"one of two":       {tree(https), tree(httpsT), []string{"192.0.2.1 443/tcp"}, true},
		"all, then one":    {tree(), tree(https), []string{"192.0.2.1 443"}, true},
		"one, then all":    {tree(https), tree(), []string{"192.0.2.1 all"}, true},
		"none":             {tree(https), []host{{"other.org", ipc.ScopeTree, nil}}, nil, false},
		"to below":         {tree(https), []host{{"example.com", ipc.ScopeBelow, nil}}, nil, false},
		"to exact":         {tree(https), []host{{"example.com", ipc.ScopeExact, []ipc.Port{https}}}, nil, false},
		"to what is above": {tree(https), []host{{"com", ipc.ScopeBelow, []ipc.Port{https}}}, []string{"192.0.2.1 443"}, true},
	} {
		e := testEngine(t, portPolicy(c.from...))
		exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.addr("example.com", "192.0.2.1") })
		got := mustChange(t, e, start, portPolicy(c.to...))
		wantList(t, what+": kept", listed(ipc.GrantsKeep, got.Grants), c.kept...)
		wantList(t, what+": opened", listed(ipc.GrantsOpen, got.Grants))
		if (granted(e, start, 0, "192.0.2.1") != 0) != c.stays {
			t.Errorf("%s: granted until %d", what, granted(e, start, 0, "192.0.2.1"))
		}
	}
}

// TestRespectTTL: a grant lasts for its record's TTL and the grace, within the
// two bounds; without the setting a TTL changes nothing.
func TestRespectTTL(t *testing.T) {
	p := testPolicy()
	f := &p.Filters[0]
	f.RespectTTL, f.TTLGrace, f.MinTTL = true, 10*time.Second, 30*time.Second
	e := testEngine(t, p)
	for ttl, want := range map[uint32]time.Duration{
		0: 30 * time.Second, 19: 30 * time.Second, 20: 30 * time.Second, 21: 31 * time.Second, 60: 70 * time.Second,
		290: webLasts, 291: webLasts, ipc.MaxTTL: webLasts,
	} {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(ttl)}).String()
		plan := exchange(t, e, start, query(handleWeb, "example.com"), func(an *answer) { an.addrFor(ttl, "example.com", a) })
		if got := granted(e, start, 0, a); got != start.Add(want) || plan.Grants[0].Until != got || plan.Lasts != want {
			t.Errorf("TTL %d: until %v, told %v, want %v", ttl, got.Sub(start), plan.Grants[0].Until.Sub(start), want)
		}
	}
	// Each of one answer by its own, and a shorter repeat shortens nothing.
	plan := exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) {
		a.addrFor(0, "example.com", "198.51.100.1").addrFor(100, "example.com", "198.51.100.2", "2001:db8::1")
	})
	if len(plan.Grants) != 2 || plan.Lasts != 110*time.Second {
		t.Errorf("%+v", plan.Grants)
	}
	exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.addrFor(0, "example.com", "198.51.100.2") })
	if got := granted(e, start, 0, "198.51.100.2"); got != start.Add(110*time.Second) {
		t.Errorf("shortened to %v", got.Sub(start))
	}
	plan = exchange(t, e, start, query(handleApt, "debian.org"), func(a *answer) { a.addrFor(1, "debian.org", "198.51.100.1") })
	if plan.Grants[0].Until != start.Add(aptLasts) {
		t.Errorf("without the setting until %v", plan.Grants[0].Until.Sub(start))
	}
}

// TestPrivateAnswers: they pass, and grant nothing where the filter says so.
func TestPrivateAnswers(t *testing.T) {
	p := testPolicy()
	p.Filters[0].DenyPrivate = true
	e := testEngine(t, p)
	addresses := []string{"10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "64:ff9b::a00:1", "192.0.2.1", "172.32.0.1", "2001:db8::1"}
	plan := exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.addr("example.com", addresses...) })
	wantList(t, "denied", listed(ipc.GrantsOpen, plan.Grants), "192.0.2.1 all", "172.32.0.1 all", "2001:db8::1 all")
	if len(plan.Special) != 6 {
		t.Errorf("refused %v", plan.Special)
	}
	plan = exchange(t, e, start, query(handleApt, "debian.org"), func(a *answer) { a.addr("debian.org", addresses...) })
	if got := listed(ipc.GrantsOpen, plan.Grants); len(got) != len(addresses) {
		t.Errorf("allowed: %q", got)
	}
}

// TestChangeInUse: what may have been renewed in the trafficworker is closed
// when its name goes, long after allowAnswersFor.
func TestChangeInUse(t *testing.T) {
	p := testPolicy()
	p.Filters[0].MaxInUse = time.Hour
	e := testEngine(t, p)
	exchange(t, e, start, query(handleWeb, "other.org"), func(a *answer) { a.addr("other.org", "192.0.2.1") })
	late := start.Add(50 * time.Minute)
	gone := changed(webLasts, "example.com")
	gone.Filters[0].MaxInUse = time.Hour
	if c := mustChange(t, e, late, gone); c.Closed != 1 {
		t.Errorf("%+v", c)
	}

	// And one that stays is opened for nobody anew: what is left of it is kept.
	e = testEngine(t, p)
	exchange(t, e, start, query(handleWeb, "other.org"), func(a *answer) { a.addr("other.org", "192.0.2.1") })
	ports := portPolicy(host{"other.org", ipc.ScopeTree, []ipc.Port{https}})
	ports.Filters[0].MaxInUse = time.Hour
	c := mustChange(t, e, late, ports)
	wantList(t, "kept", listed(ipc.GrantsKeep, c.Grants), "192.0.2.1 443")
	wantList(t, "opened", listed(ipc.GrantsOpen, c.Grants))
}
