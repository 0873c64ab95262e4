package dnsworker

import (
	"encoding/binary"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// request judges the message as a query. The questions are told even with a
// fault elsewhere, for the log line.
func (p *Parser) request(f *ipc.RequestFact) {
	msg, c := &p.layers.msg, &p.cursor
	f.TxID = msg.id
	f.Extras = msg.ar != 0
	f.Questions, f.Drop = c.questions(msg.qd)
	if reason := requestHeader(msg); reason != ipc.ReasonNone {
		f.Drop = reason
	}
	if f.Drop == ipc.ReasonNone {
		f.Drop = c.requestExtras(msg.ar)
	}
	if f.Drop == ipc.ReasonNone && c.off != len(c.msg) {
		f.Drop = ipc.ReasonTrailingBytes
	}
	if p.fullDump {
		f.Dump = dump(msg)
	}
}

// requestHeader looks at the header's bits and counts. RD, AD and CD mean
// something in a query (RFC 1035, RFC 6840 section 5.7, RFC 4035 section
// 3.2.2). AA, TC, RA, Z and RCODE do not, and no resolver's client sets them:
// what remains is a sender who hides bits in them.
func requestHeader(msg *message) ipc.Reason {
	switch {
	case msg.flags&flagQR != 0:
		return ipc.ReasonNotQuery
	case msg.flags&maskOpcode != 0:
		return ipc.ReasonOpcode
	case msg.flags&(flagAA|flagTC|flagRA|flagZ|maskRCode) != 0:
		return ipc.ReasonBadMessage
	case msg.an != 0 || msg.ns != 0 || msg.ar > 2:
		return ipc.ReasonSections
	}
	return ipc.ReasonNone
}

// requestExtras reads the additional section of a query: one OPT, one TSIG,
// or both, and TSIG last.
func (c *cursor) requestExtras(count int) ipc.Reason {
	hasOPT := false
	for i := range count {
		r, ok := c.record()
		if !ok {
			return ipc.ReasonBadMessage
		}
		if c.badLabel {
			return ipc.ReasonBadLabel
		}
		reason := ipc.ReasonSections
		switch {
		case r.typ == typeOPT && !hasOPT:
			hasOPT = true
			reason = c.requestOPT(r)
		case r.typ == typeTSIG && i == count-1:
			reason = c.tsig(r)
		}
		if reason != ipc.ReasonNone {
			return reason
		}
	}
	return ipc.ReasonNone
}

// requestOPT checks an OPT record (RFC 6891 section 6.1): owned by the root,
// and the upper octet of its TTL, the rest of the RCODE, zero as in any query.
func (c *cursor) requestOPT(r record) ipc.Reason {
	if !c.lastIsRoot() || r.ttl>>24 != 0 {
		return ipc.ReasonBadRecord
	}
	return c.data(r)
}

// tsig checks a TSIG record (RFC 8945 section 4.2): algorithm name, time
// signed (6 octets) and fudge (2), MAC behind its size, original id (2) and
// error (2), other data behind its length, and nothing more. Whether it is
// true is for the resolver to say.
func (c *cursor) tsig(r record) ipc.Reason {
	if r.class != classANY || r.ttl != 0 {
		return ipc.ReasonBadRecord
	}
	if !c.readName() {
		return ipc.ReasonBadMessage
	}
	if c.badLabel {
		return ipc.ReasonBadLabel
	}
	if c.skipSized(8, r.end) && c.skipSized(4, r.end) && c.off == r.end {
		return ipc.ReasonNone
	}
	return ipc.ReasonBadRecord
}

// skipSized moves over fixed octets, a length of two octets and as many more,
// and reports whether that length stood before end. What it counts may not: the
// caller compares where the cursor comes to rest.
func (c *cursor) skipSized(fixed, end int) bool {
	if c.off+fixed+2 > end {
		return false
	}
	c.off += fixed
	c.off += 2 + int(binary.BigEndian.Uint16(c.msg[c.off:]))
	return true
}
