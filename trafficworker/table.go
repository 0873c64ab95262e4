package trafficworker

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/trafficworker/expiring"
)

// opening is what a grant opens: an address (IPv4 as IPv4-mapped) and a port
// of it, or with the zero one all.
type opening struct {
	address [16]byte
	port    ipc.Port
}

// use is how a grant may be renewed by what it lets pass: for as long as it
// had, and not beyond last. The zero one may not.
type use struct {
	stretch time.Duration
	last    ipc.Instant
}

// table is the grants of all filters. The holder is not believed: whatever it
// sends, no grant is for a filter that grants nothing, for a special address,
// or for longer than the filter's allowAnswersFor from now.
type table struct {
	filters []ipc.Filter
	always  []networks // of the configuration, by filter
	next    *announced // by the parent, in force with the holder's GrantsDone
	grants  *expiring.Group[opening, use]
}

func newTable(filters []ipc.Filter, addresses [][]ipc.AllowedAddress) (*table, error) {
	for _, f := range filters {
		if f.AllowAll && f.AllowAnswersFor != 0 {
			return nil, fmt.Errorf("filter %q allows everything and grants", f.Name)
		}
	}
	always, err := allNetworks(filters, addresses)
	if err != nil {
		return nil, err
	}
	return &table{
		filters: filters,
		always:  always,
		grants:  expiring.NewGroup[opening, use](len(filters), ipc.MaxGrantsOfFilter, ipc.MaxGrants),
	}, nil
}

// take takes a validated message, and reports whether an announced policy is
// in force with it. An error is something that an honest holder never sends;
// then nothing of the message was taken.
func (t *table) take(now ipc.Instant, g *ipc.Grants) (inForce bool, err error) {
	switch g.Kind {
	case ipc.GrantsChange:
		return false, t.begin()
	case ipc.GrantsDone:
		return true, t.commit(now)
	}
	if int64(g.Filter) >= int64(len(t.filters)) {
		return false, fmt.Errorf("grants for the unknown filter %d", g.Filter)
	}
	each := func(f func(o opening)) { g.Each(func(a netip.Addr) { f(opening{a.As16(), g.Port}) }) }
	switch g.Kind {
	case ipc.GrantsKeep:
		if !t.changing() {
			return false, errors.New("grants that are kept, without a change")
		}
		each(func(o opening) { t.next.keep(g.Filter, o) })
	case ipc.GrantsShorten:
		each(func(o opening) { t.shorten(now, int(g.Filter), o, g.Until) })
	default:
		if err := t.check(now, g); err != nil {
			return false, err
		}
		u := t.use(now, g)
		each(func(o opening) {
			// At a bound the table may refuse: then the address stays closed.
			t.grants.Put(now, int(g.Filter), o, u, g.Until)
			if t.changing() {
				t.next.keep(g.Filter, o)
			}
		})
	}
	return false, nil
}

func (t *table) check(now ipc.Instant, g *ipc.Grants) error {
	f := &t.filters[g.Filter]
	if f.AllowAnswersFor <= 0 {
		return fmt.Errorf("grants for filter %q, which grants nothing", f.Name)
	}
	if g.Until > now.Add(t.longest(g.Filter)) {
		return fmt.Errorf("grants for filter %q that last too long", f.Name)
	}
	special := 0
	g.Each(func(a netip.Addr) {
		if ipc.Special(a) || a.Is4In6() {
			special++
		}
	})
	if special > 0 {
		return fmt.Errorf("grants for filter %q with %d special addresses", f.Name, special)
	}
	return nil
}

// use is that of a grant that an answer opens now.
func (t *table) use(now ipc.Instant, g *ipc.Grants) use {
	f := &t.filters[g.Filter]
	if f.MaxInUse == 0 {
		return use{}
	}
	return use{stretch: g.Until.Sub(now), last: now.Add(f.MaxInUse)}
}

// shorten has a grant that is there end at an instant at the latest.
func (t *table) shorten(now ipc.Instant, filter int, o opening, latest ipc.Instant) {
	u, until, ok := t.grants.Get(now, filter, o)
	if !ok {
		return
	}
	u.last = min(u.last, latest)
	t.grants.Delete(filter, o) // an entry keeps a later end
	t.grants.Put(now, filter, o, u, min(until, latest))
}

// open reports whether a live grant of the filter, or its configuration,
// covers the address and port. The zero port is one that cannot be read or
// does not exist: only what opens all ports covers it.
func (t *table) open(now ipc.Instant, filter uint32, a netip.Addr, port ipc.Port) bool {
	if a.Is4In6() { // which no grant means, though it has the same octets
		return false
	}
	o := opening{address: a.As16()}
	if t.used(now, filter, o) || t.always[filter].open(a, port) {
		return true
	}
	if port == (ipc.Port{}) || !t.filters[filter].Ports {
		return false
	}
	o.port = port
	if t.used(now, filter, o) {
		return true
	}
	o.port.Proto = 0
	return t.used(now, filter, o)
}

// used reports whether a grant is live, and renews it if it may be.
//
// A packet within the last stretch of a grant renews it by one stretch, so a
// connection every stretch keeps it open, and it changes once a stretch at most.
func (t *table) used(now ipc.Instant, filter uint32, o opening) bool {
	u, until, ok := t.grants.Get(now, int(filter), o)
	if !ok {
		return false
	}
	if renewed := min(until.Add(u.stretch), u.last); renewed > until && now > until.Add(-u.stretch) {
		t.grants.Put(now, int(filter), o, u, renewed)
	}
	return true
}
