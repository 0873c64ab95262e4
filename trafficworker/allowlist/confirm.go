package allowlist

import (
	"slices"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// named goes on with the names of an address, which are kept for filters that
// come to wait for it later. NB: they are of one fact, which bounds them.
func (l *lookups) named(now ipc.Instant, x *unknown, names []name.Name, all []rules) {
	delete(l.unknown.byPointer, x.pointer)
	x.pointed, x.names = true, names
	for _, w := range slices.Clone(x.waiters) {
		l.unknown.asked[w.filter]--
		l.confirm(now, x, w, all)
	}
}

// confirm has the names that a filter allows looked up in turn. Without any
// its waiting ends.
func (l *lookups) confirm(now ipc.Instant, x *unknown, w *waiter, all []rules) {
	u := &l.unknown
	for _, n := range x.names {
		_, allowed := all[w.filter].find(n)
		if !allowed || slices.Contains(w.names, n) || len(w.names) == maxConfirmed {
			continue
		}
		q := x.forward(n)
		others := u.confirming[q]
		if u.asked[w.filter] >= u.share || len(others) == 0 && u.full() {
			w.leftOut = true
			continue
		}
		w.names = append(w.names, n)
		u.asked[w.filter]++
		if !slices.ContainsFunc(others, func(other *unknown) bool { return other.until.Add(renewWithin) >= x.until }) {
			l.ask(now, q, x.until)
		}
		if !slices.Contains(others, x) {
			u.confirming[q] = append(others, x)
		}
	}
	l.endWithout(now, x, w)
}

// endWithout ends what a filter waits for if there is no name left.
func (l *lookups) endWithout(now ipc.Instant, x *unknown, w *waiter) {
	switch {
	case len(w.names) > 0:
	case w.leftOut:
		l.finish(now, x, w, 0)
	default:
		l.finish(now, x, w, now.Add(settledFor))
	}
}

// refuted: a name does not lead back to the address.
func (l *lookups) refuted(now ipc.Instant, x *unknown, n name.Name) {
	for _, w := range slices.Clone(x.waiters) {
		if slices.Contains(w.names, n) {
			l.unknown.unconfirm(x, w, n)
			l.endWithout(now, x, w)
		}
	}
}

// unconfirm has a name of a filter's not asked for any more, unless others
// wait for it.
func (u *unknowns) unconfirm(x *unknown, w *waiter, n name.Name) {
	w.names = slices.DeleteFunc(w.names, func(other name.Name) bool { return other == n })
	u.asked[w.filter]--
	if slices.ContainsFunc(x.waiters, func(other *waiter) bool { return slices.Contains(other.names, n) }) {
		return
	}
	q := x.forward(n)
	others := slices.DeleteFunc(u.confirming[q], func(other *unknown) bool { return other == x })
	if u.confirming[q] = others; len(others) == 0 {
		delete(u.confirming, q)
	}
}

// forward is the question about the addresses of a name that would confirm it.
func (x *unknown) forward(n name.Name) inquiry {
	if x.address.Is4() {
		return inquiry{n, ipc.TypeA}
	}
	return inquiry{n, ipc.TypeAAAA}
}
