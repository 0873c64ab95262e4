package dnsworker

import (
	"bytes"
	"slices"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// answers gathers the answer section of one response. Nothing of it reaches a
// fact before the whole message was found good.
type answers struct {
	names  []name.Name // question names first
	octets int         // of names
	owners []byte      // distinct owners, as indices into names

	links   []ipc.Link
	a, aaaa family
	others  []byte

	// Targets take what room the owners and links leave in names, and pointers
	// what the targets leave.
	targets, pointers waiting
	leftOut           uint32
}

// reset empties a, and puts the names of the questions at the head of its table.
func (a *answers) reset(questions []ipc.Question) {
	*a = answers{
		names: a.names[:0], owners: a.owners[:0], links: a.links[:0],
		a: a.a.reset(), aaaa: a.aaaa.reset(), others: a.others[:0], targets: a.targets.reset(), pointers: a.pointers.reset(),
	}
	for _, q := range questions {
		if !slices.Contains(a.names, q.Name) {
			a.names = append(a.names, q.Name)
			a.octets += len(q.Name)
		}
	}
}

// read reads one record of the answer section. OPT and TSIG have no place in
// it (RFC 6891 section 6.1.1, RFC 8945 section 5.1).
func (a *answers) read(c *cursor) ipc.Reason {
	r, ok := c.record()
	switch {
	case !ok:
		return ipc.ReasonBadMessage
	case c.badLabel:
		return ipc.ReasonBadLabel
	case r.typ == typeOPT || r.typ == typeTSIG:
		return ipc.ReasonBadRecord
	case r.class != classIN:
		return ipc.ReasonClass
	}
	owner, reason := a.owner(c.last())
	if reason != ipc.ReasonNone {
		return reason
	}
	if reason := c.data(r); reason != ipc.ReasonNone {
		return reason
	}
	return a.keep(c, r, owner)
}

// keep files a record of good form under its owner.
func (a *answers) keep(c *cursor, r record, owner uint8) ipc.Reason {
	switch r.typ {
	case typeA:
		a.a.add(c.msg[r.start:r.end], 4, owner, r.seconds())
	case typeAAAA:
		a.aaaa.add(c.msg[r.start:r.end], 16, owner, r.seconds())
	case typeCNAME, typeDNAME:
		return a.link(c, owner, r.typ == typeDNAME)
	case typeSRV, typeMX, typeNS:
		return a.target(c, owner)
	case typeSVCB, typeHTTPS:
		a.other(owner) // a record that gives nothing must belong to the question all the same
		if reason := a.service(c, r, owner); reason != ipc.ReasonNone {
			return reason
		}
	case typePTR:
		a.other(owner)
		a.pointer(c, owner)
	default:
		a.other(owner)
	}
	if !ipc.AddressesFit(len(a.a.owners), len(a.aaaa.owners)) {
		return ipc.ReasonTooManyRecords
	}
	return ipc.ReasonNone
}

func (a *answers) other(owner uint8) {
	if bytes.IndexByte(a.others, owner) < 0 {
		a.others = append(a.others, owner)
	}
}

// service keeps what an SVCB or HTTPS record (RFC 9460) gives: its TargetName
// as a name that will be asked for, and the addresses hinted at. They are
// TargetName's, but told as the owner's: it is the owner that must belong to the
// question, as the owner of an address must.
func (a *answers) service(c *cursor, r record, owner uint8) ipc.Reason {
	// The root means the owner itself, or in AliasMode nothing (section 2.5).
	if !c.lastIsRoot() {
		if reason := a.target(c, owner); reason != ipc.ReasonNone {
			return reason
		}
	}
	if c.aliasMode(r) { // whose parameters must be ignored, section 2.4.2
		return ipc.ReasonNone
	}
	for rest := c.params; len(rest) > 0; {
		var p param
		p, rest, _ = nextParam(rest)
		switch p.key {
		case keyIPv4Hint:
			a.a.add(p.value, 4, owner, r.seconds())
		case keyIPv6Hint:
			a.aaaa.add(p.value, 16, owner, r.seconds())
		}
	}
	return ipc.ReasonNone
}

// owner is the index of an owner. Records of one owner mostly stand together,
// so the last is looked at first; there are at most MaxOwners to look at.
func (a *answers) owner(wire []byte) (uint8, ipc.Reason) {
	for _, i := range slices.Backward(a.owners) {
		if string(a.names[i]) == string(wire) {
			return i, ipc.ReasonNone
		}
	}
	if len(a.owners) == ipc.MaxOwners {
		return 0, ipc.ReasonTooManyOwners
	}
	i, ok := a.index(wire)
	if !ok {
		return 0, ipc.ReasonTooManyRecords
	}
	a.owners = append(a.owners, i)
	return i, ipc.ReasonNone
}

// index is the place of a name in the table, where it is put if it is new and
// there is room.
func (a *answers) index(wire []byte) (uint8, bool) {
	for i, n := range a.names {
		if string(n) == string(wire) {
			return uint8(i), true
		}
	}
	if len(a.names) == ipc.MaxNames || a.octets+len(wire) > ipc.MaxNameBytes {
		return 0, false
	}
	a.names = append(a.names, name.Name(wire))
	a.octets += len(wire)
	return uint8(len(a.names) - 1), true
}

// link keeps a CNAME or DNAME. A chain with a missing link is no chain, so
// every one must fit.
func (a *answers) link(c *cursor, owner uint8, dname bool) ipc.Reason {
	if c.badLabel {
		return ipc.ReasonBadLabel
	}
	if len(a.links) == ipc.MaxLinks {
		return ipc.ReasonTooManyRecords
	}
	to, ok := a.index(c.last())
	if !ok {
		return ipc.ReasonTooManyRecords
	}
	a.links = append(a.links, ipc.Link{Owner: owner, Target: to, DNAME: dname})
	return ipc.ReasonNone
}

// target keeps the target of an SRV, MX, NS, SVCB or HTTPS record, or counts
// it: a name that is not learnt costs a later question, and opens nothing.
func (a *answers) target(c *cursor, owner uint8) ipc.Reason {
	if c.badLabel {
		return ipc.ReasonBadLabel
	}
	if len(a.targets.records) == ipc.MaxTargets {
		a.leftOut++
		return ipc.ReasonNone
	}
	a.targets.add(owner, c.last())
	return ipc.ReasonNone
}

// pointer keeps what a PTR record leads to, if there is room. Only the holder's
// own lookups want it, and to them a name that is not told is one that does not
// count. A service in a PTR (RFC 6763 section 4.1) may well hold a dot: it is
// no host's name, and no fault.
func (a *answers) pointer(c *cursor, owner uint8) {
	if !c.badLabel && len(a.pointers.records) < ipc.MaxPointers {
		a.pointers.add(owner, c.last())
	}
}

// tell copies what was gathered into the fact.
func (a *answers) tell(f *ipc.ResponseFact) {
	f.Targets = a.place(&a.targets)
	a.leftOut += uint32(len(a.targets.records) - len(f.Targets))
	f.Pointers = a.place(&a.pointers)
	f.Names = slices.Clone(a.names)
	f.Links = own(a.links)
	f.A, f.AAAA = a.a.tell(), a.aaaa.tell()
	f.Others = own(a.others)
	f.LeftOut = a.leftOut
}

// place puts names in the table as far as there is room, and returns the records
// whose name is in it now, nil if there are none.
func (a *answers) place(w *waiting) (placed []ipc.Target) {
	wires := w.wires
	for _, r := range w.records {
		wire := wires[:r.size]
		wires = wires[r.size:]
		if i, ok := a.index(wire); ok {
			placed = append(placed, ipc.Target{Owner: r.owner, Target: i})
		}
	}
	return placed
}

// own is a copy of s that the fact may keep, nil if s is empty.
func own[T any](s []T) []T { return append([]T(nil), s...) }
