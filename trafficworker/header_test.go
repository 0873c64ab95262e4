package trafficworker

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

var (
	src4, dst4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.2")
	src6, dst6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::2")
)

// ip4 is an IPv4 header with options, and some payload.
func ip4(options ...byte) []byte {
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	b := []byte{4<<4 | byte(5+len(options)/4), 0, 0, byte(28 + len(options)), 1, 2, 0, 0, 64, 17, 0, 0}
	b = append(b, src4.AsSlice()...)
	b = append(b, dst4.AsSlice()...)
	return append(append(b, options...), 0x9c, 0x40, 0, 53, 0, 8, 0, 0)
}

// ip6 is an IPv6 header, extension headers and some payload.
func ip6(next byte, rest ...[]byte) []byte {
	body := append(bytes.Join(rest, nil), 0x9c, 0x40, 0, 53, 0, 8, 0, 0)
	b := []byte{6 << 4, 0, 0, 0, 0, byte(len(body)), next, 64}
	b = append(b, src6.AsSlice()...)
	return append(append(b, dst6.AsSlice()...), body...)
}

// ext is an extension header of 8 octets and 8 for each of more.
func ext(next byte, more int) []byte {
	return append([]byte{next, byte(more)}, make([]byte, 6+8*more)...)
}

func fragment(next byte, offset byte) []byte { return []byte{next, 0, offset, 1, 0, 0, 0, 9} }

func with(b []byte, at int, octets ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], octets)
	return b
}

var mappedOctets = netip.MustParseAddr("::ffff:192.0.2.1").AsSlice()

var packets = []struct {
	what   string
	packet []byte
	reason ipc.Reason
}{
	{"IPv4", ip4(), ipc.ReasonNone},
	{"IPv4, no operations", ip4(1, 1, 1, 1), ipc.ReasonNone},
	{"IPv4, router alert", ip4(148, 4, 0, 0), ipc.ReasonNone},
	{"IPv4, 40 octets of options", ip4(append([]byte{7, 39, 4}, make([]byte, 37)...)...), ipc.ReasonNone},
	{"IPv4, source route behind the end", ip4(0, 131, 3, 4), ipc.ReasonNone},
	{"IPv4, loose source route", ip4(131, 7, 4, 10, 0, 0, 1), ipc.ReasonSourceRoute},
	{"IPv4, strict source route", ip4(137, 7, 4, 10, 0, 0, 1), ipc.ReasonSourceRoute},
	{"IPv4, source route behind others", ip4(1, 148, 4, 0, 0, 1, 1, 131, 7, 4, 10, 0, 0, 1), ipc.ReasonSourceRoute},
	{"IPv4, source route in the last octet", ip4(1, 1, 1, 131), ipc.ReasonSourceRoute},
	{"IPv4, option of length 0", ip4(7, 0, 0, 0), ipc.ReasonNotIP},
	{"IPv4, option of length 1", ip4(7, 1, 0, 0), ipc.ReasonNotIP},
	{"IPv4, option beyond the header", ip4(7, 5, 0, 0), ipc.ReasonNotIP},
	{"IPv4, option without a length", ip4(1, 1, 1, 7), ipc.ReasonNotIP},
	{"IPv4, header of 16 octets", with(ip4(), 0, 0x44), ipc.ReasonNotIP},
	{"IPv4, header of none", with(ip4(), 0, 0x40), ipc.ReasonNotIP},
	{"IPv4, header beyond the packet", with(ip4(), 0, 0x4f), ipc.ReasonNotIP},
	{"IPv4, fragment", with(ip4(), 6, 0x20, 0x10), ipc.ReasonNone},
	{"version 0", with(ip4(), 0, 0x05), ipc.ReasonNotIP},
	{"version 5", with(ip4(), 0, 0x55), ipc.ReasonNotIP},
	{"version 15", with(ip4(), 0, 0xf5), ipc.ReasonNotIP},
	{"nothing", nil, ipc.ReasonCutShort},
	{"one octet of IPv4", []byte{0x45}, ipc.ReasonCutShort},
	{"one octet of IPv6", []byte{0x60}, ipc.ReasonCutShort},
	{"IPv4 without its last octet", ip4()[:19], ipc.ReasonCutShort},
	{"IPv6 without its last octet", ip6(17)[:39], ipc.ReasonCutShort},

	{"IPv6", ip6(17), ipc.ReasonNone},
	{"IPv6, no next header", ip6(59), ipc.ReasonNone},
	{"IPv6, hop by hop", ip6(0, ext(17, 0)), ipc.ReasonNone},
	{"IPv6, long destination options", ip6(60, ext(6, 3)), ipc.ReasonNone},
	{"IPv6, both", ip6(0, ext(60, 0), ext(17, 1)), ipc.ReasonNone},
	{"IPv6, first fragment", ip6(44, fragment(17, 0)), ipc.ReasonNone},
	{"IPv6, later fragment that looks like a routing header", ip6(44, fragment(43, 1)), ipc.ReasonNone},
	{"IPv6, routing", ip6(43, ext(17, 2)), ipc.ReasonSourceRoute},
	{"IPv6, routing behind hop by hop", ip6(0, ext(43, 0), ext(17, 0)), ipc.ReasonSourceRoute},
	{"IPv6, routing behind destination", ip6(60, ext(43, 1), ext(17, 0)), ipc.ReasonSourceRoute},
	{"IPv6, routing behind a first fragment", ip6(44, fragment(43, 0), ext(17, 0)), ipc.ReasonSourceRoute},
	{"IPv6, chain beyond the packet", ip6(0, []byte{43, 9}), ipc.ReasonExtensionHeader},
	{"IPv6, longest header", ip6(60, []byte{43, 255}), ipc.ReasonExtensionHeader},
	{"IPv6, hop by hop cut", ip6(0)[:41], ipc.ReasonExtensionHeader},
	{"IPv6, fragment header cut", ip6(44)[:47], ipc.ReasonExtensionHeader},
	{"IPv6, nothing behind the promise", ip6(0)[:40], ipc.ReasonExtensionHeader},
	{"IPv6, mapped source", with(ip6(17), 8, mappedOctets...), ipc.ReasonMappedPacket},
	{"IPv6, mapped destination", with(ip6(17), 24, mappedOctets...), ipc.ReasonMappedPacket},
}

