package trafficworker

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// announced is a policy that comes into force later: with the holder's word
// that what is open is what it gives.
type announced struct {
	filters []ipc.Filter
	always  []networks
	// kept is what the holder has named since it began to tell, by filter and
	// address; nil before. The two tables need not be equal: each makes room for
	// itself at its bounds, what could not be handed over whole is known to this one
	// alone, and so is what an earlier change narrowed or use renewed. So the
	// holder tells what the new policy gives, and of what is open that stays.
	kept []map[[16]byte][]kept
}

// kept is a port of an address, or all, and until when at the latest.
type kept struct {
	port  ipc.Port
	until ipc.Instant
}

// forever is the end of what ends as it would.
const forever ipc.Instant = 1<<63 - 1

func (a *announced) keep(filter uint32, address [16]byte, port ipc.Port, until ipc.Instant) {
	if until == 0 {
		until = forever
	}
	a.kept[filter][address] = append(a.kept[filter][address], kept{port, until})
}

// changing reports whether the holder is telling what stays.
func (t *table) changing() bool { return t.next != nil && t.next.kept != nil }

// begin takes the holder's word that it tells from now on.
func (t *table) begin() error {
	if t.next == nil || t.next.kept != nil {
		return errors.New("a change of policy that nobody announced, or that has begun")
	}
	t.next.kept = make([]map[[16]byte][]kept, len(t.filters))
	for i := range t.next.kept {
		t.next.kept[i] = map[[16]byte][]kept{}
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
	for i := range filters {
		f := &filters[i]
		if err := checkFilter(f); err != nil {
			return err
		}
		if f.AllowAll != t.filters[i].AllowAll {
			return fmt.Errorf("filter %q in place of %q: one of them allows everything", f.Name, t.filters[i].Name)
		}
	}
	always, err := allNetworks(filters, addresses)
	if err != nil {
		return err
	}
	t.next = &announced{filters: slices.Clone(filters), always: always}
	return nil
}

// longest is how long a grant of the filter may last: under either policy,
// while the holder is between the two.
func (t *table) longest(filter uint32) time.Duration {
	longest := t.filters[filter].Longest()
	if t.next != nil {
		longest = max(longest, t.next.filters[filter].Longest())
	}
	return longest
}

// commit puts the announced policy in force. What the holder has not named is
// closed, and no grant outlives what the policy allows from now on, whatever
// the holder forgot to say.
func (t *table) commit(now ipc.Instant) error {
	if !t.changing() {
		return errors.New("the end of a change of policy that has not begun")
	}
	next, before := t.next, t.filters
	t.filters, t.always, t.next = next.filters, next.always, nil
	stays := make([]map[opening]grant, len(t.filters))
	for i := range t.filters {
		stays[i] = t.stays(now, i, next.kept[i])
		t.closeAll(now, i)
		// One that was opened for a port stays so where new ones are for all.
		t.filters[i].Ports = t.filters[i].Ports || before[i].Ports
	}
	for i := range stays { // when there is room, or what goes would push out what stays
		for o, g := range stays[i] {
			t.grants.Put(now, i, o, g.use, g.until)
		}
	}
	return nil
}

func (t *table) closeAll(now ipc.Instant, filter int) {
	var all []opening
	t.grants.Each(now, filter, func(o opening, _ use, _ ipc.Instant) { all = append(all, o) })
	for _, o := range all {
		t.grants.Delete(filter, o)
	}
}

// grant is what the table holds of an opening.
type grant struct {
	use   use
	until ipc.Instant
}

// stays is what is left of a filter's grants.
func (t *table) stays(now ipc.Instant, filter int, all map[[16]byte][]kept) map[opening]grant {
	stays := map[opening]grant{}
	t.grants.Each(now, filter, func(o opening, u use, until ipc.Instant) {
		for _, k := range all[o.address] {
			port, some := o.port.And(k.port)
			if !some {
				continue
			}
			is, left := grant{u, until}.within(now, &t.filters[filter], k.until), opening{o.address, port}
			other := stays[left]
			stays[left] = grant{
				use{max(is.use.stretch, other.use.stretch), max(is.use.answered, other.use.answered)},
				max(is.until, other.until),
			}
		}
	})
	return stays
}

// within is what a filter's rules leave of a grant that is to end at an instant
// at the latest, which no use puts off. Whether it is a cached name's cannot be
// told from it, so where the filter has some it may be used in stretches as long
// as theirs.
func (g grant) within(now ipc.Instant, f *ipc.Filter, latest ipc.Instant) grant {
	if latest != forever { // under any later policy too; an answer gives it a stretch again
		g.use.stretch = 0
	}
	g.use.stretch = min(g.use.stretch, f.Longest())
	g.until = min(g.until, latest, now.Add(f.Longest()))
	if f.MaxInUse > 0 && g.use.answered != 0 { // of what was told at the start that is not known
		g.until = min(g.until, g.use.answered.Add(f.MaxInUse))
	}
	return g
}
