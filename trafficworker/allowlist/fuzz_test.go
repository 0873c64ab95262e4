package allowlist

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// The world of a fuzzed sequence: small, so that things meet.
var (
	fuzzNames = []string{
		"example.com", "www.example.com", "other.org", "debian.org", "xexample.com", "evil.net",
		"n.evil.net", "m.evil.net", "cdn.net", "x.cdn.net", "com", ".",
	}
	fuzzAddresses = []string{
		"192.0.2.1", "192.0.2.2", "127.0.0.1", "169.254.169.254", "2001:db8::1", "::ffff:192.0.2.1", "::ffff:127.0.0.1", "fe80::1",
	}
)

// asked is a request that the model saw accepted and not yet answered.
type asked struct {
	fact   *ipc.RequestFact
	filter int
	at     ipc.Instant
}

// model checks an engine from outside, with lists and no cleverness.
type model struct {
	t      *testing.T
	e      *Engine
	policy *ipc.Policy
	now    ipc.Instant
	open   []asked
	last   *ipc.RequestFact
	learnt []map[name.Name]ipc.Instant // by filter: the latest end that the rules allow
	input  []byte

	byLearnt int // requests accepted by way of a learnt name
}

func (m *model) next() int {
	if len(m.input) == 0 {
		return 0
	}
	b := m.input[0]
	m.input = m.input[1:]
	return int(b)
}

func (m *model) name() string { return fuzzNames[m.next()%len(fuzzNames)] }

// request asks something and remembers it when it was accepted.
func (m *model) request() {
	handle := []uint32{handleWeb, handleApt, handleAll}[m.next()%3]
	q := query(handle, m.name())
	shape := m.next()
	if shape&1 != 0 {
		q.Questions = append(q.Questions, query(0, m.name()).Questions...)
	}
	q.TxID = uint16(shape >> 1 & 1)
	q.OutIf = uint32(shape >> 2 & 3)
	q.InIf = uint32(shape >> 4 & 1)
	if shape>>5&3 == 3 {
		q.Src = ipc.AddressOf(ip("10.0.0.9"))
	}
	if shape>>7 != 0 && m.next()%4 == 0 {
		q.Drop = ipc.ReasonBadMessage
	}
	o := ask(m.t, m.e, m.now, q)
	m.last = q
	if o.Verdict != ipc.Accept {
		return
	}
	if q.Drop != ipc.ReasonNone || !m.allowed(o.Filter, q.Questions) {
		m.t.Fatalf("accepted %+v", q)
	}
	m.open = append(m.open, asked{q, o.Filter, m.now})
	if o.Learnt {
		m.byLearnt++
	}
}

// allowed is the slow word on whether a filter may ask these questions.
func (m *model) allowed(filter int, questions []ipc.Question) bool {
	for _, q := range questions {
		if !m.policy.Filters[filter].AllowAll && !slowAllowed(q.Name, m.policy.Hostnames[filter].Names) && m.learnt[filter][q.Name] <= m.now {
			return false
		}
	}
	return true
}

// response answers the last request, or something near it.
func (m *model) response() {
	if m.last == nil {
		return
	}
	a := reply(m.last)
	switch m.next() % 16 {
	case 0:
		a.TxID++
	case 1:
		a.InIf = 9
	case 2:
		a.Dst = ipc.AddressOf(ip("10.0.0.8"))
	case 3:
		a.Questions = query(0, m.name()).Questions
	case 4:
		a.Questions, a.NoRecords, a.RCode = nil, true, 1
	case 5:
		a.Truncated = true
	case 6:
		a.AnswerDrop = ipc.ReasonBadRecord
	}
	if !a.Truncated && !a.NoRecords && a.AnswerDrop == ipc.ReasonNone {
		m.records(a)
	}
	p := respond(m.t, m.e, m.now, a)
	if p.Verdict != ipc.Accept {
		return
	}
	m.mustBeAsked(a, p)
	m.mustBeWithinBounds(p)
	if m.next()%8 == 0 {
		m.e.NotSent(p)
	} else {
		m.teach(p)
		m.e.Commit(m.now, p)
	}
}

