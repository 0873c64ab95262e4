package expiring

import (
	"math"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// sweepAtOnce is how many ended entries one call takes back. A call adds one
// entry at most, so anything above one makes a backlog shrink.
const sweepAtOnce = 2

// Table is a bounded map from K to V whose entries end. Make it with New.
//
// Entries live in slots that never move; order is a binary min-heap of slot
// numbers by until, and every slot knows its place in it. Moving an entry in
// the heap therefore swaps four octets and touches neither key nor map.
type Table[K comparable, V any] struct {
	bound   int
	index   map[K]int32
	slots   []slot[K, V]
	free    []int32
	order   []int32
	evicted uint64
}

type slot[K comparable, V any] struct {
	key   K
	value V
	until ipc.Instant
	place int32 // in order, -1 for a free slot
}

// New makes a table of at most bound entries, 1 to 2^31-1. It takes memory
// only as entries come.
func New[K comparable, V any](bound int) *Table[K, V] {
	if bound < 1 || bound > math.MaxInt32 {
		panic("bug: expiring: table without a usable bound")
	}
	return &Table[K, V]{bound: bound, index: make(map[K]int32)}
}

// Len is the number of entries held, those that have ended and were not yet
// taken back included. It never exceeds the bound.
func (t *Table[K, V]) Len() int { return len(t.order) }

// Evicted is the number of live entries that had to make room so far, those
// refused at the bound included.
func (t *Table[K, V]) Evicted() uint64 { return t.evicted }

// Get is the value and the end of a live entry. The value is a copy; what it
// points to belongs to the table.
func (t *Table[K, V]) Get(now ipc.Instant, key K) (V, ipc.Instant, bool) {
	t.sweep(now)
	if i, ok := t.index[key]; ok && t.slots[i].until > now {
		return t.slots[i].value, t.slots[i].until, true
	}
	var none V
	return none, 0, false
}

// Put sets an entry's value and extends it to until; an entry that already
// lasts longer keeps its end. It reports whether the entry is held now: one
// that would end at once is not, and neither is a new one that would end
// before all others of a full table. To make room for any other new one the
// entry that ends first goes, ended entries before live ones.
func (t *Table[K, V]) Put(now ipc.Instant, key K, value V, until ipc.Instant) bool {
	t.sweep(now)
	if until <= now {
		return false
	}
	if i, ok := t.index[key]; ok {
		t.slots[i].value = value
		if until > t.slots[i].until {
			t.slots[i].until = until
			t.down(int(t.slots[i].place))
		}
		return true
	}
	if len(t.order) >= t.bound {
		first := t.order[0]
		if t.slots[first].until > now {
			t.evicted++
			if until < t.slots[first].until {
				return false
			}
		}
		t.remove(first)
	}
	t.insert(key, value, until)
	return true
}

// Delete takes an entry out, if it is there.
func (t *Table[K, V]) Delete(key K) {
	if i, ok := t.index[key]; ok {
		t.remove(i)
	}
}

// Each calls f for every live entry, in no order that means anything but the
// same for the same history. f must not touch the table.
func (t *Table[K, V]) Each(now ipc.Instant, f func(key K, value V, until ipc.Instant)) {
	for i := range t.slots {
		if s := &t.slots[i]; s.place >= 0 && s.until > now {
			f(s.key, s.value, s.until)
		}
	}
}

// sweep takes back a few ended entries.
func (t *Table[K, V]) sweep(now ipc.Instant) {
	for range sweepAtOnce {
		if len(t.order) == 0 || t.slots[t.order[0]].until > now {
			return
		}
		t.remove(t.order[0])
	}
}

func (t *Table[K, V]) insert(key K, value V, until ipc.Instant) {
	var i int32
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		i = int32(len(t.slots))
		t.slots = append(t.slots, slot[K, V]{})
	}
	place := len(t.order)
	t.slots[i] = slot[K, V]{key: key, value: value, until: until, place: int32(place)}
	t.index[key] = i
	t.order = append(t.order, i)
	t.up(place)
}

// remove empties a slot, so that nothing it pointed to stays alive.
func (t *Table[K, V]) remove(i int32) {
	delete(t.index, t.slots[i].key)
	place, last := int(t.slots[i].place), len(t.order)-1
	t.swap(place, last)
	t.order = t.order[:last]
	if place < last {
		t.down(place)
		t.up(place)
	}
	t.slots[i] = slot[K, V]{place: -1}
	t.free = append(t.free, i)
}
