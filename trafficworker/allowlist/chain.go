package allowlist

import (
	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// Bounds of what is followed in one response.
const (
	// maxRenamed bounds the names that DNAME records make. An honest chain
	// makes one a link, and ends after 16 (see ipc.MaxOwners).
	maxRenamed = 32
	// maxDNAMEs bounds the DNAME records, which cost a comparison with every
	// reached name each.
	maxDNAMEs = 16
	maxIDs    = ipc.MaxNames + ipc.MaxQuestions + maxRenamed
)

// chain finds out which names of a response are reached from its questions.
//
// Every distinct name has an id, whatever the fact calls it: the parser may
// list a name twice, and what DNAME makes is not in its list at all. Of each
// id is known from which questions it is reached (bit i: question i).
type chain struct {
	names   []name.Name // by id
	ids     map[name.Name]uint8
	idOf    [ipc.MaxNames]uint8 // by index in the fact's Names
	reached [maxIDs]uint8
	renamed [maxIDs]uint8 // reached by way of a DNAME
	above   [maxIDs]bool  // owner of a DNAME that applied to something reached
	todo    []uint8
	made    int
}

// from says from which questions a name of the fact is reached, 0 for none.
func (c *chain) from(index uint8) uint8 { return c.reached[c.idOf[index]] }

// walk follows a response from its questions. It says why not when a record
// belongs to no question; then nothing of the response may be used. What the
// chain holds is good until the next walk.
//
// NB: the fact has passed Validate: every index is inside Names.
func (c *chain) walk(f *ipc.ResponseFact) ipc.Reason {
	c.reset()
	for i, n := range f.Names {
		c.idOf[i] = c.id(n)
	}
	if reason := c.bounds(f); reason != ipc.ReasonNone {
		return reason
	}
	for i, q := range f.Questions {
		c.reach(c.id(q.Name), 1<<i)
	}
	for len(c.todo) > 0 {
		id := c.todo[len(c.todo)-1]
		c.todo = c.todo[:len(c.todo)-1]
		if !c.follow(f, id) {
			return ipc.ReasonTooManyOwners
		}
	}
	return c.belongs(f)
}

func (c *chain) reset() {
	if c.ids == nil {
		c.ids = make(map[name.Name]uint8)
	}
	clear(c.ids)
	clear(c.names)
	*c = chain{names: c.names[:0], ids: c.ids, todo: c.todo[:0]}
}

func (c *chain) id(n name.Name) uint8 {
	id, ok := c.ids[n]
	if !ok {
		id = uint8(len(c.names))
		c.ids[n] = id
		c.names = append(c.names, n)
	}
	return id
}

// reach notes that id is reached from questions, and that what it leads to
// has to be looked at (again). Bits are only ever added, so this ends.
func (c *chain) reach(id, questions uint8) {
	if c.reached[id]|questions != c.reached[id] {
		c.reached[id] |= questions
		c.todo = append(c.todo, id)
	}
}

// follow reaches what one reached name leads to. It reports false when the
// DNAME records make more names than any chain has.
func (c *chain) follow(f *ipc.ResponseFact, id uint8) bool {
	for _, l := range f.Links {
		owner, target := c.idOf[l.Owner], c.idOf[l.Target]
		if !l.DNAME {
			if owner == id {
				c.reach(target, c.reached[id])
			}
			continue
		}
		// A DNAME renames what is below its owner, not the owner (RFC 6672
		// section 2.3).
		if len(c.names[id]) <= len(c.names[owner]) || !c.names[id].Below(c.names[owner]) {
			continue
		}
		c.above[owner] = true
		n, ok := rename(c.names[id], c.names[owner], c.names[target])
		if !ok {
			continue
		}
		if _, known := c.ids[n]; !known {
			if c.made++; c.made > maxRenamed {
				return false
			}
		}
		to := c.id(n)
		c.renamed[to] |= c.reached[id]
		c.reach(to, c.reached[id])
	}
	return true
}

// rename puts target in the place of owner at the end of n, which is below
// owner. A name that would be too long does not exist (RFC 6672 section 2.2).
func rename(n, owner, target name.Name) (name.Name, bool) {
	keep := n[:len(n)-len(owner)]
	if len(keep)+len(target) > name.MaxWire {
		return "", false
	}
	return keep + target, true
}

// bounds counts the distinct owners: more than a chain can have are no chain.
func (c *chain) bounds(f *ipc.ResponseFact) ipc.Reason {
	var owner [maxIDs]bool
	owners, dnames := 0, 0
	note := func(index uint8) {
		if id := c.idOf[index]; !owner[id] {
			owner[id] = true
			owners++
		}
	}
	for _, l := range f.Links {
		note(l.Owner)
		if l.DNAME {
			dnames++
		}
	}
	for _, t := range f.Targets {
		note(t.Owner)
	}
	for _, list := range [][]byte{f.A.Owners, f.AAAA.Owners, f.Others} {
		for _, index := range list {
			note(index)
		}
	}
	if owners > ipc.MaxOwners || dnames > maxDNAMEs {
		return ipc.ReasonTooManyOwners
	}
	return ipc.ReasonNone
}

// belongs checks that every record's owner is reached. The owner of a DNAME
// that applied need not be, and may have its signature beside it (which is
// among the Others); an address or a name it may not give.
func (c *chain) belongs(f *ipc.ResponseFact) ipc.Reason {
	for _, l := range f.Links {
		if c.from(l.Owner) == 0 && !(l.DNAME && c.above[c.idOf[l.Owner]]) {
			return ipc.ReasonForeignAnswer
		}
	}
	for _, t := range f.Targets {
		if c.from(t.Owner) == 0 {
			return ipc.ReasonForeignAnswer
		}
	}
	for _, list := range [][]byte{f.A.Owners, f.AAAA.Owners} {
		for _, index := range list {
			if c.from(index) == 0 {
				return ipc.ReasonForeignAnswer
			}
		}
	}
	for _, index := range f.Others {
		if c.from(index) == 0 && !c.above[c.idOf[index]] {
			return ipc.ReasonForeignAnswer
		}
	}
	return ipc.ReasonNone
}

// teaches lists the names that the walked response gives away, each with its
// questions: targets of CNAME, SRV, MX, NS, HTTPS and SVCB records, and what
// DNAME made. The root is what a null MX (RFC 7505) or an absent service
// (RFC 2782) names: nothing.
func (c *chain) teaches(f *ipc.ResponseFact) []taught[name.Name] {
	from := c.renamed
	for _, l := range f.Links {
		if !l.DNAME {
			from[c.idOf[l.Target]] |= c.from(l.Owner)
		}
	}
	for _, t := range f.Targets {
		from[c.idOf[t.Target]] |= c.from(t.Owner)
	}
	var names []taught[name.Name]
	for id, n := range c.names {
		if from[id] != 0 && n != name.Root {
			names = append(names, taught[name.Name]{n, from[id]})
		}
	}
	return names
}
