//go:build !race

package sandbox

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

func init() {
	parentActs["start again"] = func(p *parentPlan) func() string {
		return func() string { return startAgain(p.In) }
	}
}

// TestLockedParentStartsAgain: under its own list, which its children inherit, it
// builds every role's cell and looks at it, as often as it must.
func TestLockedParentStartsAgain(t *testing.T) {
	for _, s := range []start{startRoot, startAmbient} {
		for _, in := range []Isolation{Isolated, Shared} {
			for _, lookups := range []bool{false, true} {
				r := runParent(t, s, parentPlan{Act: "start again", In: in, Lookups: lookups})
				if r.Result != startedAgain {
					t.Errorf("%s, isolation %d, lookups %t: %q, should be %q", s, in, lookups, r.Result, startedAgain)
				}
			}
		}
	}
}

// startedAgain is what a parent says that could.
var startedAgain = fmt.Sprintf("%d children", 3*len(ipc.AllChildren))

// startAgain starts children of all roles, looks at them, and ends them, again
// and again.
func startAgain(in Isolation) string {
	build, started := buildEnter, 0
	if in == Shared {
		build = buildShared
	}
	for range 3 {
		left = nil
		for _, c := range allRoles(build, "hang") {
			c.Leave = true
			if _, err := startChild(c, nil, own.uid, own.gid, in); err != nil {
				return err.Error()
			}
		}
		if in == Isolated {
			if err := verifyLeft(); err != nil {
				return err.Error()
			}
		}
		for _, c := range left {
			var status unix.WaitStatus
			err := unix.PidfdSendSignal(pidfds[c.PID], unix.SIGKILL, nil, 0)
			if err == nil {
				_, err = unix.Wait4(c.PID, &status, 0, nil)
			}
			if err := errors.Join(err, unix.Close(pidfds[c.PID])); err != nil {
				return err.Error()
			}
			if !status.Signaled() || status.Signal() != unix.SIGKILL {
				return fmt.Sprintf("%s: wait status %#x", c.Role, int(status))
			}
			started++
		}
	}
	return fmt.Sprintf("%d children", started)
}
