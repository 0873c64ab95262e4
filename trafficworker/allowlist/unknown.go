package allowlist

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
	"github.com/capnspacehook/egress-eddie/trafficworker/expiring"
)

const (
	// unknownFor is how long a packet waits for its address to be looked up.
	unknownFor = 2 * time.Second
	// settledFor is how long an address that was looked up is not looked up again.
	settledFor = 10 * time.Second
	// lookupsPerSecond bounds the addresses that are looked up for a filter, as
	// many at once. Each tells the owner of the reverse zone some bits of the
	// packet's choice.
	lookupsPerSecond = 20
	// maxConfirmed bounds the names of one address that are looked up in turn.
	maxConfirmed = 4
	// maxSettled bounds the addresses of a filter, and of all, that are
	// remembered as looked up.
	maxSettledOfFilter = 4096
	maxSettled         = 4 * maxSettledOfFilter
)

// unknown is an address that nothing opens while it is looked up: first its
// name is asked for, then the addresses of that name. Anybody may publish a PTR
// record with a name of somebody else's; only the way back shows who it is.
type unknown struct {
	address netip.Addr
	pointer inquiry
	filters []int       // that have packets waiting, whose allowedHostnames count
	until   ipc.Instant // when they wait no longer
	names   []name.Name // whose addresses are being asked for
}

// unknowns are all of them.
type unknowns struct {
	byPointer  map[inquiry]*unknown
	confirming map[inquiry][]*unknown // by the question about a name's addresses
	all        map[netip.Addr]*unknown
	buckets    []ipc.Bucket                          // by filter
	settled    *expiring.Group[netip.Addr, struct{}] // by filter
}

func newUnknowns(filters int) unknowns {
	u := unknowns{
		byPointer:  map[inquiry]*unknown{},
		confirming: map[inquiry][]*unknown{},
		all:        map[netip.Addr]*unknown{},
		buckets:    make([]ipc.Bucket, filters),
		settled:    expiring.NewGroup[netip.Addr, struct{}](filters, maxSettledOfFilter, maxSettled),
	}
	for i := range u.buckets {
		u.buckets[i] = ipc.Bucket{PerSecond: lookupsPerSecond, Burst: lookupsPerSecond}
	}
	return u
}

// Unknown takes an address that a packet of a filter waits to go to. An error
// is a breach of protocol by the trafficworker.
func (e *Engine) Unknown(now ipc.Instant, u *ipc.Unknown) error {
	a, _ := u.Address.Addr()
	switch {
	case int64(u.Filter) >= int64(len(e.rules)):
		return fmt.Errorf("allowlist: an address of the unknown filter %d", u.Filter)
	case ipc.Special(a) || ipc.Private(a):
		return fmt.Errorf("allowlist: %v is not to be looked up", a)
	case !e.rules[u.Filter].LookupUnknown:
		// By the policy that was; it will hear of the new one.
		return nil
	}
	e.lookups.lookUp(now, int(u.Filter), a)
	return nil
}

func (l *lookups) lookUp(now ipc.Instant, filter int, a netip.Addr) {
	u := &l.unknown
	if _, until, known := u.settled.Get(now, filter, a); known {
		l.settle(filter, a, until)
		return
	}
	x := u.all[a]
	if x == nil && len(u.byPointer)+len(u.confirming) >= maxUnknownAsked {
		l.settle(filter, a, 0)
		return
	}
	if x != nil && slices.Contains(x.filters, filter) {
		return
	}
	if _, ok := u.buckets[filter].Take(now); !ok {
		l.settle(filter, a, 0)
		return
	}
	if x != nil {
		x.filters = append(x.filters, filter)
		return
	}
	x = &unknown{address: a, pointer: inquiry{name.Reverse(a), ipc.TypePTR}, filters: []int{filter}, until: now.Add(unknownFor)}
	u.all[a], u.byPointer[x.pointer] = x, x
	l.ask(x.pointer, x.until)
}

