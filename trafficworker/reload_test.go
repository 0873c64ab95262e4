package trafficworker

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

var histories = flag.Uint64("histories", 10_000, "how many histories of reloads TestReloadsAgainstAModel tries")

// model is what README allows at most, as plainly as it can be said. If nobody
// uses anything, what is open ends as it would without maxInUse.
type model struct {
	unused  bool
	f       ipc.Filter
	entries []entry
	open    []reason
	learnt  map[string][]reason
}

// reason is a configured entry that justifies that the address is open or a
// name known.
type reason struct {
	entry    entry
	answered ipc.Instant
	until    ipc.Instant // never any longer
}

func (e entry) String() string { return fmt.Sprint(e.name, " ", e.scope, e.ports) }

func (e entry) allows(n string) bool {
	below := strings.HasSuffix(n, "."+e.name)
	switch e.scope {
	case ipc.ScopeTree:
		return n == e.name || below
	case ipc.ScopeExact:
		return n == e.name
	case ipc.ScopeBelow:
		return below
	}
	return false
}

// covers reports whether e allows all that another does.
func (e entry) covers(old entry) bool {
	switch {
	case old.scope == ipc.ScopeCached:
		return e.scope == ipc.ScopeCached && e.name == old.name || e.allows(old.name)
	case e.scope == ipc.ScopeCached:
		return false
	}
	self := old.scope == ipc.ScopeBelow || e.allows(old.name)
	below := old.scope == ipc.ScopeExact || e.scope != ipc.ScopeExact && (e.name == old.name || strings.HasSuffix(old.name, "."+e.name))
	return self && below
}

func (e entry) opens(p ipc.Port) bool {
	return len(e.ports) == 0 || slices.ContainsFunc(e.ports, func(q ipc.Port) bool { _, ok := q.And(p); return ok })
}

func (m *model) lasts(e entry) time.Duration {
	switch {
	case m.unused && m.f.MaxInUse > 0: // the trafficworker does not know whose a grant is
		return m.f.Longest()
	case e.scope == ipc.ScopeCached:
		return m.f.CachedFor
	}
	return m.f.AllowAnswersFor
}

// grant is an answer that opens the address on an entry's behalf.
func (m *model) grant(now ipc.Instant, e entry, lasts time.Duration) {
	if !m.unused {
		lasts = max(lasts, m.f.MaxInUse)
	}
	m.open = append(m.open, reason{e, now, now.Add(lasts)})
}

// answer is that to a question, by way of an alias if that is not empty.
func (m *model) answer(now ipc.Instant, q, alias string, ttl uint32) {
	all := slices.Clone(m.learnt[q])
	for _, e := range m.entries {
		if e.allows(q) {
			all = append(all, reason{e, now, now.Add(m.f.AllowAnswersFor)})
		}
	}
	for _, r := range all {
		if r.until > now {
			m.grant(now, r.entry, m.f.Lasts(ttl))
			if alias != "" {
				m.learnt[alias] = append(m.learnt[alias], r)
			}
		}
	}
}

func (m *model) cached(now ipc.Instant, n string) {
	for _, e := range m.entries {
		if e.scope == ipc.ScopeCached && e.name == n {
			m.grant(now, e, m.f.CachedFor)
		}
	}
}

func (m *model) reload(now ipc.Instant, f ipc.Filter, entries []entry) {
	m.f, m.entries = f, entries
	m.open = m.turned(now, m.open, f.MaxInUse > 0 && !m.unused)
	for n, all := range m.learnt {
		m.learnt[n] = m.turned(now, all, false)
	}
}

// turned are reasons by the new entries.
func (m *model) turned(now ipc.Instant, all []reason, inUse bool) (is []reason) {
	for _, old := range all {
		for _, e := range m.entries {
			if !e.covers(old.entry) || old.until <= now {
				continue
			}
			r := reason{e, old.answered, min(old.until, now.Add(m.lasts(e)))}
			if inUse {
				r.until = old.answered.Add(m.f.MaxInUse)
			}
			is = append(is, r)
		}
	}
	return is
}

func (m *model) mayAsk(now ipc.Instant, q string) bool {
	return slices.ContainsFunc(m.entries, func(e entry) bool { return e.allows(q) }) ||
		slices.ContainsFunc(m.learnt[q], func(r reason) bool { return r.until > now })
}

func (m *model) opens(now ipc.Instant, p ipc.Port) bool {
	return slices.ContainsFunc(m.open, func(r reason) bool { return r.until > now && r.entry.opens(p) })
}

// randomPolicy is that of one filter with some of the entries.
func randomPolicy(random *rand.Rand, pool []entry) (ipc.Filter, []entry) {
	var entries []entry
	for _, i := range random.Perm(len(pool))[:1+random.IntN(4)] {
		same := func(e entry) bool { return e.name == pool[i].name && e.scope == pool[i].scope }
		if !slices.ContainsFunc(entries, same) {
			entries = append(entries, pool[i])
		}
	}
	cached := func(e entry) bool { return e.scope == ipc.ScopeCached }
	asked := func(e entry) bool { return !cached(e) }
	f := ipc.Filter{}
	if slices.ContainsFunc(entries, cached) {
		f.ReCacheEvery = time.Duration(1+random.IntN(30)) * minutes
		f.CachedFor = f.ReCacheEvery + minutes
	}
	if slices.ContainsFunc(entries, asked) {
		f.AllowAnswersFor = time.Duration(1+random.IntN(30)) * minutes
		if random.IntN(2) == 0 {
			f.RespectTTL, f.MinTTL = true, time.Second
		}
		if random.IntN(2) == 0 {
			f.MaxInUse = f.Longest() * time.Duration(1+random.IntN(5))
		}
	}
	return f, entries
}

