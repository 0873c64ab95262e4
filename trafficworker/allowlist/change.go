package allowlist

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// Change is what became of all that was learnt and granted when another policy
// came into force.
type Change struct {
	Grants          []ipc.Grants // what the trafficworker must be told, in this order
	Kept            int          // grants that are as they were
	Shortened       int          // grants that end sooner
	Closed          int          // grants that the new policy would not give
	NamesKept       int          // learnt names
	NamesForgotten  int
	PendingRequests int // that wait for an answer, which the new policy will judge
}

// Change puts another policy in force, for the same queues and so the same
// filters. Everything stays as far as the new policy would still give it: a
// grant or learnt name ends unless one of the configured names that justify
// it is allowed still, by itself or by one above it, and none lasts longer
// than its filter now lets it. What narrower names would still give is closed
// all the same, since it is not remembered which question brought it: the
// client asks again. With an error nothing has changed.
func (e *Engine) Change(now ipc.Instant, p *ipc.Policy) (Change, error) {
	next, err := New(p)
	if err != nil {
		return Change{}, err
	}
	if !maps.Equal(next.queues, e.queues) || len(next.rules) != len(e.rules) {
		return Change{}, errors.New("allowlist: policy: a change that changes queues")
	}
	for i := range next.rules {
		if next.rules[i].allowAll != e.rules[i].allowAll {
			return Change{}, fmt.Errorf("allowlist: policy: filter %d changes whether it allows everything", i)
		}
	}
	c := Change{PendingRequests: e.pending.len}
	for i := range next.rules {
		t := translation{from: &e.rules[i], to: &next.rules[i], limit: now.Add(next.rules[i].lasts)}
		e.translateLearnt(now, i, &t, &c)
		e.translateGrants(now, i, &t, &c)
	}
	e.rules, e.resolvers = next.rules, next.resolvers
	e.pending.checkInterface = p.Settings.InterfaceCheck
	return c, nil
}

// translation turns proofs by one filter's old rules into proofs by its new.
type translation struct {
	from, to *rules
	limit    ipc.Instant
}

func (t *translation) proofs(now ipc.Instant, old *proofs) (p proofs) {
	for _, good := range old.appendTo(nil, now) {
		if entry, _, ok := t.to.find(t.from.hostnames[good.entry]); ok {
			p.add(now, proof{entry, min(good.until, t.limit)})
		}
	}
	return p
}

func (e *Engine) translateLearnt(now ipc.Instant, filter int, t *translation, c *Change) {
	type entry struct {
		name name.Name
		old  proofs
	}
	var all []entry
	e.learnt.Each(now, filter, func(n name.Name, old proofs, _ ipc.Instant) { all = append(all, entry{n, old}) })
	for _, l := range all {
		e.learnt.Delete(filter, l.name)
		if p := t.proofs(now, &l.old); e.learnt.Put(now, filter, l.name, p, p.until()) {
			c.NamesKept++
		} else {
			c.NamesForgotten++
		}
	}
}

func (e *Engine) translateGrants(now ipc.Instant, filter int, t *translation, c *Change) {
	type entry struct {
		address [16]byte
		old     proofs
		until   ipc.Instant
	}
	var all []entry
	e.grants.Each(now, filter, func(a [16]byte, old proofs, until ipc.Instant) { all = append(all, entry{a, old, until}) })
	var closed []netip.Addr
	shortened := map[ipc.Instant][]netip.Addr{}
	for _, g := range all {
		p, a := t.proofs(now, &g.old), netip.AddrFrom16(g.address).Unmap()
		e.grants.Delete(filter, g.address)
		switch until := p.until(); {
		case !e.grants.Put(now, filter, g.address, p, until):
			closed = append(closed, a)
		case until < g.until:
			shortened[until] = append(shortened[until], a)
			c.Shortened++
		default:
			c.Kept++
		}
	}
	c.Closed += len(closed)
	c.Grants = append(c.Grants, pack(ipc.Grants{Kind: ipc.GrantsClose, Filter: uint32(filter)}, closed)...)
	for _, until := range slices.SortedFunc(maps.Keys(shortened), cmp.Compare[ipc.Instant]) {
		set := ipc.Grants{Kind: ipc.GrantsSet, Filter: uint32(filter), Until: until}
		c.Grants = append(c.Grants, pack(set, shortened[until])...)
	}
}
