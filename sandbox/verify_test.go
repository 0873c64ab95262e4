//go:build !race

package sandbox

import (
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

func init() {
	parentActs["verify"] = now(func() string {
		if err := Verify(left); err != nil {
			return err.Error()
		}
		return "all in their cells"
	})
}

// verified is what a parent says of its children, of which the request parser
// is built as said.
func verified(t *testing.T, s start, build string) string {
	t.Helper()
	p := parentPlan{Children: allRoles(buildEnter, "hang"), Act: "verify", Flawed: build == "flaw: no_new_privs on a few"}
	for i := range p.Children {
		p.Children[i].Leave = true
		if p.Children[i].Role == ipc.RoleRequests {
			p.Children[i].Build = build
		}
	}
	return runParent(t, s, p).Result
}

// TestVerify: the parent, which is not root, sees whole cells as what they are.
func TestVerify(t *testing.T) {
	for _, s := range []start{startRoot, startAmbient} {
		if got := verified(t, s, buildEnter); got != "all in their cells" {
			t.Errorf("%s: %s", s, got)
		}
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
			got := verified(t, startRoot, build)
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
