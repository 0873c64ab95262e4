package expiring

import "github.com/capnspacehook/egress-eddie/ipc"

// Group is a row of Tables, numbered from 0, with a bound for each and a
// bound for all together. Make it with NewGroup.
//
// At the bound of one table that table makes room. At the bound of all an
// ended entry goes, wherever it is; without one, the fullest table gives up
// what ends first in it. So a table that somebody floods pays for it itself,
// also where its entries last longer than those of the others.
type Group[K comparable, V any] struct {
	tables  []*Table[K, V]
	all     int
	held    int
	evicted uint64
}

// NewGroup makes n tables of at most each entries, at most all together.
func NewGroup[K comparable, V any](n, each, all int) *Group[K, V] {
	if all < 1 {
		panic("bug: expiring: group without a usable bound")
	}
	g := &Group[K, V]{tables: make([]*Table[K, V], n), all: all}
	for i := range g.tables {
		g.tables[i] = New[K, V](min(each, all))
	}
	return g
}

// Len is the number of entries held in all tables; see Table.Len.
func (g *Group[K, V]) Len() int { return g.held }

// Evicted is the number of live entries that had to make room; see
// Table.Evicted.
func (g *Group[K, V]) Evicted() uint64 {
	n := g.evicted
	for _, t := range g.tables {
		n += t.evicted
	}
	return n
}

// Get is Table.Get of table i.
func (g *Group[K, V]) Get(now ipc.Instant, i int, key K) (V, ipc.Instant, bool) {
	t := g.tables[i]
	before := t.Len()
	value, until, ok := t.Get(now, key)
	g.held += t.Len() - before
	return value, until, ok
}

// Put is Table.Put of table i.
func (g *Group[K, V]) Put(now ipc.Instant, i int, key K, value V, until ipc.Instant) bool {
	t := g.tables[i]
	if until <= now {
		return false
	}
	if _, known := t.index[key]; !known && g.held >= g.all && t.Len() < t.bound && !g.makeRoom(now, t, until) {
		return false
	}
	before := t.Len()
	held := t.Put(now, key, value, until)
	g.held += t.Len() - before
	return held
}

// Delete is Table.Delete of table i.
func (g *Group[K, V]) Delete(i int, key K) {
	before := g.tables[i].Len()
	g.tables[i].Delete(key)
	g.held += g.tables[i].Len() - before
}

// Each is Table.Each of table i.
func (g *Group[K, V]) Each(now ipc.Instant, i int, f func(key K, value V, until ipc.Instant)) {
	g.tables[i].Each(now, f)
}

// makeRoom frees one entry for a new one of table t, or reports that the new
// one is itself what has to stay out. It looks at every table once; that is
// paid only at the bound.
func (g *Group[K, V]) makeRoom(now ipc.Instant, t *Table[K, V], until ipc.Instant) bool {
	victim := t
	for _, other := range g.tables {
		if other.Len() > 0 && other.slots[other.order[0]].until <= now {
			other.remove(other.order[0])
			g.held--
			return true
		}
		if other.Len() > victim.Len() {
			victim = other
		}
	}
	g.evicted++
	first := victim.order[0]
	if victim == t && until < victim.slots[first].until {
		return false
	}
	victim.remove(first)
	g.held--
	return true
}
