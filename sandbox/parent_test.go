//go:build !race

package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestLockedParentWorks(t *testing.T) {
	for _, s := range []start{startRoot, startAmbient} {
		for _, lookups := range []bool{false, true} {
			for act, want := range map[string]string{
				"honest":        "signal: killed",
				"second thread": "all threads under the list",
			} {
				r := runParent(t, s, parentPlan{Act: act, Lookups: lookups})
				if r.Result != want {
					t.Errorf("%s, %s, lookups %t: %q, should be %q", s, act, lookups, r.Result, want)
				}
			}
		}
	}
}

// TestLockedParentExecutes: what it executes is under its list, of which most
// programs die before they begin: their libraries are executable pages of files.
func TestLockedParentExecutes(t *testing.T) {
	const act = "execute another program"
	for _, k := range parentKinds {
		status, stderr := failParent(t, parentCommand(startRoot, parentPlan{Act: act, Lookups: k.lookups, In: k.in}))
		if status != "SIGSYS" || stderr != "acting\n" {
			t.Errorf("%s: %s, %q, should have died of SIGSYS", k, status, stderr)
		}
	}
	// By the list and nothing else.
	cmd := parentCommand(startRoot, parentPlan{Act: act, Lock: lockOpen})
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("under a list that allows everything: %v: %s", err, out)
	}
}

// TestLockedParentSaysWhy: it can look for what forbids namespaces, and does not
// take its own list for somebody else's.
func TestLockedParentSaysWhy(t *testing.T) {
	for _, k := range parentKinds {
		p := parentPlan{Act: "why forbidden", Lookups: k.lookups, In: k.in}
		before, err1 := tryParent(parentCommand(startRoot, parentPlan{Act: p.Act, Lock: lockNone}))
		after, err2 := tryParent(parentCommand(startRoot, p))
		if err := firstError(err1, err2); err != nil || after.Result != before.Result {
			t.Errorf("%s: %s, before it was locked %s, %v", k, after.Result, before.Result, err)
		}
	}
}

func TestLockedParentPanics(t *testing.T) {
	status, stderr := failParent(t, parentCommand(startRoot, parentPlan{Act: "panic"}))
	if status != "exit 2" || !strings.Contains(stderr, "panic: boom\n\ngoroutine ") {
		t.Errorf("%s: %s", status, stderr)
	}
}

func init() {
	for _, list := range [][]call{forbidden, forbiddenToParent} {
		for i := range list {
			c := &list[i]
			parentActs[c.what] = now(func() string { return c.act() })
		}
	}
}

// parentMay are those of all these that the parent's list has.
var parentMay = set(
	// What it did before it started children again.
	"openat", "open the root", // to read, as the configuration
	"write on a queue", "write on the poller", "read on standard error",
	"read a queue", "read 202, the number of futex", "read 9, the number of mmap",
	"ppoll", "epoll_pwait elsewhere", "dup3 over control", "dup3 of a queue over the log", "dup3 of an edge over the log", "close of control",
	"dup3 over a queue", "shutdown", "pidfd_send_signal",
	"epoll_ctl on the runtime's poller", "epoll_ctl modifies",
	// What starts them.
	"execve", "setsid", "parent: socketpair an edge", "parent: setsockopt SO_SNDBUFFORCE", "parent: open to write",
	// What every child does before its own list stands.
	"fstat", "newfstatat", "fstatat", "readlinkat", "getdents64", "fcntl", "capget", "capset", "landlock", "landlock_restrict_self", "parent: unshare net",
	"prctl", "prctl PR_SET_PDEATHSIG off", "prctl PR_CAP_AMBIENT raise", "prctl PR_SET_NO_NEW_PRIVS off",
	"parent: prctl option 1", "parent: prctl option 4", "parent: prctl option 38", "parent: prctl option 39", "parent: prctl option 47",
	"prlimit", "prlimit 1 up", "prlimit 2 up", "prlimit 4 up", "prlimit 6 up", "prlimit 7 up",
	// What some children do then.
	"recvmmsg on control", "recvmmsg behind the queues",
)

