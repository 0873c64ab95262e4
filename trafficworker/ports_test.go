package trafficworker

import (
	"net/netip"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

var (
	https  = ipc.Port{Number: 443}
	tcp443 = ipc.Port{Number: 443, Proto: ipc.ProtoTCP}
	udp443 = ipc.Port{Number: 443, Proto: ipc.ProtoUDP}
	udp123 = ipc.Port{Number: 123, Proto: ipc.ProtoUDP}
	none   = ipc.Port{} // of a packet that has none, or not to be read
)

func portFilter(addresses ...ipc.AllowedAddress) (*table, error) {
	return startedTable([]ipc.Filter{
		{Index: 0, Name: "web", AllowAnswersFor: time.Minute, Ports: true},
		{Index: 1, Name: "all", AllowAll: true},
	}, [][]ipc.AllowedAddress{addresses})
}

func mustPortFilter(t *testing.T, addresses ...ipc.AllowedAddress) *table {
	t.Helper()
	tab, err := portFilter(addresses...)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// TestGrantedPorts: a grant for a port opens it and no other.
func TestGrantedPorts(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	for what, c := range map[string]struct {
		granted []ipc.Port
		open    []ipc.Port
		shut    []ipc.Port
	}{
		"all":          {[]ipc.Port{{}}, []ipc.Port{tcp443, udp123, none}, nil},
		"both":         {[]ipc.Port{https}, []ipc.Port{tcp443, udp443}, []ipc.Port{udp123, {Number: 444, Proto: ipc.ProtoTCP}, none}},
		"one protocol": {[]ipc.Port{tcp443}, []ipc.Port{tcp443}, []ipc.Port{udp443, udp123, none}},
		"several":      {[]ipc.Port{tcp443, udp123}, []ipc.Port{tcp443, udp123}, []ipc.Port{udp443, {Number: 123, Proto: ipc.ProtoTCP}, none}},
		"one and all":  {[]ipc.Port{tcp443, {}}, []ipc.Port{tcp443, udp443, udp123, none}, nil},
		"nothing":      {nil, nil, []ipc.Port{tcp443, none}},
	} {
		tab := mustPortFilter(t)
		for _, port := range c.granted {
			mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsOpen, Until: testNow + 100, V4: octets("192.0.2.1"), Port: port})
		}
		for _, port := range c.open {
			if !tab.open(testNow, 0, a, port) {
				t.Errorf("%s: %v is shut", what, port)
			}
		}
		for _, port := range c.shut {
			if tab.open(testNow, 0, a, port) {
				t.Errorf("%s: %v is open", what, port)
			}
		}
		if tab.open(testNow, 1, a, tcp443) || tab.open(testNow, 0, a.Next(), tcp443) || tab.open(testNow+100, 0, a, tcp443) {
			t.Errorf("%s: opens another filter, another address, or for longer", what)
		}
	}
}

// TestClosedPort shortens one port, keeps another and closes the rest.
func TestClosedPort(t *testing.T) {
	a, ssh := netip.MustParseAddr("192.0.2.1"), ipc.Port{Number: 22, Proto: ipc.ProtoTCP}
	tab := mustPortFilter(t)
	message := func(kind ipc.GrantsKind, until ipc.Instant, port ipc.Port) {
		t.Helper()
		mustTake(t, tab, testNow, &ipc.Grants{Kind: kind, Until: until, V4: octets("192.0.2.1"), Port: port})
	}
	for _, port := range []ipc.Port{https, udp123, ssh} {
		message(ipc.GrantsOpen, testNow+100, port)
	}
	if err := tab.announce(tab.filters, nil); err != nil {
		t.Fatal(err)
	}
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsChange})
	message(ipc.GrantsKeep, 0, ssh)
	message(ipc.GrantsKeep, testNow+50, udp123)
	message(ipc.GrantsKeep, 0, ipc.Port{Number: 25}) // which was not open
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsDone})
	if tab.open(testNow, 0, a, tcp443) || !tab.open(testNow+49, 0, a, udp123) || tab.open(testNow+50, 0, a, udp123) || !tab.open(testNow+99, 0, a, ssh) {
		t.Error("not what was said")
	}
}

