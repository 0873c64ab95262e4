package trafficworker

import (
	"encoding/binary"
	"net/netip"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

// Sizes and numbers of the IP headers (RFC 791 section 3.1, RFC 8200 sections
// 3 and 4; extension header numbers from the IANA protocol numbers).
const (
	v4Header = 20
	v6Header = 40

	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extDestination = 60
)

// mapped holds the IPv6 addresses that no packet may bear: an IPv4 address in
// IPv6 clothes (RFC 4291 section 2.5.5.2), which no grant means.
var mapped = netip.MustParsePrefix("::ffff:0:0/96")

// addresses reads both addresses of a packet of which the kernel copied the
// start. Its version decides how it is read, not the queue it came by.
func addresses(ethertype uint16, b []byte) (src, dst netip.Addr, reason ipc.Reason) {
	if len(b) == 0 {
		return src, dst, ipc.ReasonCutShort
	}
	switch queue.IPVersion(ethertype, b) {
	case 4:
		return addresses4(b)
	case 6:
		return addresses6(b)
	}
	return src, dst, ipc.ReasonNotIP
}

func addresses4(b []byte) (src, dst netip.Addr, reason ipc.Reason) {
	if len(b) < v4Header {
		return src, dst, ipc.ReasonCutShort
	}
	header := int(b[0]&0xf) * 4
	if header < v4Header || header > len(b) {
		return src, dst, ipc.ReasonNotIP
	}
	src = netip.AddrFrom4([4]byte(b[12:16]))
	dst = netip.AddrFrom4([4]byte(b[16:20]))
	return src, dst, queue.IPv4Options(b[v4Header:header])
}

func addresses6(b []byte) (src, dst netip.Addr, reason ipc.Reason) {
	if len(b) < v6Header {
		return src, dst, ipc.ReasonCutShort
	}
	src = netip.AddrFrom16([16]byte(b[8:24]))
	dst = netip.AddrFrom16([16]byte(b[24:40]))
	if mapped.Contains(src) || mapped.Contains(dst) {
		return src, dst, ipc.ReasonMappedPacket
	}
	return src, dst, extensions6(b[6], b[v6Header:])
}

// extensions6 refuses a routing header, which sends the packet on from the
// address that was looked up, as far as the bytes copied show one. A chain
// that goes on behind them is refused too: nothing that a host sends needs it
// that long.
func extensions6(next byte, b []byte) ipc.Reason {
	for {
		switch next {
		case extRouting:
			return ipc.ReasonSourceRoute
		case extHopByHop, extDestination:
			if len(b) < 2 {
				return ipc.ReasonExtensionHeader
			}
			size := 8 + 8*int(b[1])
			if size > len(b) {
				return ipc.ReasonExtensionHeader
			}
			next, b = b[0], b[size:]
		case extFragment:
			if len(b) < 8 {
				return ipc.ReasonExtensionHeader
			}
			if offset := binary.BigEndian.Uint16(b[2:]) >> 3; offset != 0 {
				return ipc.ReasonNone // what follows is data, not headers
			}
			next, b = b[0], b[8:]
		default:
			return ipc.ReasonNone
		}
	}
}

// remote is the address that a packet is judged by: where a leaving packet
// goes, where an arriving one comes from. At PREROUTING the kernel has not
// decided which it is, and to guess would let an outbound packet pass by its
// own source.
func remote(hook queue.Hook, src, dst netip.Addr) (netip.Addr, ipc.Reason) {
	switch hook {
	case queue.HookOutput, queue.HookForward, queue.HookPostrouting:
		return dst, ipc.ReasonNone
	case queue.HookInput:
		return src, ipc.ReasonNone
	case queue.HookPrerouting:
		return netip.Addr{}, ipc.ReasonPrerouting
	}
	return netip.Addr{}, ipc.ReasonUnknownHook
}