// withSelf is a policy whose daemon asks for itself.
func withSelf(p *ipc.Policy) *ipc.Policy {
	p.Queues = append(p.Queues, ipc.Queue{Handle: 3, Number: 3, Kind: ipc.QueueSelf})
	p.Servers = []ipc.Address{ipc.AddressOf(netip.MustParseAddr("10.0.0.53"))}
	p.Settings.AskA = true
	return p
}

// live reports whether a packet would pass, and is none.
func (g *together) live(now ipc.Instant, port ipc.Port) bool {
	for _, p := range [...]ipc.Port{{}, port, {Number: port.Number}} {
		if _, _, live := g.table.grants.Get(now, 0, opening{changedAddress.As16(), p}); live {
			return true
		}
	}
	return false
}

// history is a random one, of the holder with the trafficworker and of the model.
type history struct {
	*together
	model  *model
	random *rand.Rand
	pool   []entry
	now    ipc.Instant
	log    []string // what was done, to be read when it goes wrong
	wrong  bool
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprint(h.now.Sub(testNow), ": ", fmt.Sprintf(format, args...)))
}

func (h *history) fail(format string, args ...any) {
	h.note(format, args...)
	h.wrong = true
}

var modelPorts = []ipc.Port{{Number: 80, Proto: ipc.ProtoTCP}, tcp443, udp443}

// look compares what is open with what may be, by packets or without any.
func (h *history) look() (open [3]bool) {
	for i, port := range modelPorts {
		if h.model.unused {
			open[i] = h.live(h.now, port)
		} else {
			open[i] = h.open(h.now, port)
		}
		if open[i] && !h.model.opens(h.now, port) {
			h.fail("%v is open", port)
		}
	}
	return open
}

func (h *history) asks() {
	names := []string{"example.com", "www.example.com", "other.com", "example.org", "cdn.net", "a.cdn.net", "b.com"}
	q, alias, ttl := names[h.random.IntN(len(names))], names[h.random.IntN(len(names))], uint32(h.random.IntN(1200))
	if alias == q || h.random.IntN(2) == 0 {
		alias = ""
	}
	if !h.exchange(h.now, 1, ttl, q, alias, "192.0.2.1") {
		return
	}
	h.note("%s by %q, TTL %d", q, alias, ttl)
	if !h.model.mayAsk(h.now, q) {
		h.fail("it may not be asked for")
	}
	h.model.answer(h.now, q, alias, ttl)
}

func (h *history) asksItself() {
	h.engine.Due(h.now)
	for _, a := range h.engine.Lookups().Ask {
		if h.exchange(h.now, 3, 60, a.Name.String(), "", "192.0.2.1") {
			h.note("cached %v", a.Name)
			h.model.cached(h.now, strings.TrimSuffix(a.Name.String(), "."))
		}
	}
}

func (h *history) reloads() {
	f, entries := randomPolicy(h.random, h.pool)
	before := h.look()
	h.reload(h.now, withSelf(policyOf(f, entries...)))
	h.model.reload(h.now, f, entries)
	h.note("reload %+v %v", f, entries)
	for i, open := range h.look() {
		if open && !before[i] {
			h.fail("a reload opens %v", modelPorts[i])
		}
	}
}

func (h *history) waits() {
	for range h.random.IntN(30) {
		h.now = h.now.Add(time.Duration(h.random.IntN(120)) * time.Second)
		h.look()
	}
}

// TestReloadsAgainstAModel: nothing is open, and no name known, that README
// does not allow, after answers with aliases, cached names, use and reloads.
func TestReloadsAgainstAModel(t *testing.T) {
	t.Parallel()
	http := modelPorts[0]
	pool := []entry{
		tree("com"), {"com", ipc.ScopeBelow, nil}, tree("example.com"), tree("example.com", http), {"example.com", ipc.ScopeExact, nil},
		{"example.com", ipc.ScopeBelow, []ipc.Port{https}}, tree("www.example.com", https, http), {"www.example.com", ipc.ScopeExact, []ipc.Port{udp443}},
		tree("other.com", http), tree("org", tcp443), tree("net"), tree("com", https), {"example.com", ipc.ScopeCached, nil}, {"www.example.com", ipc.ScopeCached, nil},
	}
	open, cached := 0, 0
	for seed := range *histories {
		random := rand.New(rand.NewPCG(seed, 7))
		f, entries := randomPolicy(random, pool)
		h := &history{
			together: newTogether(t, withSelf(policyOf(f, entries...))),
			model:    &model{unused: seed%2 == 0, f: f, entries: entries, learnt: map[string][]reason{}},
			random:   random, pool: pool, now: testNow,
		}
		h.note("%+v %v", f, entries)
		for range 12 {
			switch random.IntN(8) {
			case 0, 1, 2:
				h.asks()
			case 3:
				h.asksItself()
			case 4, 5:
				h.reloads()
				if h.look() != [3]bool{} {
					open++
				}
			default:
				h.waits()
			}
			h.now++
			h.look()
			if h.wrong {
				t.Fatalf("seed %d:\n%s", seed, strings.Join(h.log, "\n"))
			}
		}
		cached += strings.Count(strings.Join(h.log, "\n"), ": cached ")
	}
	if t.Logf("%d reloads left something open, %d answers about cached names", open, cached); open < 1000 || cached < 1000 {
		t.Error("hardly anything was tried")
	}
}