func network(prefix string, ports ...ipc.Port) ipc.AllowedAddress {
	p := netip.MustParsePrefix(prefix)
	return ipc.AllowedAddress{Address: ipc.AddressOf(p.Addr()), Bits: uint8(p.Bits()), Ports: ports}
}

// TestNetworks: what the configuration opens is open by its prefix and ports,
// special or not, and needs no grant.
func TestNetworks(t *testing.T) {
	tab := mustPortFilter(t, network("192.0.2.7/32"), network("10.0.0.0/8", https), network("2001:db8::/32", tcp443, udp123),
		network("2001:db8:1::/48"), network("127.0.0.0/8"), network("10.1.0.0/16", udp123))
	for _, c := range []struct {
		address string
		port    ipc.Port
		open    bool
	}{
		{"192.0.2.7", tcp443, true}, {"192.0.2.7", none, true}, {"192.0.2.8", tcp443, false}, {"192.0.2.6", none, false},
		{"10.255.0.1", tcp443, true}, {"10.255.0.1", udp443, true}, {"10.255.0.1", udp123, false}, {"10.255.0.1", none, false}, {"11.0.0.1", tcp443, false},
		{"10.1.2.3", tcp443, true}, {"10.1.2.3", udp123, true},
		{"2001:db8:2::1", tcp443, true}, {"2001:db8:2::1", udp443, false}, {"2001:db8:2::1", udp123, true}, {"2001:db8:1::1", udp443, true},
		{"2001:db9::1", tcp443, false}, {"127.0.0.1", none, true}, {"::ffff:192.0.2.7", none, false}, {"::c000:207", none, false},
	} {
		if got := tab.open(testNow, 0, netip.MustParseAddr(c.address), c.port); got != c.open {
			t.Errorf("%s port %v: open is %t", c.address, c.port, got)
		}
		if tab.open(testNow, 1, netip.MustParseAddr(c.address), c.port) {
			t.Errorf("%s: open for another filter", c.address)
		}
	}
	for what, addresses := range map[string][]ipc.AllowedAddress{
		"bits behind": {{Address: ipc.AddressOf(netip.MustParseAddr("10.0.0.1")), Bits: 8}},
		"no address":  {{Address: "abc", Bits: 8}},
		"33 bits":     {{Address: ipc.AddressOf(netip.MustParseAddr("10.0.0.0")), Bits: 33}},
		"twice":       {network("10.0.0.0/8"), network("10.0.0.0/8", https)},
	} {
		if _, err := portFilter(addresses...); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	if _, err := startedTable([]ipc.Filter{{Name: "all", AllowAll: true}}, [][]ipc.AllowedAddress{{network("10.0.0.0/8")}}); err == nil {
		t.Error("of a filter that allows everything: taken")
	}
}

// TestInUse: a packet in its last stretch renews a grant by one stretch, up to
// maxInUse after the answer; one that lets nothing pass ends as ever.
func TestInUse(t *testing.T) {
	tab, err := startedTable([]ipc.Filter{
		{Index: 0, Name: "kept", AllowAnswersFor: time.Minute, MaxInUse: 150},
		{Index: 1, Name: "not kept", AllowAnswersFor: time.Minute},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	used, idle := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for filter := range uint32(2) {
		mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsOpen, Filter: filter, Until: testNow + 40, V4: octets("192.0.2.1", "192.0.2.2")})
	}
	at := func(d ipc.Instant, filter uint32, a netip.Addr, want bool) {
		t.Helper()
		if got := opens(tab, testNow+d, filter, a); got != want {
			t.Errorf("at %d, filter %d, %v: open is %t", d, filter, a, got)
		}
	}
	at(10, 0, used, true) // until 80
	at(10, 1, used, true)
	at(39, 0, used, true) // not yet in the last stretch
	at(40, 0, idle, false)
	at(40, 1, used, false)
	at(79, 0, used, true)  // until 120
	at(100, 0, used, true) // until 150, and no further
	at(149, 0, used, true)
	at(150, 0, used, false)

	// A new answer begins anew.
	mustTake(t, tab, testNow+200, &ipc.Grants{Kind: ipc.GrantsOpen, Until: testNow + 240, V4: octets("192.0.2.1")})
	at(239, 0, used, true)
	at(279, 0, used, true)
	at(280, 0, used, true)
	// A change to a policy that renews nothing ends it in time.
	filters := []ipc.Filter{{Index: 0, Name: "kept", AllowAnswersFor: 20}, {Index: 1, Name: "not kept", AllowAnswersFor: 20}}
	if err := tab.announce(filters, nil); err != nil {
		t.Fatal(err)
	}
	mustTake(t, tab, testNow+290, &ipc.Grants{Kind: ipc.GrantsChange})
	mustTake(t, tab, testNow+290, &ipc.Grants{Kind: ipc.GrantsKeep, V4: octets("192.0.2.1")})
	mustTake(t, tab, testNow+290, &ipc.Grants{Kind: ipc.GrantsDone})
	at(309, 0, used, true)
	at(310, 0, used, false)
}

// TestAnnouncedNetworks: they open with the policy that they belong to.
func TestAnnouncedNetworks(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	tab := mustPortFilter(t, network("192.0.2.1/32"))
	if err := tab.announce(tab.filters, [][]ipc.AllowedAddress{{network("192.0.2.2/32")}}); err != nil {
		t.Fatal(err)
	}
	if !opens(tab, testNow, 0, a) || opens(tab, testNow, 0, b) {
		t.Error("in force at once")
	}
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsChange})
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsDone})
	if opens(tab, testNow, 0, a) || !opens(tab, testNow, 0, b) {
		t.Error("not in force")
	}
	if err := tab.announce(tab.filters, [][]ipc.AllowedAddress{{{Address: "x"}}}); err == nil || tab.next != nil {
		t.Error("no network: taken")
	}
}

