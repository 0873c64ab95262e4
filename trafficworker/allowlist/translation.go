package allowlist

import "github.com/capnspacehook/egress-eddie/ipc"

// translation turns proofs by one filter's old rules into proofs by its new.
type translation struct {
	from, to *rules
	latest   ipc.Instant // until when a grant may last that an answer to somebody opened
	cached   ipc.Instant // and one of a cached name
	grants   map[proof]translated
}

func newTranslation(now ipc.Instant, from, to *rules) *translation {
	return &translation{
		from, to, now.Add(max(to.AllowAnswersFor, to.MaxInUse)), now.Add(max(to.CachedFor, to.MaxInUse)), map[proof]translated{},
	}
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
	latest := now.Add(t.to.AllowAnswersFor)
	for _, good := range old.appendTo(nil, now) {
		for entry := range t.to.covering(t.from, good.entry) {
			p.add(now, proof{entry, min(good.until, latest)})
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

func (t *translation) translate(now ipc.Instant, old *proofs) (r translated) {
	was, is := map[ipc.Port]ipc.Instant{}, map[ipc.Port]ipc.Instant{}
	for _, good := range old.appendTo(nil, now) {
		t.from.open(was, good.entry, good.until)
		for entry := range t.to.covering(t.from, good.entry) {
			until := good.until
			if t.to.CachedFor > 0 { // which over there bounds all grants of the filter
				until = min(until, t.latestOf(entry))
			}
			t.to.open(is, entry, until)
			r.proofs.add(now, proof{entry, t.until(entry, good.until)})
		}
	}
	r.whole = len(was) == len(is) && max(t.latest, t.cached) >= old.until()
	for port, until := range is {
		l := lot{0, port}
		var end ipc.Instant
		for other, o := range was {
			if _, overlap := port.And(other); overlap {
				end = max(end, o)
			}
		}
		if until < end {
			l.until = until
		}
		_, same := was[port]
		r.whole = r.whole && same && l.until == 0
		if end > 0 {
			r.lots = append(r.lots, l)
		}
	}
	return r
}

// until is the end of a proof by the new rules. By rules with maxInUse it is
// that long after the answer, by others the end of what the answer opened. When
// that was is not remembered; then it is rather too late, since the trafficworker
// keeps nothing that has ended.
func (t *translation) until(entry uint32, old ipc.Instant) ipc.Instant {
	switch {
	case t.to.MaxInUse == 0:
	case t.from.MaxInUse == 0:
		old = old.Add(t.to.MaxInUse)
	default:
		old = old.Add(t.to.MaxInUse - t.from.MaxInUse)
	}
	return min(old, t.latestOf(entry))
}

// open notes until when an entry's ports are open.
func (r *rules) open(opens map[ipc.Port]ipc.Instant, entry uint32, until ipc.Instant) {
	ports := r.ports(entry)
	if len(ports) == 0 {
		ports = []ipc.Port{{}}
	}
	for _, port := range ports {
		opens[port] = max(opens[port], until)
	}
}
