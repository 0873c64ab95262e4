package sandbox

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// described is a role, and which of the two parents.
type described struct {
	role    ipc.Role
	lookups bool
}

func (d described) String() string {
	if d.lookups {
		return string(d.role) + "-lookups"
	}
	return string(d.role)
}

var allDescribed = func() (all []described) {
	all = []described{{ipc.RoleParent, false}, {ipc.RoleParent, true}}
	for _, role := range ipc.AllChildren {
		all = append(all, described{role, false})
	}
	return all
}()

// TestProfilesGolden: what a role may do changes nowhere without showing here.
func TestProfilesGolden(t *testing.T) {
	for _, m := range machines {
		for _, role := range allDescribed {
			d, err := describe(m, role.role, 2, role.lookups)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", fmt.Sprintf("%s.%s.golden", role, d.Machine))
			if *update {
				if err := os.WriteFile(path, []byte(d.Text()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := d.Text(); got != string(want) {
				t.Errorf("%s is not what the tables say; if that is meant, run the test with -update and commit it\n%s", path, difference(string(want), got))
			}
		}
	}
}

// difference is the first line that is not the same.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d was  %s\n        is   %s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines were %d", len(g), len(w))
}

// TestPrintedWidth: everything fits the screen, with as many queues as can be.
func TestPrintedWidth(t *testing.T) {
	for _, m := range machines {
		for _, role := range allDescribed {
			for _, queues := range []int{1, 2, ipc.MaxQueues} {
				d, err := describe(m, role.role, queues, role.lookups)
				if err != nil {
					t.Fatal(err)
				}
				for _, line := range strings.Split(d.Text()+d.Program(), "\n") {
					if len(line) > columns || strings.TrimRight(line, " ") != line {
						t.Errorf("%s: %q", role, line)
					}
				}
			}
		}
	}
}

// TestPrintedIsComplete: every rule has its line and every condition its
// text, in which values have names where numbers say little.
func TestPrintedIsComplete(t *testing.T) {
	for _, m := range machines {
		for _, role := range allDescribed {
			d, err := describe(m, role.role, 2, role.lookups)
			if err != nil {
				t.Fatal(err)
			}
			rules := parentRules(m, shownIDs, role.lookups, Isolated)
			if row := rowOf(role.role); row != nil {
				queues := 0
				if row.queues {
					queues = 2
				}
				p, err := profileFor(m, role.role, queues)
				if err != nil {
					t.Fatal(err)
				}
				rules = p.rules
			}
			for i, r := range rules {
				l := d.Syscalls[i]
				if l.Name != r.name || l.Reason != r.reason || l.Zero != r.zero || len(l.When) != len(r.when) {
					t.Errorf("%s: %+v is shown as %+v", role, r, l)
				}
				for _, when := range l.When {
					if strings.Contains(when, "argument ") || strings.Contains(when, "0x") {
						t.Errorf("%s: %s: %q says little", role, r.name, when)
					}
				}
				if !strings.Contains(d.Program(), "; "+r.name+"\n") {
					t.Errorf("%s: the program does not name %s", role, r.name)
				}
			}
			if n := strings.Count(d.Program(), "\n"); n != len(d.filter)+1 {
				t.Errorf("%s: %d lines for %d instructions", role, n, len(d.filter))
			}
			var back Description
			if text, err := json.Marshal(d); err != nil || json.Unmarshal(text, &back) != nil || back.Text() != d.Text() {
				t.Errorf("%s: JSON says something else: %v", role, err)
			}
		}
	}
}
