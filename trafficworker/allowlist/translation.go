package allowlist

import "github.com/capnspacehook/egress-eddie/ipc"

// translation turns proofs by one filter's old rules into proofs by its new.
type translation struct {
	from, to *rules
	latest   ipc.Instant // until when an unused grant may last that an answer to somebody opened
	cached   ipc.Instant // and one of a cached name
	grants   map[proof]translated
}

func newTranslation(now ipc.Instant, from, to *rules) *translation {
	return &translation{from, to, now.Add(to.AllowAnswersFor), now.Add(to.CachedFor), map[proof]translated{}}
}

// latestOf is the one of the two that an entry of the new rules may last.
func (t *translation) latestOf(entry uint32) ipc.Instant {
	if t.to.isCached(entry) {
		return t.cached
	}
	return t.latest
}

// names are proofs of a learnt name.
func (t *translation) names(now ipc.Instant, old *proofs) (p proofs) {
	for _, good := range old.appendTo(nil, now) {
		for entry := range t.to.covering(t.from, good.entry) {
			p.add(now, proof{entry: entry, until: min(good.until, t.latest)})
		}
	}
	return p
}

// translated is what becomes of a grant.
type translated struct {
	proofs proofs
	lots   []lot // what the new rules give, and until when, 0 for as long as it was
	whole  bool  // that is all that the old ones gave
}

// grant translates proofs of a grant. What is open over there is not known
// here: an answer whose question two entries allowed, of which one opens all
// ports, opened all; with maxInUse it may have ended long ago; and what a policy
// gives that came later is open only as far as earlier ones gave it.
func (t *translation) grant(now ipc.Instant, old *proofs) translated {
	if old.more != nil {
		return t.translate(now, old)
	}
	r, known := t.grants[old.first] // nearly always: all addresses of an answer
	if !known {
		r = t.translate(now, old)
		t.grants[old.first] = r
	}
	r.proofs = r.proofs.clone()
	return r
}

// translate gives a port up that no remaining entry opens. One of which something
// is lost stays as long as each of the others opened it itself, unused: whether it
// was used on their behalf nobody knows, since over there it is one grant for all.
// So one in use may be closed, and then has to be asked for again.
func (t *translation) translate(now ipc.Instant, old *proofs) (r translated) {
	was, is, plain := map[ipc.Port]bool{}, map[ipc.Port]ipc.Instant{}, map[ipc.Port]ipc.Instant{}
	var all []turned
	for _, good := range old.appendTo(nil, now) {
		o := turned{t.from.opened(good.entry), map[ipc.Port]bool{}}
		for _, port := range o.was {
			was[port] = true
		}
		for entry := range t.to.covering(t.from, good.entry) {
			p := t.proof(entry, good)
			r.proofs.add(now, p)
			for _, port := range t.to.opened(entry) {
				is[port] = max(is[port], p.until)
				plain[port] = max(plain[port], p.plain)
				o.gives[port] = o.gives[port] || !t.shortens(good, p)
			}
		}
		all = append(all, o)
	}
	r.whole = len(was) == len(is) && r.proofs.until() >= old.until()
	for port, until := range is {
		l := lot{0, port}
		opened, lost := false, false
		for _, o := range all {
			some, less := o.of(port)
			opened, lost = opened || some, lost || less
		}
		if lost {
			if len(all) > 1 {
				until = plain[port]
			}
			l.until = until
		}
		r.whole = r.whole && was[port] && !lost
		if opened && until > now {
			r.lots = append(r.lots, l)
		}
	}
	if len(r.lots) == 0 {
		r.proofs = proofs{}
	}
	return r
}

// proof is an old one by a new entry. With maxInUse what it opened may be used
// until so long after the answer; without, it ends as it would by now.
func (t *translation) proof(entry uint32, old proof) proof {
	latest := t.latestOf(entry)
	until := min(old.until, latest)
	if t.to.MaxInUse > 0 {
		until = old.answered.Add(t.to.MaxInUse)
	}
	return proof{entry, until, min(old.plain, latest, until), old.answered}
}

// shortens reports whether the trafficworker must be told that a proof ends
// sooner: over there maxInUse counts from the last answer, which may have been
// on behalf of an entry that is gone, and CachedFor bounds all grants of a filter
// that has any.
func (t *translation) shortens(old, p proof) bool {
	if t.to.MaxInUse > 0 {
		return p.until < old.plain
	}
	return t.to.CachedFor > 0 && p.until < old.until
}

// turned is an old proof's ports, and those that the entries which cover it
// give, true if for as long.
type turned struct {
	was   []ipc.Port
	gives map[ipc.Port]bool
}

// of reports whether any of a port was open by the old proof, and whether any
// of that is so no more or not for as long.
func (o *turned) of(port ipc.Port) (some, less bool) {
	for _, was := range o.was {
		if both, overlap := port.And(was); overlap {
			some = true
			less = less || !o.gives[both] && !o.gives[ipc.Port{Number: both.Number}] && !o.gives[ipc.Port{}]
		}
	}
	return some, less
}

// opened is an entry's ports, of which the zero one is all.
func (r *rules) opened(entry uint32) []ipc.Port {
	if ports := r.ports(entry); len(ports) > 0 {
		return ports
	}
	return []ipc.Port{{}}
}
