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

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// The test binary plays all parts: run by go test it is the tests; as
// "as-parent" it drops its privileges and starts children; with a role, as in the
// real tree, it is one of them.
const (
	asParent = "as-parent"

	asAuditor = "as-auditor" // looks at a tree
	asNamer   = "as-namer"   // becomes a parent on a kernel that names memory
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
		case ProbeWord:
			os.Exit(Probe())
		case asAuditor:
			auditorMain(os.Args[2])
		case asNamer:
			namerMain(os.Args[2:])
		}
		if slices.Contains(ipc.AllChildren, ipc.Role(os.Args[1])) {
			childMain(os.Args[len(os.Args)-1])
		}
	}
	if BuiltWithCgo {
		fmt.Fprintln(os.Stderr, "built with cgo: test with CGO_ENABLED=0")
		os.Exit(1)
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

	buildNaming = "and naming" // all, and the list has the call that names memory
)

// childPlan is one child: what it is, and what it does when it is in.
type childPlan struct {
	Role   ipc.Role
	Queues int
	Build  string
	Act    string
	Leave  bool     // do not wait for it, say its number
	Env    []string // besides what no child should see
	Given  int      // the parent's descriptor that is its first queue socket, if not 0
}

// outcome is what became of one child: what it said after "ready", or how it
// ended instead.
type outcome struct {
	Plan   childPlan
	Ready  bool
	Result string
	Stderr string
	PID    int
	Stops  int // how often it was stopped and continued

	pidfd int
}

// parentPlan is one run of the parent.
type parentPlan struct {
	User     string
	Children []childPlan
	Act      string    // what the parent does at the end
	Lock     locking   // when it locks itself, and how
	Lookups  bool      // it may make sockets then
	In       Isolation // of its children
	Flawed   bool      // without no_new_privs, which children would inherit, until then; a list that allows everything is there before
}

type parentReport struct {
	UID, GID int
	Outcomes []outcome
	Result   string
}

func plan(role ipc.Role, build, act string) childPlan {
	queues := 0
	if rowOf(role).queues {
		queues = 3
	}
	return childPlan{Role: role, Queues: queues, Build: build, Act: act}
}

// inOf is whose namespaces a child lives in that is built so.
func inOf(build string) Isolation {
	if build == buildShared {
		return Shared
	}
	return Isolated
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// own are the ids of a parent, which nothing can be asked for under its list.
var own struct{ uid, gid int }

func parentMain(text string) {
	var p parentPlan
	var r parentReport
	err := json.Unmarshal([]byte(text), &p)
	if err == nil && p.Flawed {
		err = allowEverything() // as root: it takes no_new_privs or a capability
	}
	if err == nil {
		own.uid, own.gid, err = dropPrivileges(p)
		r.UID, r.GID = own.uid, own.gid
	}
	if err == nil {
		err = runPlan(&p, &r)
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

// runPlan does what the real parent does in its order, and then its act.
func runPlan(p *parentPlan, r *parentReport) error {
	if err := newStarters(); err != nil {
		return err
	}
	sockets, err := socketsFor(p.Children)
	if err != nil {
		return err
	}
	prepared := func() string { return "" }
	act := parentActs[p.Act]
	if act != nil {
		prepared = act(p)
	}
	if err := p.lock(lockFirst, lockOpen); err != nil {
		return err
	}
	for i, c := range p.Children {
		o, err := startChild(c, sockets[i], own.uid, own.gid, p.In)
		if err != nil {
			return err
		}
		r.Outcomes = append(r.Outcomes, o)
	}
	if err := p.lock(lockLast); err != nil {
		return err
	}
	if act != nil {
		fmt.Fprintln(os.Stderr, "acting")
	}
	r.Result = prepared()
	return nil
}

// namerMain executes the rest of the command line where naming memory always
// works, so that the runtime never gives it up.
func namerMain(args []string) {
	err := loadRaw([]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_PRCTL, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetArgs},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.PR_SET_VMA, Jf: 1},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ERRNO | 0},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	})
	if err == nil {
		err = syscall.Exec("/proc/self/exe", append([]string{os.Args[0]}, args...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
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
	r, err := tryParent(parentCommand(s, p))
	if err != nil {
		t.Fatalf("as %s: %v", s, err)
	}
	return r
}

func tryParent(cmd *exec.Cmd) (r parentReport, err error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("parent: %w: %s", err, stderr.String())
	}
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		return r, fmt.Errorf("parent: %w in %q", err, stdout.String())
	}
	return r, nil
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

func (o outcome) String() string {
	return fmt.Sprintf("%s/%s: ready %t, result %q, stderr %q", o.Plan.Role, o.Plan.Act, o.Ready, o.Result, o.Stderr)
}
