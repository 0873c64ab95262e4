package dnsworker

import (
	"encoding/binary"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

const (
	// maxHops bounds the pointers followed in one name. A name has at most
	// 127 labels, and an honest pointer saves at least one of them.
	maxHops = 126

	// maxWork bounds the reading of names in one message: every label and
	// pointer costs stepWork and every octet of a label 1. An honest message of
	// 64 KiB has at most 4,095 addresses, so their owner may cost 128: seven
	// labels of 13 octets. A hostile one could ask for 40 times as much.
	maxWork  = 1 << 19
	stepWork = 4

	pointerBits = 0xc0
)

// cursor reads a message from front to back. A method that fails leaves it
// anywhere: the message is not looked at any further.
type cursor struct {
	msg  []byte
	off  int
	work int // what is left of maxWork

	// The name read last: lower-case wire form, in the first size octets.
	wire     [name.MaxWire]byte
	size     int
	badLabel bool // a label of it holds a dot or a NUL

	params []byte // SvcParams of the SVCB or HTTPS record read last
}

// start puts c at the question section of msg.
func (c *cursor) start(msg []byte) {
	c.msg, c.off, c.work, c.params = msg, headerSize, maxWork, nil
}

// last is the name read last; the octets are good until the next is read.
func (c *cursor) last() []byte { return c.wire[:c.size] }

func (c *cursor) uint16() uint16 {
	v := binary.BigEndian.Uint16(c.msg[c.off:])
	c.off += 2
	return v
}

func (c *cursor) uint32() uint32 {
	v := binary.BigEndian.Uint32(c.msg[c.off:])
	c.off += 4
	return v
}

// readName reads the name at the cursor (RFC 1035 section 4.1.4). A pointer
// must lead before the start of the part it ends ("a prior occurrence") and
// not into the header: so every jump goes further back and none can loop. It
// reports false for what is no name; a bad label is for the caller to judge,
// who knows whether anybody acts on the name.
func (c *cursor) readName() bool {
	c.size, c.badLabel = 0, false
	at, part, hops := c.off, c.off, 0
	for ; c.work > 0 && at < len(c.msg); c.work -= stepWork {
		octet := int(c.msg[at])
		switch {
		case octet == 0:
			c.wire[c.size] = 0
			c.size++
			if hops == 0 {
				c.off = at + 1
			}
			return true
		case octet <= name.MaxLabel:
			if !c.label(at, octet) {
				return false
			}
			at += 1 + octet
		case octet >= pointerBits:
			if at+1 >= len(c.msg) || hops == maxHops {
				return false
			}
			target := int(binary.BigEndian.Uint16(c.msg[at:])) &^ (pointerBits << 8)
			if target < headerSize || target >= part {
				return false
			}
			if hops == 0 {
				c.off = at + 2
			}
			hops++
			at, part = target, target
		default: // label types that were given up, RFC 6891 section 5
			return false
		}
	}
	return false
}

// label appends the label of length octets at the offset at to the name, and
// keeps room for the root label after it.
func (c *cursor) label(at, length int) bool {
	if at+1+length > len(c.msg) || c.size+1+length >= name.MaxWire {
		return false
	}
	c.wire[c.size] = byte(length)
	into := c.wire[c.size+1 : c.size+1+length]
	for i, b := range c.msg[at+1 : at+1+length] {
		if b == '.' || b == 0 {
			c.badLabel = true
		}
		if b-'A' < 26 {
			b += 'a' - 'A'
		}
		into[i] = b
	}
	c.size += 1 + length
	c.work -= length
	return true
}

// nameUntil reads a name that must end exactly at end, octets of it elsewhere
// in the message aside.
func (c *cursor) nameUntil(end int) ipc.Reason {
	if c.off >= end {
		return ipc.ReasonBadRecord
	}
	if !c.readName() {
		return ipc.ReasonBadMessage
	}
	if c.off != end {
		return ipc.ReasonBadRecord
	}
	return ipc.ReasonNone
}
