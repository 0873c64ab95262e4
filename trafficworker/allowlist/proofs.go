package allowlist

import "github.com/capnspacehook/egress-eddie/ipc"

// maxProofs bounds the configured entries that are kept as the justification
// of one learnt name or grant.
const maxProofs = 8

// proof is one configured host name (its index in the filter's list) and how
// long it justifies something.
type proof struct {
	entry uint32
	until ipc.Instant
	// Of a grant alone, whose end may be put off by use:
	plain    ipc.Instant // when what the entry opened ends if nobody uses it
	answered ipc.Instant // the last answer it justified
}

// proofs is every configured entry that justifies a learnt name or a grant,
// each with its own end; what it justifies ends with the last of them. At the
// bound the one that ends first is forgotten. That closes and never opens:
// whatever is removed from the policy later, the name or address stays only
// while an entry that is still remembered justifies it.
//
// Nearly always there is one, which is held without a further allocation.
// NB: more belongs to one proofs alone; copy with clone or appendTo.
type proofs struct {
	first proof
	more  *[maxProofs - 1]proof // unused ones are zero
}

// clone is a copy that shares nothing.
func (p *proofs) clone() proofs {
	c := *p
	if p.more != nil {
		more := *p.more
		c.more = &more
	}
	return c
}

// appendTo appends the entries that are still good.
func (p *proofs) appendTo(into []proof, now ipc.Instant) []proof {
	for i := range p.len() {
		if good := p.at(i); good.until > now {
			into = append(into, *good)
		}
	}
	return into
}

// one is an entry that is still good, if there is any.
func (p *proofs) one(now ipc.Instant) (entry uint32, ok bool) {
	for i := range p.len() {
		if good := p.at(i); good.until > now {
			return good.entry, true
		}
	}
	return 0, false
}

// add remembers one more entry, or that a known one is good for longer. A
// place whose proof has ended is free; a zero one has always ended.
func (p *proofs) add(now ipc.Instant, add proof) {
	if add.until <= now {
		return
	}
	for i := range p.len() {
		if old := p.at(i); old.entry == add.entry && old.until > now {
			old.until = max(old.until, add.until)
			old.plain, old.answered = max(old.plain, add.plain), max(old.answered, add.answered)
			return
		}
	}
	soonest := &p.first
	for i := range p.len() {
		if old := p.at(i); old.until < soonest.until {
			soonest = old
		}
	}
	switch {
	case soonest.until <= now:
		*soonest = add
	case p.more == nil:
		p.more = &[maxProofs - 1]proof{add}
	case soonest.until < add.until:
		*soonest = add
	}
}

// until is the end of what the proofs justify.
func (p *proofs) until() ipc.Instant {
	last := p.first.until
	for i := range p.len() {
		last = max(last, p.at(i).until)
	}
	return last
}

func (p *proofs) len() int {
	if p.more == nil {
		return 1
	}
	return maxProofs
}

func (p *proofs) at(i int) *proof {
	if i == 0 {
		return &p.first
	}
	return &p.more[i-1]
}
