//go:build !race

package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// loaded is one process under load.
type loaded struct {
	role   ipc.Role
	result string
	stops  int
	err    error
}

// TestDrift: what the Go runtime needs is on every list, the parent's too.
// A runtime that learns to need something more shows here. All processes bear
// it side by side, as in the tree.
func TestDrift(t *testing.T) {
	t.Parallel()
	all := make(chan loaded)
	plans := allRoles(buildEnter, "load")
	for _, plan := range plans {
		go func() { all <- loadChild(plan) }()
	}
	go func() { all <- loadParent() }()
	for range len(plans) + 1 {
		l := <-all
		t.Logf("%s: %s, stopped %d times, %v", l.role, l.result, l.stops, l.err)
		if err := l.check(); err != nil {
			t.Errorf("%s: %v", l.role, err)
		}
	}
}

func loadChild(plan childPlan) loaded {
	r, err := tryParent(parentCommand(startRoot, parentPlan{Children: []childPlan{plan}, In: inOf(plan.Build)}))
	if err != nil {
		return loaded{role: plan.Role, err: err}
	}
	o := r.Outcomes[0]
	if !o.Ready {
		err = errors.New(o.String())
	}
	return loaded{plan.Role, o.Result, o.Stops, err}
}

// loadParent answers a locked parent that asks to be stopped.
func loadParent() loaded {
	l := loaded{role: ipc.RoleParent}
	cmd := parentCommand(startAmbient, parentPlan{Act: "load"})
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if l.err = firstError(err, cmd.Start()); l.err != nil {
		return l
	}
	var stopErr error
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if lines.Text() == "stop me" {
			stopErr = errors.Join(stopErr, stopAndContinue(cmd.Process.Pid, func(s unix.Signal) error { return unix.Kill(cmd.Process.Pid, s) }))
			l.stops++
		}
	}
	var r parentReport
	l.err = errors.Join(cmd.Wait(), json.Unmarshal(stdout.Bytes(), &r), stopErr)
	l.result = r.Result
	return l
}

var loadCount = regexp.MustCompile(`(\d+) ([a-z ]+)`)

// check requires that a load ended well and has done something.
func (l *loaded) check() error {
	if l.err != nil {
		return l.err
	}
	if !strings.HasPrefix(l.result, "survived ") || l.stops != 3*stopsPerPhase {
		return errors.New("did not survive, or was not stopped so often")
	}
	got := map[string]uint64{}
	for _, m := range loadCount.FindAllStringSubmatch(l.result, -1) {
		got[m[2]], _ = strconv.ParseUint(m[1], 10, 64)
	}
	for _, w := range works {
		if got[w.what] < 3*w.least {
			return fmt.Errorf("only %d %s", got[w.what], w.what)
		}
	}
	if got["collections"] < 30 {
		return fmt.Errorf("only %d collections", got["collections"])
	}
	return nil
}

// TestPanicUnderLoad: in the middle of all this a panic's trace still reaches
// the other end of standard error whole, with every goroutine.
func TestPanicUnderLoad(t *testing.T) {
	for _, plan := range allRoles(buildEnter, "panic under load") {
		t.Run(string(plan.Role), func(t *testing.T) {
			t.Parallel()
			o := runParent(t, startRoot, parentPlan{Children: []childPlan{plan}}).Outcomes[0]
			if !o.Ready {
				t.Error("not ready")
			}
			checkTrace(t, o.Result, o.Stderr)
		})
	}
	t.Run(string(ipc.RoleParent), func(t *testing.T) {
		t.Parallel()
		status, stderr := failParent(t, parentCommand(startRoot, parentPlan{Act: "panic under load"}))
		checkTrace(t, status, strings.TrimPrefix(stderr, "acting\n"))
	})
}

func checkTrace(t *testing.T, result, trace string) {
	t.Helper()
	least := 0
	for _, w := range works {
		least += w.goroutines
	}
	// The panicking goroutine comes first, the others follow it.
	first, _, _ := strings.Cut(strings.TrimPrefix(trace, "panic: boom\n\n"), "\n\n")
	frames := strings.Count(first, "sandbox.recurse(")
	goroutines := strings.Count(trace, "\ngoroutine ")
	ends := strings.HasSuffix(trace, "\n") && strings.Contains(trace[max(0, len(trace)-2000):], "created by ")
	if result != "exit 2" || !strings.HasPrefix(trace, "panic: boom\n\ngoroutine ") || frames != 51 || goroutines < least || !ends {
		t.Errorf("%s: %d frames, %d goroutines of more than %d, in a trace of %d octets: %.300q", result, frames, goroutines, least, len(trace), trace)
	}
}
