package trafficworker

import (
	"net/netip"
	"slices"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/trafficworker/expiring"
)

// waitFor is how long a packet waits at most for the lookup of its address.
const waitFor = 2 * time.Second

// Bounds of what waits. Whoever sends packets to many addresses fills neither
// a queue of the kernel's, which holds 4,096, nor the edge to the holder, and
// takes no room from another filter until maxWaiting. Beyond any of them a
// packet is dropped at once.
const (
	maxWaiting          = 1024 // packets in all
	maxWaitingOfFilter  = 256  // packets of a filter
	maxWaitingOfAddress = 16   // packets to an address: the first asks, the others join it
	maxUnknownOfFilter  = 64   // addresses of a filter
	unknownPerSecond    = 20   // new ones of a filter, and so many at once
)

// Bounds of what has been looked up in vain. An address that had to make room
// is asked about again.
const (
	maxSettled         = 65_536
	maxSettledOfFilter = 4096
	// maxSettledFor bounds the holder's word on how long nobody need ask again.
	maxSettledFor = time.Minute
)

// place is an address, as a filter sees it.
type place struct {
	filter  uint32
	address netip.Addr
}

// unknown is a place that the holder has been asked about, and the packets that
// wait for it, in order. The first one's time is that of all, so the holder is
// asked anew after waitFor at the latest, however many join.
type unknown struct {
	place
	until   ipc.Instant
	packets []packet
	opened  bool // by the grants that are being taken
}

// waiting are the packets that wait. It gives no verdict.
type waiting struct {
	unknown  map[place]*unknown
	order    []*unknown // as they end
	packets  int
	ofFilter []share
	settled  *expiring.Group[netip.Addr, struct{}] // looked up, and led to nothing
	// How many packets have waited so far, and how many addresses were asked about.
	waited, asked uint64
}

// share is what one filter has of it.
type share struct {
	packets, addresses int
	asks               ipc.Bucket
}

func newWaiting(filters int) *waiting {
	w := &waiting{unknown: map[place]*unknown{}, ofFilter: make([]share, filters)}
	for i := range w.ofFilter {
		w.ofFilter[i].asks = ipc.Bucket{PerSecond: unknownPerSecond, Burst: unknownPerSecond}
	}
	w.forget()
	return w
}

// forget forgets what has been looked up.
func (w *waiting) forget() {
	w.settled = expiring.NewGroup[netip.Addr, struct{}](len(w.ofFilter), maxSettledOfFilter, maxSettled)
}

// settle remembers what a place has led to: nothing, until an instant.
func (w *waiting) settle(now ipc.Instant, at place, until ipc.Instant) {
	w.settled.Put(now, int(at.filter), at.address, struct{}{}, until)
}

func (w *waiting) isSettled(now ipc.Instant, at place) bool {
	_, _, ok := w.settled.Get(now, int(at.filter), at.address)
	return ok
}

// room reports whether one more packet may wait for a place. It is asked once
// for a packet: a new place takes one out of the filter's bucket.
func (w *waiting) room(now ipc.Instant, at place) bool {
	f := &w.ofFilter[at.filter]
	if w.packets >= maxWaiting || f.packets >= maxWaitingOfFilter {
		return false
	}
	if u := w.unknown[at]; u != nil {
		return len(u.packets) < maxWaitingOfAddress
	}
	if f.addresses >= maxUnknownOfFilter {
		return false
	}
	_, ok := f.asks.Take(now)
	return ok
}

// add has a packet wait for a place. There must be room.
func (w *waiting) add(now ipc.Instant, at place, p *packet) {
	u, f := w.unknown[at], &w.ofFilter[at.filter]
	if u == nil {
		u = &unknown{place: at, until: now.Add(waitFor)}
		w.unknown[at], w.order = u, append(w.order, u)
		f.addresses++
		w.asked++
	}
	u.packets = append(u.packets, *p)
	f.packets++
	w.packets++
	w.waited++
}

// keep has only these of a place's packets go on waiting. Without any the
// place is forgotten.
func (w *waiting) keep(u *unknown, packets []packet) {
	f, gone := &w.ofFilter[u.filter], len(u.packets)-len(packets)
	u.packets = packets
	f.packets -= gone
	w.packets -= gone
	if len(packets) > 0 {
		return
	}
	delete(w.unknown, u.place)
	i := slices.Index(w.order, u)
	w.order = slices.Delete(w.order, i, i+1)
	f.addresses--
}
