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
	// unknownFor is how long an address is looked up. The packet waits for 2 s
	// from when it was asked about, so that what it waits for is over here before
	// the trafficworker asks again.
	unknownFor = 2*time.Second - 50*time.Millisecond
	// renewWithin is how near its end a lookup is begun anew for whoever comes to
	// wait for it: as long as that, the rest may be too little for an answer, and
	// a filter that waits already has given up meanwhile.
	renewWithin = unknownFor / 2
	// settledFor is how long an address that was looked up is not looked up again.
	settledFor = 10 * time.Second
	// lookupsPerSecond bounds the addresses that are looked up for a filter, as
	// many at once. Each tells the owner of the reverse zone some bits of the
	// packet's choice.
	lookupsPerSecond = 20
	// minUnknownAsked is what a filter may have under way of maxUnknownAsked,
	// however many filters share that.
	minUnknownAsked = 4
	// maxConfirmed bounds the names of one address that are looked up in turn
	// for a filter.
	maxConfirmed = 4
	// refusedPerSecond bounds what the trafficworker is told of addresses of a filter
	// that are not looked up: twice what an honest one asks about, some of which may
	// have been kept waiting. A packet of whose address it hears nothing waits for 2 s,
	// in room that the filters share. In all an honest one waits for fewer addresses
	// than the edge has room for, and one that is owned fills its own edge.
	refusedPerSecond = 2 * lookupsPerSecond
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
	until   ipc.Instant // when the packets wait no longer
	pointed bool        // the answer with its names has come
	names   []name.Name // of that answer
	waiters []*waiter
}

// waiter is a filter that has packets waiting for an address.
type waiter struct {
	filter  int
	names   []name.Name // that its allowedHostnames allow, whose addresses are being asked for
	leftOut bool        // there was no room to ask for all of them
}

// unknowns are all of them.
type unknowns struct {
	byPointer  map[inquiry]*unknown
	confirming map[inquiry][]*unknown // by the question about a name's addresses
	all        map[netip.Addr]*unknown
	share      int                                   // of what a filter may have under way
	asked      []int                                 // by filter: what is under way for it, what it shares counted in full
	lookups    []ipc.Bucket                          // by filter
	refusals   []ipc.Bucket                          // by filter: what the trafficworker is told at once
	settled    *expiring.Group[netip.Addr, struct{}] // by filter
}

func newUnknowns(filters []ipc.Filter) unknowns {
	u := unknowns{
		byPointer:  map[inquiry]*unknown{},
		confirming: map[inquiry][]*unknown{},
		all:        map[netip.Addr]*unknown{},
		asked:      make([]int, len(filters)),
		lookups:    make([]ipc.Bucket, len(filters)),
		refusals:   make([]ipc.Bucket, len(filters)),
	}
	for i := range filters {
		u.lookups[i] = ipc.Bucket{PerSecond: lookupsPerSecond, Burst: lookupsPerSecond}
		u.refusals[i] = ipc.Bucket{PerSecond: refusedPerSecond, Burst: refusedPerSecond}
	}
	looking := 0
	for i := range filters {
		if filters[i].LookupUnknown {
			looking++
		}
	}
	u.begin(looking)
	return u
}

// begin is for a policy in which so many filters look addresses up. A name may
// be allowed now that was not.
func (u *unknowns) begin(looking int) {
	u.share = max(minUnknownAsked, maxUnknownAsked/max(1, looking))
	u.settled = expiring.NewGroup[netip.Addr, struct{}](len(u.asked), maxSettledOfFilter, maxSettled)
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
	e.lookups.lookUp(now, int(u.Filter), a, e.rules)
	return nil
}

