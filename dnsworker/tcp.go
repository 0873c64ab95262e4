package dnsworker

import (
	"encoding/binary"

	"github.com/google/gopacket"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// tcpHeader is the size of RFC 9293's header without options, in octets.
const tcpHeader = 20

// tcp reads the ports, for the log line, and nothing more: DNS over TCP is
// not carried, and a packet without a layer above TCP is dropped.
type tcp struct{ ports }

func (*tcp) CanDecode() gopacket.LayerClass    { return layerTCP }
func (*tcp) NextLayerType() gopacket.LayerType { return gopacket.LayerTypePayload }
func (*tcp) LayerPayload() []byte              { return nil }

func (l *tcp) DecodeFromBytes(data []byte, _ gopacket.DecodeFeedback) error {
	if len(data) < tcpHeader {
		return fault(ipc.ReasonNotUDP)
	}
	l.ports = ports{binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:]), true}
	return nil
}
