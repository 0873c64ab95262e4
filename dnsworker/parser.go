package dnsworker

import (
	"github.com/google/gopacket"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

// Meta is what the queue says of a packet besides its bytes.
type Meta struct {
	Handle uint32 // the queue, by the number the parent gave it; not 0
	ID     uint32 // the packet, by the number the kernel gave it
	InIf   uint32 // interface index it arrived by, 0 when the kernel named none
	OutIf  uint32 // interface index it leaves by, 0 when the kernel named none
	UID    uint32 // the sender's uid, where HasUID
	HasUID bool
	State  ipc.ConnState
	// Protocol is the ethertype by which the kernel handles the packet, 0 when
	// it gave none.
	Protocol uint16
	CapLen   int  // NFQA_CAP_LEN: octets of the whole packet; 0 when not given
	GSO      bool // a segmentation-offload packet (NFQA_SKB_GSO)
}

func (m *Meta) packet() ipc.Packet {
	return ipc.Packet{
		Handle: m.Handle, ID: m.ID,
		InIf: m.InIf, OutIf: m.OutIf,
		UID: m.UID, HasUID: m.HasUID,
		State: m.State,
	}
}

// Parser makes facts of packets. It keeps buffers from packet to packet, but
// nothing that it learnt: a fact depends on its packet alone, and shares no
// memory with the packet or the Parser. Not for concurrent use.
type Parser struct {
	fullDump bool
	layers   *stack
	cursor   cursor
	answers  answers
	segment  *tcp // that of the last packet, if it is one in good order
}

// NewParser makes a Parser. With fullDump every fact of a message that can be
// walked to its end carries it as text (-f), which costs several times the
// parsing.
func NewParser(fullDump bool) *Parser {
	return &Parser{fullDump: fullDump, layers: newStack()}
}

// decode takes the packet apart as far as the DNS header.
func (p *Parser) decode(m *Meta, packet []byte, out *ipc.Packet) ipc.Reason {
	p.segment = nil
	if m.CapLen > len(packet) {
		return ipc.ReasonCutShort
	}
	if queue.IPVersion(m.Protocol, packet) == 0 {
		return ipc.ReasonNotIP
	}
	reason := p.layers.decode(packet, out)
	// The kernel cuts it into several datagrams later, each behind a header of
	// its own: what is an option here could be a whole query there.
	// A TCP segment is a part of one stream, however it is cut.
	if m.GSO && !p.layers.tcp.known {
		reason = ipc.ReasonSuperPacket
	}
	if reason == ipc.ReasonNone && p.layers.tcp.known {
		p.segment = &p.layers.tcp
		reason = ipc.ReasonNoConnection
	}
	if reason == ipc.ReasonNone {
		p.cursor.start(p.layers.msg.octets)
	}
	return reason
}

// message starts on a whole message of a stream.
func (p *Parser) message(octets []byte) ipc.Reason {
	if p.layers.msg.DecodeFromBytes(octets, gopacket.NilDecodeFeedback) != nil {
		return ipc.ReasonBadMessage
	}
	p.cursor.start(octets)
	return ipc.ReasonNone
}

// Request is the fact of a packet from a request queue. It always passes
// Validate, whatever the packet, if m does. A TCP segment is dropped by it: what
// it is depends on its connection (see requestStreams).
func (p *Parser) Request(m Meta, packet []byte) ipc.RequestFact {
	f := ipc.RequestFact{Packet: m.packet()}
	f.Drop = p.decode(&m, packet, &f.Packet)
	if f.Drop == ipc.ReasonNone {
		p.request(&f)
	}
	return f
}

// Response is the fact of a packet from a response queue. It always passes
// Validate, whatever the packet, if m does; see Request.
func (p *Parser) Response(m Meta, packet []byte) ipc.ResponseFact {
	f := ipc.ResponseFact{Packet: m.packet()}
	f.Drop = p.decode(&m, packet, &f.Packet)
	if f.Drop == ipc.ReasonNone {
		p.response(&f)
	}
	return f
}