func (l *lookups) lookUp(now ipc.Instant, filter int, a netip.Addr, all []rules) {
	u := &l.unknown
	if _, until, known := u.settled.Get(now, filter, a); known {
		l.refuse(now, filter, a, until)
		return
	}
	x := u.all[a]
	w := x.waiter(filter)
	if w != nil && now.Add(renewWithin) < x.until {
		return
	}
	if w == nil && u.asked[filter] >= u.share || x == nil && u.full() {
		l.refuse(now, filter, a, 0)
		return
	}
	if _, ok := u.lookups[filter].Take(now); !ok {
		l.refuse(now, filter, a, 0)
		return
	}
	if x == nil {
		x = &unknown{address: a, pointer: inquiry{name.Reverse(a), ipc.TypePTR}}
		u.all[a], u.byPointer[x.pointer] = x, x
	}
	if now.Add(renewWithin) >= x.until { // or it is the first time
		l.renew(now, x)
	}
	if w != nil {
		return
	}
	w = &waiter{filter: filter}
	x.waiters = append(x.waiters, w)
	if x.pointed {
		l.confirm(now, x, w, all)
	} else {
		u.asked[filter]++
	}
}

// waiter is that of a filter, nil if it does not wait.
func (x *unknown) waiter(filter int) *waiter {
	if x == nil {
		return nil
	}
	for _, w := range x.waiters {
		if w.filter == filter {
			return w
		}
	}
	return nil
}

// full reports whether the resolver has no socket for another question.
func (u *unknowns) full() bool { return len(u.byPointer)+len(u.confirming) >= maxUnknownAsked }

// renew has the questions about an address asked from now on.
func (l *lookups) renew(now ipc.Instant, x *unknown) {
	x.until = now.Add(unknownFor)
	if !x.pointed {
		l.ask(now, x.pointer, x.until)
	}
	for q, all := range l.unknown.confirming {
		if slices.Contains(all, x) {
			l.ask(now, q, x.until)
		}
	}
}

// refuse settles what is not looked up, if it may be said: a trafficworker that
// asks without end would have the edge full on which the grants go, and whose
// packets are not answered are dropped when their time is up.
func (l *lookups) refuse(now ipc.Instant, filter int, a netip.Addr, until ipc.Instant) {
	if _, ok := l.unknown.refusals[filter].Take(now); ok {
		l.settle(filter, a, until)
	}
}

// settle tells the trafficworker that what was to be opened of an address is.
func (l *lookups) settle(filter int, a netip.Addr, until ipc.Instant) {
	g := ipc.Grants{Kind: ipc.GrantsSettled, Filter: uint32(filter), Until: until}
	l.out.Settled = append(l.out.Settled, pack(g, []netip.Addr{a})...)
}

// finish ends what a filter waits for, which is remembered unless until is 0.
func (l *lookups) finish(now ipc.Instant, x *unknown, w *waiter, until ipc.Instant) {
	l.settle(w.filter, x.address, until)
	if until > 0 {
		l.unknown.settled.Put(now, w.filter, x.address, struct{}{}, until)
	}
	l.unknown.leave(x, w)
}

// leave has a filter wait no longer, and forgets what nobody waits for.
func (u *unknowns) leave(x *unknown, w *waiter) {
	if !x.pointed {
		u.asked[w.filter]--
	}
	for len(w.names) > 0 {
		u.unconfirm(x, w, w.names[0])
	}
	x.waiters = slices.DeleteFunc(x.waiters, func(other *waiter) bool { return other == w })
	if len(x.waiters) == 0 {
		delete(u.all, x.address)
		delete(u.byPointer, x.pointer)
	}
}

func (u *unknowns) forget(x *unknown) {
	for _, w := range slices.Clone(x.waiters) {
		u.leave(x, w)
	}
}

// asks reports whether a question is under way.
func (u *unknowns) asks(now ipc.Instant, q inquiry) bool {
	if x := u.byPointer[q]; x != nil {
		return x.until > now
	}
	return slices.ContainsFunc(u.confirming[q], func(x *unknown) bool { return x.until > now })
}

// unknownDue gives up what was not answered in time, and returns when there is
// more. The trafficworker gives up too; with the next packet it is tried again.
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

// changeUnknown forgets what the policy that has come does not look up. What
// waits for it in the trafficworker is judged there.
func (l *lookups) changeUnknown(all []rules) {
	for _, x := range l.unknown.all {
		for _, w := range slices.Clone(x.waiters) {
			if !all[w.filter].LookupUnknown {
				l.unknown.leave(x, w)
			}
		}
	}
	looking := 0
	for i := range all {
		if all[i].LookupUnknown {
			looking++
		}
	}
	l.unknown.begin(looking)
}
