// Package main_test drives the built, confined binary: real queues, real
// rules, real DNS and HTTP, in network namespaces of its own.
//
// How to write a test with it:
//
//	eachFamily(t, func(t *testing.T, f family) {
//		l := newLab(t) // client and server namespaces, both families, a web server on every f.web(i)
//		l.dnsmasq(fmt.Sprintf("--host-record=example.com,%v", f.web(1)))
//		l.start(allowing("example.com")) // the daemon, in the client's namespace
//		l.rules(standardRules)           // iptables and ip6tables, there too
//		out, ok := l.client.dig(t, 0, f.resolver, 10, "example.com", f.record()) // or a socket: l.client.asker(t, f.client)
//		l.daemon.sees(t, eventResponse, fields{"name": "example.com", "verdict": "accept", "granted": f.web(1)})
//		l.reaches(t, f.web(1))
//		l.isShut(t, f.web(2))
//		l.idle(t) // nothing waits in any queue
//	})
//
// resolver (resolver_test.go) is a DNS server of which the test decides every
// octet. newLab takes everything down after the test, and requires that the
// daemon stopped with status 0, logged no error and left nothing in a queue;
// a test that ends the daemon itself says so with l.daemon.expectExit.
//
// Nothing waits for time to pass but where time is what is tested: sees polls
// the log, and an honest exchange afterwards shows that what was dropped did
// not merely come late.
package main_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// builtBinary is the daemon that is tested, built once from this tree.
var builtBinary string

// inner marks the process that runs the tests. The outer one only waits for
// it and ends what it left behind, whatever way it ended.
const inner = "EGRESS_EDDIE_TEST_INNER"

// patience is how long anything may take that must happen. It is long for
// machines that are busy: nothing waits for it when all is well.
const patience = 15 * time.Second

// shortly is how long a connection is tried that must not come about: the log
// shows that it was the filter that kept it from it.
const shortly = 300 * time.Millisecond

func TestMain(m *testing.M) {
	runtime.LockOSThread() // Pdeathsig follows the thread
	if os.Getenv(inner) == "" {
		os.Exit(outerMain())
	}
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked { // tests mostly wait for packets and for each other's timeouts
		if err := flag.Set("test.parallel", "6"); err != nil {
			fatal("%v", err)
		}
	}
	os.Exit(m.Run())
}

func fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "end-to-end tests: "+format+"\n", args...)
	os.Exit(1)
}

// outerMain checks what the tests need, builds the binary and runs the tests
// in a process of which it is the reaper: the daemon changes its user, so that
// it cannot be told to die with its starter.
func outerMain() int {
	checkTools()
	dir, err := os.MkdirTemp("", "egress-eddie-test-")
	if err != nil {
		fatal("%v", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // the daemon starts itself again as another user
		fatal("%v", err)
	}
	if out, err := build(filepath.Join(dir, "egress-eddie"), "."); err != nil {
		fmt.Fprintf(os.Stderr, "end-to-end tests: building the daemon: %v\n%s", err, out)
		return 1
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fatal("becoming a reaper: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		fatal("%v", err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inner+"="+filepath.Join(dir, "egress-eddie"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		fatal("%v", err)
	}
	passOn(cmd.Process)
	status := await(cmd.Process.Pid)
	if left := reap(); left > 0 && status == 0 {
		fmt.Fprintf(os.Stderr, "end-to-end tests: %d processes were left behind\n", left)
		status = 1
	}
	return status
}

// passOn has the tests end by the signals that would end this process, which
// has to clean up after them. What a terminal sends reaches them anyway, and
// that nobody reads the output any more is no reason to leave things behind.
func passOn(tests *os.Process) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGPIPE, unix.SIGTERM, unix.SIGQUIT)
	go func() {
		for s := range signals {
			if s == unix.SIGTERM || s == unix.SIGQUIT {
				tests.Signal(s)
			}
		}
	}()
}

// await waits for the tests, and takes note of every orphan that ends before
// them, so that what is dead is gone. It returns the status to exit with.
func await(tests int) int {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR || err == nil && pid != tests:
		case err != nil:
			fatal("wait4: %v", err)
		case status.Exited():
			return status.ExitStatus()
		default:
			fmt.Fprintf(os.Stderr, "end-to-end tests: ended by %v\n", status.Signal())
			return 1
		}
	}
}

// init reads which binary is tested before any test runs.
func init() { builtBinary = os.Getenv(inner) }

func checkTools() {
	if os.Geteuid() != 0 {
		fatal("they make network namespaces and firewall rules in them: run them as root (sudo make test)")
	}
	var missing []string
	for _, tool := range []string{"go", "ip", "iptables-restore", "ip6tables-restore", "dnsmasq", "dig", "curl", "unbound"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if len(missing) > 0 {
		fatal("missing: %s (make packages installs them)", strings.Join(missing, ", "))
	}
}

func build(path, what string) ([]byte, error) {
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, what)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd.CombinedOutput()
}

// reap ends every process that the tests left, which by now are all children
// of this one, and says how many there were. What was already dying counts
// for nothing.
func reap() int {
	left := 0
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case err == unix.ECHILD:
			return left
		case err == unix.EINTR || pid > 0:
		case time.Until(deadline) < 4*time.Second: // had a second to end by themselves
			left += killChildren()
			time.Sleep(10 * time.Millisecond)
		default:
			time.Sleep(10 * time.Millisecond)
		}
	}
	return left
}

func killChildren() int {
	killed := 0
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			fmt.Fprintf(os.Stderr, "end-to-end tests: left behind: %d %q\n", pid, comm)
			if unix.Kill(pid, unix.SIGKILL) == nil {
				killed++
			}
		}
	}
	return killed
}

// eventually polls until ok says true, and reports whether it did in time.
func eventually(ok func() bool) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
