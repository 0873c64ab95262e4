package dnsworker

import "github.com/capnspacehook/egress-eddie/ipc"

// response judges the message as an answer to a query. What is wrong up to
// the end of the question section is Drop: there is no key to pair it by.
// What is wrong after it is AnswerDrop: the key is told, the records are not.
func (p *Parser) response(f *ipc.ResponseFact) {
	if p.fullDump {
		f.Dump = dump(&p.layers.msg)
	}
	msg, c := &p.layers.msg, &p.cursor
	f.TxID = msg.id
	f.RCode = uint8(msg.flags & maskRCode)
	f.Truncated = msg.flags&flagTC != 0
	f.Questions, f.Drop = c.questions(msg.qd)
	if reason := responseHeader(msg); reason != ipc.ReasonNone {
		f.Drop = reason
		return
	}
	switch {
	case f.Drop == ipc.ReasonNoQuestion:
		f.Drop = p.bareError()
		f.NoRecords = f.Drop == ipc.ReasonNone
	case f.Drop != ipc.ReasonNone || f.Truncated:
	default:
		f.AnswerDrop = p.sections(f)
	}
}

// responseHeader leaves the other bits alone: nothing is done by them.
func responseHeader(msg *message) ipc.Reason {
	switch {
	case msg.flags&flagQR == 0:
		return ipc.ReasonNotResponse
	case msg.flags&maskOpcode != 0:
		return ipc.ReasonOpcode
	}
	return ipc.ReasonNone
}

// bareError judges a message without a question: a server that could not read
// the query may answer so (RFC 1035 section 4.1.1, FORMERR), with nothing but
// an OPT.
func (p *Parser) bareError() ipc.Reason {
	msg, c := &p.layers.msg, &p.cursor
	if msg.flags&maskRCode == 0 || msg.an != 0 || msg.ns != 0 || msg.ar > 1 {
		return ipc.ReasonNoQuestion
	}
	hasOther, reason := c.responseExtras(msg.ar)
	switch {
	case reason != ipc.ReasonNone:
		return reason
	case hasOther:
		return ipc.ReasonNoQuestion
	case c.off != len(c.msg):
		return ipc.ReasonTrailingBytes
	}
	return ipc.ReasonNone
}

// sections walks all three record sections and only then tells the answers.
// The authority and additional sections are walked for their form alone.
func (p *Parser) sections(f *ipc.ResponseFact) ipc.Reason {
	msg, c, a := &p.layers.msg, &p.cursor, &p.answers
	a.reset(f.Questions)
	for range msg.an {
		if reason := a.read(c); reason != ipc.ReasonNone {
			return reason
		}
	}
	for range msg.ns {
		if _, reason := c.bystander(false); reason != ipc.ReasonNone {
			return reason
		}
	}
	hasOther, reason := c.responseExtras(msg.ar)
	if reason != ipc.ReasonNone {
		return reason
	}
	if c.off != len(c.msg) {
		return ipc.ReasonTrailingBytes
	}
	if msg.an > 0 {
		a.tell(f)
	}
	f.NoRecords = msg.an == 0 && msg.ns == 0 && !hasOther && msg.ar <= 1
	return ipc.ReasonNone
}

// responseExtras walks an additional section and reports whether it holds
// anything but OPT records.
func (c *cursor) responseExtras(count int) (hasOther bool, reason ipc.Reason) {
	for range count {
		typ, reason := c.bystander(true)
		if reason != ipc.ReasonNone {
			return false, reason
		}
		hasOther = hasOther || typ != typeOPT
	}
	return hasOther, ipc.ReasonNone
}

// bystander reads a record that nobody acts on. Its class and the labels of
// its names are its own affair (a mailbox in an SOA, a service in a PTR may
// well hold a dot); its form is checked, since the client will read it.
func (c *cursor) bystander(additional bool) (typ uint16, reason ipc.Reason) {
	r, ok := c.record()
	if !ok {
		return 0, ipc.ReasonBadMessage
	}
	switch {
	case r.typ == typeOPT && (!additional || !c.lastIsRoot()):
		return 0, ipc.ReasonBadRecord
	case r.typ == typeOPT || r.class == classIN:
		return r.typ, c.data(r)
	}
	c.off = r.end
	return r.typ, ipc.ReasonNone
}
