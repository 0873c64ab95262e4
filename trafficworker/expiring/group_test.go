package expiring

import (
	"math/rand/v2"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

func checkGroup[K comparable, V any](t *testing.T, g *Group[K, V]) {
	t.Helper()
	held := 0
	for _, table := range g.tables {
		checkHeap(t, table)
		held += table.Len()
	}
	if held != g.Len() || held > g.all {
		t.Fatalf("%d held, %d counted, bound %d", held, g.Len(), g.all)
	}
}

// A table that is flooded never takes an entry from one that holds less.
func TestFloodPaysForItself(t *testing.T) {
	g := NewGroup[int, int](3, 80, 100)
	for i := range 10 {
		g.Put(1, 0, i, i, 10) // few, and they end soonest
	}
	for i := range 500 {
		g.Put(1, 1, i, i, ipc.Instant(1000+i))
		checkGroup(t, g)
	}
	for i := range 500 {
		g.Put(1, 2, i, i, ipc.Instant(1000+i))
		checkGroup(t, g)
	}
	for i := range 10 {
		if _, _, ok := g.Get(1, 0, i); !ok {
			t.Fatalf("entry %d of the small table went", i)
		}
	}
	if a, b := g.tables[1].Len(), g.tables[2].Len(); a != 45 || b != 45 {
		t.Errorf("the two floods hold %d and %d, want 45 each", a, b)
	}
	if g.Evicted() == 0 {
		t.Error("nothing counted as evicted")
	}
}

func TestGroupBounds(t *testing.T) {
	g := NewGroup[string, int](3, 3, 4)
	has := func(now ipc.Instant, i int, keys ...string) {
		t.Helper()
		for _, key := range keys {
			if e, ok := g.tables[i].index[key]; !ok || g.tables[i].slots[e].until <= now {
				t.Errorf("%s is gone from table %d", key, i)
			}
		}
	}
	g.Put(1, 0, "a", 0, 10)
	g.Put(1, 0, "b", 0, 20)
	g.Put(1, 0, "c", 0, 30)
	g.Put(1, 1, "d", 0, 30)
	if !g.Put(1, 1, "e", 0, 5) {
		t.Error("the smaller table was refused room")
	}
	has(1, 0, "b", "c") // "a" had to go: it ends first in the fullest table
	has(1, 1, "d", "e")
	if g.Evicted() != 1 {
		t.Errorf("%d evicted, want 1", g.Evicted())
	}

	// "e" has ended in a table that is not the fullest, nor asked.
	if !g.Put(6, 0, "f", 0, 40) {
		t.Error("refused although something has ended")
	}
	has(6, 0, "b", "c", "f")
	has(6, 1, "d")
	if g.Evicted() != 1 {
		t.Errorf("%d evicted after one has ended, want 1", g.Evicted())
	}

	g = NewGroup[string, int](3, 3, 4)
	for i, key := range []string{"a", "b", "c", "d"} {
		g.Put(1, i/2, key, 0, 20)
	}
	// Nobody holds more than table 0: it has to make room in itself.
	if g.Put(1, 0, "e", 0, 10) {
		t.Error("an entry that ends before all others of the fullest table was let in")
	}
	has(1, 0, "a", "b")
	if !g.Put(1, 0, "f", 0, 30) || g.Evicted() != 2 {
		t.Errorf("%d evicted, want 2", g.Evicted())
	}
	has(1, 1, "c", "d")
	g.Delete(0, "f")
	checkGroup(t, g)
	if g.Len() != 3 {
		t.Errorf("%d held after a deletion, want 3", g.Len())
	}
}

func TestGroupKeepsItsSums(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	g := NewGroup[int, int](4, 20, 50)
	now := ipc.Instant(1)
	for range 20000 {
		i, key := r.IntN(4), r.IntN(40)
		switch r.IntN(8) {
		case 0:
			now += ipc.Instant(r.IntN(20))
		case 1:
			g.Delete(i, key)
		case 2:
			g.Get(now, i, key)
		default:
			until := now + ipc.Instant(r.IntN(100)-5)
			if g.Put(now, i, key, 1, until) {
				if _, got, ok := g.Get(now, i, key); !ok || got < until {
					t.Fatalf("put held it until %d, get says %d %v", until, got, ok)
				}
			}
		}
		checkGroup(t, g)
	}
	seen := 0
	g.Each(now, 2, func(int, int, ipc.Instant) { seen++ })
	if seen == 0 || seen > 20 {
		t.Errorf("each showed %d entries of a table of 20", seen)
	}
}
