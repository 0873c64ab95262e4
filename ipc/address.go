package ipc

import "net/netip"

// Address is an IP address as it crosses an edge: 4 or 16 raw octets in
// network order. IPv4 inside ::ffff:0:0/96 crosses as its 4 octets. The zero
// value is no address.
type Address string

// AddressOf is a as an Address. Zones are dropped: a packet has none.
func AddressOf(a netip.Addr) Address {
	return Address(a.Unmap().WithZone("").AsSlice())
}

// Addr is the address, and false when the octets are not exactly 4 or 16, or
// are an IPv4 address in IPv6 clothes, which no honest sender makes.
func (a Address) Addr() (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice([]byte(a))
	if !ok || addr.Is4In6() {
		return netip.Addr{}, false
	}
	return addr, true
}

// special lists what a DNS answer must never open, with its source. Clouds
// keep their secrets behind a few well-known addresses of their own.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),              // "this network", RFC 1122 section 3.2.1.3
	netip.MustParsePrefix("127.0.0.0/8"),            // loopback, RFC 1122 section 3.2.1.3
	netip.MustParsePrefix("169.254.0.0/16"),         // link-local, RFC 3927
	netip.MustParsePrefix("224.0.0.0/4"),            // multicast, RFC 5771
	netip.MustParsePrefix("240.0.0.0/4"),            // reserved and broadcast, RFC 1112 section 4
	netip.MustParsePrefix("::/128"),                 // unspecified, RFC 4291 section 2.5.2
	netip.MustParsePrefix("::1/128"),                // loopback, RFC 4291 section 2.5.3
	netip.MustParsePrefix("fe80::/10"),              // link-local, RFC 4291 section 2.5.6
	netip.MustParsePrefix("ff00::/8"),               // multicast, RFC 4291 section 2.7
	netip.MustParsePrefix("fd00:ec2::254/128"),      // instance metadata: EC2
	netip.MustParsePrefix("fd20:ce::254/128"),       // Google Compute Engine
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle Cloud
	netip.MustParsePrefix("100.100.100.200/32"),     // Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),       // Azure's wire server
}

// private lists what many networks use as they like.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),     // RFC 1918 section 3
	netip.MustParsePrefix("172.16.0.0/12"),  // RFC 1918 section 3
	netip.MustParsePrefix("192.168.0.0/16"), // RFC 1918 section 3
	netip.MustParsePrefix("100.64.0.0/10"),  // carrier-grade NAT, RFC 6598
	netip.MustParsePrefix("fc00::/7"),       // unique local, RFC 4193
	netip.MustParsePrefix("fec0::/10"),      // site-local, RFC 3879
}

// Private reports whether a is of a private range, or carries an address of one.
func Private(a netip.Addr) bool { return within(a.WithZone(""), private) }

// carriers are IPv6 prefixes that hold an IPv4 address, and where its octets
// are.
var carriers = []struct {
	prefix netip.Prefix
	at     [4]int
}{
	{netip.MustParsePrefix("::/96"), [4]int{12, 13, 14, 15}},          // IPv4-compatible, RFC 4291 section 2.5.5.1
	{netip.MustParsePrefix("::ffff:0:0/96"), [4]int{12, 13, 14, 15}},  // IPv4-mapped, RFC 4291 section 2.5.5.2
	{netip.MustParsePrefix("64:ff9b::/96"), [4]int{12, 13, 14, 15}},   // NAT64, RFC 6052 section 2.1
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{12, 13, 14, 15}}, // local NAT64, RFC 8215, as /96
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{6, 7, 9, 10}},    // and as /48, RFC 6052 section 2.2
	{netip.MustParsePrefix("2002::/16"), [4]int{2, 3, 4, 5}},          // 6to4, RFC 3056 section 2
}

// Special reports whether a is an address that no DNS answer may open:
// unspecified, loopback, link-local, multicast, reserved, a cloud's metadata
// service, or any of these carried inside an IPv6 address. What is not an
// address at all is special too.
func Special(a netip.Addr) bool {
	if !a.IsValid() {
		return true
	}
	return within(a.WithZone(""), special) // no prefix contains an address with a zone
}

// within reports whether a is in one of the ranges, or an IPv4 address that it
// carries is.
func within(a netip.Addr, ranges []netip.Prefix) bool {
	for _, p := range ranges {
		if p.Contains(a) {
			return true
		}
	}
	for _, c := range carriers {
		if !a.Is6() || !c.prefix.Contains(a) {
			continue
		}
		b := a.As16()
		if within(netip.AddrFrom4([4]byte{b[c.at[0]], b[c.at[1]], b[c.at[2]], b[c.at[3]]}), ranges) {
			return true
		}
	}
	return false
}