// parentMayIsolated are those besides where children have namespaces of their own.
var parentMayIsolated = set(
	"parent: mount its own", "parent: mount an empty root", "umount2", "pivot_root", "chdir", "statfs",
	"parent: socket of datagrams", "parent: connect", "prctl PR_SET_KEEPCAPS", "prctl PR_SET_SECUREBITS",
	"parent: prctl option 8", "parent: prctl option 23", "parent: prctl option 24", "parent: prctl option 27", "parent: prctl option 28",
)

// parentMayShared are those where they have not.
var parentMayShared = set(
	"parent: clone in its namespaces and memory",
	"tgkill another", "parent: tgkill another", "parent: kill its group", // by SIGKILL, and of its own user
)

// parentMayWithLookups are those where it makes sockets.
var parentMayWithLookups = set(
	"parent: socket of datagrams", "parent: socket of datagrams, of IPv6", "parent: socket a stream", "parent: socket a stream, of IPv6",
	"parent: setsockopt SO_MARK", "parent: connect", "parent: connect, IPv6",
)

func set(names ...string) map[string]bool {
	s := map[string]bool{}
	for _, name := range names {
		s[name] = true
	}
	return s
}

// parentKind is which parent: there are four lists.
type parentKind struct {
	lookups bool
	in      Isolation
}

var parentKinds = []parentKind{{false, Isolated}, {true, Isolated}, {false, Shared}, {true, Shared}}

func (k parentKind) String() string {
	return fmt.Sprintf("lookups %t, shared %t", k.lookups, k.in == Shared)
}

func (k parentKind) may(what string) bool {
	return parentMay[what] || k.in == Isolated && parentMayIsolated[what] || k.in == Shared && parentMayShared[what] ||
		k.lookups && parentMayWithLookups[what]
}

// TestParentMay: these lists are exact.
func TestParentMay(t *testing.T) {
	for _, k := range parentKinds {
		rules := parentRules(native, ids{4711, testUID, testUID}, k.lookups, k.in)
		for _, c := range slices.Concat(forbidden, forbiddenToParent, swept) {
			if may := c.do == nil && c.allowedBy(rules); may != k.may(c.what) {
				t.Errorf("%s: the parent may, with %s: %t", c.what, k, may)
			}
		}
	}
}

// TestPinsAreTried: were any condition not in the parent's list, one of these calls
// would be allowed that is not. So none goes without TestParentMay.
func TestPinsAreTried(t *testing.T) {
	calls := slices.Concat(forbidden, forbiddenToParent, swept)
	for _, c := range lookupCalls() {
		calls = append(calls, c.call)
	}
	for _, k := range parentKinds {
		rules := parentRules(native, ids{4711, testUID, testUID}, k.lookups, k.in)
		for i, r := range rules {
			for j, pin := range r.when {
				less := slices.Clone(rules)
				less[i].when = slices.Delete(slices.Clone(r.when), j, j+1)
				if !slices.ContainsFunc(calls, func(c call) bool { return c.do == nil && c.allowedBy(less) && !c.allowedBy(rules) }) {
					t.Errorf("%s: nothing tries that of %s %s", k, r.name, pin.text(argumentOf(r.name, pin.arg)))
				}
			}
		}
	}
}

// TestHostileParent is the matrix for the parent. (Of the two whose children share
// its namespaces, which are rare, the one with the shorter list.)
func TestHostileParent(t *testing.T) {
	for _, k := range parentKinds[:3] {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			tried := 0
			for _, c := range slices.Concat(forbidden, forbiddenToParent) {
				if k.may(c.what) {
					continue
				}
				tried++
				status, stderr := failParent(t, parentCommand(startRoot, parentPlan{Act: c.what, Lookups: k.lookups, In: k.in}))
				if status != "SIGSYS" || stderr != "acting\n" {
					t.Errorf("%s: %s, %q, should have died of SIGSYS", c.what, status, stderr)
				}
			}
			said := runParent(t, startRoot, parentPlan{Act: "swept", Lock: lockNone, Lookups: k.lookups, In: k.in}).Result
			tried += checkSwept(t, said, k.may)
			t.Logf("%d attempts", tried)
		})
	}
}
