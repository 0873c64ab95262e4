package allowlist

import (
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

const (
	// firstRetry is when a question about a cached name that got no usable
	// answer is asked again; then twice as long each time, up to lastRetry or
	// until the name is due anyway.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// cached is a question about a name of cachedHostnames.
type cached struct {
	inquiry
	every    time.Duration // the shortest of its filters
	opens    []cachedFilter
	due      ipc.Instant // when it is asked next, if none is under way
	until    ipc.Instant // the end of the one that is, or 0
	failures int         // since the last success
}

// cachedFilter is a filter that a cached name opens its addresses for, and its
// entry there.
type cachedFilter struct {
	filter int
	entry  uint32
}

// setCached takes the cached names of all filters over, and has all of them
// asked now: what a filter did not give before is not open for it yet.
func (l *lookups) setCached(now ipc.Instant, all []rules) {
	old := l.cached
	l.cached, l.under = map[inquiry]*cached{}, 0
	for filter := range all {
		r := &all[filter]
		for entry, n := range r.hosts.Names {
			if ipc.Scope(r.hosts.Scopes[entry]) != ipc.ScopeCached {
				continue
			}
			for _, typ := range l.types {
				q := inquiry{n, typ}
				c := l.cached[q]
				if c == nil {
					c = &cached{inquiry: q, every: r.ReCacheEvery, due: now}
					if before := old[q]; before != nil {
						c.until, c.failures = before.until, before.failures
					}
					l.cached[q] = c
				}
				c.every = min(c.every, r.ReCacheEvery)
				c.opens = append(c.opens, cachedFilter{filter, uint32(entry)})
			}
		}
	}
	for _, c := range l.cached {
		if c.until != 0 {
			l.under++
		}
	}
	l.soon(now)
}

// cachedDue asks what is due, gives up what was not answered in time, and
// returns when there is more.
func (l *lookups) cachedDue(now ipc.Instant) (next ipc.Instant) {
	next = never
	for _, c := range l.cached {
		if c.until != 0 && c.until <= now {
			l.failed(now, c)
		}
	}
	for _, c := range l.cached {
		switch {
		case c.until != 0:
		case c.due > now:
			next = min(next, c.due)
			continue
		case l.under == maxCachedAsked: // until one of them ends
			continue
		default:
			c.until = now.Add(cachedFor)
			l.under++
			l.ask(now, c.inquiry, c.until)
		}
		next = min(next, c.until)
	}
	return next
}

func (l *lookups) end(c *cached) {
	if c.until == 0 { // a late answer
		return
	}
	c.until = 0
	l.under--
}

func (l *lookups) failed(now ipc.Instant, c *cached) {
	l.end(c)
	again := min(firstRetry<<min(c.failures, 10), lastRetry, c.every)
	c.failures++
	c.due = now.Add(again)
	l.soon(now) // there is room for another
	l.out.Failed = append(l.out.Failed, Failed{Name: c.name, Type: c.typ, Again: again, Unseen: !l.seen})
}

// answered takes note of an answer to the question about a cached name. That a
// name exists and has no such record is a success; that it does not exist is
// none, and neither is what the resolver tries again.
func (c *cached) answered(now ipc.Instant, l *lookups, rcode uint8) {
	switch {
	case rcode == rcodeSuccess:
		l.end(c)
		c.failures, c.due = 0, now.Add(c.every)
		l.soon(now)
	case rcode == rcodeNoName && c.until != 0:
		l.failed(now, c)
	}
}

// The response codes that settle a question, RFC 1035 section 4.1.1.
const (
	rcodeSuccess = 0
	rcodeNoName  = 3
)
