package dnsworker

import (
	"github.com/google/gopacket"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// The layers, in the order of a packet. gopacket leaves the numbers 1000 to
// 1999 to applications.
var (
	layerIPv4 = gopacket.RegisterLayerType(1700, gopacket.LayerTypeMetadata{Name: "dnsworker IPv4"})
	layerIPv6 = gopacket.RegisterLayerType(1701, gopacket.LayerTypeMetadata{Name: "dnsworker IPv6"})
	layerUDP  = gopacket.RegisterLayerType(1702, gopacket.LayerTypeMetadata{Name: "dnsworker UDP"})
	layerTCP  = gopacket.RegisterLayerType(1703, gopacket.LayerTypeMetadata{Name: "dnsworker TCP"})
	layerDNS  = gopacket.RegisterLayerType(1704, gopacket.LayerTypeMetadata{Name: "dnsworker DNS"})
)

// fault is the error of a layer: the reason why the packet is dropped. One
// octet, so that making an error of it allocates nothing.
type fault ipc.Reason

func (f fault) Error() string { return ipc.Reason(f).String() }

// network is what the layers above need of an IP header.
type network struct {
	proto     uint8  // of the payload, after IPv6 extension headers
	addresses []byte // source, then destination; both headers hold them side by side
	payload   []byte
}

func (n *network) LayerPayload() []byte { return n.payload }

func (n *network) NextLayerType() gopacket.LayerType {
	switch n.proto {
	case ipc.ProtoUDP:
		return layerUDP
	case ipc.ProtoTCP:
		return layerTCP
	}
	return gopacket.LayerTypePayload // for which there is no decoder
}

// ports are the two that UDP and TCP begin with. Known is set once they are read.
type ports struct {
	src, dst uint16
	known    bool
}

// stack is the layers of one packet and the two ways into them. Every
// decode begins with all of them zero, so that nothing of an earlier packet
// shows through.
type stack struct {
	ip4 ipv4
	ip6 ipv6
	udp udp
	tcp tcp
	msg message

	from4, from6 *gopacket.DecodingLayerParser
	decoded      []gopacket.LayerType
}

func newStack() *stack {
	s := &stack{}
	var layers gopacket.DecodingLayerContainer = gopacket.DecodingLayerArray(nil)
	for _, l := range []gopacket.DecodingLayer{&s.ip4, &s.ip6, &s.udp, &s.tcp, &s.msg} {
		layers = layers.Put(l)
	}
	entry := func(first gopacket.LayerType) *gopacket.DecodingLayerParser {
		p := gopacket.NewDecodingLayerParser(first)
		p.SetDecodingLayerContainer(layers)
		p.IgnorePanic = true       // that is: let it through, see the package comment
		p.IgnoreUnsupported = true // decode looks at how far it came instead
		return p
	}
	s.from4, s.from6 = entry(layerIPv4), entry(layerIPv6)
	return s
}

// decode takes packet apart as far as the DNS header, or the data of a TCP
// segment, and puts the flow, if it came that far, into out.
func (s *stack) decode(packet []byte, out *ipc.Packet) ipc.Reason {
	s.ip4, s.ip6, s.udp, s.tcp, s.msg = ipv4{}, ipv6{}, udp{}, tcp{}, message{}
	if len(packet) == 0 {
		return ipc.ReasonNotIP
	}
	way, ip := s.from4, &s.ip4.network
	switch packet[0] >> 4 {
	case 4:
	case 6:
		way, ip = s.from6, &s.ip6.network
	default:
		return ipc.ReasonNotIP
	}
	err := way.DecodeLayers(packet, &s.decoded)
	s.flow(ip, out)
	if err == nil {
		return s.reached(ip)
	}
	if f, ok := err.(fault); ok {
		return ipc.Reason(f)
	}
	return ipc.ReasonNotIP // no layer of ours says anything but a fault
}

// reached is why decoding ended before the DNS header or a stream's data
// without a fault: no decoder for the transport, or a layer without payload,
// after which gopacket asks no further layer.
func (s *stack) reached(ip *network) ipc.Reason {
	switch {
	case s.msg.octets != nil, s.tcp.known:
		return ipc.ReasonNone
	case s.udp.known:
		return ipc.ReasonBadMessage
	case ip.proto == ipc.ProtoUDP:
		return ipc.ReasonBadUDP
	}
	return ipc.ReasonNotUDP
}

func (s *stack) flow(ip *network, out *ipc.Packet) {
	p := s.udp.ports
	if s.tcp.known {
		p, out.Numbers = s.tcp.ports, s.tcp.numbers()
	}
	if !p.known {
		return
	}
	both := string(ip.addresses) // one copy for the two
	half := len(both) / 2
	out.Proto, out.SrcPort, out.DstPort = ip.proto, p.src, p.dst
	out.Src, out.Dst = ipc.Address(both[:half]), ipc.Address(both[half:])
}
