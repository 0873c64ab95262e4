package dnsworker

import (
	"encoding/binary"

	"github.com/google/gopacket"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// udpHeader is the size of RFC 768's header in octets.
const udpHeader = 8

// udp is a UDP header that fills the IP payload to the octet. The checksum
// is not looked at: the receiver's kernel does that, and on the way out it may
// still be left to the network card.
type udp struct {
	ports
	payload []byte
}

func (*udp) CanDecode() gopacket.LayerClass    { return layerUDP }
func (*udp) NextLayerType() gopacket.LayerType { return layerDNS }
func (l *udp) LayerPayload() []byte            { return l.payload }

// DecodeFromBytes reads the ports even of a datagram whose length is wrong,
// for the log line.
func (l *udp) DecodeFromBytes(data []byte, _ gopacket.DecodeFeedback) error {
	if len(data) < udpHeader {
		return fault(ipc.ReasonBadUDP)
	}
	l.ports = ports{binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:]), true}
	if int(binary.BigEndian.Uint16(data[4:])) != len(data) {
		return fault(ipc.ReasonBadUDP)
	}
	l.payload = data[udpHeader:]
	return nil
}
