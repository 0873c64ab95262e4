package trafficworker

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/child"
)

// Without it nothing that waits would ever be too late.
var _ child.Ticker = (*worker)(nil)

// wait has a packet that nothing opens wait until its far address has been
// looked up, if its filter has that done and there is room. Otherwise why is
// what it is dropped for; reason is what it would be without all this.
func (w *worker) wait(now ipc.Instant, p *packet, reason ipc.Reason) (waits bool, why ipc.Reason, err error) {
	far, _, _ := p.remote(p.hook)
	at := place{p.queue.Filter, far}
	// A name that leads to such an address opens nothing, or says nothing about
	// who is there.
	if !w.table.filters[at.filter].LookupUnknown || ipc.Special(far) || ipc.Private(far) || far.Is4In6() {
		return false, reason, nil
	}
	if w.waiting.isSettled(now, at) {
		return false, ipc.ReasonLookedUp, nil
	}
	if !w.waiting.room(now, at) {
		return false, ipc.ReasonTooManyLookups, nil
	}
	if w.waiting.unknown[at] == nil {
		if asked, err := w.ask(at); !asked {
			return false, ipc.ReasonTooManyLookups, err
		}
	}
	w.waiting.add(now, at, p)
	return true, ipc.ReasonNone, nil
}

// ask asks the holder about an address. It never waits for room.
func (w *worker) ask(at place) (asked bool, err error) {
	err = w.unknown.Send(&ipc.Unknown{Filter: at.filter, Address: ipc.AddressOf(at.address)})
	// A holder that is gone ends this process no more than one that is slow: the
	// parent decides what follows.
	if errors.Is(err, ipc.ErrWouldBlock) || errors.Is(err, unix.EPIPE) {
		return false, nil
	}
	return err == nil, err
}

// taken gives verdicts for what has waited for the grants just taken.
func (w *worker) taken(now ipc.Instant, g *ipc.Grants) error {
	switch g.Kind {
	case ipc.GrantsOpen:
		return w.opened(now, g)
	case ipc.GrantsSettled:
		return w.settled(now, g)
	case ipc.GrantsAll:
		return w.judgeFromNow()
	case ipc.GrantsDone:
		w.waiting.forget() // another name may be allowed now
		for _, u := range slices.Clone(w.waiting.order) {
			if err := w.again(now, u, ipc.ReasonNone); err != nil {
				return err
			}
		}
	}
	return nil
}

// opened judges each place once, however often a message names it.
func (w *worker) opened(now ipc.Instant, g *ipc.Grants) error {
	if len(w.waiting.order) == 0 {
		return nil
	}
	var all []*unknown
	g.Each(func(a netip.Addr) {
		if u := w.waiting.unknown[place{g.Filter, a}]; u != nil && !u.opened {
			u.opened = true
			all = append(all, u)
		}
	})
	for _, u := range all {
		u.opened = false
		if err := w.again(now, u, ipc.ReasonNone); err != nil {
			return err
		}
	}
	return nil
}

// settled ends the waiting for the addresses of a message. One that nobody
// waits for is not remembered: the holder cannot fill the memory with what it
// was not asked.
func (w *worker) settled(now ipc.Instant, g *ipc.Grants) (err error) {
	g.Each(func(a netip.Addr) {
		at := place{g.Filter, a}
		if u := w.waiting.unknown[at]; u != nil && err == nil {
			w.waiting.settle(now, at, g.Until)
			reason := ipc.ReasonLookedUp
			if g.Until == 0 { // not all of what could open it was
				reason = ipc.ReasonTooManyLookups
			}
			err = w.again(now, u, reason)
		}
	})
	return err
}

// again judges once more what waits for a place, by the table as it is now.
// What nothing opens is dropped for a reason, or with ReasonNone goes on
// waiting, as long as its filter has addresses looked up.
func (w *worker) again(now ipc.Instant, u *unknown, otherwise ipc.Reason) error {
	var stay []packet
	for i := range u.packets {
		p := &u.packets[i]
		reason, port := w.lookUp(now, p)
		if reason != ipc.ReasonNone && w.table.filters[u.filter].LookupUnknown {
			if otherwise == ipc.ReasonNone {
				stay = append(stay, *p)
				continue
			}
			reason = otherwise
		}
		if err := w.decide(p, port, reason); err != nil {
			return err
		}
	}
	w.waiting.keep(u, stay)
	return nil
}

// Tick begins to judge when it is time to, and drops what has waited too long.
func (w *worker) Tick() (time.Duration, error) {
	if !w.judges {
		if left := w.begun.Add(toldFor).Sub(w.now()); left > 0 {
			return left, nil
		}
		if err := w.judgeFromNow(); err != nil {
			return 0, err
		}
	}
	if len(w.waiting.order) == 0 {
		return ipc.Forever, nil
	}
	now := w.now()
	if w.waiting.order[0].until > now {
		return w.waiting.order[0].until.Sub(now), nil
	}
	// As before every denial: what has been written to open it counts.
	if err := w.drain(); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	for len(w.waiting.order) > 0 && w.waiting.order[0].until <= now {
		if err := w.again(now, w.waiting.order[0], ipc.ReasonLookupTime); err != nil {
			return 0, err
		}
	}
	limit := ipc.Forever
	if len(w.waiting.order) > 0 {
		limit = w.waiting.order[0].until.Sub(now)
	}
	return limit, w.verdicts.Flush()
}
