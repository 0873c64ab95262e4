//go:build !race

package sandbox

import (
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// call is one raw system call of a process that an attacker owns.
type call struct {
	what string
	trap uintptr
	args [6]uintptr
	do   func() // instead, where it takes more than a system call
}

func (c *call) act() string {
	if c.do != nil {
		c.do()
		return "ok"
	}
	r, _, errno := unix.RawSyscall6(c.trap, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
	if errno == 0 && r == 0 && (c.trap == unix.SYS_CLONE || c.trap == unix.SYS_CLONE3) {
		for { // the new process: it has no runtime
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	return answer(errno)
}

// Memory that calls point at.
var (
	passwd  = []byte("/etc/passwd\x00")
	root    = []byte("/\x00")
	scratch [4096]byte
	self    = []byte("/proc/self/exe\x00")
	address = unix.RawSockaddrNetlink{Family: unix.AF_NETLINK}
)

func at[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

func minus(n int) uintptr { return uintptr(-n) }

func init() {
	for _, list := range [][]call{forbidden, swept} {
		for i := range list {
			c := &list[i]
			childActs[c.what] = func(childPlan) string { return c.act() }
		}
	}
}

// TestHostileMatrix starts a child for each role and each forbidden call, in
// a whole cell, and requires that the call killed it. Those with many values
// follow in copies.
//
// A child is under its parent's list too, which could hide a hole in its own. So
// the parent of most has a list that allows everything in place of its own: what
// kills is the child's. In the order of the real tree, under the real list, those
// are tried that this list allows; what it does not allow dies whatever the child's
// says.
func TestHostileMatrix(t *testing.T) {
	for _, role := range ipc.AllChildren {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			var plans, inherited []childPlan
			for _, c := range forbidden {
				if rowOf(role).sockets > 0 && withSocketsMay[c.what] {
					continue
				}
				plans = append(plans, plan(role, buildEnter, c.what))
				if (parentKind{}).may(c.what) {
					inherited = append(inherited, plan(role, buildEnter, c.what))
				}
			}
			tried := 0
			for _, p := range []parentPlan{{Children: plans, Lock: lockOpen}, {Children: inherited}} {
				for _, o := range runParent(t, startRoot, p).Outcomes {
					tried++
					if !o.Ready || o.Result != "SIGSYS" {
						t.Errorf("should have died of SIGSYS: %s", o)
					}
				}
			}
			for _, act := range []string{"swept", "swept, inherited"} {
				copies := parentPlan{Children: []childPlan{plan(role, buildCell, act)}, Lock: lockOpen}
				tried += checkSwept(t, runParent(t, startRoot, copies).Outcomes[0].Result, nobodyMay)
			}
			t.Logf("%d attempts", tried)
		})
	}
}

// withSocketsMay are those on the number of the first queue, where a role with
// sockets has the first of them.
var withSocketsMay = map[string]bool{"read a queue": true, "write on a queue": true}

// TestChildrenMay: that list is exact, and nobody else may anything of it.
func TestChildrenMay(t *testing.T) {
	for _, row := range roles {
		p, err := profileOf(row.role, plan(row.role, "", "").Queues)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range slices.Concat(forbidden, swept) {
			if may := c.do == nil && c.allowedBy(p.rules); may != (row.sockets > 0 && withSocketsMay[c.what]) {
				t.Errorf("%s: %s: allowed: %t", row.role, c.what, may)
			}
		}
	}
}

// allowedBy is what the obvious version of a list says.
func (c *call) allowedBy(rules []rule) bool {
	d := seccompData{number: uint32(c.trap), arch: uint32(native.info.ID)}
	for i, a := range c.args {
		d.args[i] = uint64(a)
	}
	return d.expect(native, rules) == unix.SECCOMP_RET_ALLOW
}

func nobodyMay(string) bool { return false }

// checkSwept returns how many were to die.
func checkSwept(t *testing.T, result string, may func(what string) bool) (tried int) {
	t.Helper()
	got, err := results(result, len(swept))
	if err != nil {
		t.Fatal(err)
	}
	for i, result := range got {
		if !may(swept[i].what) {
			tried++
		}
		if died := result == "SIGSYS"; died == may(swept[i].what) {
			t.Errorf("%s: died of SIGSYS: %t: %s", swept[i].what, died, result)
		}
	}
	return tried
}

// withoutFilter is what becomes of some of them when all but the filter is
// there.
var withoutFilter = map[string]string{
	"openat":                      "ENOENT",
	"open the root":               "EACCES",
	"socket of family 17, type 3": "EPERM",
	"execve":                      "ENOENT",
	"clone newuser":               "ok",
	"kill another":                "ESRCH",
	"kill everybody":              "ESRCH",
	"tgkill another":              "ESRCH",
	"pidfd_open":                  "ok", // itself
	"setuid":                      "EINVAL",
	"mount":                       "EPERM",
	"umount2":                     "EPERM",
	"pivot_root":                  "EPERM",
	"fsopen":                      "EPERM",
	"open_tree":                   "EPERM",
	"swapon":                      "EPERM",
	"reboot":                      "EPERM",
	"acct":                        "EPERM",
	"statx":                       "ENOENT",
	"sethostname":                 "EPERM",
	"prlimit 7 up":                "EPERM",
	"prctl PR_CAP_AMBIENT raise":  "EPERM",
	"a memfd, then execveat":      "ok",
	"chroot":                      "EPERM",
	"clock_settime":               "EPERM",
	"dup3 over a queue":           "ok",
	"memfd_create":                "ok",
	"recvmmsg on control":         "ok",
}

// TestCellWithoutFilter shows what the other layers refuse by themselves, and
// what they do not: a new user namespace, which the filter alone prevents. That
// none of it dies shows too that the list of TestHostileMatrix's parent kills nothing.
func TestCellWithoutFilter(t *testing.T) {
	var plans []childPlan
	for act := range withoutFilter {
		plans = append(plans, plan(ipc.RoleTraffic, buildCell, act))
	}
	for _, o := range runParent(t, startRoot, parentPlan{Children: plans, Lock: lockOpen}).Outcomes {
		if !o.Ready || o.Result != withoutFilter[o.Plan.Act] {
			t.Errorf("should be %s: %s", withoutFilter[o.Plan.Act], o)
		}
	}
}
