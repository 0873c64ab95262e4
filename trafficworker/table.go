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

// use is how a grant may be renewed by what it lets pass, if its filter has
// maxInUse: for as long as it had, and not beyond maxInUse after the last answer.
type use struct {
	stretch  time.Duration
	answered ipc.Instant
}

// table is the grants of all filters. The holder is not believed: whatever it
// sends, no grant is for a filter that grants nothing, for a special address,
// or for longer from now than the filter grants at most.
type table struct {
	filters []ipc.Filter
	always  []networks // of the configuration, by filter
	next    *announced // by the parent, in force with the holder's GrantsDone
	told    bool       // all that was open before this process began: it may judge
	grants  *expiring.Group[opening, use]
}

func newTable(filters []ipc.Filter, addresses [][]ipc.AllowedAddress) (*table, error) {
	for i := range filters {
		if err := checkFilter(&filters[i]); err != nil {
			return nil, err
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

// checkFilter checks what only this relies on.
func checkFilter(f *ipc.Filter) error {
	if f.AllowAll && f.Longest() != 0 {
		return fmt.Errorf("filter %q allows everything and grants", f.Name)
	}
	if f.AllowAll && f.LookupUnknown {
		return fmt.Errorf("filter %q allows everything, and has unknown addresses looked up", f.Name)
	}
	return nil
}

// take takes a validated message, and reports whether an announced policy is
// in force with it. An error is something that an honest holder never sends;
// then nothing of the message was taken.
func (t *table) take(now ipc.Instant, g *ipc.Grants) (inForce bool, err error) {
	switch g.Kind {
	case ipc.GrantsAll:
		if t.told {
			return false, errors.New("all that was open, for the second time")
		}
		t.told = true
		return false, nil
	case ipc.GrantsChange:
		return false, t.begin()
	case ipc.GrantsDone:
		return true, t.commit(now)
	}
	if int64(g.Filter) >= int64(len(t.filters)) {
		return false, fmt.Errorf("grants for the unknown filter %d", g.Filter)
	}
	if (g.Kind == ipc.GrantsKeep) != t.changing() {
		return false, errors.New("grants that are kept without a change, or opened or settled within one")
	}
	switch g.Kind {
	case ipc.GrantsKeep:
		g.Each(func(a netip.Addr) { t.next.keep(g.Filter, a.As16(), g.Port, g.Until) })
	case ipc.GrantsOpen:
		if err := t.check(now, g); err != nil {
			return false, err
		}
		g.Each(func(a netip.Addr) { t.grant(now, int(g.Filter), opening{a.As16(), g.Port}, g.Until) })
	case ipc.GrantsSettled: // which the worker remembers
		return false, t.checkSettled(now, g)
	default:
		return false, fmt.Errorf("grants of kind %d", g.Kind)
	}
	return false, nil
}

func (t *table) check(now ipc.Instant, g *ipc.Grants) error {
	f := &t.filters[g.Filter]
	if f.Longest() <= 0 {
		return fmt.Errorf("grants for filter %q, which grants nothing", f.Name)
	}
	if g.Until > now.Add(t.longest(g.Filter)) {
		return fmt.Errorf("grants for filter %q that last too long", f.Name)
	}
	return ordinary(f, g)
}

// checkSettled: between two policies a filter of either may have addresses
// looked up.
func (t *table) checkSettled(now ipc.Instant, g *ipc.Grants) error {
	f := &t.filters[g.Filter]
	if !f.LookupUnknown && (t.next == nil || !t.next.filters[g.Filter].LookupUnknown) {
		return fmt.Errorf("addresses looked up for filter %q, which has none looked up", f.Name)
	}
	if g.Until > now.Add(maxSettledFor) {
		return fmt.Errorf("addresses settled for filter %q for too long", f.Name)
	}
	return ordinary(f, g)
}

// ordinary requires that no address of a message is one that no answer may open.
func ordinary(f *ipc.Filter, g *ipc.Grants) error {
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

// grant opens what an answer has just given. At a bound the table may refuse:
// then it stays closed.
func (t *table) grant(now ipc.Instant, filter int, o opening, until ipc.Instant) {
	u := use{stretch: until.Sub(now), answered: now}
	if !t.told { // when it was answered is not known: no use puts its end off
		u = use{}
	}
	if old, _, live := t.grants.Get(now, filter, o); live { // the last moment of a cached record takes nothing away
		u.stretch = max(u.stretch, old.stretch)
	}
	t.grants.Put(now, filter, o, u, until)
}

// open reports whether a live grant of the filter, or its configuration,
// covers the address and port. The zero port is one that cannot be read or
// does not exist: only what opens all ports covers it.
func (t *table) open(now ipc.Instant, filter uint32, a netip.Addr, port ipc.Port) bool {
	if a.Is4In6() { // which no grant means, though it has the same octets
		return false
	}
	// All that cover it count as used, or the one that is found first would let
	// the others end.
	o := opening{address: a.As16()}
	open := t.used(now, filter, o)
	if port != (ipc.Port{}) && t.filters[filter].Ports {
		for _, o.port = range [...]ipc.Port{port, {Number: port.Number}} {
			open = t.used(now, filter, o) || open
		}
	}
	return open || t.always[filter].open(a, port)
}

// used reports whether a grant is live, and renews it if it may be.
//
// A packet within the last stretch of a grant renews it by one stretch, so a
// connection every stretch keeps it open, and it changes once a stretch at most.
func (t *table) used(now ipc.Instant, filter uint32, o opening) bool {
	u, until, ok := t.grants.Get(now, int(filter), o)
	longest := t.filters[filter].MaxInUse
	if !ok || longest == 0 {
		return ok
	}
	if renewed := min(until.Add(u.stretch), u.answered.Add(longest)); renewed > until && now > until.Add(-u.stretch) {
		t.grants.Put(now, int(filter), o, u, renewed)
	}
	return true
}
