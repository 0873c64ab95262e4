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

// headers are what a packet is judged by.
type headers struct {
	src, dst         netip.Addr
	proto            uint8
	srcPort, dstPort uint16
	hasPorts         bool // the packet is of TCP or UDP and its ports are in what was read
}

// readHeaders reads a packet of which the kernel copied the start. Its version
// decides how it is read, not the queue it came by.
func readHeaders(ethertype uint16, b []byte) (h headers, reason ipc.Reason) {
	if len(b) == 0 {
		return h, ipc.ReasonCutShort
	}
	switch queue.IPVersion(ethertype, b) {
	case 4:
		reason = h.read4(b)
	case 6:
		reason = h.read6(b)
	default:
		reason = ipc.ReasonNotIP
	}
	return h, reason
}

func (h *headers) read4(b []byte) ipc.Reason {
	if len(b) < v4Header {
		return ipc.ReasonCutShort
	}
	header := int(b[0]&0xf) * 4
	if header < v4Header || header > len(b) {
		return ipc.ReasonNotIP
	}
	h.src = netip.AddrFrom4([4]byte(b[12:16]))
	h.dst = netip.AddrFrom4([4]byte(b[16:20]))
	h.proto = b[9]
	// A later fragment begins with data, which its sender could make look like
	// ports (RFC 791 section 3.2). What conntrack has seen is whole again.
	if offset := binary.BigEndian.Uint16(b[6:]) & 0x1fff; offset == 0 {
		h.ports(b[header:])
	}
	return queue.IPv4Options(b[v4Header:header])
}

// ports reads the first four octets of a TCP or UDP header, which are alike.
func (h *headers) ports(b []byte) {
	if len(b) < 4 || h.proto != ipc.ProtoTCP && h.proto != ipc.ProtoUDP {
		return
	}
	h.srcPort, h.dstPort, h.hasPorts = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), true
}

func (h *headers) read6(b []byte) ipc.Reason {
	if len(b) < v6Header {
		return ipc.ReasonCutShort
	}
	h.src = netip.AddrFrom16([16]byte(b[8:24]))
	h.dst = netip.AddrFrom16([16]byte(b[24:40]))
	if mapped.Contains(h.src) || mapped.Contains(h.dst) {
		return ipc.ReasonMappedPacket
	}
	return h.extensions6(b[6], b[v6Header:])
}

// extensions6 refuses a routing header, which sends the packet on from the
// address that was looked up, as far as the bytes copied show one. A chain
// that goes on behind them is refused too: nothing that a host sends needs it
// that long.
func (h *headers) extensions6(next byte, b []byte) ipc.Reason {
	for {
		h.proto = next
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
				h.proto = b[0]
				return ipc.ReasonNone // what follows is data, not headers
			}
			next, b = b[0], b[8:]
		default:
			h.ports(b)
			return ipc.ReasonNone
		}
	}
}

// remote is the address and port that a packet is judged by: where a leaving
// packet goes, where an arriving one comes from. At PREROUTING the kernel has
// not decided which it is, and to guess would let an outbound packet pass by
// its own source. The zero port is one that is not there or cannot be read.
func (h *headers) remote(hook queue.Hook) (far netip.Addr, port ipc.Port, reason ipc.Reason) {
	far, number := h.dst, h.dstPort
	switch hook {
	case queue.HookOutput, queue.HookForward, queue.HookPostrouting:
	case queue.HookInput:
		far, number = h.src, h.srcPort
	case queue.HookPrerouting:
		return netip.Addr{}, ipc.Port{}, ipc.ReasonPrerouting
	default:
		return netip.Addr{}, ipc.Port{}, ipc.ReasonUnknownHook
	}
	if h.hasPorts && number != 0 {
		port = ipc.Port{Number: number, Proto: h.proto}
	}
	return far, port, ipc.ReasonNone
}
