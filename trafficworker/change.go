package trafficworker

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// announce takes the filters of a policy that comes into force later: with
// the holder's word that what is open is what it gives. Until then packets are
// judged as before.
func (t *table) announce(filters []ipc.Filter) error {
	if t.next != nil {
		return errors.New("a change of policy within another")
	}
	if len(filters) != len(t.filters) {
		return fmt.Errorf("%d filters in place of %d", len(filters), len(t.filters))
	}
	for i, f := range filters {
		if f.AllowAll != t.filters[i].AllowAll || f.AllowAll && f.AllowAnswersFor != 0 {
			return fmt.Errorf("filter %q in place of %q: one of them allows everything", f.Name, t.filters[i].Name)
		}
	}
	t.next = filters
	return nil
}

// longest is how long a grant of the filter may last: under either policy,
// while the holder is between the two.
func (t *table) longest(filter uint32) time.Duration {
	longest := t.filters[filter].AllowAnswersFor
	if t.next != nil {
		longest = max(longest, t.next[filter].AllowAnswersFor)
	}
	return longest
}

// commit puts the announced policy in force. No grant outlives what it allows
// from now on, whatever the holder forgot to shorten.
func (t *table) commit(now ipc.Instant) error {
	if t.next == nil {
		return errors.New("the end of a change of policy that nobody announced")
	}
	t.filters, t.next = t.next, nil
	for i, f := range t.filters {
		last := now.Add(f.AllowAnswersFor)
		var longer []netip.Addr
		t.grants.Each(now, i, func(a netip.Addr, _ struct{}, until ipc.Instant) {
			if until > last {
				longer = append(longer, a)
			}
		})
		for _, a := range longer {
			t.grants.Delete(i, a)
			t.grants.Put(now, i, a, struct{}{}, last)
		}
	}
	return nil
}
