//go:build race

package sandbox

import (
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// TestEnterWithRaceDetector: what is left of a cell in a race build lets the
// roles work, and holds no more descriptors than the real one.
func TestEnterWithRaceDetector(t *testing.T) {
	var plans []childPlan
	for _, role := range ipc.AllChildren {
		plans = append(plans, plan(role, buildEnter, "honest"))
	}
	for _, o := range runParent(t, startRoot, parentPlan{Children: plans, Act: "short load"}).Outcomes {
		if !o.Ready || o.Result != "did its work" {
			t.Error(o)
		}
	}
}