func TestAddresses(t *testing.T) {
	for _, test := range packets {
		h, reason := readHeaders(0, test.packet)
		src, dst := h.src, h.dst
		if reason != test.reason {
			t.Errorf("%s: %v, not %v", test.what, reason, test.reason)
		}
		wantSrc, wantDst := src4, dst4
		if len(test.packet) > 0 && test.packet[0]>>4 == 6 {
			wantSrc, wantDst = src6, dst6
		}
		if reason == ipc.ReasonNone && (src != wantSrc || dst != wantDst) {
			t.Errorf("%s: %v, %v", test.what, src, dst)
		}
	}
}

// TestEthertype: the kernel's word on the family and the header's must not
// contradict each other.
func TestEthertype(t *testing.T) {
	for _, test := range []struct {
		ethertype uint16
		packet    []byte
		want      ipc.Reason
	}{
		{0x0800, ip4(), ipc.ReasonNone},
		{0x86dd, ip6(17), ipc.ReasonNone},
		{0, ip4(), ipc.ReasonNone},
		{0, ip6(17), ipc.ReasonNone},
		{0x0800, ip6(17), ipc.ReasonNotIP},
		{0x86dd, ip4(), ipc.ReasonNotIP},
	} {
		if _, reason := readHeaders(test.ethertype, test.packet); reason != test.want {
			t.Errorf("ethertype %#x, version %d: %v", test.ethertype, test.packet[0]>>4, reason)
		}
	}
}

// TestCutLengths: however little of a packet is there, its addresses are the
// true ones or it is refused, and what is refused whole never passes cut.
func TestCutLengths(t *testing.T) {
	for _, test := range packets {
		for n := range len(test.packet) + 1 {
			h, reason := readHeaders(0, test.packet[:n:n])
			src, dst := h.src, h.dst
			if reason != ipc.ReasonNone {
				continue
			}
			if src != src4 && src != src6 || dst != dst4 && dst != dst6 {
				t.Errorf("%s, %d octets: %v, %v", test.what, n, src, dst)
			}
			if test.reason == ipc.ReasonSourceRoute || test.reason == ipc.ReasonMappedPacket {
				t.Errorf("%s passes when it is cut to %d octets", test.what, n)
			}
		}
	}
}

func TestRemote(t *testing.T) {
	for hook := range queue.Hook(255) {
		far, _, reason := (&headers{src: src4, dst: dst4}).remote(hook)
		want, wantReason := netip.Addr{}, ipc.ReasonUnknownHook
		switch hook {
		case queue.HookOutput, queue.HookForward, queue.HookPostrouting:
			want, wantReason = dst4, ipc.ReasonNone
		case queue.HookInput:
			want, wantReason = src4, ipc.ReasonNone
		case queue.HookPrerouting:
			wantReason = ipc.ReasonPrerouting
		}
		if far != want || reason != wantReason {
			t.Errorf("%v: %v, %v", hook, far, reason)
		}
	}
}

// oracle reads the addresses with gopacket's layers.
func oracle(b []byte) (src, dst netip.Addr, ok bool) {
	if len(b) == 0 {
		return src, dst, false
	}
	var a1, a2 []byte
	switch b[0] >> 4 {
	case 4:
		var l layers.IPv4
		if l.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil {
			return src, dst, false
		}
		a1, a2 = l.SrcIP.To4(), l.DstIP.To4()
	case 6:
		var l layers.IPv6
		if err := l.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil && len(l.SrcIP) != 16 {
			return src, dst, false
		}
		a1, a2 = l.SrcIP, l.DstIP
	}
	src, ok1 := netip.AddrFromSlice(a1)
	dst, ok2 := netip.AddrFromSlice(a2)
	return src, dst, ok1 && ok2
}

// FuzzAddresses: never panics, agrees with gopacket on every packet that both
// read, and lets none pass with an address that no packet may bear.
func FuzzAddresses(f *testing.F) {
	for _, h := range packets {
		f.Add(h.packet)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, reason := readHeaders(0, b)
		src, dst := h.src, h.dst
		if reason != ipc.ReasonNone {
			return
		}
		if !src.IsValid() || src.Is4() != dst.Is4() || src.Is4In6() || dst.Is4In6() || src.Is4() != (b[0]>>4 == 4) {
			t.Fatalf("%v, %v", src, dst)
		}
		if s, d, ok := oracle(b); ok && (s != src || d != dst) {
			t.Fatalf("%v to %v, gopacket says %v to %v", src, dst, s, d)
		}
	})
}
