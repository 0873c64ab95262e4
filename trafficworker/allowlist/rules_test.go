package allowlist

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// slowScope is the obvious version of what one entry allows.
func slowScope(n, host name.Name, scope ipc.Scope) bool {
	switch scope {
	case ipc.ScopeExact:
		return n == host
	case ipc.ScopeBelow:
		return n != host && slowAllowed(n, []name.Name{host})
	case ipc.ScopeTree:
		return slowAllowed(n, []name.Name{host})
	}
	return false
}

// randomRules are rules of names that are often near each other, each in one
// scope or several.
func randomRules(t *testing.T, r *rand.Rand) rules {
	t.Helper()
	var hosts ipc.Hostnames
	seen := map[string]bool{}
	for range 1 + r.IntN(12) {
		n, scope := randomName(r, 3), ipc.Scope(1+r.IntN(3))
		if key := string(n) + string(rune(scope)); !seen[key] {
			seen[key] = true
			hosts.Add(n, scope, nil)
		}
	}
	made, err := newRules(&ipc.Filter{Name: "f"}, hosts)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestScopesAgainstOracle: exactly the entries that allow a name are found,
// those of longer host names first.
func TestScopesAgainstOracle(t *testing.T) {
	matched, several := 0, 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		made := randomRules(t, r)
		for range 200 {
			n := randomName(r, 4)
			var want []uint32
			for i, host := range made.hosts.Names {
				if slowScope(n, host, ipc.Scope(made.hosts.Scopes[i])) {
					want = append(want, uint32(i))
				}
			}
			got := slices.Collect(made.allowing(n))
			if !slices.IsSortedFunc(got, func(a, b uint32) int { return len(made.hosts.Names[b]) - len(made.hosts.Names[a]) }) {
				t.Fatalf("seed %d: %v: entries %v are not in order", seed, n, got)
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Fatalf("seed %d: %v: entries %v, want %v", seed, n, got, want)
			}
			if entry, ok := made.find(n); ok != (len(want) > 0) || ok && !slices.Contains(want, entry) {
				t.Fatalf("seed %d: %v: %d, %t", seed, n, entry, ok)
			}
			if matched += len(want); len(want) > 1 {
				several++
			}
		}
	}
	if matched < 2000 || several < 300 {
		t.Errorf("%d matches, %d names by several entries: the test shows little", matched, several)
	}
}

// TestCoveringAgainstOracle: what covers an entry allows all that it allows.
func TestCoveringAgainstOracle(t *testing.T) {
	covered := 0
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 8))
		from, to := randomRules(t, r), randomRules(t, r)
		for old := range from.hosts.Names {
			for entry := range to.covering(&from, uint32(old)) {
				covered++
				for range 50 {
					n := randomName(r, 4)
					if slowScope(n, from.hosts.Names[old], ipc.Scope(from.hosts.Scopes[old])) &&
						!slowScope(n, to.hosts.Names[entry], ipc.Scope(to.hosts.Scopes[entry])) {
						t.Fatalf("seed %d: %v is allowed by entry %d and not by the one that covers it", seed, n, old)
					}
				}
			}
			// What stands in both is covered.
			for i, n := range to.hosts.Names {
				if n == from.hosts.Names[old] && to.hosts.Scopes[i] == from.hosts.Scopes[old] &&
					!slices.Contains(slices.Collect(to.covering(&from, uint32(old))), uint32(i)) {
					t.Fatalf("seed %d: %v does not cover itself", seed, n)
				}
			}
		}
	}
	if covered < 300 {
		t.Errorf("only %d entries were covered", covered)
	}
}

// TestRulesRefuse: one entry twice would be two of which only one could be
// taken away.
func TestRulesRefuse(t *testing.T) {
	hosts := ipc.Tree(wire("a.b"))
	hosts.Add(wire("a.b"), ipc.ScopeBelow, nil)
	hosts.Add(wire("a.b"), ipc.ScopeExact, nil)
	if _, err := newRules(&ipc.Filter{Name: "f"}, hosts); err != nil {
		t.Errorf("three scopes: %v", err)
	}
	for _, scope := range []ipc.Scope{ipc.ScopeTree, ipc.ScopeExact, ipc.ScopeBelow} {
		twice := ipc.Hostnames{Names: slices.Clone(hosts.Names), Scopes: slices.Clone(hosts.Scopes)}
		twice.Add(wire("a.b"), scope, nil)
		if _, err := newRules(&ipc.Filter{Name: "f"}, twice); err == nil {
			t.Errorf("scope %d twice: taken", scope)
		}
	}
}

// TestQueryTypes: what is not named may neither be asked nor answered.
func TestQueryTypes(t *testing.T) {
	p := testPolicy()
	p.Filters[0].QueryTypes = []uint16{typeA, 28}
	e := testEngine(t, p)
	for typ, want := range map[uint16]ipc.Reason{typeA: ipc.ReasonNone, 28: ipc.ReasonNone, 16: ipc.ReasonQueryType, 10: ipc.ReasonQueryType, 255: ipc.ReasonQueryType, 0: ipc.ReasonQueryType} {
		q := query(handleWeb, "example.com")
		q.Questions[0].Type = typ
		wantReason(t, ipc.TypeName(typ), ask(t, e, start, q), want)
	}
	// A second question is not looked over, another filter has its own rule.
	q := query(handleWeb, "example.com", "www.example.com")
	q.Questions[1].Type = 16
	wantReason(t, "second question", ask(t, e, start, q), ipc.ReasonQueryType)
	q = query(handleApt, "debian.org")
	q.Questions[0].Type = 16
	wantReason(t, "another filter", ask(t, e, start, q), ipc.ReasonNone)
}