// records adds some, mostly to names that the response already speaks of.
func (m *model) records(a *answer) {
	for _, q := range a.Questions {
		a.index(q.Name)
	}
	owner := func() string {
		if at := m.next(); at < 240 {
			return a.Names[at%len(a.Names)].String()
		}
		return m.name()
	}
	for range m.next() % 6 {
		switch m.next() % 6 {
		case 0:
			a.cname(owner(), m.name())
		case 1:
			if m.next()%4 == 0 {
				a.dname(m.name(), m.name())
			}
		case 2:
			a.target(owner(), m.name())
		case 3:
			a.other(owner())
		default:
			a.addr(owner(), fuzzAddresses[m.next()%len(fuzzAddresses)])
		}
	}
	a.Others = slices.Compact(a.Others)
}

// mustBeAsked: no accepted response without a request of that filter, not
// older than a minute, whose questions are allowed. It uses the request up.
func (m *model) mustBeAsked(a *answer, p *Plan) {
	for i := len(m.open) - 1; i >= 0; i-- {
		q := m.open[i]
		if q.filter != p.Filter || m.now.Sub(q.at) > time.Minute || q.fact.TxID != a.TxID ||
			q.fact.Src != a.Dst || q.fact.Dst != a.Src || !slices.Equal(q.fact.Questions, p.Questions) ||
			len(a.Questions) > 0 && !slices.Equal(a.Questions, p.Questions) ||
			a.InIf != 0 && q.fact.OutIf != 0 && a.InIf != q.fact.OutIf ||
			a.OutIf != 0 && q.fact.InIf != 0 && a.OutIf != q.fact.InIf {
			continue
		}
		if !m.allowed(p.Filter, p.Questions) {
			m.t.Fatalf("answer to %v accepted", p.Questions)
		}
		// Retransmissions of it count as one.
		m.open = slices.DeleteFunc(m.open, func(o asked) bool {
			return o.filter == q.filter && o.fact.TxID == q.fact.TxID && o.fact.Src == q.fact.Src &&
				o.fact.InIf == q.fact.InIf && o.fact.OutIf == q.fact.OutIf && slices.Equal(o.fact.Questions, q.fact.Questions)
		})
		return
	}
	m.t.Fatalf("accepted without a request: %+v", a.ResponseFact)
}

func (m *model) mustBeWithinBounds(p *Plan) {
	if m.policy.Filters[p.Filter].AllowAll && len(p.Grants)+len(p.Names) > 0 {
		m.t.Fatal("an allow-all filter grants")
	}
	for _, g := range p.Grants {
		if int(g.Filter) != p.Filter || g.Until != m.now.Add(m.policy.Filters[p.Filter].AllowAnswersFor) {
			m.t.Fatalf("grants %+v of filter %d at %d", g, p.Filter, m.now)
		}
		for ; g.V4 != ""; g.V4 = g.V4[4:] {
			m.mustBePlain(netip.AddrFrom4([4]byte([]byte(g.V4))))
		}
		for ; g.V6 != ""; g.V6 = g.V6[16:] {
			m.mustBePlain(netip.AddrFrom16([16]byte([]byte(g.V6))))
		}
	}
}

func (m *model) mustBePlain(a netip.Addr) {
	if ipc.Special(a) || a.Is4In6() {
		m.t.Fatalf("grants %v", a)
	}
}

// teach notes how long the names of a plan may last at most: a full period if
// a question is allowed by itself, else as long as it is known for.
func (m *model) teach(p *Plan) {
	var until ipc.Instant
	for _, q := range p.Questions {
		if slowAllowed(q.Name, m.policy.Hostnames[p.Filter].Names) {
			until = max(until, m.now.Add(m.policy.Filters[p.Filter].AllowAnswersFor))
		} else {
			until = max(until, m.learnt[p.Filter][q.Name])
		}
	}
	for _, n := range p.Names {
		m.learnt[p.Filter][n] = max(until, m.learnt[p.Filter][n])
	}
}

