package allowlist

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

func TestChains(t *testing.T) {
	const q = "www.example.com"
	long := strings.Repeat("a.", 120) + "b" // 243 octets as a wire name
	for what, c := range map[string]struct {
		build  func(a *answer)
		want   ipc.Reason
		names  string // learnt, in sorted order
		grants int
	}{
		"empty":        {func(a *answer) {}, 0, "", 0},
		"address":      {func(a *answer) { a.addr(q, "192.0.2.1", "2001:db8::1") }, 0, "", 2},
		"in order":     {func(a *answer) { a.cname(q, "a.net").cname("a.net", "b.net").addr("b.net", "192.0.2.1") }, 0, "a.net b.net", 1},
		"out of order": {func(a *answer) { a.addr("b.net", "192.0.2.1").cname("a.net", "b.net").cname(q, "a.net") }, 0, "a.net b.net", 1},
		"mixed case":   {func(a *answer) { a.cname("WWW.example.com", "A.net").addr("a.NET", "192.0.2.1") }, 0, "a.net", 1},
		"loop":         {func(a *answer) { a.cname(q, "a.net").cname("a.net", q) }, 0, "a.net www.example.com", 0},
		"to itself":    {func(a *answer) { a.cname(q, q).addr(q, "192.0.2.1") }, 0, "www.example.com", 1},
		"foreign A":    {func(a *answer) { a.addr(q, "192.0.2.1").addr("evil.net", "192.0.2.2") }, ipc.ReasonForeignAnswer, "", 0},
		"foreign AAAA": {func(a *answer) { a.addr("evil.net", "2001:db8::1") }, ipc.ReasonForeignAnswer, "", 0},
		"foreign CNAME": {func(a *answer) { a.addr(q, "192.0.2.1").cname("evil.net", "x.net") },
			ipc.ReasonForeignAnswer, "", 0},
		"broken chain":    {func(a *answer) { a.cname(q, "a.net").addr("b.net", "192.0.2.1") }, ipc.ReasonForeignAnswer, "", 0},
		"backwards":       {func(a *answer) { a.cname("evil.net", q).addr("evil.net", "192.0.2.1") }, ipc.ReasonForeignAnswer, "", 0},
		"above":           {func(a *answer) { a.addr("example.com", "192.0.2.1") }, ipc.ReasonForeignAnswer, "", 0},
		"below":           {func(a *answer) { a.addr("x.www.example.com", "192.0.2.1") }, ipc.ReasonForeignAnswer, "", 0},
		"others pass":     {func(a *answer) { a.cname(q, "a.net").other("a.net").other(q) }, 0, "a.net", 0},
		"foreign other":   {func(a *answer) { a.other("evil.net") }, ipc.ReasonForeignAnswer, "", 0},
		"targets":         {func(a *answer) { a.target(q, "mx1.net").target(q, "mx2.net") }, 0, "mx1.net mx2.net", 0},
		"foreign target":  {func(a *answer) { a.target("evil.net", "mx.net") }, ipc.ReasonForeignAnswer, "", 0},
		"target no owner": {func(a *answer) { a.target(q, "mx.net").addr("mx.net", "192.0.2.1") }, ipc.ReasonForeignAnswer, "", 0},
		"null MX":         {func(a *answer) { a.target(q, ".") }, 0, "", 0},
		"CNAME to root":   {func(a *answer) { a.cname(q, ".") }, 0, "", 0},
		"DNAME": {func(a *answer) { a.dname("example.com", "x.net").cname(q, "www.x.net").addr("www.x.net", "192.0.2.1") },
			0, "www.x.net", 1},
		"DNAME without its CNAME": {func(a *answer) { a.addr("www.x.net", "192.0.2.1").dname("example.com", "x.net") },
			0, "www.x.net", 1},
		"DNAME of the root":    {func(a *answer) { a.dname(".", "x.net").addr("www.example.com.x.net", "192.0.2.1") }, ipc.ReasonTooManyOwners, "", 0},
		"DNAME and signature":  {func(a *answer) { a.dname("example.com", "x.net").other("example.com") }, 0, "www.x.net", 0},
		"DNAME elsewhere":      {func(a *answer) { a.dname("evil.net", "x.net") }, ipc.ReasonForeignAnswer, "", 0},
		"DNAME look-alike":     {func(a *answer) { a.dname("ample.com", "x.net") }, ipc.ReasonForeignAnswer, "", 0},
		"DNAME of the name":    {func(a *answer) { a.dname(q, "x.net") }, 0, "", 0},
		"DNAME does not reach": {func(a *answer) { a.dname(q, "x.net").addr("x.net", "192.0.2.1") }, ipc.ReasonForeignAnswer, "", 0},
		"DNAME's owner gives no address": {func(a *answer) { a.dname("example.com", "x.net").addr("example.com", "192.0.2.1") },
			ipc.ReasonForeignAnswer, "", 0},
		"DNAME's owner gives no name": {func(a *answer) { a.dname("example.com", "x.net").cname("example.com", "y.net") },
			ipc.ReasonForeignAnswer, "", 0},
		"DNAME's owner gives no target": {func(a *answer) { a.dname("example.com", "x.net").target("example.com", "y.net") },
			ipc.ReasonForeignAnswer, "", 0},
		"DNAME after CNAME": {func(a *answer) { a.cname(q, "a.x.net").dname("x.net", "y.org").addr("a.y.org", "192.0.2.1") },
			0, "a.x.net a.y.org", 1},
		"DNAME makes too long a name": {func(a *answer) { a.cname(q, "0123456789."+long).dname(long, long+".c") },
			0, "0123456789." + long, 0},
		"DNAME makes the longest name": {func(a *answer) { a.cname(q, "012345678."+long).dname(long, long+".c") },
			0, "012345678." + long + " 012345678." + long + ".c", 0},
		"DNAME that feeds itself": {func(a *answer) { a.dname("com", "b.com") }, ipc.ReasonTooManyOwners, "", 0},
		"many DNAMEs":             {func(a *answer) { manyDNAMEs(a, maxDNAMEs) }, 0, "*", 0},
		"too many DNAMEs":         {func(a *answer) { manyDNAMEs(a, maxDNAMEs+1) }, ipc.ReasonTooManyOwners, "", 0},
		"longest chain":           {func(a *answer) { longChain(a, q, 16).addr("n16.net", "192.0.2.1") }, 0, "*", 1},
		"longer chain":            {func(a *answer) { longChain(a, q, 17).addr("n17.net", "192.0.2.1") }, ipc.ReasonTooManyOwners, "", 0},
	} {
		e := testEngine(t, testPolicy())
		request := query(handleWeb, q)
		ask(t, e, start, request)
		a := reply(request)
		c.build(a)
		p := respond(t, e, start, a)
		wantReason(t, what, p.Outcome, c.want)
		e.Commit(start, p)
		if got := learntNames(p); c.names != "*" && got != c.names {
			t.Errorf("%s: learns %q, want %q", what, got, c.names)
		}
		if e.grants.Len() != c.grants || e.learnt.Len() != len(p.Names) {
			t.Errorf("%s: %d grants, want %d; %d names, want %d", what, e.grants.Len(), c.grants, e.learnt.Len(), len(p.Names))
		}
	}
}

