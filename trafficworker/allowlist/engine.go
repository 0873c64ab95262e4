package allowlist

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
	"github.com/capnspacehook/egress-eddie/trafficworker/expiring"
)

// Engine is the holder's policy and state. Make it with New; it belongs to
// one goroutine.
type Engine struct {
	queues    map[uint32]ipc.Queue // by handle
	rules     []rules              // by filter
	resolvers map[ipc.Address]bool
	servers   map[ipc.Address]bool // that the daemon itself asks

	// self stands for the daemon where a request belongs to a filter: the number
	// after the last one, or -1 if it asks nothing itself.
	self    int
	lookups *lookups

	connections *connections

	pending *pending
	learnt  *expiring.Group[name.Name, proofs]
	grants  *expiring.Group[[16]byte, proofs] // by address, IPv4 as IPv4-mapped: why the trafficworker's are open
	chain   chain
	counts  Counts
}

// New makes an engine for a policy, whose lists of names must not be changed
// any more. The error says what contradicts itself in it.
func New(p *ipc.Policy) (*Engine, error) {
	if err := checkPolicy(p); err != nil {
		return nil, fmt.Errorf("allowlist: policy: %w", err)
	}
	e := &Engine{
		queues:    make(map[uint32]ipc.Queue, len(p.Queues)),
		rules:     make([]rules, len(p.Filters)),
		resolvers: make(map[ipc.Address]bool, len(p.Resolvers)),
		servers:   make(map[ipc.Address]bool, len(p.Servers)),
		self:      -1,
		lookups:   newLookups(p),
		learnt:    expiring.NewGroup[name.Name, proofs](len(p.Filters), MaxLearnt, MaxLearnt),
		grants:    expiring.NewGroup[[16]byte, proofs](len(p.Filters), ipc.MaxGrantsOfFilter, ipc.MaxGrants),
		counts:    Counts{Drops: make(map[ipc.Reason]uint64)},
	}
	for _, q := range p.Queues {
		if q.Kind == ipc.QueueSelf {
			e.self = len(p.Filters)
			q.Filter = uint32(e.self)
		}
		e.queues[q.Handle] = q
	}
	e.connections, e.pending = newConnections(len(p.Filters)), newPending(len(p.Filters), p.Settings.InterfaceCheck)
	for i := range p.Filters {
		r, err := newRules(&p.Filters[i], p.Hostnames[i])
		if err != nil {
			return nil, fmt.Errorf("allowlist: policy: %w", err)
		}
		e.rules[i] = r
	}
	for _, r := range p.Resolvers {
		e.resolvers[r] = true
	}
	for _, s := range p.Servers {
		e.servers[s] = true
	}
	e.lookups.setCached(0, e.rules)
	return e, nil
}

// Outcome is what shall become of a packet, and what the log says of it. The
// zero value is no verdict at all.
type Outcome struct {
	Verdict ipc.Verdict
	Reason  ipc.Reason // ReasonNone exactly when accepted
	Queue   uint16     // NFQUEUE number, for people
	Filter  int        // index, -1 when no filter is known
	// Entry is a configured host name that allows the first question, "" where
	// names are not looked at; Learnt is that it does so only by way of an
	// earlier answer.
	Entry  name.Name
	Learnt bool
}

// Plan is the outcome of a response and what Commit will learn from it. One
// that drops holds neither grants nor names.
type Plan struct {
	Outcome
	Questions []ipc.Question // of the request that is answered, if any
	Grants    []ipc.Grants   // for the trafficworker
	Names     []name.Name    // to be allowed for questions
	Special   []netip.Addr   // that pass and are not granted: special ones, private ones, too many
	Lasts     time.Duration  // of the grant that lasts longest

	bases     []basis // by question
	names     []taught[name.Name]
	addresses []answered
	done      bool

	connection *connection       // of a segment, if it is known
	segment    *ipc.ResponseFact // which is this
	lookup     *lookedUp         // it answers a question of the daemon's own
}

// Request judges one UDP packet of a request queue (see Requests). An accepted request is from
// then on pending. An error is a breach of protocol by the sender: the fact
// names a queue that this edge does not have. The fact must have passed
// Validate and must not be changed afterwards.
func (e *Engine) Request(now ipc.Instant, f *ipc.RequestFact) (Outcome, error) {
	q, ok := e.queues[f.Handle]
	if !ok || !isRequests(q.Kind) {
		return Outcome{}, fmt.Errorf("allowlist: request on handle %d, which is no request queue", f.Handle)
	}
	o := Outcome{Verdict: ipc.Drop, Queue: q.Number, Filter: e.shown(q.Filter)}
	if o.Reason = e.request(now, q.Filter, f, &o); o.Reason != ipc.ReasonNone {
		e.counts.Drops[o.Reason]++
		return o, nil
	}
	o.Verdict = ipc.Accept
	e.counts.Requests++
	return o, nil
}

func (e *Engine) request(now ipc.Instant, filter uint32, f *ipc.RequestFact, o *Outcome) ipc.Reason {
	if reason := e.requestMessage(now, filter, f, o); reason != ipc.ReasonNone {
		return reason
	}
	return e.pending.add(now, filter, f)
}

// requestMessage is request up to where the request becomes pending.
func (e *Engine) requestMessage(now ipc.Instant, filter uint32, f *ipc.RequestFact, o *Outcome) ipc.Reason {
	switch {
	case f.Drop != ipc.ReasonNone:
		return f.Drop
	case !requestState(f.State):
		return ipc.ReasonConnState
	case int(filter) == e.self && f.Extras: // the resolver's have none: it would be to hide something in
		return ipc.ReasonSections
	}
	return e.judge(now, filter, f.Dst, f.Questions, o)
}

