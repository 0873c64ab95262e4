package trafficworker

import (
	"errors"
	"fmt"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// announced is a policy that comes into force later: with the holder's word
// that what is open is what it gives.
type announced struct {
	filters []ipc.Filter
	always  []networks
	// kept is what the holder has named since it began to tell, by filter; nil
	// before. The two tables need not be equal: each makes room for itself at its
	// bounds, and what could not be handed over whole is known to this one alone.
	// So the holder tells what stays, and all else goes.
	kept []map[opening]bool
}

func (a *announced) keep(filter uint32, o opening) { a.kept[filter][o] = true }

// changing reports whether the holder is telling what stays.
func (t *table) changing() bool { return t.next != nil && t.next.kept != nil }

// begin takes the holder's word that it tells from now on.
func (t *table) begin() error {
	if t.next == nil || t.next.kept != nil {
		return errors.New("a change of policy that nobody announced, or that has begun")
	}
	t.next.kept = make([]map[opening]bool, len(t.filters))
	for i := range t.next.kept {
		t.next.kept[i] = map[opening]bool{}
	}
	return nil
}

// announce takes one. Until it is in force packets are judged as before.
func (t *table) announce(filters []ipc.Filter, addresses [][]ipc.AllowedAddress) error {
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
	always, err := allNetworks(filters, addresses)
	if err != nil {
		return err
	}
	t.next = &announced{filters: filters, always: always}
	return nil
}

// longest is how long a grant of the filter may last: under either policy,
// while the holder is between the two.
func (t *table) longest(filter uint32) time.Duration {
	longest := t.filters[filter].AllowAnswersFor
	if t.next != nil {
		longest = max(longest, t.next.filters[filter].AllowAnswersFor)
	}
	return longest
}

// commit puts the announced policy in force. What the holder has not named is
// closed, and no grant outlives what the policy allows from now on, whatever
// the holder forgot to shorten.
func (t *table) commit(now ipc.Instant) error {
	if !t.changing() {
		return errors.New("the end of a change of policy that has not begun")
	}
	kept := t.next.kept
	t.filters, t.always, t.next = t.next.filters, t.next.always, nil
	for i, f := range t.filters {
		latest := now.Add(max(f.AllowAnswersFor, f.MaxInUse))
		var closed, longer []opening
		t.grants.Each(now, i, func(o opening, u use, until ipc.Instant) {
			switch {
			case !kept[i][o]:
				closed = append(closed, o)
			case until > latest || u.last > latest:
				longer = append(longer, o)
			}
		})
		for _, o := range closed {
			t.grants.Delete(i, o)
		}
		for _, o := range longer {
			t.shorten(now, i, o, latest)
		}
	}
	return nil
}
