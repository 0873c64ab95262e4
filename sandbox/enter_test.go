//go:build !race

package sandbox

import (
	"slices"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

func allRoles(build, act string) (plans []childPlan) {
	for _, role := range ipc.AllChildren {
		plans = append(plans, plan(role, build, act))
	}
	return plans
}

// TestEnter builds every role's cell, started in both ways, and lets each do
// its honest work in it.
func TestEnter(t *testing.T) {
	for _, s := range []start{startRoot, startAmbient} {
		t.Run(s.String(), func(t *testing.T) {
			for _, o := range runParent(t, s, parentPlan{Children: allRoles(buildEnter, "honest")}).Outcomes {
				if !o.Ready || o.Result != "did its work" {
					t.Error(o)
				}
			}
		})
	}
}

// TestEnds: each way in which an honest child can end shows as what it is,
// and not as a violation of its list.
func TestEnds(t *testing.T) {
	for _, c := range []struct{ act, result, trace string }{
		{"exit 3", "exit 3", ""},
		{"panic", "exit 2", "panic: boom\n\ngoroutine "},
		{"nil dereference", "exit 2", "[signal SIGSEGV: segmentation violation"},
		{"SIGTERM", "exit 2", ""},
		{"memory", "exit 2", "out of memory"},
		{"thread bomb", "exit 2", "failed to create new OS thread"},
	} {
		t.Run(c.act, func(t *testing.T) {
			t.Parallel()
			p := parentPlan{Children: []childPlan{plan(ipc.RoleRequests, buildEnter, c.act)}}
			o := runParent(t, startRoot, p).Outcomes[0]
			if !o.Ready || o.Result != c.result || !strings.Contains(o.Stderr, c.trace) {
				t.Errorf("should be %q with %q: %s", c.result, c.trace, o)
			}
		})
	}
}

// TestCellState reads what the cell looks like from within, but for the
// filter, which would forbid the questions.
func TestCellState(t *testing.T) {
	want := map[ipc.Role]string{ipc.RoleAllowlist: "17", ipc.RoleTraffic: "20", ipc.RoleRequests: "20", ipc.RoleResponses: "20", ipc.RoleResolver: "145"}
	for _, o := range runParent(t, startAmbient, parentPlan{Children: allRoles(buildCell, "state"), Lock: lockOpen}).Outcomes {
		state := "caps 0/0/0 nofile " + want[o.Plan.Role] + " nproc 32 core 0 raise operation not permitted dumpable 0 cwd / env 0 procs true"
		if o.Result != state {
			t.Errorf("should be %q: %s", state, o)
		}
	}
}

// TestStrays: descriptors that the parent left open do not reach the cell,
// which proves that itself.
func TestStrays(t *testing.T) {
	for _, o := range runParent(t, startRoot, parentPlan{Children: allRoles(buildStrays, "honest")}).Outcomes {
		if o.Result != "did its work" {
			t.Error(o)
		}
	}
}

// TestEnterRefuses: where the parent did not make the namespaces, or a
// descriptor is missing, there is no cell, and the error names the step.
func TestEnterRefuses(t *testing.T) {
	for _, c := range []struct{ act, result, fault string }{
		{"enter without namespaces", "exit 69", "private mounts: the kernel lacks it"},
		{"enter with a timer before", "exit 70", "descriptors: bug: the runtime's poller is descriptor"},
		{"enter with too many queues", "exit 70", "descriptors: descriptor 19 is missing: bad file descriptor"},
		{"enter with a file of its own", "exit 70", "descriptors: bug: descriptor 19 was not inherited"},
		{"enter without landlock", "exit 69", "landlock: the kernel lacks it: function not implemented"},
		{"enter without seccomp", "exit 69", "seccomp: function not implemented"},
		{"enter as nobody", "exit 70", `profile: bug: no profile for the role "nobody"`},
	} {
		p := parentPlan{Children: []childPlan{plan(ipc.RoleRequests, buildNone, c.act)}}
		o := runParent(t, startAmbient, p).Outcomes[0]
		if o.Result != c.result || !strings.HasPrefix(o.Stderr, c.fault) {
			t.Errorf("should be %q with %q: %s", c.result, c.fault, o)
		}
	}
}

// TestLandlockLevels applies what kernels of several ABIs can deny, and looks
// at its effect on a thread that is not the calling one.
func TestLandlockLevels(t *testing.T) {
	for _, c := range []struct{ act, effects string }{
		{"landlock 1", "open EACCES, bind ok, abstract ok, mount EPERM, signal own thread ok"},
		{"landlock 2", "open EACCES, bind ok, abstract ok, mount EPERM, signal own thread ok"},
		{"landlock 4", "open EACCES, bind EACCES, abstract ok, mount EPERM, signal own thread ok"},
		{"landlock 7", "open EACCES, bind EACCES, abstract EPERM, mount EPERM, signal own thread ok"},
		{"landlock parent", "open ok, bind EACCES, abstract EPERM, mount ok, signal own thread ok"},
		{"landlock parent, lookups", "open ok, bind EACCES, abstract EPERM, mount ok, signal own thread ok"},
	} {
		p := parentPlan{Children: []childPlan{plan(ipc.RoleRequests, buildNone, c.act)}}
		p.Lock = lockNone // nothing is denied yet
		if o := runParent(t, startRoot, p).Outcomes[0]; o.Result != c.effects {
			t.Errorf("%s: should be %q: %s", c.act, c.effects, o)
		}
	}
}

// TestLandlockRights is what is asked of kernels that are not here.
func TestLandlockRights(t *testing.T) {
	const fixed = landlockErratumSignal
	for _, c := range []struct {
		abi, errata int
		attr        landlockAttr
		size        uintptr
		parent      landlockAttr
	}{
		{1, 0, landlockAttr{fs: 0x1fff}, 8, landlockAttr{}},
		{2, 0, landlockAttr{fs: 0x3fff}, 8, landlockAttr{}},
		{3, 0, landlockAttr{fs: 0x7fff}, 8, landlockAttr{}},
		{4, 0, landlockAttr{fs: 0x7fff, net: 3}, 16, landlockAttr{net: 3}},
		{5, 0, landlockAttr{fs: 0xffff, net: 3}, 16, landlockAttr{net: 3}},
		{6, 0, landlockAttr{fs: 0xffff, net: 3, scoped: 1}, 24, landlockAttr{net: 3, scoped: 1}},
		{6, fixed, landlockAttr{fs: 0xffff, net: 3, scoped: 3}, 24, landlockAttr{net: 3, scoped: 1}},
		{7, fixed, landlockAttr{fs: 0xffff, net: 3, scoped: 3}, 24, landlockAttr{net: 3, scoped: 1}},
		{99, fixed | 1, landlockAttr{fs: 0xffff, net: 3, scoped: 3}, 24, landlockAttr{net: 3, scoped: 1}},
	} {
		if attr, size := denyAll(c.abi, c.errata); attr != c.attr || size != c.size {
			t.Errorf("ABI %d, errata %d: %+v of %d, should be %+v of %d", c.abi, c.errata, attr, size, c.attr, c.size)
		}
		attr, _ := denyNetwork(c.abi, c.errata)
		if attr != c.parent {
			t.Errorf("ABI %d, errata %d: parent %+v, should be %+v", c.abi, c.errata, attr, c.parent)
		}
		// No rule may name a right that the set does not handle (landlock_add_rule(2)).
		var ports []landlockPort
		if c.parent.net != 0 {
			ports = []landlockPort{{2, 53}}
		}
		if got := permitted(attr, true); !slices.Equal(got, ports) || permitted(attr, false) != nil {
			t.Errorf("ABI %d: ports %+v, should be %+v", c.abi, got, ports)
		}
	}
}
