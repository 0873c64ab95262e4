package dnsworker

import (
	"encoding/binary"

	"github.com/google/gopacket"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// The IPv6 header of RFC 8200 section 3 and the protocol numbers of its
// extension headers.
const (
	ipv6Header = 40

	protoHopByHop     = 0
	protoRouting      = 43
	protoFragment     = 44
	protoDestinations = 60

	// maxExtensions bounds the headers walked. RFC 8200 section 4.1 knows one
	// hop-by-hop and two destination options headers.
	maxExtensions = 3
)

// mapped is ::ffff:0:0/96, RFC 4291 section 2.5.5.2.
var mapped = [12]byte{10: 0xff, 11: 0xff}

// ipv6 is an IPv6 header with the extension headers that may be skipped; its
// payload is what follows them, and is whole.
type ipv6 struct{ network }

func (*ipv6) CanDecode() gopacket.LayerClass { return layerIPv6 }

// DecodeFromBytes requires the packet to be exactly as long as it says. A
// jumbogram (RFC 2675) says 0 and is refused by that.
func (l *ipv6) DecodeFromBytes(data []byte, _ gopacket.DecodeFeedback) error {
	if len(data) < ipv6Header {
		return fault(ipc.ReasonCutShort)
	}
	payload, says := data[ipv6Header:], int(binary.BigEndian.Uint16(data[4:]))
	if says > len(payload) {
		return fault(ipc.ReasonCutShort)
	}
	if says < len(payload) {
		return fault(ipc.ReasonNotIP)
	}
	// On the wire such an address is no IPv4 address (RFC 4291 section
	// 2.5.5.2), but every comparison after this would take it for one.
	if [12]byte(data[8:20]) == mapped || [12]byte(data[24:36]) == mapped {
		return fault(ipc.ReasonMappedPacket)
	}
	proto, payload, reason := skipExtensions(data[6], payload)
	if reason != ipc.ReasonNone {
		return fault(reason)
	}
	l.proto, l.addresses, l.payload = proto, data[8:40], payload
	return nil
}

// skipExtensions walks to the transport header. A fragment header is refused
// even where it announces a whole datagram (RFC 6946): nothing honest sends
// DNS so. A routing header, of any type, sends the packet on from where it
// seems to go. Any other header is taken for a transport that is not UDP.
func skipExtensions(proto uint8, payload []byte) (uint8, []byte, ipc.Reason) {
	for count := 0; ; count++ {
		switch proto {
		case protoFragment:
			return 0, nil, ipc.ReasonFragment
		case protoRouting:
			return 0, nil, ipc.ReasonExtensionHeader
		case protoHopByHop, protoDestinations:
			// Hop-by-hop options stand directly after the IPv6 header or nowhere.
			if count == maxExtensions || proto == protoHopByHop && count > 0 {
				return 0, nil, ipc.ReasonExtensionHeader
			}
		default:
			return proto, payload, ipc.ReasonNone
		}
		if len(payload) < 2 {
			return 0, nil, ipc.ReasonExtensionHeader
		}
		length := (int(payload[1]) + 1) * 8
		if length > len(payload) {
			return 0, nil, ipc.ReasonExtensionHeader
		}
		proto, payload = payload[0], payload[length:]
	}
}
