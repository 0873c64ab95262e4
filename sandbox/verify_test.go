//go:build !race

package sandbox

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

func init() {
	parentActs["verify"] = now(func() string {
		if err := verifyLeft(); err != nil {
			return err.Error()
		}
		return "all in their cells"
	})
	parentActs["verify on another thread"] = now(func() string { return fmt.Sprint(Verify(left)) })
}

func verifyLeft() error { return onThread(starter, func() error { return Verify(left) }) }

// verified is what a parent says of its children, of which the request parser
// is built as said.
func verified(t *testing.T, start func(parentPlan) *exec.Cmd, build string) string {
	t.Helper()
	f := flaws[build]
	p := parentPlan{Children: allRoles(buildEnter, "hang"), Act: "verify", Lock: f.lock(), Flawed: f.unheard}
	if f.unheard || f.ahead { // a parent in a Landlock domain sees nothing of who was not born in it
		p.Lock = lockNone
	}
	for i := range p.Children {
		p.Children[i].Leave = true
		if p.Children[i].Role == roleOf(build) {
			p.Children[i].Build = build
		}
	}
	r, err := tryParent(start(p))
	if err != nil {
		t.Fatal(err)
	}
	return r.Result
}

func asRoot(p parentPlan) *exec.Cmd    { return parentCommand(startRoot, p) }
func asAmbient(p parentPlan) *exec.Cmd { return parentCommand(startAmbient, p) }

// TestVerify: the parent, which is not root, sees whole cells as what they are.
func TestVerify(t *testing.T) {
	// namingCommand: under a filter that somebody else has put on it.
	for name, start := range map[string]func(parentPlan) *exec.Cmd{"root": asRoot, "ambient": asAmbient, "filtered": namingCommand} {
		if got := verified(t, start, buildEnter); got != "all in their cells" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestVerifyOnAnotherThread: where there is anything that a Landlock domain of the
// parent's can deny, the thread that did not start a child cannot look at it, and
// says so.
func TestVerifyOnAnotherThread(t *testing.T) {
	p := parentPlan{Children: allRoles(buildEnter, "hang"), Act: "verify on another thread"}
	for i := range p.Children {
		p.Children[i].Leave = true
	}
	got := runParent(t, startRoot, p).Result
	if abi, _, err := landlockVersion(); err != nil || abi < 4 {
		t.Logf("Landlock's ABI is %d, %v: %s", abi, err, got)
	} else if !strings.HasPrefix(got, "verifying the cells: ") || !strings.Contains(got, "permission denied") {
		t.Errorf("it says %q", got)
	}
}

// TestVerifyFinds: the parent finds what an auditor finds, but for descriptors,
// and names the role. (A dumpable child can be looked at as well.)
func TestVerifyFinds(t *testing.T) {
	found := 0
	for build, deviations := range flawsFound {
		if strings.Contains(deviations[0], "escriptor ") {
			continue
		}
		found++
		t.Run(build, func(t *testing.T) {
			t.Parallel()
			got := verified(t, asRoot, build)
			if !strings.HasPrefix(got, string(ipc.RoleRequests)+" (pid ") {
				t.Errorf("it says %q", got)
			}
			for _, d := range deviations {
				if !strings.Contains(got, ") is not in its cell: "+d) && !strings.Contains(got, "; "+d) {
					t.Errorf("%q is not found: %q", d, got)
				}
			}
		})
	}
	if found < 12 {
		t.Errorf("only %d flaws", found)
	}
}

// TestVerifyUnderFilter: an inherited filter, as a service manager's, is not
// taken for a child's own.
func TestVerifyUnderFilter(t *testing.T) {
	for _, build := range []string{"flaw: no filter", "flaw: filter on one thread", "flaw: no_new_privs on a few"} {
		if got := verified(t, namingCommand, build); !strings.Contains(got, `number of filters is "2", should be "3", on `) {
			t.Errorf("%s: %s", build, got)
		}
	}
}
