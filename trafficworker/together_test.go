package trafficworker

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
	"github.com/capnspacehook/egress-eddie/trafficworker/allowlist"
)

// together are the holder's rules and the table, as if the one had told the
// other by the edge between them.
type together struct {
	t      testing.TB
	engine *allowlist.Engine
	table  *table
	id     uint16
}

// entry is a host name of a configuration.
type entry struct {
	name  string
	scope ipc.Scope
	ports []ipc.Port
}

func tree(n string, ports ...ipc.Port) entry { return entry{n, ipc.ScopeTree, ports} }

// policyOf is that of one filter with these names.
func policyOf(f ipc.Filter, entries ...entry) *ipc.Policy {
	p := &ipc.Policy{
		Queues: []ipc.Queue{
			{Handle: 1, Number: 1, Kind: ipc.QueueRequests},
			{Handle: 2, Number: 2, Kind: ipc.QueueResponses},
		},
		Hostnames: []ipc.Hostnames{{}},
	}
	f.Name = "f"
	for _, e := range entries {
		p.Hostnames[0].Add(mustName(e.name), e.scope, e.ports)
		f.Ports = f.Ports || len(e.ports) > 0
	}
	p.Filters = []ipc.Filter{f}
	return p
}

func mustName(s string) name.Name {
	n, err := name.Parse(s)
	if err != nil {
		panic(err)
	}
	return n
}

