package dnsworker

import (
	"encoding/binary"

	"github.com/google/gopacket"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

// The IPv4 header of RFC 791 section 3.1.
const (
	ipv4Header = 20
	ipv4MF     = 0x2000 // more fragments
	ipv4Offset = 0x1fff // fragment offset
)

// ipv4 is an IPv4 header whose payload is whole. The checksum is the kernel's
// affair: it was verified or written before the packet came to the queue.
type ipv4 struct{ network }

func (*ipv4) CanDecode() gopacket.LayerClass { return layerIPv4 }

// DecodeFromBytes requires the packet to be exactly as long as it says. The
// kernel trims what a link adds (ip_rcv_core), so octets after the total
// length are not padding but something that another reader might take for
// part of the message.
func (l *ipv4) DecodeFromBytes(data []byte, _ gopacket.DecodeFeedback) error {
	if len(data) < ipv4Header {
		return fault(ipc.ReasonCutShort)
	}
	header, total := int(data[0]&0xf)*4, int(binary.BigEndian.Uint16(data[2:]))
	if header < ipv4Header || total < header {
		return fault(ipc.ReasonNotIP)
	}
	if total > len(data) {
		return fault(ipc.ReasonCutShort)
	}
	if total < len(data) {
		return fault(ipc.ReasonNotIP)
	}
	if binary.BigEndian.Uint16(data[6:])&(ipv4MF|ipv4Offset) != 0 {
		return fault(ipc.ReasonFragment)
	}
	if reason := queue.IPv4Options(data[ipv4Header:header]); reason != ipc.ReasonNone {
		return fault(reason)
	}
	l.proto, l.addresses, l.payload = data[9], data[12:20], data[header:]
	return nil
}
