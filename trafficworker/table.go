package trafficworker

import (
	"fmt"
	"net/netip"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/trafficworker/expiring"
)

// table is the grants of all filters. The holder is not believed: whatever it
// sends, no grant is for a filter that grants nothing, for a special address,
// or for longer than the filter's allowAnswersFor from now.
type table struct {
	filters []ipc.Filter
	next    []ipc.Filter // announced by the parent, in force with the holder's GrantsDone
	grants  *expiring.Group[netip.Addr, struct{}]
}

func newTable(filters []ipc.Filter) (*table, error) {
	for _, f := range filters {
		if f.AllowAll && f.AllowAnswersFor != 0 {
			return nil, fmt.Errorf("filter %q allows everything and grants", f.Name)
		}
	}
	return &table{
		filters: filters,
		grants:  expiring.NewGroup[netip.Addr, struct{}](len(filters), ipc.MaxGrantsOfFilter, ipc.MaxGrants),
	}, nil
}

// take takes a validated message, and reports whether an announced policy is
// in force with it. An error is something that an honest holder never sends;
// then nothing of the message was taken.
func (t *table) take(now ipc.Instant, g *ipc.Grants) (inForce bool, err error) {
	if g.Kind == ipc.GrantsDone {
		return true, t.commit(now)
	}
	if int(g.Filter) >= len(t.filters) {
		return false, fmt.Errorf("grants for the unknown filter %d", g.Filter)
	}
	if g.Kind == ipc.GrantsClose {
		g.Each(func(a netip.Addr) { t.grants.Delete(int(g.Filter), a) })
		return false, nil
	}
	return false, t.add(now, g)
}

func (t *table) add(now ipc.Instant, g *ipc.Grants) error {
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
	g.Each(func(a netip.Addr) {
		if g.Kind == ipc.GrantsSet { // else an entry keeps a later end
			t.grants.Delete(int(g.Filter), a)
		}
		// At a bound the table may refuse: then the address stays closed.
		t.grants.Put(now, int(g.Filter), a, struct{}{}, g.Until)
	})
	return nil
}

// open reports whether a live grant of the filter covers the address.
func (t *table) open(now ipc.Instant, filter uint32, a netip.Addr) bool {
	_, _, ok := t.grants.Get(now, int(filter), a)
	return ok
}
