package allowlist

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// The policy of most tests: filter 0 and 1 grant, filter 2 allows all.
const (
	handleWeb, handleApt, handleAll = 10, 11, 12
	handleResponses, handleUnknown  = 20, 99

	webLasts = 5 * time.Minute
	aptLasts = 30 * time.Second

	typeA, typeMX = 1, 15

	start = ipc.Instant(1_000_000_000_000)
)

func testPolicy() *ipc.Policy {
	return &ipc.Policy{
		Settings: ipc.Settings{InterfaceCheck: true},
		Queues: []ipc.Queue{
			{Handle: handleWeb, Number: 1, Kind: ipc.QueueRequests},
			{Handle: handleApt, Number: 2, Kind: ipc.QueueRequests, Filter: 1},
			{Handle: handleAll, Number: 3, Kind: ipc.QueueRequests, Filter: 2},
			{Handle: handleResponses, Number: 4, Kind: ipc.QueueResponses},
		},
		Filters: []ipc.Filter{
			{Index: 0, Name: "web", AllowAnswersFor: webLasts},
			{Index: 1, Name: "apt", AllowAnswersFor: aptLasts},
			{Index: 2, Name: "all", AllowAll: true},
		},
		Hostnames: []ipc.Hostnames{
			ipc.Tree(wire("example.com"), wire("www.example.com"), wire("other.org")),
			ipc.Tree(wire("debian.org"), wire("example.com")),
			{},
		},
	}
}

