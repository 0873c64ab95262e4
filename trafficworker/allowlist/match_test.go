package allowlist

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

func TestRequestNames(t *testing.T) {
	for _, c := range []struct {
		asked string
		want  ipc.Reason
		entry string
	}{
		{"example.com", 0, "example.com"},
		{"sub.example.com", 0, "example.com"},
		{"a.b.c.d.sub.example.com", 0, "example.com"},
		{"WWW.eXample.COM", 0, "www.example.com"},
		{"x.www.example.com", 0, "www.example.com"},
		{"_srv._tcp.other.org", 0, "other.org"},
		{"xexample.com", ipc.ReasonNameNotAllowed, ""},
		{"example.com.evil.net", ipc.ReasonNameNotAllowed, ""},
		{"example.co", ipc.ReasonNameNotAllowed, ""},
		{"com", ipc.ReasonNameNotAllowed, ""},
		{".", ipc.ReasonNameNotAllowed, ""},
		{"debian.org", ipc.ReasonNameNotAllowed, ""}, // of another filter
	} {
		o := ask(t, testEngine(t, testPolicy()), start, query(handleWeb, c.asked))
		wantReason(t, c.asked, o, c.want)
		if c.entry != "" && o.Entry != wire(c.entry) || c.entry == "" && o.Entry != "" || o.Learnt {
			t.Errorf("%s: allowed by %v, learnt %v, want %q", c.asked, o.Entry, o.Learnt, c.entry)
		}
	}
}

// Joined text would take these for example.com.
func TestDotsInsideLabelsAreNoSeparators(t *testing.T) {
	for _, n := range []name.Name{
		labels("example.com"), labels("www.example", "com"), labels("x", "example.com"),
		labels("www", "example.com"), labels("evil.example", "com"),
	} {
		q := query(handleWeb)
		q.Questions = []ipc.Question{{Name: n, Type: typeA, Class: classIN}}
		wantReason(t, n.String(), ask(t, testEngine(t, testPolicy()), start, q), ipc.ReasonNameNotAllowed)
	}
}

func TestEveryQuestionMustBeAllowed(t *testing.T) {
	e := testEngine(t, testPolicy())
	o := ask(t, e, start, query(handleWeb, "example.com", "other.org", "evil.net"))
	wantReason(t, "three questions", o, ipc.ReasonNameNotAllowed)
	o = ask(t, e, start, query(handleWeb, "example.com", "other.org"))
	wantReason(t, "two questions", o, ipc.ReasonNone)
	if o.Entry != wire("example.com") {
		t.Errorf("allowed by %v, want the first question's example.com", o.Entry)
	}
}

func TestQuestionClass(t *testing.T) {
	for _, class := range []uint16{0, 3, 254, 255} {
		q := query(handleWeb, "example.com")
		q.Questions[0].Class = class
		wantReason(t, "class", ask(t, testEngine(t, testPolicy()), start, q), ipc.ReasonClass)
	}
}

func TestResolverTrust(t *testing.T) {
	p := testPolicy()
	p.Resolvers = []ipc.Address{ipc.AddressOf(ip("10.0.0.1")), ipc.AddressOf(ip("fd00::53"))}
	for _, c := range []struct {
		handle   uint32
		asked    string
		src, dst string
		want     ipc.Reason
	}{
		{handleWeb, "example.com", "10.0.0.2", "10.0.0.1", ipc.ReasonNone},
		{handleWeb, "example.com", "fd00::2", "fd00::53", ipc.ReasonNone},
		{handleWeb, "example.com", "10.0.0.2", "10.0.0.53", ipc.ReasonResolverNotTrusted},
		{handleWeb, "example.com", "10.0.0.1", "10.0.0.53", ipc.ReasonResolverNotTrusted},
		{handleWeb, "evil.net", "10.0.0.2", "10.0.0.1", ipc.ReasonNameNotAllowed},
		{handleAll, "evil.net", "10.0.0.2", "10.0.0.53", ipc.ReasonNone},
	} {
		q := query(c.handle, c.asked)
		q.Src, q.Dst = ipc.AddressOf(ip(c.src)), ipc.AddressOf(ip(c.dst))
		wantReason(t, c.asked+" at "+c.dst, ask(t, testEngine(t, p), start, q), c.want)
	}
}

// slowAllowed compares labels one by one over the whole list.
func slowAllowed(n name.Name, list []name.Name) bool {
	split := func(n name.Name) []string {
		var out []string
		for ; n[0] != 0; n = n[1+int(n[0]):] {
			out = append(out, string(n[1:1+int(n[0])]))
		}
		return out
	}
	asked := split(n)
	for _, allowed := range list {
		entry := split(allowed)
		if len(entry) > len(asked) {
			continue
		}
		same := true
		for i := range entry {
			a, b := asked[len(asked)-1-i], entry[len(entry)-1-i]
			same = same && strings.EqualFold(a, b)
		}
		if same {
			return true
		}
	}
	return false
}

// randomName makes names that are often near each other: few labels, some of
// which hold dots or look like the end of another.
func randomName(r *rand.Rand, most int) name.Name {
	pool := []string{"a", "b", "ab", "com", "xcom", "COM", "a.com", "b.", ".a", "\x00", "example", "xexample", "eXample", "\x01a"}
	parts := make([]string, 1+r.IntN(most))
	for i := range parts {
		parts[i] = pool[r.IntN(len(pool))]
	}
	return labels(parts...)
}

func TestMatchAgainstOracle(t *testing.T) {
	matched := 0
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		p := testPolicy()
		p.Hostnames[0] = ipc.Hostnames{}
		seen := map[name.Name]bool{}
		for range 1 + r.IntN(20) {
			if n := randomName(r, 3); !seen[n] {
				seen[n] = true
				p.Hostnames[0].Add(n, ipc.ScopeTree, nil)
			}
		}
		e := testEngine(t, p)
		for range 200 {
			n := randomName(r, 5)
			want := slowAllowed(n, p.Hostnames[0].Names)
			entry, got := e.rules[0].find(n)
			if got != want {
				t.Fatalf("seed %d: %v in %v: %v, want %v", seed, n, p.Hostnames[0].Names, got, want)
			}
			if got {
				matched++
				if !n.Below(p.Hostnames[0].Names[entry]) {
					t.Fatalf("seed %d: %v allowed by %v", seed, n, p.Hostnames[0].Names[entry])
				}
			}
		}
	}
	if matched < 1000 {
		t.Errorf("only %d names matched: the test shows nothing", matched)
	}
}