func learntNames(p *Plan) string {
	var out []string
	for _, n := range p.Names {
		out = append(out, n.String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func manyDNAMEs(a *answer, n int) {
	for i := range n {
		a.dname("example.com", fmt.Sprintf("x%d.net", i))
	}
}

func longChain(a *answer, q string, links int) *answer {
	owner := q
	for i := range links {
		target := fmt.Sprintf("n%d.net", i+1)
		a.cname(owner, target)
		owner = target
	}
	return a
}

// The parser may be owned: a name listed twice is still one name.
func TestNamesListedTwice(t *testing.T) {
	e := testEngine(t, testPolicy())
	q := query(handleWeb, "www.example.com")
	ask(t, e, start, q)
	a := reply(q)
	a.Names = []name.Name{wire("a.net"), wire("www.example.com"), wire("a.net")}
	a.Links = []ipc.Link{{Owner: 1, Target: 2}}
	a.A = ipc.Addresses{Octets: "\xc0\x00\x02\x01", Owners: []byte{0}, TTLs: []uint32{60}, TTL: []byte{0}}
	p := respond(t, e, start, a)
	wantReason(t, "twice", p.Outcome, ipc.ReasonNone)
	if learntNames(p) != "a.net" || len(p.addresses) != 1 {
		t.Errorf("learns %v, grants %v", p.Names, p.addresses)
	}
}

func TestAnswersToSeveralQuestions(t *testing.T) {
	e := testEngine(t, testPolicy())
	p := exchange(t, e, start, query(handleWeb, "example.com", "other.org"), func(a *answer) {
		a.addr("other.org", "192.0.2.2").cname("example.com", "cdn.net").addr("cdn.net", "192.0.2.1").cname("other.org", "cdn.net").
			target("other.org", "mx.net")
	})
	if len(p.bases) != 2 {
		t.Fatalf("%d bases", len(p.bases))
	}
	for address, want := range map[string]string{"192.0.2.1": "[0 2]", "192.0.2.2": "[2]"} {
		g, _, _ := e.grants.Get(start, 0, ip(address).As16())
		if got := entries(&g, start); got != want {
			t.Errorf("%s is justified by %s, want %s", address, got, want)
		}
	}
	for learnt, want := range map[string]string{"cdn.net": "[0 2]", "mx.net": "[2]"} {
		n, _, _ := e.learnt.Get(start, 0, wire(learnt))
		if got := entries(&n, start); got != want {
			t.Errorf("%s is justified by %s, want %s", learnt, got, want)
		}
	}
}

func entries(p *proofs, now ipc.Instant) string {
	var out []uint32
	for _, proof := range p.appendTo(nil, now) {
		out = append(out, proof.entry)
	}
	slices.Sort(out)
	return fmt.Sprint(out)
}

// slowReached goes over all records again and again until nothing changes.
func slowReached(f *ipc.ResponseFact, question name.Name) map[name.Name]bool {
	reached := map[name.Name]bool{question: true}
	for size := 0; size != len(reached); {
		size = len(reached)
		for _, l := range f.Links {
			owner, target := f.Names[l.Owner], f.Names[l.Target]
			for n := range reached {
				switch {
				case !l.DNAME && n == owner:
					reached[target] = true
				case l.DNAME && n != owner && n.Below(owner) && len(n)-len(owner)+len(target) <= name.MaxWire:
					reached[n[:len(n)-len(owner)]+target] = true
				}
			}
		}
	}
	return reached
}

func TestChainAgainstOracle(t *testing.T) {
	pool := []string{"a.com", "b.com", "x.a.com", "y.x.a.com", "c.net", "x.c.net", "d.org", "x.b.com"}
	passed, foreign := 0, 0
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 3))
		pick := func() string { return pool[r.IntN(len(pool))] }
		a := &answer{}
		for range 1 + r.IntN(2) {
			a.Questions = append(a.Questions, query(0, pick()).Questions...)
		}
		for range r.IntN(5) {
			a.cname(pick(), pick())
		}
		if r.IntN(2) == 0 {
			a.dname("x.a.com", []string{"c.net", "b.com", "d.org"}[r.IntN(3)])
		}
		for range r.IntN(3) {
			a.addr(pick(), "192.0.2.1")
		}
		var c chain
		reason := c.walk(&a.ResponseFact)
		if want := slowBelongs(a); want != (reason == ipc.ReasonNone) {
			t.Fatalf("seed %d: %v, want belonging %v: %+v", seed, reason, want, a.ResponseFact)
		}
		if reason != ipc.ReasonNone {
			foreign++
			continue
		}
		passed++
		for i, q := range a.Questions {
			want := slowReached(&a.ResponseFact, q.Name)
			for id, n := range c.names {
				if got := c.reached[id]&(1<<i) != 0; got != want[n] {
					t.Fatalf("seed %d: %v reached from %v: %v, want %v", seed, n, q.Name, got, want[n])
				}
			}
		}
	}
	if passed < 400 || foreign < 400 {
		t.Errorf("%d passed, %d foreign: the test shows little", passed, foreign)
	}
}

func slowBelongs(a *answer) bool {
	reached := map[name.Name]bool{}
	for _, q := range a.Questions {
		for n := range slowReached(&a.ResponseFact, q.Name) {
			reached[n] = true
		}
	}
	for _, l := range a.Links {
		applies := reached[a.Names[l.Owner]]
		for n := range reached {
			applies = applies || l.DNAME && n != a.Names[l.Owner] && n.Below(a.Names[l.Owner])
		}
		if !applies {
			return false
		}
	}
	for _, o := range a.A.Owners {
		if !reached[a.Names[o]] {
			return false
		}
	}
	return true
}
