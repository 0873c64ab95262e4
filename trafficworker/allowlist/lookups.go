package allowlist

import (
	"math"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
	"github.com/capnspacehook/egress-eddie/trafficworker/expiring"
)

// Bounds of what the daemon asks for itself.
const (
	// maxCachedAsked and maxUnknownAsked bound the questions that are under way at
	// once, for the names of cachedHostnames and for unknown addresses: together
	// what the resolver has sockets for.
	maxCachedAsked  = ipc.MaxLookups / 2
	maxUnknownAsked = ipc.MaxLookups - maxCachedAsked
	// cachedFor is how long the answer to a question about a cached name is
	// waited for: several attempts of the resolver's.
	cachedFor = 5 * time.Second
	// overFor is how long after its time a question is known to have been under
	// way: so long may an answer be late. maxOver bounds those that are known;
	// all cached names are half of it.
	overFor = pendingForSelf
	maxOver = 4 * ipc.MaxCached
)

// inquiry is a question of the daemon's own. Its class is IN.
type inquiry struct {
	name name.Name
	typ  uint16
}

// lookups are the questions that the daemon asks for itself. The resolver is
// told what to ask and says nothing: whether it asked, and what was answered,
// the parsers tell, as of everybody's. So it grants nothing, whoever owns it.
type lookups struct {
	types   []uint16 // that the addresses of a name are asked for with
	cached  map[inquiry]*cached
	under   int // of cached, those that are under way
	unknown unknowns
	next    ipc.Instant // nothing is due before it
	seen    bool        // a question of the daemon's came by its queue
	// over are the questions that are or were under way, and how often each has been
	// asked since it was last to be.
	over *expiring.Table[inquiry, int]

	out Lookups
}

// Lookups is what the holder has to pass on.
type Lookups struct {
	Ask     []ipc.Lookup // to the resolver
	Settled []ipc.Grants // to the trafficworker, after the grants of the same moment
	Failed  []Failed     // for the log
}

// Failed is a question about a cached name without a usable answer.
type Failed struct {
	Name  name.Name
	Type  uint16
	Again time.Duration // until it is asked again
	// Unseen: no question of the daemon's has ever come by its queue, which is
	// rather the fault of the firewall's rules than of a server.
	Unseen bool
}

const never ipc.Instant = math.MaxInt64

func newLookups(p *ipc.Policy) *lookups {
	l := &lookups{
		cached: map[inquiry]*cached{}, unknown: newUnknowns(p.Filters), over: expiring.New[inquiry, int](maxOver),
	}
	if p.Settings.AskA {
		l.types = append(l.types, ipc.TypeA)
	}
	if p.Settings.AskAAAA {
		l.types = append(l.types, ipc.TypeAAAA)
	}
	return l
}

// AsksItself reports whether there is anything that Due has to be called for.
func (e *Engine) AsksItself() bool { return e.self >= 0 }

// Due does what is due by now and returns when there will be more to do.
func (e *Engine) Due(now ipc.Instant) (next ipc.Instant) {
	l := e.lookups
	if now >= l.next {
		l.next = min(l.cachedDue(now), l.unknownDue(now))
	}
	return l.next
}

// Lookups are those that have come up since the last call.
func (e *Engine) Lookups() Lookups {
	out := e.lookups.out
	e.lookups.out = Lookups{}
	return out
}

func (l *lookups) ask(now ipc.Instant, q inquiry, until ipc.Instant) {
	l.over.Put(now, q, 0, until.Add(overFor))
	l.out.Ask = append(l.out.Ask, ipc.Lookup{Name: q.name, Type: q.typ, Until: until})
	l.soon(until)
}

// soon has Due look again at an instant at the latest.
func (l *lookups) soon(at ipc.Instant) { l.next = min(l.next, at) }

// maxAsked bounds the requests of one lookup: as many servers as the resolver
// tries, each by UDP and by TCP.
const maxAsked = 16

// request is mayAsk for a request, of which each lookup has only so many.
func (l *lookups) request(now ipc.Instant, questions []ipc.Question) ipc.Reason {
	q, reason := l.mayAsk(now, questions, false)
	if reason != ipc.ReasonNone {
		return reason
	}
	asked, until, _ := l.over.Get(now, q)
	if asked == maxAsked {
		return ipc.ReasonLookupOver
	}
	l.over.Put(now, q, asked+1, until)
	return ipc.ReasonNone
}

// mayAsk reports why the daemon's own queue does not let a question pass: it
// does with exactly those that are under way. Their answers are judged again:
// by then the question may have been answered, or given up.
func (l *lookups) mayAsk(now ipc.Instant, questions []ipc.Question, answer bool) (q inquiry, reason ipc.Reason) {
	if len(questions) != 1 || questions[0].Class != classIN {
		return q, ipc.ReasonNotLookedUp
	}
	q = inquiry{questions[0].Name, questions[0].Type}
	if c := l.cached[q]; c != nil && (answer || c.until > now) {
		return q, ipc.ReasonNone
	}
	if l.unknown.asks(now, q) {
		return q, ipc.ReasonNone
	}
	if _, _, known := l.over.Get(now, q); known { // the resolver tried again just before the answer, perhaps
		return q, ipc.ReasonLookupOver
	}
	return q, ipc.ReasonNotLookedUp
}