// TestReadPorts: the ports of a packet, or that they cannot be read.
func TestReadPorts(t *testing.T) {
	// Both helpers put the ports 40000 and 53 behind the headers.
	tcp := func(b []byte) []byte { return with(b, 9, ipc.ProtoTCP) }
	cut := func(b []byte) []byte { return b[:len(b)-5] } // in the middle of them
	for _, c := range []struct {
		what   string
		packet []byte
		has    bool
	}{
		{"TCP", tcp(ip4()), true},
		{"UDP", ip4(), true},
		{"behind options", tcp(ip4(1, 1, 1, 1)), true},
		{"behind all options", tcp(ip4(append([]byte{7, 39, 4}, make([]byte, 37)...)...)), true},
		{"cut", cut(tcp(ip4())), false},
		{"first fragment", with(tcp(ip4()), 6, 0x20, 0), true},
		{"later fragment", with(tcp(ip4()), 6, 0, 1), false},
		{"last fragment, far", with(tcp(ip4()), 6, 0x1f, 0xff), false},
		{"ICMP", with(ip4(), 9, 1), false},
		{"TCP 6", ip6(6), true},
		{"behind extensions 6", ip6(0, ext(60, 0), ext(17, 1)), true},
		{"first fragment 6", ip6(44, fragment(6, 0)), true},
		{"later fragment 6", ip6(44, fragment(6, 1)), false},
		{"ICMPv6", ip6(58), false},
		{"cut 6", cut(ip6(6)), false},
	} {
		h, reason := readHeaders(0, c.packet)
		if reason != ipc.ReasonNone || h.hasPorts != c.has {
			t.Errorf("%s: %+v, %v", c.what, h, reason)
		}
		for hook, want := range map[queue.Hook]uint16{queue.HookOutput: 53, queue.HookForward: 53, queue.HookInput: 40000} {
			if !c.has {
				want = 0
			}
			if _, port, _ := h.remote(hook); port.Number != want || c.has != (port.Proto != 0) {
				t.Errorf("%s at %v: %v", c.what, hook, port)
			}
		}
	}
}
