package name

import (
	"net/netip"
	"testing"
)

// TestReverse has the examples of RFC 1035 section 3.5 and RFC 3596 section 2.5.
func TestReverse(t *testing.T) {
	for address, want := range map[string]string{
		"10.2.0.52":               "52.0.2.10.in-addr.arpa",
		"::ffff:10.2.0.52":        "52.0.2.10.in-addr.arpa",
		"4321:0:1:2:3:4:567:89ab": "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa",
		"255.255.255.255":         "255.255.255.255.in-addr.arpa",
		"2001:db8::1":             "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	} {
		n := Reverse(netip.MustParseAddr(address))
		if !n.Valid() || n.String() != want {
			t.Errorf("%s: %v, should be %s", address, n, want)
		}
	}
}