func testEngine(t testing.TB, p *ipc.Policy) *Engine {
	t.Helper()
	e, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// wire is the name of a text whose labels may hold anything but a dot; "." is
// the root. Case is folded as a parser does.
func wire(text string) name.Name {
	if text == "." {
		return name.Root
	}
	return labels(strings.Split(text, ".")...)
}

func labels(labels ...string) name.Name {
	var b []byte
	for _, l := range labels {
		b = append(append(b, byte(len(l))), l...)
	}
	n, err := name.FromWire(append(b, 0))
	if err != nil {
		panic(err)
	}
	return n
}

func ip(text string) netip.Addr { return netip.MustParseAddr(text) }

// query is an honest request for the address of each name.
func query(handle uint32, names ...string) *ipc.RequestFact {
	f := &ipc.RequestFact{TxID: 7, Packet: ipc.Packet{
		Handle: handle, ID: 1, OutIf: 2, Proto: ipc.ProtoUDP,
		Src: ipc.AddressOf(ip("10.0.0.2")), Dst: ipc.AddressOf(ip("10.0.0.53")), SrcPort: 4000, DstPort: 53,
	}}
	for _, n := range names {
		f.Questions = append(f.Questions, ipc.Question{Name: wire(n), Type: typeA, Class: classIN})
	}
	return f
}

// answer builds the response to a request, record by record.
type answer struct{ ipc.ResponseFact }

func reply(q *ipc.RequestFact) *answer {
	return &answer{ipc.ResponseFact{TxID: q.TxID, Questions: q.Questions, Packet: ipc.Packet{
		Handle: handleResponses, ID: 1, InIf: q.OutIf, OutIf: q.InIf, Proto: q.Proto,
		Src: q.Dst, Dst: q.Src, SrcPort: q.DstPort, DstPort: q.SrcPort,
	}}}
}

func (a *answer) index(n name.Name) uint8 {
	for i, known := range a.Names {
		if known == n {
			return uint8(i)
		}
	}
	a.Names = append(a.Names, n)
	return uint8(len(a.Names) - 1)
}

func (a *answer) cname(owner, target string) *answer {
	a.Links = append(a.Links, ipc.Link{Owner: a.index(wire(owner)), Target: a.index(wire(target))})
	return a
}

func (a *answer) dname(owner, target string) *answer {
	a.Links = append(a.Links, ipc.Link{Owner: a.index(wire(owner)), Target: a.index(wire(target)), DNAME: true})
	return a
}

func (a *answer) target(owner, target string) *answer {
	a.Targets = append(a.Targets, ipc.Target{Owner: a.index(wire(owner)), Target: a.index(wire(target))})
	return a
}

func (a *answer) other(owner string) *answer {
	a.Others = append(a.Others, a.index(wire(owner)))
	return a
}

// addr adds an A or an AAAA record, an IPv4-mapped address as AAAA.
func (a *answer) addr(owner string, addresses ...string) *answer {
	return a.addrFor(300, owner, addresses...)
}

// addrFor is addr of records with a TTL.
func (a *answer) addrFor(ttl uint32, owner string, addresses ...string) *answer {
	for _, text := range addresses {
		to, addr := &a.A, ip(text)
		if addr.Is6() {
			to = &a.AAAA
		}
		to.Octets += string(addr.AsSlice())
		to.Owners = append(to.Owners, a.index(wire(owner)))
		if !slices.Contains(to.TTLs, ttl) {
			to.TTLs = append(to.TTLs, ttl)
		}
		to.TTL = append(to.TTL, byte(slices.Index(to.TTLs, ttl)))
	}
	return a
}

// ask and respond hand the engine facts as its loop does: only valid ones.
func ask(t testing.TB, e *Engine, now ipc.Instant, f *ipc.RequestFact) Outcome {
	t.Helper()
	if err := f.Validate(); err != nil {
		t.Fatalf("the test's request is not valid: %v", err)
	}
	o, err := e.Request(now, f)
	if err != nil {
		t.Fatal(err)
	}
	checkOutcome(t, o)
	return o
}

func respond(t testing.TB, e *Engine, now ipc.Instant, f *answer) *Plan {
	t.Helper()
	if err := f.Validate(); err != nil {
		t.Fatalf("the test's response is not valid: %v", err)
	}
	p, err := e.Response(now, &f.ResponseFact)
	if err != nil {
		t.Fatal(err)
	}
	checkOutcome(t, p.Outcome)
	if p.Verdict != ipc.Accept && len(p.Grants)+len(p.Names)+len(p.Special)+len(p.names)+len(p.addresses) > 0 {
		t.Fatalf("a response that is dropped gives something: %+v", p)
	}
	for i := range p.Grants {
		if err := p.Grants[i].Validate(); err != nil {
			t.Fatalf("invalid grants: %v", err)
		}
	}
	return &p
}

func checkOutcome(t testing.TB, o Outcome) {
	t.Helper()
	if (o.Verdict == ipc.Accept) != (o.Reason == ipc.ReasonNone) || o.Verdict != ipc.Accept && o.Verdict != ipc.Drop {
		t.Fatalf("verdict %v with reason %v", o.Verdict, o.Reason)
	}
}

func wantReason(t testing.TB, what string, o Outcome, want ipc.Reason) {
	t.Helper()
	if o.Reason != want {
		t.Errorf("%s: %v (%v), want %v", what, o.Verdict, o.Reason, want)
	}
}

// exchange asks and commits the answer that build makes.
func exchange(t testing.TB, e *Engine, now ipc.Instant, q *ipc.RequestFact, build func(*answer)) *Plan {
	t.Helper()
	wantReason(t, "request", ask(t, e, now, q), ipc.ReasonNone)
	a := reply(q)
	build(a)
	p := respond(t, e, now, a)
	wantReason(t, "response", p.Outcome, ipc.ReasonNone)
	e.Commit(now, p)
	return p
}

// granted is the end of a grant, 0 for none.
func granted(e *Engine, now ipc.Instant, filter int, address string) ipc.Instant {
	_, until, _ := e.grants.Get(now, filter, ip(address).As16())
	return until
}

// knows is the end of a learnt name, 0 for none.
func knows(e *Engine, now ipc.Instant, filter int, n string) ipc.Instant {
	_, until, _ := e.learnt.Get(now, filter, wire(n))
	return until
}
