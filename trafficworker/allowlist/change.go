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
	Shortened       int          // grants that end sooner
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
		t := translation{from: &e.rules[i], to: &next.rules[i]}
		t.names = now.Add(t.to.AllowAnswersFor)
		t.addresses = now.Add(max(t.to.AllowAnswersFor, t.to.MaxInUse))
		e.translateLearnt(now, i, &t, &c)
		e.translateGrants(now, i, &t, &c)
	}
	e.rules, e.resolvers = next.rules, next.resolvers
	e.pending.checkInterface = p.Settings.InterfaceCheck
	return c, nil
}

// translation turns proofs by one filter's old rules into proofs by its new.
type translation struct {
	from, to         *rules
	names, addresses ipc.Instant // until when they may last
}

func (t *translation) proofs(now ipc.Instant, old *proofs, limit ipc.Instant) (p proofs) {
	for _, good := range old.appendTo(nil, now) {
		for entry := range t.to.covering(t.from, good.entry) {
			p.add(now, proof{entry, min(good.until, limit)})
		}
	}
	return p
}

// opens are the ports that proofs open, each until when.
func (r *rules) opens(now ipc.Instant, p *proofs) map[ipc.Port]ipc.Instant {
	opens := map[ipc.Port]ipc.Instant{}
	for _, good := range p.appendTo(nil, now) {
		ports := r.ports(good.entry)
		if len(ports) == 0 {
			ports = []ipc.Port{{}}
		}
		for _, port := range ports {
			opens[port] = max(opens[port], good.until)
		}
	}
	return opens
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
		p := t.proofs(now, &l.old, t.names)
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
	d := differences{kept: map[ipc.Port][]netip.Addr{}, shortened: map[lot][]netip.Addr{}, opened: map[lot][]netip.Addr{}}
	for _, g := range all {
		p := t.proofs(now, &g.old, t.addresses)
		e.grants.Delete(filter, g.address)
		e.grants.Put(now, filter, g.address, p, p.until())
		was, is := t.from.opens(now, &g.old), t.to.opens(now, &p)
		switch d.compare(netip.AddrFrom16(g.address).Unmap(), was, is); {
		case len(is) == 0:
			c.Closed++
		case maps.Equal(was, is):
			c.Kept++
		default:
			c.Shortened++
		}
	}
	if t.to.MaxInUse > 0 { // what was not used may have ended over there
		d.opened = nil
	}
	c.Grants = append(c.Grants, d.messages(filter, t.names)...)
}

// differences are what the trafficworker must be told about a filter.
type differences struct {
	kept              map[ipc.Port][]netip.Addr
	shortened, opened map[lot][]netip.Addr
}

// compare notes what stays of one address. Ports are only ever taken away;
// where all were open and single ones are left, those are opened.
func (d *differences) compare(a netip.Addr, was, is map[ipc.Port]ipc.Instant) {
	for port, until := range was {
		left := covering(is, port)
		if left == 0 {
			continue
		}
		d.kept[port] = append(d.kept[port], a)
		if left < until {
			d.shortened[lot{left, port}] = append(d.shortened[lot{left, port}], a)
		}
	}
	for port, until := range is {
		if _, same := was[port]; !same && covering(was, port) > 0 {
			d.opened[lot{until, port}] = append(d.opened[lot{until, port}], a)
		}
	}
}

// covering is until when a port is open: by itself, by both protocols, or by
// all ports.
func covering(opens map[ipc.Port]ipc.Instant, port ipc.Port) ipc.Instant {
	until := max(opens[port], opens[ipc.Port{}])
	if port.Number != 0 {
		until = max(until, opens[ipc.Port{Number: port.Number}])
	}
	return until
}

// messages tell the trafficworker, in the same order for the same differences.
// latest is until when it lets anything be opened.
func (d *differences) messages(filter int, latest ipc.Instant) (messages []ipc.Grants) {
	for _, port := range slices.SortedFunc(maps.Keys(d.kept), comparePorts) {
		g := ipc.Grants{Kind: ipc.GrantsKeep, Filter: uint32(filter), Port: port}
		messages = append(messages, pack(g, d.kept[port])...)
	}
	for _, l := range slices.SortedFunc(maps.Keys(d.shortened), compareLots) {
		g := ipc.Grants{Kind: ipc.GrantsShorten, Filter: uint32(filter), Until: l.until, Port: l.port}
		messages = append(messages, pack(g, d.shortened[l])...)
	}
	for _, l := range slices.SortedFunc(maps.Keys(d.opened), compareLots) {
		g := ipc.Grants{Kind: ipc.GrantsOpen, Filter: uint32(filter), Until: min(l.until, latest), Port: l.port}
		messages = append(messages, pack(g, d.opened[l])...)
	}
	return messages
}
