package ipc

import (
	"errors"
	"fmt"
)

// SegmentKind says what a TCP segment on a DNS queue is to the streams of DNS
// messages that its connection carries (RFC 7766).
type SegmentKind uint8

// The kinds. Zero is a packet that is no TCP segment, or one that does not
// come as far as a connection and is dropped.
const (
	SegmentNone SegmentKind = iota
	// SegmentOpen begins a stream at its reader: the SYN of a request queue,
	// the SYN-ACK of a response queue, without data.
	SegmentOpen
	// SegmentBare holds no data and begins nothing.
	SegmentBare
	// SegmentData holds data that completes no message: of a request stream
	// octets that were decided before, and at most two of a length; of a
	// response stream anything.
	SegmentData
	// SegmentMessage completes the message that the fact is about.
	SegmentMessage
	// SegmentHalt: nothing of this stream is to pass from now on.
	SegmentHalt
	// SegmentAgain is the SYN or SYN-ACK of a stream that has begun with it before;
	// of a request queue one to which nothing else has come since.
	SegmentAgain
	segmentKindEnd
)

const (
	// MaxHeld bounds the packets that one fact decides besides its own.
	MaxHeld = 256
	// MaxPipelined bounds the messages that one verdict depends on.
	MaxPipelined = 1024
)

// PacketID names a packet in the kernel's queues.
type PacketID struct {
	Handle uint32
	ID     uint32
}

// Segment is what a fact says of a TCP segment besides its message.
type Segment struct {
	Kind SegmentKind
	// Number is, with SegmentOpen of a response queue, the sequence number before
	// the first octet of the client's stream, as the server confirms it. Of a
	// request queue it is that of the stream to which the segment belongs, if its
	// reader knows one.
	Number uint32
	// Server is, of a response queue, the sequence number before the first octet of
	// the server's stream to which the segment belongs, if its reader knows one.
	Server uint32
	// Known, with SegmentBare, is that its reader does.
	Known bool
	// Closes: a RST, or of a response queue also a FIN, of whatever kind the segment
	// is. Fin, with SegmentBare of a request queue: a FIN.
	Closes, Fin bool
	// Reach is, of a response queue, how many octets of the server's stream there
	// are up to the end of what the segment brings; a FIN counts as one.
	Reach uint32
	// More: the facts that follow are of the same packet, and the last of them
	// decides it.
	More bool
	// Also are earlier packets of the connection, which share the verdict. They
	// ascend, so that none can stand here twice.
	Also []PacketID
	// AlsoAt are the numbers of each.
	AlsoAt []Numbers
}

// Before reports whether p stands before q in the order of Segment.Also.
func (p PacketID) Before(q PacketID) bool {
	return p.Handle < q.Handle || p.Handle == q.Handle && p.ID < q.ID
}

// validate checks a segment against the packet and the rest of its fact.
func (s *Segment) validate(p *Packet, drop Reason, questions int) error {
	switch {
	case s.Kind >= segmentKindEnd:
		return fmt.Errorf("segment of kind %d", s.Kind)
	case (s.Kind != SegmentNone || s.Closes) && p.Proto != ProtoTCP:
		return errors.New("a segment without TCP")
	case s.Kind == SegmentNone && p.Proto == ProtoTCP && drop == ReasonNone:
		return errors.New("TCP without a segment")
	case s.Kind == SegmentHalt && drop == ReasonNone:
		return errors.New("a halt without a reason")
	case (s.Kind == SegmentOpen || s.Kind == SegmentBare || s.Kind == SegmentAgain) && drop != ReasonNone:
		return errors.New("a segment without data that is dropped")
	case s.Kind == SegmentNone && (s.Number != 0 || s.Server != 0 || s.Reach != 0):
		return errors.New("numbers of no segment")
	case (s.Known || s.Fin) && s.Kind != SegmentBare:
		return errors.New("known or a FIN, and more than bare")
	case s.Kind == SegmentBare && !s.Known && (s.Number != 0 || s.Server != 0 || s.Reach != 0):
		return errors.New("numbers of a stream that is not known")
	case s.Kind != SegmentMessage && s.Kind != SegmentNone && questions > 0:
		return errors.New("a question without a message")
	case s.More && (s.Kind != SegmentMessage || len(s.Also) > 0):
		return errors.New("more of what is no message, or decided")
	}
	return s.validateAlso(PacketID{p.Handle, p.ID})
}

func (s *Segment) validateAlso(own PacketID) error {
	if len(s.Also) > 0 && s.Kind != SegmentData && s.Kind != SegmentMessage && s.Kind != SegmentHalt {
		return errors.New("packets decided by none of their kind")
	}
	if len(s.AlsoAt) != len(s.Also) {
		return errors.New("packets without numbers, or numbers without packets")
	}
	if len(s.Also) > MaxHeld {
		return fmt.Errorf("%d packets in a fact", len(s.Also))
	}
	for i, id := range s.Also {
		if id.Handle == 0 || id == own || i > 0 && !s.Also[i-1].Before(id) {
			return errors.New("packets that are none, or not each its own")
		}
	}
	return nil
}