// check compares what the engine holds with what it may hold.
func (m *model) check() {
	for filter, lasts := range []time.Duration{webLasts, aptLasts, 0} {
		m.e.learnt.Each(m.now, filter, func(n name.Name, p proofs, until ipc.Instant) {
			if until > m.learnt[filter][n] || until != p.until() || !n.Valid() || n == name.Root {
				m.t.Fatalf("%v learnt until %d, may last until %d", n, until, m.learnt[filter][n])
			}
			m.proofs(filter, &p)
		})
		m.e.grants.Each(m.now, filter, func(a [16]byte, p proofs, until ipc.Instant) {
			if until > m.now.Add(lasts) || until != p.until() {
				m.t.Fatalf("%v granted until %d at %d", netip.AddrFrom16(a), until, m.now)
			}
			m.mustBePlain(netip.AddrFrom16(a).Unmap())
			m.proofs(filter, &p)
		})
	}
	c := m.e.Counts()
	if c.Pending > len(m.open) || c.Pending != m.pendingByKey() {
		m.t.Fatalf("%d pending of %d asked, %d by key", c.Pending, len(m.open), m.pendingByKey())
	}
}

func (m *model) proofs(filter int, p *proofs) {
	seen := map[uint32]bool{}
	for _, proof := range p.appendTo(nil, m.now) {
		if int(proof.entry) >= len(m.policy.Hostnames[filter].Names) || seen[proof.entry] {
			m.t.Fatalf("proof by entry %d", proof.entry)
		}
		seen[proof.entry] = true
	}
	if len(seen) == 0 {
		m.t.Fatal("nothing justifies a live entry")
	}
}

func (m *model) pendingByKey() int {
	n := 0
	for _, r := range m.e.pending.byKey {
		for ; r != nil; r = r.sibling {
			n++
		}
	}
	return n
}

// FuzzEngine turns bytes into sequences of valid facts.
func FuzzEngine(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 9, 2, 4, 0, 0, 2, 0, 6, 1})                                 // ask, be granted
	f.Add([]byte{1, 0, 0, 0, 2, 9, 1, 0, 0, 6, 1, 1, 0, 6, 0, 2, 9, 1, 2, 6, 6, 1, 0, 200}) // be taught, renew
	f.Add([]byte("\x01\x00\x00\x0c\x02\x09\x03\x00\x00\x08\x04\x08\x00\x04\x08\x03\x01"))   // a chain
	f.Fuzz(func(t *testing.T, input []byte) { newModel(t, input).run() })
}

func newModel(t *testing.T, input []byte) *model {
	m := &model{t: t, policy: testPolicy(), now: start, input: input}
	m.e = testEngine(t, m.policy)
	for range m.policy.Filters {
		m.learnt = append(m.learnt, map[name.Name]ipc.Instant{})
	}
	return m
}

func (m *model) run() {
	for len(m.input) > 0 {
		switch m.next() % 4 {
		case 0:
			m.now = m.now.Add(time.Duration(m.next()) * 50 * time.Millisecond)
		case 1:
			m.request()
		default:
			m.response()
		}
		m.check()
	}
}

// The fuzz target says something only if its sequences get far: random ones
// must be granted addresses and taught names.
func TestFuzzedSequencesGetFar(t *testing.T) {
	granted, learnt, byLearnt := uint64(0), 0, 0
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 5))
		input := make([]byte, 2000)
		for i := range input {
			input[i] = byte(r.Uint32())
		}
		m := newModel(t, input)
		m.run()
		c := m.e.Counts()
		granted += c.Responses
		learnt += c.Learnt
		byLearnt += m.byLearnt
	}
	if granted < 2000 || learnt < 50 || byLearnt < 30 {
		t.Errorf("%d responses accepted, %d learnt names held, %d learnt names asked for in 200 sequences", granted, learnt, byLearnt)
	}
}
