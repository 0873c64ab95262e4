package dnsworker

import (
	"encoding/binary"

	"github.com/google/gopacket"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// The TCP header of RFC 9293 section 3.1.
const (
	tcpHeader = 20 // octets, without options

	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpACK = 1 << 4
	tcpURG = 1 << 5
)

// tcp is a TCP header and what follows it, which is a part of a stream and
// says nothing alone (see streams). The checksum is not looked at, as with
// UDP.
type tcp struct {
	ports
	seq, ack uint32
	flags    uint8
	payload  []byte
}

func (*tcp) CanDecode() gopacket.LayerClass    { return layerTCP }
func (*tcp) NextLayerType() gopacket.LayerType { return gopacket.LayerTypeZero }
func (*tcp) LayerPayload() []byte              { return nil }

// DecodeFromBytes reads the ports even of a header that is refused, for the
// log line. Urgent data is refused because a receiver may or may not take it
// out of the stream; pairs of flags that no honest sender sets because
// nobody knows which one a receiver acts on; and a segment that acknowledges
// nothing, which no receiver takes, but to begin or end a connection.
func (l *tcp) DecodeFromBytes(data []byte, _ gopacket.DecodeFeedback) error {
	if len(data) < tcpHeader {
		return fault(ipc.ReasonBadTCP)
	}
	l.ports = ports{binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:]), true}
	l.seq, l.ack = binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:])
	l.flags = data[13]
	header := int(data[12]>>4) * 4
	if header < tcpHeader || header > len(data) {
		return fault(ipc.ReasonBadTCP)
	}
	if !plainOptions(data[tcpHeader:header]) {
		return fault(ipc.ReasonBadTCP)
	}
	l.payload = data[header:]
	switch hasData := len(l.payload) > 0; {
	case l.has(tcpURG), !l.has(tcpACK | tcpSYN | tcpRST), hasData && l.has(tcpRST), l.has(tcpSYN) && l.has(tcpFIN|tcpRST):
		return fault(ipc.ReasonBadTCP)
	case hasData && l.has(tcpSYN):
		return fault(ipc.ReasonSynData)
	}
	return nil
}

// numbers are those of the header. Without its flag there is no acknowledgment.
func (l *tcp) numbers() ipc.Numbers {
	if !l.has(tcpACK) {
		return ipc.Numbers{Seq: l.seq}
	}
	return ipc.Numbers{Seq: l.seq, Ack: l.ack}
}

// has reports whether any of these flags is set.
func (l *tcp) has(flags uint8) bool { return l.flags&flags != 0 }

// plainOptions reports whether options (RFC 9293 section 3.1) are whole, and
// none is of Multipath TCP (RFC 8684), which gives octets another order.
func plainOptions(b []byte) bool {
	const end, nop, mptcp = 0, 1, 30
	for len(b) > 0 && b[0] != end {
		if b[0] == nop {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) || b[0] == mptcp {
			return false
		}
		b = b[b[1]:]
	}
	return true
}
