package dnsworker

import (
	"encoding/binary"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// The SvcParamKeys whose values have a form that is checked (IANA "DNS SVCB
// Service Parameter Keys").
const (
	keyMandatory     = 0
	keyALPN          = 1
	keyNoDefaultALPN = 2
	keyPort          = 3
	keyIPv4Hint      = 4
	keyIPv6Hint      = 6
	keyOHTTP         = 8
	keyInvalid       = 65535
)

// service checks the data of an SVCB or HTTPS record (RFC 9460 section 2.2):
// SvcPriority, TargetName, SvcParams. Afterwards the name read last is
// TargetName, and c.params holds the SvcParams.
//
// TargetName must not be compressed. The RFC says so, resolvers that know the
// type refuse one that is (BIND), and to those that do not it is opaque: a
// pointer in it would lead elsewhere in every message that they put it in.
//
// SvcParams are checked in AliasMode too, where they must be ignored: no
// honest record has any there.
func (c *cursor) service(r record) ipc.Reason {
	c.off += 2 // SvcPriority
	at := c.off
	if at >= r.end {
		return ipc.ReasonBadRecord
	}
	if !c.readName() {
		return ipc.ReasonBadMessage
	}
	// A pointer takes two octets, and no name that it could stand for does.
	compressed := c.off-at != c.size
	if compressed || c.off > r.end || !wholeParams(c.msg[c.off:r.end]) {
		return ipc.ReasonBadRecord
	}
	c.params = c.msg[c.off:r.end]
	c.off = r.end
	return ipc.ReasonNone
}

// aliasMode reports whether an SVCB or HTTPS record of good form only names
// another owner (RFC 9460 section 2.4.2).
func (c *cursor) aliasMode(r record) bool {
	return binary.BigEndian.Uint16(c.msg[r.start:]) == 0
}

// param is one SvcParam.
type param struct {
	key   uint16
	value []byte
}

// nextParam takes the first SvcParam off params, and reports whether there is
// a whole one.
func nextParam(params []byte) (p param, rest []byte, ok bool) {
	if len(params) < 4 {
		return param{}, nil, false
	}
	end := 4 + int(binary.BigEndian.Uint16(params[2:]))
	if end > len(params) {
		return param{}, nil, false
	}
	return param{binary.BigEndian.Uint16(params), params[4:end]}, params[end:], true
}

// wholeParams reports whether SvcParams of good form fill params, their keys
// strictly ascending.
func wholeParams(params []byte) bool {
	for above := -1; len(params) > 0; {
		p, rest, ok := nextParam(params)
		if !ok || int(p.key) <= above || !p.wellFormed() {
			return false
		}
		above, params = int(p.key), rest
	}
	return true
}

// wellFormed checks a value's form as RFC 9460 section 7 and 8 and RFC 9540
// section 4 have it. Values of all other keys are opaque.
func (p param) wellFormed() bool {
	length := len(p.value)
	switch p.key {
	case keyMandatory:
		return ascendingKeys(p.value)
	case keyALPN:
		return wholeStrings(p.value)
	case keyNoDefaultALPN, keyOHTTP:
		return length == 0
	case keyPort:
		return length == 2
	case keyIPv4Hint:
		return length > 0 && length%4 == 0
	case keyIPv6Hint:
		return length > 0 && length%16 == 0
	}
	return p.key != keyInvalid
}

// ascendingKeys reports whether value is a list of SvcParamKeys, strictly
// ascending, without "mandatory" itself. That each stands in the record too is
// the client's affair: it decides by it whether to use the record.
func ascendingKeys(value []byte) bool {
	if len(value) == 0 || len(value)%2 != 0 {
		return false
	}
	for above := keyMandatory; len(value) > 0; value = value[2:] {
		key := int(binary.BigEndian.Uint16(value))
		if key <= above {
			return false
		}
		above = key
	}
	return true
}

// wholeStrings reports whether strings of one octet or more, each behind its
// length, fill value, and there is one.
func wholeStrings(value []byte) bool {
	if len(value) == 0 {
		return false
	}
	for len(value) > 0 {
		end := 1 + int(value[0])
		if end == 1 || end > len(value) {
			return false
		}
		value = value[end:]
	}
	return true
}