func isRequests(k ipc.QueueKind) bool { return k == ipc.QueueRequests || k == ipc.QueueSelf }

// shown is a filter as an outcome names it.
func (e *Engine) shown(filter uint32) int {
	if int(filter) == e.self {
		return -1
	}
	return int(filter)
}

func requestState(s ipc.ConnState) bool {
	return s == ipc.ConnUnknown || s == ipc.ConnNew || s == ipc.ConnEstablished
}

func responseState(s ipc.ConnState) bool { return s == ipc.ConnUnknown || s == ipc.ConnEstablished }

// Response judges one packet of a response queue. Whatever it says, nothing
// has changed yet but that a request which the packet answers is used up: an
// accepted plan is to be followed by Commit or NotSent. An error is a breach
// of protocol, as with Request.
func (e *Engine) Response(now ipc.Instant, f *ipc.ResponseFact) (Plan, error) {
	q, ok := e.queues[f.Handle]
	if !ok || q.Kind != ipc.QueueResponses {
		return Plan{}, fmt.Errorf("allowlist: response on handle %d, which is no response queue", f.Handle)
	}
	p := Plan{Outcome: Outcome{Verdict: ipc.Drop, Queue: q.Number, Filter: -1}}
	if p.Reason = e.response(now, f, &p); p.Reason != ipc.ReasonNone {
		e.counts.Drops[p.Reason]++
		return p, nil
	}
	p.Verdict = ipc.Accept
	if isMessage(f) {
		e.counts.Responses++
	} else {
		e.counts.Segments++
	}
	e.counts.Special += uint64(len(p.Special))
	e.counts.LeftOut += uint64(f.LeftOut)
	return p, nil
}

func (e *Engine) response(now ipc.Instant, f *ipc.ResponseFact, p *Plan) ipc.Reason {
	if f.Proto == ipc.ProtoTCP {
		return e.responseSegment(now, f, p)
	}
	return e.responseMessage(now, f, p)
}

func (e *Engine) responseMessage(now ipc.Instant, f *ipc.ResponseFact, p *Plan) ipc.Reason {
	if f.Drop != ipc.ReasonNone {
		return f.Drop
	}
	if !responseState(f.State) {
		return ipc.ReasonConnState
	}
	r, reason := e.pending.take(now, f)
	if reason != ipc.ReasonNone {
		return reason
	}
	p.Filter, p.Questions = e.shown(r.filter), r.questions
	if int(r.filter) == e.self {
		return e.responseToSelf(now, f, p)
	}
	if reason := e.judge(now, r.filter, f.Src, r.questions, &p.Outcome); reason != ipc.ReasonNone {
		return reason
	}
	if f.Truncated || e.rules[r.filter].AllowAll {
		return ipc.ReasonNone
	}
	if f.AnswerDrop != ipc.ReasonNone {
		return f.AnswerDrop
	}
	if reason := e.chain.walk(f); reason != ipc.ReasonNone {
		return reason
	}
	e.plan(now, r.filter, f, p)
	return ipc.ReasonNone
}

// responseToSelf judges the answer to a question of the daemon's own.
func (e *Engine) responseToSelf(now ipc.Instant, f *ipc.ResponseFact, p *Plan) ipc.Reason {
	if !e.mayAsk(uint32(e.self), f.Src) {
		return ipc.ReasonResolverNotTrusted
	}
	q, reason := e.lookups.mayAsk(now, p.Questions, true)
	switch {
	case reason != ipc.ReasonNone:
		return reason
	case f.Truncated:
		return ipc.ReasonNone
	case f.AnswerDrop != ipc.ReasonNone:
		return f.AnswerDrop
	}
	if reason := e.chain.walk(f); reason != ipc.ReasonNone {
		return reason
	}
	e.planLookup(now, q, f, p)
	return ipc.ReasonNone
}

// plan writes down what a wholly checked response gives.
func (e *Engine) plan(now ipc.Instant, filter uint32, f *ipc.ResponseFact, p *Plan) {
	p.names = e.chain.teaches(f)
	for _, n := range p.names {
		p.Names = append(p.Names, n.what)
	}
	r := &e.rules[filter]
	p.addresses = p.answered(f, &e.chain, r)
	if len(p.names)+len(p.addresses) == 0 {
		return
	}
	for _, q := range p.Questions {
		p.bases = append(p.bases, e.basis(now, filter, q.Name))
	}
	p.grant(now, r)
}

// Commit learns what an accepted plan gives. NB: only after the grants were
// handed to the trafficworker. A second call does nothing.
func (e *Engine) Commit(now ipc.Instant, p *Plan) {
	if p.Verdict != ipc.Accept || p.done {
		return
	}
	p.done = true
	if p.connection != nil && !p.segment.Segment.More {
		p.connection.passed(p.segment)
	}
	if p.lookup != nil {
		e.commitLookup(now, p)
	}
	for _, n := range p.names {
		e.commitName(now, p, n)
	}
	for _, a := range p.addresses {
		e.commitAddress(now, p, a)
	}
}

// NotSent turns an accepted plan whose grants could not be handed over into a
// drop from which nothing is learnt. Its request stays used up; the client
// will ask again.
func (e *Engine) NotSent(p *Plan) {
	if p.Verdict != ipc.Accept || p.done {
		return
	}
	p.done = true
	p.Verdict, p.Reason = ipc.Drop, ipc.ReasonGrantNotSent
	p.Grants, p.Names, p.Special = nil, nil, nil
	p.bases, p.names, p.addresses, p.lookup = nil, nil, nil, nil
	if p.connection != nil { // what comes again would pass without its grants
		p.connection.responsesRefused = true
	}
	e.counts.Responses--
	e.counts.Drops[ipc.ReasonGrantNotSent]++
}