func newTogether(t testing.TB, p *ipc.Policy) *together {
	t.Helper()
	engine, err := allowlist.New(p)
	if err != nil {
		t.Fatal(err)
	}
	table, err := startedTable(p.Filters, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &together{t: t, engine: engine, table: table}
}

// ask has a question answered with addresses, and reports whether it may be asked.
func (g *together) ask(now ipc.Instant, ttl uint32, question string, addresses ...string) bool {
	g.t.Helper()
	return g.exchange(now, 1, ttl, question, "", addresses...)
}

// exchange is ask on some queue, with an answer by way of an alias if that is
// not empty.
func (g *together) exchange(now ipc.Instant, handle, ttl uint32, question, alias string, addresses ...string) bool {
	g.t.Helper()
	g.id++
	client, server := ipc.AddressOf(netip.MustParseAddr("10.0.0.2")), ipc.AddressOf(netip.MustParseAddr("10.0.0.53"))
	q := &ipc.RequestFact{
		Packet:    ipc.Packet{Handle: handle, ID: 1, OutIf: 2, Proto: ipc.ProtoUDP, Src: client, Dst: server, SrcPort: 4000, DstPort: 53},
		TxID:      g.id,
		Questions: []ipc.Question{{Name: mustName(question), Type: 1, Class: 1}},
	}
	o, err := g.engine.Request(now, q)
	if err != nil {
		g.t.Fatal(err)
	}
	if o.Verdict != ipc.Accept {
		return false
	}
	a := &ipc.ResponseFact{
		Packet:    ipc.Packet{Handle: 2, ID: 1, InIf: 2, Proto: ipc.ProtoUDP, Src: server, Dst: client, SrcPort: 53, DstPort: 4000},
		TxID:      g.id,
		Questions: q.Questions,
		Names:     []name.Name{mustName(question)},
	}
	owner := byte(0)
	if alias != "" {
		a.Names = append(a.Names, mustName(alias))
		a.Links = []ipc.Link{{Owner: 0, Target: 1}}
		owner = 1
	}
	a.A.TTLs = []uint32{ttl}
	for _, address := range addresses {
		a.A.Octets += string(netip.MustParseAddr(address).AsSlice())
		a.A.Owners, a.A.TTL = append(a.A.Owners, owner), append(a.A.TTL, 0)
	}
	p, err := g.engine.Response(now, a)
	if err != nil || p.Verdict != ipc.Accept {
		g.t.Fatal(err, p.Reason)
	}
	g.tell(now, p.Grants)
	g.engine.Commit(now, &p)
	return true
}

func (g *together) tell(now ipc.Instant, messages []ipc.Grants) {
	g.t.Helper()
	for i := range messages {
		if err := messages[i].Validate(); err != nil {
			g.t.Fatal(err)
		}
		if _, err := g.table.take(now, &messages[i]); err != nil {
			g.t.Fatal(err)
		}
	}
}

func (g *together) reload(now ipc.Instant, p *ipc.Policy) {
	g.t.Helper()
	if err := g.table.announce(p.Filters, nil); err != nil {
		g.t.Fatal(err)
	}
	c, err := g.engine.Change(now, p)
	if err != nil {
		g.t.Fatal(err)
	}
	g.tell(now, append(c.Grants, ipc.Grants{Kind: ipc.GrantsDone}))
}

// open reports whether a packet would pass, and so counts as use.
func (g *together) open(now ipc.Instant, port ipc.Port) bool {
	if !g.table.filters[0].Ports {
		port = ipc.Port{}
	}
	return g.table.open(now, 0, changedAddress, port)
}

// want requires what a packet to the address at some minute finds.
func (g *together) want(what string, minute int, port ipc.Port, open bool) {
	g.t.Helper()
	if got := g.open(at(minute), port); got != open {
		g.t.Errorf("%s: minute %d, port %v: open is %t", what, minute, port, got)
	}
}

func at(minute int) ipc.Instant { return testNow.Add(time.Duration(minute) * time.Minute) }

const minutes = time.Minute

// TestReloadTogether: what is open after a change was open right before it,
// and the new policy gives it.
func TestReloadTogether(t *testing.T) {
	inUse := ipc.Filter{AllowAnswersFor: minutes, MaxInUse: 60 * minutes}
	plain := ipc.Filter{AllowAnswersFor: 5 * minutes}
	http := ipc.Port{Number: 80, Proto: ipc.ProtoTCP}
	for what, c := range map[string]struct {
		from, to *ipc.Policy
		at       int // minute of the reload
		open     []ipc.Port
		shut     []ipc.Port
	}{
		"what ended unused stays shut": {policyOf(inUse, tree("example.com")), policyOf(plain, tree("example.com", https)), 10, nil, []ipc.Port{tcp443, http}},
		"and in use to in use":         {policyOf(inUse, tree("example.com")), policyOf(inUse, tree("example.com", https)), 10, nil, []ipc.Port{tcp443}},
		"all to one, in use":           {policyOf(inUse, tree("example.com")), policyOf(inUse, tree("example.com", https)), 0, []ipc.Port{tcp443, udp443}, []ipc.Port{http}},
		"all to one, now in use":       {policyOf(plain, tree("example.com")), policyOf(inUse, tree("example.com", https)), 0, []ipc.Port{tcp443}, []ipc.Port{http}},
		"one to all":                   {policyOf(plain, tree("example.com", https)), policyOf(plain, tree("example.com")), 0, []ipc.Port{tcp443}, []ipc.Port{http}},
		"one to another":               {policyOf(plain, tree("example.com", https)), policyOf(plain, tree("example.com", http)), 0, nil, []ipc.Port{tcp443, http}},
		"the wider goes":               {policyOf(plain, tree("com"), tree("example.com", https)), policyOf(plain, tree("example.com", https)), 0, []ipc.Port{tcp443}, []ipc.Port{http}},
		"the narrower goes":            {policyOf(plain, tree("com"), tree("example.com", https)), policyOf(plain, tree("com")), 0, []ipc.Port{tcp443, http, udp123}, nil},
		"both protocols to one":        {policyOf(plain, tree("example.com", https)), policyOf(plain, tree("example.com", udp443)), 0, []ipc.Port{udp443}, []ipc.Port{tcp443}},
		"one protocol to both":         {policyOf(plain, tree("example.com", udp443)), policyOf(plain, tree("example.com", https)), 0, []ipc.Port{udp443}, []ipc.Port{tcp443}},
	} {
		g := newTogether(t, c.from)
		g.ask(testNow, 300, "example.com", "192.0.2.1")
		g.reload(at(c.at)+1, c.to)
		if c.to.Filters[0].Ports != (c.to.Hostnames[0].Ports != nil) {
			t.Errorf("%s: the policy itself was changed", what)
		}
		for _, port := range c.open {
			if !g.open(at(c.at)+2, port) {
				t.Errorf("%s: %v is shut", what, port)
			}
		}
		for _, port := range c.shut {
			if g.open(at(c.at)+2, port) {
				t.Errorf("%s: %v is open", what, port)
			}
		}
	}
}

// TestDeniedTogether: what private answers opened is closed when the policy
// denies them, and nothing else.
func TestDeniedTogether(t *testing.T) {
	f := ipc.Filter{AllowAnswersFor: 5 * minutes}
	g := newTogether(t, policyOf(f, tree("example.com")))
	private := []string{"10.0.0.7", "100.64.0.1"}
	g.ask(testNow, 300, "example.com", append(private, "192.0.2.1")...)
	for _, denied := range []bool{false, true} {
		f.DenyPrivate = denied
		g.reload(testNow, policyOf(f, tree("example.com")))
		for _, a := range private {
			if open := g.table.open(testNow, 0, netip.MustParseAddr(a), tcp443); open == denied {
				t.Errorf("%s: open is %t, denied is %t", a, open, denied)
			}
		}
		g.want("public", 0, tcp443, true)
	}
}

// TestTimesTogether: idle ends after allowAnswersFor, use after maxInUse from
// the answer, also where a reload changes either.
func TestTimesTogether(t *testing.T) {
	filter := func(lasts, inUse int) *ipc.Policy {
		return policyOf(ipc.Filter{AllowAnswersFor: time.Duration(lasts) * minutes, MaxInUse: time.Duration(inUse) * minutes}, tree("example.com"))
	}
	begin := func(p *ipc.Policy) *together {
		g := newTogether(t, p)
		g.ask(testNow, 300, "example.com", "192.0.2.1")
		return g
	}
	use := func(g *together, from, to int) {
		for m := from; m <= to; m++ {
			g.want("in use", m, tcp443, true)
		}
	}

	g := begin(filter(60, 600))
	g.reload(at(1), filter(1, 50))
	g.want("idle, much shorter", 2, tcp443, false)

	g = begin(filter(60, 600))
	use(g, 0, 30)
	g.reload(at(30), filter(10, 60))
	use(g, 31, 59)
	g.want("counted from the answer", 60, tcp443, false)

	g = begin(filter(60, 600))
	use(g, 0, 500)
	g.reload(at(500), filter(60, 100))
	g.want("over already", 500, tcp443, false)

	g = begin(filter(10, 60))
	use(g, 0, 20)
	g.reload(at(20), filter(10, 120))
	use(g, 21, 119)
	g.want("longer", 120, tcp443, false)

	g = begin(filter(10, 0))
	use(g, 0, 5)
	g.reload(at(5), filter(10, 60))
	use(g, 6, 59)
	g.want("turned on", 60, tcp443, false)

	g = begin(filter(10, 60))
	use(g, 0, 30)
	g.reload(at(30), filter(10, 0))
	use(g, 30, 39)
	g.want("turned off", 40, tcp443, false)
	// The holder has kept what the table has: another reload changes nothing.
	g = begin(filter(10, 60))
	use(g, 0, 20)
	g.reload(at(20), filter(10, 120))
	use(g, 21, 100)
	g.reload(at(100), filter(10, 120))
	use(g, 101, 119)
}

// TestUseTogether: nothing that comes later shortens, and all that covers a
// packet is in use.
func TestUseTogether(t *testing.T) {
	f := ipc.Filter{AllowAnswersFor: 60 * minutes, MaxInUse: 600 * minutes, RespectTTL: true, MinTTL: time.Second}
	g := newTogether(t, policyOf(f, tree("example.com")))
	g.ask(testNow, 30*60, "example.com", "192.0.2.1")
	g.ask(testNow, 1, "example.com", "192.0.2.1") // the same record, a moment before it ends in a cache
	for m := range 600 {
		g.want("the longest time", m, tcp443, true)
	}
	g.want("maxInUse", 600, tcp443, false)

	f = ipc.Filter{AllowAnswersFor: 20 * minutes, MaxInUse: 60 * minutes}
	for _, reload := range []bool{false, true} {
		for _, names := range [][]string{{"a.com", "b.com"}, {"b.com", "a.com"}} {
			g = newTogether(t, policyOf(f, tree("a.com"), tree("b.com", https)))
			for m := range 90 {
				switch {
				case m == 0:
					g.ask(at(m), 300, names[0], "192.0.2.1")
				case m == 30:
					g.ask(at(m), 300, names[1], "192.0.2.1")
				case m == 31 && reload: // the two become one
					g.reload(at(m), policyOf(f, tree("com", https)))
				}
				g.want("the one and the other", m, tcp443, true)
			}
			g.want("both", 90, tcp443, false)
		}
	}
}

// TestRemovedNameKeptByAnEndedOne: the grant of a.com has ended, since nobody
// used it. That of b.com at the same address ends when b.com is taken away, or
// the port of it, and not with what a.com might have been used for.
func TestRemovedNameKeptByAnEndedOne(t *testing.T) {
	f := ipc.Filter{AllowAnswersFor: minutes, MaxInUse: 60 * minutes}
	http := ipc.Port{Number: 80, Proto: ipc.ProtoTCP}
	for what, to := range map[string]*ipc.Policy{
		"b.com was taken away": policyOf(f, tree("a.com", https)),
		"its port 443 was":     policyOf(f, tree("a.com", https), tree("b.com", http)),
	} {
		g := newTogether(t, policyOf(f, tree("a.com", https), tree("b.com")))
		g.ask(at(0), 300, "a.com", "192.0.2.1")
		g.want("unused", 10, tcp443, false)
		g.ask(at(10), 300, "b.com", "192.0.2.1")
		g.reload(at(10), to)
		g.want(what, 10, tcp443, false)
		g.want(what, 10, http, len(to.Hostnames[0].Names) == 2)
	}
}

// TestRemovedNameOfTwo: what an entry has opened itself stays open as long as
// it would unused, when another is taken away, and is not renewed.
func TestRemovedNameOfTwo(t *testing.T) {
	f := ipc.Filter{AllowAnswersFor: 10 * minutes, MaxInUse: 60 * minutes}
	g := newTogether(t, policyOf(f, tree("a.com"), tree("b.com")))
	g.ask(at(0), 300, "a.com", "192.0.2.1")
	g.ask(at(8), 300, "b.com", "192.0.2.1")
	g.reload(at(9), policyOf(f, tree("a.com")))
	g.want("of a.com", 9, tcp443, true)
	g.want("of a.com", 10, tcp443, false)
	g.ask(at(11), 300, "a.com", "192.0.2.1")
	for m := 11; m < 71; m++ {
		g.want("asked for again, in use", m, tcp443, true)
	}
	g.want("maxInUse", 71, tcp443, false)
}

// TestRemovedNameOfThree: the longest of those that remain counts.
func TestRemovedNameOfThree(t *testing.T) {
	f := ipc.Filter{AllowAnswersFor: 20 * minutes, MaxInUse: 60 * minutes, RespectTTL: true, MinTTL: time.Second}
	for _, ttls := range [][2]uint32{{14 * 60, 60}, {60, 10 * 60}} {
		g := newTogether(t, policyOf(f, tree("a.com"), tree("b.com"), tree("c.com")))
		g.ask(at(0), ttls[0], "a.com", "192.0.2.1")
		g.ask(at(4), ttls[1], "c.com", "192.0.2.1")
		g.ask(at(8), 300, "b.com", "192.0.2.1")
		g.reload(at(9), policyOf(f, tree("a.com"), tree("c.com")))
		g.want("the later", 13, tcp443, true)
		g.want("the later", 14, tcp443, false)
	}
}

// TestShorterMaxInUse counts from the answer for what is left, not from a later
// one for a name that is gone; and takes nothing else away, with cached names too.
func TestShorterMaxInUse(t *testing.T) {
	policy := func(lasts, inUse int, entries ...entry) *ipc.Policy {
		f := ipc.Filter{AllowAnswersFor: time.Duration(lasts) * minutes, MaxInUse: time.Duration(inUse) * minutes}
		f.ReCacheEvery, f.CachedFor = 4*minutes, 5*minutes
		return withSelf(policyOf(f, append(entries, entry{"cached.com", ipc.ScopeCached, nil})...))
	}
	g := newTogether(t, policy(30, 60, tree("a.com"), tree("b.com")))
	g.ask(at(0), 300, "a.com", "192.0.2.1")
	g.ask(at(10), 300, "b.com", "192.0.2.1")
	g.reload(at(11), policy(30, 60, tree("a.com")))
	g.reload(at(12), policy(20, 20, tree("a.com")))
	g.want("a.com", 19, tcp443, true)
	g.want("a.com", 20, tcp443, false)

	g = newTogether(t, policy(10, 60, tree("a.com"), tree("b.com")))
	g.ask(at(0), 300, "a.com", "192.0.2.1")
	g.want("in use", 5, tcp443, true)
	g.reload(at(5), policy(10, 30, tree("a.com"), tree("b.com")))
	for m := 5; m < 30; m++ {
		g.want("in use", m, tcp443, true)
	}
	g.want("maxInUse", 30, tcp443, false)

	g = newTogether(t, policy(10, 60, tree("a.com")))
	g.ask(at(0), 300, "a.com", "192.0.2.1")
	for m := range 20 {
		g.want("in use", m, tcp443, true)
	}
	g.reload(at(20), policy(3, 0, tree("a.com")))
	g.want("turned off", 22, tcp443, true)
	g.want("turned off", 23, tcp443, false)
}

// TestCachedAndAsked: what a cached name opened lasts as one, also where another
// entry covers it for less.
func TestCachedAndAsked(t *testing.T) {
	cached := entry{"a.com", ipc.ScopeCached, nil}
	f := ipc.Filter{ReCacheEvery: 4 * minutes, CachedFor: 5 * minutes}
	for _, entries := range [][]entry{{cached, tree("a.com")}, {tree("a.com"), cached}} {
		g := newTogether(t, withSelf(policyOf(f, cached)))
		g.engine.Due(at(0))
		for _, a := range g.engine.Lookups().Ask {
			g.exchange(at(0), 3, 300, a.Name.String(), "", "192.0.2.1")
		}
		to := f
		to.AllowAnswersFor = minutes
		g.reload(at(1), withSelf(policyOf(to, entries...)))
		g.want("as cached", 4, tcp443, true)
		g.want("as cached", 5, tcp443, false)
	}
}

// TestKeepInUseTurnedOn: maxInUse counts from the answer, whatever was turned
// on when; and a name that is taken away later takes away what was in use.
func TestKeepInUseTurnedOn(t *testing.T) {
	plain := ipc.Filter{AllowAnswersFor: 10 * minutes}
	inUse := ipc.Filter{AllowAnswersFor: 10 * minutes, MaxInUse: 60 * minutes}
	for _, removed := range []bool{false, true} {
		g := newTogether(t, policyOf(plain, tree("a.com"), tree("b.com")))
		g.ask(at(0), 300, "a.com", "192.0.2.1")
		g.reload(at(9), policyOf(inUse, tree("a.com"), tree("b.com")))
		for m := 9; m < 50; m++ {
			g.want("in use", m, tcp443, true)
		}
		if removed {
			g.ask(at(50), 300, "b.com", "192.0.2.1")
			g.reload(at(51), policyOf(inUse, tree("a.com")))
		}
		for m := 50; m < 60; m++ {
			g.want("in use", m, tcp443, !removed)
		}
		g.want("maxInUse after the answer for a.com", 60, tcp443, false)
	}
}

// TestReloadsAtRandom compares with what the rules say: after any answers, uses
// and reloads, what is open was open right before the last reload, and the new
// policy gives its port to some name; and the same policy once more changes nothing.
func TestReloadsAtRandom(t *testing.T) {
	http := ipc.Port{Number: 80, Proto: ipc.ProtoTCP}
	probes := []ipc.Port{http, tcp443, udp443}
	pool := []entry{
		tree("com"), tree("com", https), tree("example.com"), tree("example.com", http), tree("www.example.com", https, http),
		tree("www.example.com", udp443), tree("other.com", http), tree("org", tcp443),
	}
	random := rand.New(rand.NewPCG(4, 2))
	for range 1_000 {
		pick := func() *ipc.Policy {
			var entries []entry
			for _, i := range random.Perm(len(pool))[:1+random.IntN(3)] {
				twice := false
				for _, e := range entries {
					twice = twice || e.name == pool[i].name
				}
				if !twice {
					entries = append(entries, pool[i])
				}
			}
			f := ipc.Filter{AllowAnswersFor: time.Duration(1+random.IntN(5)) * minutes}
			if random.IntN(2) == 0 {
				f.MaxInUse = f.AllowAnswersFor * time.Duration(1+random.IntN(10))
			}
			return policyOf(f, entries...)
		}
		now, p := testNow, pick()
		g := newTogether(t, p)
		for range 4 {
			for range 1 + random.IntN(3) {
				n := []string{"example.com", "www.example.com", "other.com", "example.org"}[random.IntN(4)]
				g.ask(now, 300, n, "192.0.2.1")
				now = now.Add(time.Duration(random.IntN(90)) * time.Second)
			}
			before := map[ipc.Port]bool{}
			for _, port := range probes {
				before[port] = g.open(now, port)
			}
			same := random.IntN(3) == 0
			if !same {
				p = pick()
			}
			g.reload(now, p)
			for _, port := range probes {
				open := g.open(now, port)
				if same && open != before[port] {
					t.Fatalf("%v: open is %t after a reload to the same, before: %t", port, open, before[port])
				}
				if open && (!before[port] || !gives(p, port)) {
					t.Fatalf("%v is open after a reload to %+v; before: %t", port, p.Hostnames[0], before[port])
				}
			}
		}
	}
}

// gives reports whether any name of a policy opens a port.
func gives(p *ipc.Policy, port ipc.Port) bool {
	h := &p.Hostnames[0]
	for i := range h.Names {
		ports := h.Of(uint32(i))
		for _, q := range ports {
			if _, ok := q.And(port); ok {
				return true
			}
		}
		if len(ports) == 0 {
			return true
		}
	}
	return false
}
