//go:debug decoratemappings=0
//go:debug containermaxprocs=0

package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// The test binary plays all parts: run by go test it is the tests; as
// "as-parent" it drops its privileges and starts children; as "as-child", or
// with a role as in the real tree, it is one of them.
const (
	asParent = "as-parent"
	asChild  = "as-child"

	asAuditor = "as-auditor" // looks at a tree
)

// testUID is an id that no account has.
const testUID = 61999

func init() {
	if len(os.Args) > 1 && os.Args[1] == asParent {
		runtime.LockOSThread() // Pdeathsig follows the thread
	}
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case asParent:
			parentMain(os.Args[2])
		case asChild:
			childMain(os.Args[2])
		case ProbeWord:
			os.Exit(Probe())
		case asAuditor:
			auditorMain(os.Args[2])
		}
		if slices.Contains(ipc.Children, ipc.Role(os.Args[1])) {
			childMain(os.Args[len(os.Args)-1])
		}
	}
	// What the shell left open is none of the trees'.
	if err := closeOnExec(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// How far a child builds its cell before it acts.
const (
	buildEnter  = "enter"       // all of it
	buildCell   = "but seccomp" // all but the filter
	buildNone   = "nothing"
	buildStrays = "with strays" // all, and the parent left descriptors open
	buildShared = "shared"      // what there is in the parent's namespaces
)

// childPlan is one child: what it is, and what it does when it is in.
type childPlan struct {
	Role   ipc.Role
	Queues int
	Build  string
	Act    string
	Leave  bool // do not wait for it, say its number
}

// outcome is what became of one child: what it said after "ready", or how it
// ended instead.
type outcome struct {
	Plan   childPlan
	Ready  bool
	Result string
	Stderr string
	PID    int
}

// parentPlan is one run of the parent.
type parentPlan struct {
	User     string
	Children []childPlan
	Act      string // what the parent does at the end
	Lock     bool   // after LockParent
	Flawed   bool   // without no_new_privs, which children would inherit, until then
}

type parentReport struct {
	UID, GID int
	Outcomes []outcome
	Result   string
}

func plan(role ipc.Role, build, act string) childPlan {
	queues := 0
	if role != ipc.RoleAllowlist {
		queues = 3
	}
	return childPlan{Role: role, Queues: queues, Build: build, Act: act}
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func parentMain(text string) {
	var p parentPlan
	var r parentReport
	err := json.Unmarshal([]byte(text), &p)
	if err == nil {
		r.UID, r.GID, err = dropPrivileges(p)
	}
	for _, c := range p.Children {
		if err != nil {
			break
		}
		var o outcome
		o, err = startChild(c, r.UID, r.GID)
		r.Outcomes = append(r.Outcomes, o)
	}
	act := parentActs[p.Act]
	if err == nil && act != nil {
		prepared := act()
		if p.Lock {
			err = LockParent()
		}
		if err == nil {
			fmt.Fprintln(os.Stderr, "acting")
			r.Result = prepared()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exit.Code(err))
	}
	fmt.Println(mustJSON(r))
	if slices.ContainsFunc(p.Children, func(c childPlan) bool { return c.Leave }) {
		_, _ = io.Copy(io.Discard, os.Stdin) // until killed
	}
	os.Exit(0)
}

func auditorMain(text string) {
	parent, err := strconv.Atoi(text)
	if err == nil {
		_, err = Audit(parent)
	}
	fmt.Println(err)
	os.Exit(exit.Code(err))
}

// How a test starts the parent.
type start int

const (
	startRoot    start = iota // as root
	startAmbient              // as a user with ambient CAP_NET_ADMIN
	startBare                 // as a user without any capability
)

func (s start) String() string { return [...]string{"root", "ambient", "bare"}[s] }

func parentCommand(s start, p parentPlan) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", asParent, mustJSON(p))
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that hangs leaves nothing behind
	if s != startRoot {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: testUID, Gid: testUID}
	}
	if s == startAmbient {
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
	}
	return cmd
}

// runParent runs a parent that must succeed.
func runParent(t *testing.T, s start, p parentPlan) parentReport {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := parentCommand(s, p)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("parent as %s: %v: %s", s, err, stderr.String())
	}
	var r parentReport
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("parent as %s: %v in %q", s, err, stdout.String())
	}
	return r
}

// failParent runs a parent that must fail, and returns its exit code or
// signal and what it said.
func failParent(t *testing.T, cmd *exec.Cmd) (status, stderr string) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stderr = &out
	err := cmd.Run()
	var ee *exec.ExitError
	if !errors.As(err, &ee) {
		t.Fatalf("parent: %v, should have failed: %s", err, out.String())
	}
	if ws := ee.Sys().(syscall.WaitStatus); ws.Signaled() {
		return unix.SignalName(ws.Signal()), out.String()
	}
	return "exit " + strconv.Itoa(ee.ExitCode()), out.String()
}

// answer is the result of a raw system call as a test expects it.
func answer(errno syscall.Errno) string {
	if errno == 0 {
		return "ok"
	}
	return unix.ErrnoName(errno)
}

// load is the work of an honest Go program for a while: garbage, timers,
// goroutines, threads in system calls, recovered nil dereferences.
func load(d time.Duration) string {
	end := time.Now().Add(d)
	results := make(chan int)
	for g := range 50 {
		go func() {
			n := 0
			for time.Now().Before(end) {
				garbage := make([][]byte, 64)
				for i := range garbage {
					garbage[i] = make([]byte, 1+(g*977+i*4099)%(64<<10))
				}
				func() {
					defer func() { _ = recover() }()
					var p *int
					*p = len(garbage)
				}()
				time.Sleep(time.Duration(1+g%7) * time.Millisecond)
				n++
			}
			results <- n
		}()
	}
	for range 10 {
		go func() {
			ts := unix.Timespec{Nsec: 50e6}
			_ = unix.Nanosleep(&ts, nil) // holds a thread each
			results <- 1
		}()
	}
	for range 60 {
		if n := <-results; n == 0 {
			return "a goroutine did nothing"
		}
	}
	big := make([]byte, 100<<20)
	for i := 0; i < len(big); i += 4096 {
		big[i] = 1
	}
	runtime.KeepAlive(big)
	runtime.GC()
	return "survived"
}

func (o outcome) String() string {
	return fmt.Sprintf("%s/%s: ready %t, result %q, stderr %q", o.Plan.Role, o.Plan.Act, o.Ready, o.Result, o.Stderr)
}
