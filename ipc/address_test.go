package ipc

import (
	"net/netip"
	"testing"
)

// TestSpecial looks at the first and the last address of every range that no
// answer may open, and at its neighbours on both sides.
func TestSpecial(t *testing.T) {
	for _, test := range []struct{ before, first, last, after string }{
		{"", "0.0.0.0", "0.255.255.255", "1.0.0.0"},
		{"126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"},
		{"169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"},
		{"223.255.255.255", "224.0.0.0", "255.255.255.255", ""},
		{"", "::", "::1", "::100:0"},
		{"::126.255.255.255", "::127.0.0.0", "::127.255.255.255", "::128.0.0.0"},
		{"::169.253.255.255", "::169.254.0.0", "::169.254.255.255", "::169.255.0.0"},
		{"fd20:ce::253", "fd20:ce::254", "fd20:ce::254", "fd20:ce::255"},
		{"fd00:c1::a9fe:a9fd", "fd00:c1::a9fe:a9fe", "fd00:c1::a9fe:a9fe", "fd00:c1::a9fe:a9ff"},
		{"100.100.100.199", "100.100.100.200", "100.100.100.200", "100.100.100.201"},
		{"168.63.129.15", "168.63.129.16", "168.63.129.16", "168.63.129.17"},
		{"fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::"},
		{"feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
		{"fd00:ec2::253", "fd00:ec2::254", "fd00:ec2::254", "fd00:ec2::255"},
		// Carried in IPv6, in each of the ways.
		{"::fffe:ffff:ffff", "::ffff:0.0.0.0", "::ffff:0.255.255.255", "::ffff:1.0.0.0"},
		{"::ffff:126.255.255.255", "::ffff:127.0.0.0", "::ffff:127.255.255.255", "::ffff:128.0.0.0"},
		{"::ffff:169.253.255.255", "::ffff:169.254.0.0", "::ffff:169.254.255.255", "::ffff:169.255.0.0"},
		{"::ffff:223.255.255.255", "::ffff:224.0.0.0", "::ffff:255.255.255.255", "::1:0:0:0"},
		{"64:ff9b::7eff:ffff", "64:ff9b::127.0.0.0", "64:ff9b::127.255.255.255", "64:ff9b::8000:0"},
		{"64:ff9b::a9fd:ffff", "64:ff9b::a9fe:0", "64:ff9b::a9fe:ffff", "64:ff9b::a9ff:0"},
		{"64:ff9b::dfff:ffff", "64:ff9b::e000:0", "64:ff9b::ffff:ffff", "64:ff9b::1:0:0"},
		{"2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2002::", "2002:ff:ffff:ffff:ffff:ffff:ffff:ffff", "2002:100::"},
		{"2002:7eff:ffff:ffff:ffff:ffff:ffff:ffff", "2002:7f00::", "2002:7fff:ffff:ffff:ffff:ffff:ffff:ffff", "2002:8000::"},
		{"2002:a9fd:ffff:ffff:ffff:ffff:ffff:ffff", "2002:a9fe::", "2002:a9fe:ffff:ffff:ffff:ffff:ffff:ffff", "2002:a9ff::"},
		{"2002:dfff:ffff:ffff:ffff:ffff:ffff:ffff", "2002:e000::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"},
	} {
		for text, special := range map[string]bool{test.before: false, test.first: true, test.last: true, test.after: false} {
			if text == "" {
				continue
			}
			if a := netip.MustParseAddr(text); Special(a) != special {
				t.Errorf("%s: special is %t", text, !special)
			}
		}
	}
	for _, text := range []string{"169.254.169.254", "255.255.255.255", "fe80::1%eth0", "::ffff:127.0.0.1%x", "ff02::1%1",
		"64:ff9b:1:808:8:800:169.254.169.254", "64:ff9b:1:a9fe:a9:fe00:808:808", "::ffff:100.100.100.200"} {
		if !Special(netip.MustParseAddr(text)) {
			t.Errorf("%s is not special", text)
		}
	}
	for _, text := range []string{"10.0.0.1", "192.168.0.1", "100.64.0.1", "8.8.8.8", "fd00::1", "2001:db8::1", "2600::1", "64:ff9b::808:808",
		"64:ff9b:1:808:8:800:808:808", "::8.8.8.8"} {
		if Special(netip.MustParseAddr(text)) {
			t.Errorf("%s is special", text)
		}
	}
	if !Special(netip.Addr{}) {
		t.Error("what is no address is not special")
	}
}

func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1":          "192.0.2.1",
		"::ffff:192.0.2.1":   "192.0.2.1",
		"2001:db8::1":        "2001:db8::1",
		"fe80::1%eth0":       "fe80::1",
		"::ffff:1.2.3.4%eth": "1.2.3.4",
		"::":                 "::",
		"0.0.0.0":            "0.0.0.0",
	} {
		a, ok := AddressOf(netip.MustParseAddr(text)).Addr()
		if !ok || a.String() != want {
			t.Errorf("%s: %s, %t", text, a, ok)
		}
	}
	for _, octets := range []string{"", "abc", "abcde", "fifteen octets.", "seventeen octets.", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xffabcd"} {
		if a, ok := Address(octets).Addr(); ok || a.IsValid() {
			t.Errorf("%q: %s", octets, a)
		}
	}
	if a := AddressOf(netip.Addr{}); a != "" {
		t.Errorf("no address is %q", a)
	}
}

// TestPrivate: the ranges, what is next to them, and what carries them.
func TestPrivate(t *testing.T) {
	for text, want := range map[string]bool{
		"9.255.255.255": false, "10.0.0.0": true, "10.255.255.255": true, "11.0.0.0": false,
		"172.15.255.255": false, "172.16.0.0": true, "172.31.255.255": true, "172.32.0.0": false,
		"192.167.255.255": false, "192.168.0.0": true, "192.168.255.255": true, "192.169.0.0": false,
		"100.63.255.255": false, "100.64.0.0": true, "100.127.255.255": true, "100.128.0.0": false,
		"fbff::": false, "fc00::": true, "fdff::1": true, "fe00::": false, "fec0::1": true, "fe80::1": false,
		"::ffff:10.0.0.1": true, "::ffff:192.0.2.1": false, "64:ff9b::a00:1": true, "64:ff9b::c000:201": false,
		"2002:a00:1::": true, "2002:c000:201::": false, "2001:db8::1": false, "192.0.2.1": false,
	} {
		if got := Private(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
