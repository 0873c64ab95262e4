package expiring

// The order of a Table: order[0] ends first, and no entry ends before its
// parent, the one at (place-1)/2. Written out because container/heap would box every slot
// number it is given.

func (t *Table[K, V]) swap(a, b int) {
	t.order[a], t.order[b] = t.order[b], t.order[a]
	t.slots[t.order[a]].place = int32(a)
	t.slots[t.order[b]].place = int32(b)
}

func (t *Table[K, V]) before(a, b int) bool {
	return t.slots[t.order[a]].until < t.slots[t.order[b]].until
}

// up moves an entry towards the front until nothing ahead of it ends later.
func (t *Table[K, V]) up(place int) {
	for place > 0 {
		parent := (place - 1) / 2
		if !t.before(place, parent) {
			return
		}
		t.swap(place, parent)
		place = parent
	}
}

// down moves an entry towards the back until nothing behind it ends earlier.
func (t *Table[K, V]) down(place int) {
	for {
		child := 2*place + 1
		if child >= len(t.order) {
			return
		}
		if child+1 < len(t.order) && t.before(child+1, child) {
			child++
		}
		if !t.before(child, place) {
			return
		}
		t.swap(place, child)
		place = child
	}
}
