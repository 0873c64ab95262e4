package dnsworker

import (
	"encoding/binary"

	"github.com/google/gopacket"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// The header of RFC 1035 section 4.1.1, with AD and CD of RFC 4035.
const (
	headerSize = 12

	flagQR     = 1 << 15
	maskOpcode = 0xf << 11 // QUERY is 0
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	flagRA     = 1 << 7
	flagZ      = 1 << 6
	flagAD     = 1 << 5
	flagCD     = 1 << 4
	maskRCode  = 0xf
)

// The record types with a meaning here, and the classes (IANA DNS parameters).
const (
	typeA     = 1
	typeNS    = 2
	typeCNAME = 5
	typeSOA   = 6
	typePTR   = 12
	typeMX    = 15
	typeAAAA  = 28
	typeSRV   = 33
	typeDNAME = 39
	typeOPT   = 41
	typeSVCB  = 64
	typeHTTPS = 65
	typeTSIG  = 250

	classIN  = 1
	classANY = 255
)

// message is a DNS message of which the header is decoded. It does not matter
// what carried it.
type message struct {
	octets         []byte // all of it: pointers count from its start
	id, flags      uint16
	qd, an, ns, ar int // records that each section claims to have
}

func (*message) CanDecode() gopacket.LayerClass    { return layerDNS }
func (*message) NextLayerType() gopacket.LayerType { return gopacket.LayerTypeZero }
func (*message) LayerPayload() []byte              { return nil }

func (m *message) DecodeFromBytes(data []byte, _ gopacket.DecodeFeedback) error {
	if len(data) < headerSize {
		return fault(ipc.ReasonBadMessage)
	}
	field := func(i int) uint16 { return binary.BigEndian.Uint16(data[2*i:]) }
	m.octets, m.id, m.flags = data, field(0), field(1)
	m.qd, m.an, m.ns, m.ar = int(field(2)), int(field(3)), int(field(4)), int(field(5))
	return nil
}

// questions reads the question section. It returns all questions wherever they
// could be read, with the reason why they are not acceptable, so that the log
// can show what was asked; and none where one could not.
func (c *cursor) questions(count int) ([]ipc.Question, ipc.Reason) {
	if count == 0 {
		return nil, ipc.ReasonNoQuestion
	}
	if count > ipc.MaxQuestions {
		return nil, ipc.ReasonTooManyQuestions
	}
	qs, reason := make([]ipc.Question, count), ipc.ReasonNone
	for i := range qs {
		if !c.readName() || c.off+4 > len(c.msg) {
			return nil, ipc.ReasonBadMessage
		}
		q := &qs[i]
		q.Name, q.Type, q.Class = name.Name(c.last()), c.uint16(), c.uint16()
		switch {
		case c.badLabel:
			reason = ipc.ReasonBadLabel
		case q.Class != classIN && reason == ipc.ReasonNone:
			reason = ipc.ReasonClass
		}
	}
	return qs, reason
}

// record is a resource record (RFC 1035 section 4.1.3) without its owner,
// which is the name that the cursor read last. Its data is at [start, end).
type record struct {
	typ, class uint16
	ttl        uint32
	start, end int
}

// seconds is the record's time to live. With the top bit set it is none
// (RFC 2181 section 8).
func (r record) seconds() uint32 {
	if r.ttl > ipc.MaxTTL {
		return 0
	}
	return r.ttl
}

// record reads a record up to its data.
func (c *cursor) record() (record, bool) {
	if !c.readName() || c.off+10 > len(c.msg) {
		return record{}, false
	}
	r := record{typ: c.uint16(), class: c.uint16(), ttl: c.uint32()}
	length := int(c.uint16())
	r.start, r.end = c.off, c.off+length
	return r, r.end <= len(c.msg)
}

// data checks the form of r's data and puts the cursor behind it. Data of a
// type not named here is opaque. If the type holds a name, that is the name
// read last afterwards, and the caller judges its labels.
func (c *cursor) data(r record) ipc.Reason {
	length := r.end - r.start
	switch r.typ {
	case typeA:
		if length != 4 {
			return ipc.ReasonBadRecord
		}
	case typeAAAA:
		if length != 16 {
			return ipc.ReasonBadRecord
		}
	case typeNS, typeCNAME, typePTR, typeDNAME:
		return c.nameUntil(r.end)
	case typeMX:
		c.off += 2 // preference
		return c.nameUntil(r.end)
	case typeSRV:
		c.off += 6 // priority, weight, port
		return c.nameUntil(r.end)
	case typeSVCB, typeHTTPS:
		return c.service(r)
	case typeOPT:
		if !wholeOptions(c.msg[r.start:r.end]) {
			return ipc.ReasonBadRecord
		}
	}
	c.off = r.end
	return ipc.ReasonNone
}

// wholeOptions reports whether EDNS options (RFC 6891 section 6.1.2) fill data.
func wholeOptions(data []byte) bool {
	for len(data) >= 4 {
		length := 4 + int(binary.BigEndian.Uint16(data[2:]))
		if length > len(data) {
			return false
		}
		data = data[length:]
	}
	return len(data) == 0
}

// lastIsRoot reports whether the name read last is the root: before data is
// called, that is the record's owner.
func (c *cursor) lastIsRoot() bool { return c.size == 1 }
