package expiring

import (
	"math/rand/v2"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// oracle is the slow and obvious table: it looks at everything, every time.
type oracle struct {
	bound   int
	entries map[int]oracleEntry
}

type oracleEntry struct {
	value int
	until ipc.Instant
}

func (o *oracle) get(now ipc.Instant, key int) (int, ipc.Instant, bool) {
	e, ok := o.entries[key]
	if !ok || e.until <= now {
		return 0, 0, false
	}
	return e.value, e.until, true
}

func (o *oracle) put(now ipc.Instant, key, value int, until ipc.Instant) bool {
	for k, e := range o.entries {
		if e.until <= now {
			delete(o.entries, k)
		}
	}
	if until <= now {
		return false
	}
	old := o.entries[key]
	o.entries[key] = oracleEntry{value, max(until, old.until)}
	if len(o.entries) <= o.bound {
		return true
	}
	first := key
	for k, e := range o.entries {
		if e.until < o.entries[first].until {
			first = k
		}
	}
	delete(o.entries, first)
	return first != key
}

// checkHeap fails when the table's parts do not fit each other.
func checkHeap[K comparable, V any](t *testing.T, table *Table[K, V]) {
	t.Helper()
	if len(table.index) != len(table.order) || len(table.order)+len(table.free) != len(table.slots) {
		t.Fatalf("%d in the index, %d in order, %d free, %d slots",
			len(table.index), len(table.order), len(table.free), len(table.slots))
	}
	if len(table.order) > table.bound {
		t.Fatalf("%d entries, bound %d", len(table.order), table.bound)
	}
	for place, i := range table.order {
		if int(table.slots[i].place) != place || table.index[table.slots[i].key] != i {
			t.Fatalf("slot %d does not know its place or its key", i)
		}
		if place > 0 && table.before(place, (place-1)/2) {
			t.Fatalf("place %d ends before its parent", place)
		}
	}
}

// Untils never tie here, since which of two equals goes is nobody's promise.
func TestAgainstOracle(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		bound := 1 + r.IntN(30)
		table := New[int, int](bound)
		slow := &oracle{bound: bound, entries: map[int]oracleEntry{}}
		now := ipc.Instant(1 << 12) // low bits are the step's
		for step := range 3000 {
			key := r.IntN(50)
			switch r.IntN(10) {
			case 0:
				now += ipc.Instant(r.IntN(400)) << 12
			case 1:
				table.Delete(key)
				delete(slow.entries, key)
			case 2, 3, 4:
				v, u, ok := table.Get(now, key)
				wv, wu, wok := slow.get(now, key)
				if v != wv || u != wu || ok != wok {
					t.Fatalf("seed %d step %d: get %d: %d %d %v, want %d %d %v", seed, step, key, v, u, ok, wv, wu, wok)
				}
			default:
				until := now + ipc.Instant(r.IntN(1500)-100)<<12 | ipc.Instant(step)
				got, want := table.Put(now, key, step, until), slow.put(now, key, step, until)
				if got != want {
					t.Fatalf("seed %d step %d: put %d until %d at %d: %v, want %v", seed, step, key, until, now, got, want)
				}
			}
			checkHeap(t, table)
		}
		live := map[int]oracleEntry{}
		table.Each(now, func(k, v int, u ipc.Instant) { live[k] = oracleEntry{v, u} })
		for key := range 50 {
			wv, wu, wok := slow.get(now, key)
			if e, ok := live[key]; ok != wok || ok && (e.value != wv || e.until != wu) {
				t.Fatalf("seed %d: each shows %d as %v %v, want %d %d %v", seed, key, e, ok, wv, wu, wok)
			}
		}
	}
}

func TestEndsExactlyAtItsInstant(t *testing.T) {
	table := New[string, int](4)
	table.Put(10, "a", 1, 20)
	if _, until, ok := table.Get(19, "a"); !ok || until != 20 {
		t.Error("gone before its end")
	}
	if _, _, ok := table.Get(20, "a"); ok {
		t.Error("live at its end")
	}
	if table.Put(20, "b", 1, 20) {
		t.Error("held an entry that ends at once")
	}
	// More end together than one call takes back.
	for asked := range 8 {
		table := New[int, int](8)
		for key := range 8 {
			table.Put(1, key, key, 20)
		}
		if _, _, ok := table.Get(20, asked); ok {
			t.Errorf("%d is live at its end, waiting to be taken back", asked)
		}
	}
}

func TestPutExtendsAndNeverShortens(t *testing.T) {
	table := New[string, int](4)
	table.Put(1, "a", 1, 100)
	table.Put(1, "a", 2, 50)
	if v, until, _ := table.Get(1, "a"); v != 2 || until != 100 {
		t.Errorf("value %d until %d after a shorter put, want 2 until 100", v, until)
	}
	table.Put(1, "a", 3, 200)
	if v, until, _ := table.Get(1, "a"); v != 3 || until != 200 {
		t.Errorf("value %d until %d after a longer put, want 3 until 200", v, until)
	}
	table.Put(300, "a", 4, 310)
	if v, until, _ := table.Get(300, "a"); v != 4 || until != 310 {
		t.Errorf("value %d until %d after its end, want 4 until 310", v, until)
	}
}

func TestBound(t *testing.T) {
	table := New[string, int](2)
	table.Put(1, "soon", 1, 10)
	table.Put(1, "late", 1, 100)
	if table.Put(1, "sooner", 1, 5) {
		t.Error("a full table took an entry that ends before all others")
	}
	if !table.Put(1, "later", 1, 200) || table.Len() != 2 || table.Evicted() != 2 {
		t.Errorf("%d entries, %d evicted, want 2 and 2", table.Len(), table.Evicted())
	}
	if _, _, ok := table.Get(1, "soon"); ok {
		t.Error("what ends first did not go")
	}
	table.Put(150, "new", 1, 160)
	if _, _, ok := table.Get(150, "later"); !ok || table.Evicted() != 2 {
		t.Error("a live entry went before an ended one")
	}
}

func TestNoCallPaysForABurst(t *testing.T) {
	const burst = 1000
	table := New[int, int](burst)
	for i := range burst {
		table.Put(1, i, i, 10)
	}
	for call := 1; table.Len() > 0; call++ {
		before := table.Len()
		table.Get(10, -1)
		if took := before - table.Len(); took < 1 || took > sweepAtOnce {
			t.Fatalf("call %d took back %d", call, took)
		}
	}
	checkHeap(t, table)
}

func TestRemovedSlotsHoldNothing(t *testing.T) {
	table := New[string, *int](4)
	table.Put(1, "a", new(int), 10)
	table.Delete("a")
	if s := table.slots[0]; s.key != "" || s.value != nil {
		t.Errorf("slot still holds %+v", s)
	}
}

func TestUnusableBoundIsABug(t *testing.T) {
	for _, f := range []func(){
		func() { New[int, int](0) },
		func() { NewGroup[int, int](0, 1, 0) },
		func() { NewGroup[int, int](1, 0, 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a table without a bound was made")
				}
			}()
			f()
		}()
	}
}