// settle tells the trafficworker that what was to be opened of an address is.
func (l *lookups) settle(filter int, a netip.Addr, until ipc.Instant) {
	g := ipc.Grants{Kind: ipc.GrantsSettled, Filter: uint32(filter), Until: until}
	l.out.Settled = append(l.out.Settled, pack(g, []netip.Addr{a})...)
}

// settleAll ends a lookup.
func (l *lookups) settleAll(now ipc.Instant, x *unknown, until ipc.Instant) {
	for _, filter := range x.filters {
		l.settle(filter, x.address, until)
		l.unknown.settled.Put(now, filter, x.address, struct{}{}, until)
	}
	l.unknown.forget(x)
}

func (u *unknowns) forget(x *unknown) {
	delete(u.all, x.address)
	delete(u.byPointer, x.pointer)
	for _, n := range x.names {
		u.unconfirm(x, n)
	}
}

func (u *unknowns) unconfirm(x *unknown, n name.Name) {
	q := x.forward(n)
	others := slices.DeleteFunc(u.confirming[q], func(other *unknown) bool { return other == x })
	if u.confirming[q] = others; len(others) == 0 {
		delete(u.confirming, q)
	}
}

// forward is the question about the addresses of a name that would confirm it.
func (x *unknown) forward(n name.Name) inquiry {
	if x.address.Is4() {
		return inquiry{n, ipc.TypeA}
	}
	return inquiry{n, ipc.TypeAAAA}
}

// asks reports whether a question is under way.
func (u *unknowns) asks(now ipc.Instant, q inquiry) bool {
	if x := u.byPointer[q]; x != nil {
		return x.until > now
	}
	return slices.ContainsFunc(u.confirming[q], func(x *unknown) bool { return x.until > now })
}

// unknownDue gives up what was not answered in time, and returns when there is
// more. The trafficworker has given up too; with the next packet it is tried again.
func (l *lookups) unknownDue(now ipc.Instant) (next ipc.Instant) {
	next = never
	for _, x := range l.unknown.all {
		if x.until <= now {
			l.unknown.forget(x)
			continue
		}
		next = min(next, x.until)
	}
	return next
}

// named goes on with the names of an address: those that a waiting filter
// allows are looked up in turn. Without any the lookup ends.
func (l *lookups) named(now ipc.Instant, x *unknown, names []name.Name, all []rules) {
	u := &l.unknown
	delete(u.byPointer, x.pointer)
	for _, n := range names {
		allowed := slices.ContainsFunc(x.filters, func(filter int) bool {
			_, ok := all[filter].find(n)
			return ok
		})
		q := x.forward(n)
		asks := len(u.confirming[q]) > 0
		switch {
		case !allowed || slices.Contains(x.names, n) || len(x.names) == maxConfirmed:
			continue
		case !asks && len(u.byPointer)+len(u.confirming) >= maxUnknownAsked:
			continue
		}
		x.names = append(x.names, n)
		u.confirming[q] = append(u.confirming[q], x)
		if !asks {
			l.ask(q, x.until)
		}
	}
	if len(x.names) == 0 {
		l.settleAll(now, x, now.Add(settledFor))
	}
}

// refuted: a name does not lead back to the address.
func (l *lookups) refuted(now ipc.Instant, x *unknown, n name.Name) {
	l.unknown.unconfirm(x, n)
	x.names = slices.DeleteFunc(x.names, func(other name.Name) bool { return other == n })
	if len(x.names) == 0 {
		l.settleAll(now, x, now.Add(settledFor))
	}
}

// changeUnknown forgets what the policy that has come does not look up. What
// waits for it in the trafficworker is judged there.
func (l *lookups) changeUnknown(all []rules) {
	for _, x := range l.unknown.all {
		x.filters = slices.DeleteFunc(x.filters, func(filter int) bool { return !all[filter].LookupUnknown })
		if len(x.filters) == 0 {
			l.unknown.forget(x)
		}
	}
	l.unknown.settled = newUnknowns(len(all)).settled // a name may be allowed now
}
