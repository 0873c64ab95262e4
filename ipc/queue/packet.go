package queue

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Hook is where in the kernel a packet was queued (enum nf_inet_hooks,
// include/uapi/linux/netfilter.h).
type Hook uint8

// The hooks.
const (
	HookPrerouting  Hook = 0
	HookInput       Hook = 1
	HookForward     Hook = 2
	HookOutput      Hook = 3
	HookPostrouting Hook = 4
)

func (h Hook) String() string {
	names := [...]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	if int(h) < len(names) {
		return names[h]
	}
	return fmt.Sprintf("hook %d", uint8(h))
}

// Packet is one queued packet. Payload starts at the IP header and is valid
// until the next read.
type Packet struct {
	ID       uint32
	Protocol uint16 // ethertype that the kernel gives, 0 when it gives none
	Hook     Hook
	InIf     uint32
	OutIf    uint32
	UID      uint32
	HasUID   bool
	State    ipc.ConnState
	Length   int  // octets of the whole packet where the kernel cut it, else 0
	GSO      bool // one packet here, several on the wire
	Payload  []byte
}

// Numbers of include/uapi/linux/netfilter/nfnetlink_queue.h and nfnetlink.h.
const (
	nfnlSubsysQueue = 3
	msgPacket       = nfnlSubsysQueue<<8 | 0 // NFQNL_MSG_PACKET

	attrPacketHdr = 1  // struct nfqnl_msg_packet_hdr: id be32, protocol be16, hook u8
	attrInDev     = 5  // be32
	attrOutDev    = 6  // be32
	attrPayload   = 10 // octets
	attrCTInfo    = 12 // be32, enum ip_conntrack_info
	attrCapLen    = 13 // be32
	attrSkbInfo   = 14 // be32 flags
	attrUID       = 16 // be32

	skbInfoGSO = 1 << 1 // NFQA_SKB_GSO

	attrTypeMask = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
)

// Sizes in octets.
const (
	nlmsgHeader = 16 // struct nlmsghdr
	nfgenHeader = 4  // struct nfgenmsg
	attrHeader  = 4  // struct nlattr
)

var (
	errNotAPacket = errors.New("not a packet message")
	errAttribute  = errors.New("attribute outside the message")
)

// parse reads one netlink message. With cut, the message was longer than the
// buffer: attributes before the cut are read, the payload is not whole.
func (p *Packet) parse(msg []byte, cut bool) error {
	*p = Packet{}
	if len(msg) < nlmsgHeader+nfgenHeader {
		return errNotAPacket
	}
	length := int(binary.NativeEndian.Uint32(msg))
	if binary.NativeEndian.Uint16(msg[4:]) != msgPacket || length < nlmsgHeader+nfgenHeader {
		return errNotAPacket
	}
	if length > len(msg) && !cut {
		return errNotAPacket
	}
	seen := false
	for b := msg[nlmsgHeader+nfgenHeader : min(length, len(msg))]; len(b) >= attrHeader; {
		size := int(binary.NativeEndian.Uint16(b))
		kind := binary.NativeEndian.Uint16(b[2:]) & attrTypeMask
		if size < attrHeader {
			return errAttribute
		}
		if size > len(b) {
			if !cut {
				return errAttribute
			}
			p.Length = max(p.Length, size) // what is here is less than there was
			break
		}
		if kind == attrPacketHdr && size >= attrHeader+7 {
			seen = true
		}
		p.attribute(kind, b[attrHeader:size])
		b = b[min((size+3)&^3, len(b)):]
	}
	if !seen {
		return errNotAPacket
	}
	if cut && p.Length == 0 {
		p.Length = 1 << 16
	}
	return nil
}

func (p *Packet) attribute(kind uint16, v []byte) {
	switch {
	case kind == attrPacketHdr && len(v) >= 7:
		p.ID = binary.BigEndian.Uint32(v)
		p.Protocol = binary.BigEndian.Uint16(v[4:])
		p.Hook = Hook(v[6])
	case kind == attrPayload:
		p.Payload = v
	case len(v) < 4:
	case kind == attrInDev:
		p.InIf = binary.BigEndian.Uint32(v)
	case kind == attrOutDev:
		p.OutIf = binary.BigEndian.Uint32(v)
	case kind == attrCapLen:
		p.Length = int(binary.BigEndian.Uint32(v))
	case kind == attrSkbInfo:
		p.GSO = binary.BigEndian.Uint32(v)&skbInfoGSO != 0
	case kind == attrUID:
		p.UID, p.HasUID = binary.BigEndian.Uint32(v), true
	case kind == attrCTInfo:
		p.State = connState(binary.BigEndian.Uint32(v))
	}
}

// connState maps enum ip_conntrack_info
// (include/uapi/linux/netfilter/nf_conntrack_common.h).
func connState(info uint32) ipc.ConnState {
	const established, related, isNew, establishedReply = 0, 1, 2, 3
	switch info {
	case established, establishedReply:
		return ipc.ConnEstablished
	case isNew:
		return ipc.ConnNew
	}
	return ipc.ConnOther
}
