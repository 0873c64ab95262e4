package allowlist

import (
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
	Grants          []ipc.Grants // what the trafficworker must be told, in this order, before GrantsDone
	Kept            int          // grants that are as they were
	Shortened       int          // grants that end sooner, or of which single ports stay
	Closed          int          // grants that the new policy would not give
	NamesKept       int          // learnt names
	NamesForgotten  int
	PendingRequests int // that wait for an answer, which the new policy will judge
}

// Change puts another policy in force, for the same queues and so the same
// filters. Everything stays as far as the new policy would still give it: a
// grant or learnt name ends unless one of the configured names that justify
// it is allowed still, by an entry that covers all that it allowed; a port
// that no such entry opens is closed; and none lasts longer than its filter
// now lets it. What narrower names would still give is closed all the same,
// since it is not remembered which question brought it: the client asks again.
// With an error nothing has changed.
func (e *Engine) Change(now ipc.Instant, p *ipc.Policy) (Change, error) {
	next, err := New(p)
	if err != nil {
		return Change{}, err
	}
	if !maps.Equal(next.queues, e.queues) || len(next.rules) != len(e.rules) {
		return Change{}, errors.New("allowlist: policy: a change that changes queues")
	}
	for i := range next.rules {
		if next.rules[i].AllowAll != e.rules[i].AllowAll {
			return Change{}, fmt.Errorf("allowlist: policy: filter %d changes whether it allows everything", i)
		}
	}
	c := Change{PendingRequests: e.pending.len, Grants: []ipc.Grants{{Kind: ipc.GrantsChange}}}
	for i := range next.rules {
		t := newTranslation(now, &e.rules[i], &next.rules[i])
		e.translateLearnt(now, i, t, &c)
		e.translateGrants(now, i, t, &c)
	}
	e.rules, e.resolvers, e.servers = next.rules, next.resolvers, next.servers
	e.lookups.setCached(now, e.rules)
	e.lookups.changeUnknown(e.rules)
	e.pending.checkInterface = p.Settings.InterfaceCheck
	return c, nil
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
		p := t.names(now, &l.old)
		if e.learnt.Put(now, filter, l.name, p, p.until()) {
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
	}
	var all []entry
	e.grants.Each(now, filter, func(a [16]byte, old proofs, _ ipc.Instant) { all = append(all, entry{a, old}) })
	lots := map[lot][]netip.Addr{}
	for _, g := range all {
		e.grants.Delete(filter, g.address)
		a := netip.AddrFrom16(g.address).Unmap()
		if t.to.DenyPrivate && ipc.Private(a) {
			c.Closed++
			continue
		}
		r := t.grant(now, &g.old)
		e.grants.Put(now, filter, g.address, r.proofs, r.proofs.until())
		for _, l := range r.lots {
			lots[l] = append(lots[l], a)
		}
		switch {
		case len(r.lots) == 0:
			c.Closed++
		case r.whole:
			c.Kept++
		default:
			c.Shortened++
		}
	}
	for _, l := range slices.SortedFunc(maps.Keys(lots), compareLots) {
		g := ipc.Grants{Kind: ipc.GrantsKeep, Filter: uint32(filter), Until: l.until, Port: l.port}
		c.Grants = append(c.Grants, pack(g, lots[l])...)
	}
}
