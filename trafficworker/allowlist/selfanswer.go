package allowlist

import (
	"slices"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// lookedUp is what an answer to a question of the daemon's own gives.
type lookedUp struct {
	inquiry
	rcode    uint8
	opens    []Plan      // one for each filter that is given something
	pointers []name.Name // that the answer to a PTR question gives
	leads    []lead
}

// lead is an address that the name leads back to, for a filter that allows it.
type lead struct {
	to  *unknown
	of  *waiter
	end ipc.Instant
}

// planLookup is plan for an answer to a question of the daemon's own. Names are
// taught by none.
func (e *Engine) planLookup(now ipc.Instant, q inquiry, f *ipc.ResponseFact, p *Plan) {
	l := &lookedUp{inquiry: q, rcode: f.RCode}
	p.lookup = l
	if f.RCode != rcodeSuccess {
		return
	}
	if q.typ == ipc.TypePTR {
		for _, t := range f.Pointers {
			if e.chain.from(t.Owner) != 0 {
				l.pointers = append(l.pointers, f.Names[t.Target])
			}
		}
		return
	}
	if c := e.lookups.cached[q]; c != nil {
		e.planCached(now, c, f, p)
	}
	for _, x := range e.lookups.unknown.confirming[q] {
		e.planUnknown(now, x, f, p)
	}
	for i := range l.opens {
		p.Grants = append(p.Grants, l.opens[i].Grants...)
	}
}

// share is the part of a plan that one filter is given, justified by entries.
func share(p *Plan, filter int, entries basis) *Plan {
	p.lookup.opens = append(p.lookup.opens, Plan{
		Outcome:   Outcome{Verdict: ipc.Accept, Filter: filter},
		Questions: p.Questions,
		bases:     []basis{entries},
	})
	return &p.lookup.opens[len(p.lookup.opens)-1]
}

// planCached opens the addresses of a cached name for its filters. They share
// what one answer may open, so that whoever owns a name of many filters pushes
// out no more of what others opened than with a name of one; of many addresses
// every filter has the same first ones, and the rest is refused.
func (e *Engine) planCached(now ipc.Instant, c *cached, f *ipc.ResponseFact, p *Plan) {
	room := max(1, maxOpenings/len(c.opens))
	opened := map[bool][]answered{} // by whether private ones are refused
	for _, o := range c.opens {
		r := &e.rules[o.filter]
		all, known := opened[r.DenyPrivate]
		if !known {
			all = p.answered(f, &e.chain, r)
			for _, a := range all[min(room, len(all)):] {
				p.Special = append(p.Special, a.what)
			}
			all = all[:min(room, len(all))]
			opened[r.DenyPrivate] = all
		}
		// As long after the next answer as the filter's own time would be: the
		// answers come more often than that, and addresses that rotate pile up.
		lasts := c.every + r.CachedFor - r.ReCacheEvery
		part := share(p, o.filter, basis{{entry: o.entry, until: now.Add(lasts)}})
		part.addresses = slices.Clone(all)
		for i := range part.addresses {
			part.addresses[i].lasts = lasts
		}
		part.grant(now, r)
		p.Lasts = max(p.Lasts, part.Lasts)
	}
}

// planUnknown opens an address whose name leads back to it, and nothing else,
// for those of its filters that allow the name themselves.
func (e *Engine) planUnknown(now ipc.Instant, x *unknown, f *ipc.ResponseFact, p *Plan) {
	for _, w := range x.waiters {
		r := &e.rules[w.filter]
		entries := e.allowing(now, r, p.lookup.name)
		if len(entries) == 0 {
			continue
		}
		part := share(p, w.filter, entries)
		part.addresses = slices.DeleteFunc(part.answered(f, &e.chain, r), func(a answered) bool { return a.what != x.address })
		if len(part.addresses) == 0 {
			p.lookup.opens = p.lookup.opens[:len(p.lookup.opens)-1]
			continue
		}
		part.grant(now, r)
		p.Lasts = max(p.Lasts, part.Lasts)
		p.lookup.leads = append(p.lookup.leads, lead{x, w, now.Add(part.Lasts)})
	}
}

// commitLookup goes on with what was asked for. NB: the grants of the plan are
// handed over, and what it opens is settled after them.
func (e *Engine) commitLookup(now ipc.Instant, p *Plan) {
	l, q := e.lookups, p.lookup
	for i := range q.opens {
		e.Commit(now, &q.opens[i])
	}
	if c := l.cached[q.inquiry]; c != nil {
		c.answered(now, l, q.rcode)
	}
	if q.rcode != rcodeSuccess && q.rcode != rcodeNoName { // the resolver asks another server
		return
	}
	if x := l.unknown.byPointer[q.inquiry]; x != nil {
		l.named(now, x, q.pointers, e.rules)
		return
	}
	for _, lead := range q.leads {
		l.finish(now, lead.to, lead.of, min(lead.end, now.Add(settledFor)))
	}
	for _, x := range slices.Clone(l.unknown.confirming[q.inquiry]) {
		l.refuted(now, x, q.name)
	}
}
