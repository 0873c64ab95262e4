package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// ordinary is a user without an account and without privileges.
const ordinary = 61500

// ends runs the binary, which must end by itself with a status, and returns
// what it printed.
func (n *netns) ends(t *testing.T, status int, cmd *exec.Cmd) string {
	t.Helper()
	start := time.Now()
	out, got := n.run(t, cmd)
	if got != status || time.Since(start) > patience {
		t.Errorf("%v: status %d, not %d\n%s", cmd.Args[1:], got, status, out)
	}
	return out
}

func contains(t *testing.T, out string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
}

// What a person does wrong is named, with its exit status, and nothing starts.
func TestMistakes(t *testing.T) {
	t.Parallel()
	n := newNetns(t, "client")
	good := configFile(t, allowing("example.com").String())
	dir := filepath.Dir(good)
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	command := func(args ...string) *exec.Cmd { return exec.Command(builtBinary, args...) }

	for _, args := range [][]string{
		{"-x"}, {"-c"}, {"file.toml"}, {"-log-format", "xml", "-c", good}, {"-d=perhaps"}, {"-l", "", "-c", good},
		{"-l", filepath.Join(dir, "no", "log"), "-c", good}, {"-u", "no-such-user", "-c", good}, {"-u", "root", "-c", good}, {"-u", "nobody", "-c", good},
	} {
		contains(t, n.ends(t, 64, command(args...)), "egress-eddie: ")
	}
	for _, role := range []string{"allowlist", "trafficworker", "dnsworker-requests", "dnsworker-responses"} {
		contains(t, n.ends(t, 64, command(role)), "only the parent starts this process")
		if out, status := n.run(t, command(role, "1")); status == 0 {
			t.Errorf("%s 1: status 0: %s", role, out)
		}
	}

	missing := filepath.Join(dir, "missing.toml")
	contains(t, n.ends(t, 78, command("-c", missing)), missing)
	contains(t, n.ends(t, 78, command("-c", dir)), dir)
	contains(t, n.ends(t, 78, command("-c", "")), "configuration")
	contains(t, n.ends(t, 78, command("-c", file("x.toml", "not toml at all\n", 0o644))), "x.toml")
	contains(t, n.ends(t, 78, command("-c", file("b.toml", "\x00\xff\xfe", 0o644))), "b.toml")
	contains(t, n.ends(t, 78, command("-c", file("k.toml", "colour = 1\n"+allowing("a").String(), 0o644))), "colour", "k.toml")
	secret := file("secret.toml", allowing("a").String(), 0o600)
	contains(t, n.ends(t, 78, as(ordinary, command("-c", secret))), secret, "permission denied")
	inCurrent := command("-t")
	inCurrent.Dir = dir
	contains(t, n.ends(t, 0, inCurrent), "egress-eddie.toml", "ok")

	contains(t, n.ends(t, 0, command("-t", "-c", good)), good, "ok", "resolvers")
	contains(t, n.ends(t, 0, as(ordinary, command("-t", "-c", good))), "ok")
	contains(t, n.ends(t, 78, command("-t", "-c", missing)), missing)
	contains(t, n.ends(t, 0, command("-version")), "egress-eddie ", runtime.Version())
	contains(t, n.ends(t, 0, command("-h")), "Usage: egress-eddie", "-log-format", "iptables")

	out := n.ends(t, 77, as(ordinary, command("-c", good)))
	contains(t, out, "CAP_NET_ADMIN", "setcap", "AmbientCapabilities")
	if queues := n.queues(t); len(queues) != 0 {
		t.Errorf("queues are left: %+v", queues)
	}
}

// Without CAP_NET_ADMIN even root is told so.
func TestRootWithoutCapability(t *testing.T) {
	t.Parallel()
	n := newNetns(t, "client")
	path := configFile(t, allowing("example.com").String())
	cmd := exec.Command("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", builtBinary, "-c", path)
	contains(t, n.ends(t, 77, cmd), "CAP_NET_ADMIN", "setcap")
}

// A queue that another program has.
func TestTakenQueue(t *testing.T) {
	t.Parallel()
	n := newNetns(t, "client")
	path := configFile(t, allowing("example.com").String())
	var nf *nfqueue.Nfqueue
	n.inside(t, func() (err error) {
		if nf, err = nfqueue.Open(&nfqueue.Config{NfQueue: uint16(trafficQueue(0, families[1])), Copymode: nfqueue.NfQnlCopyNone}); err != nil {
			return err
		}
		return nf.RegisterWithErrorFunc(t.Context(), func(nfqueue.Attribute) int { return 1 }, func(error) int { return 1 })
	})
	defer nf.Con.Close()
	start := time.Now()
	for _, cmd := range []*exec.Cmd{
		exec.Command(builtBinary, "-c", path),
		// Who may not read who has it says at least that somebody does.
		ambient(builtBinary, "-c", path),
	} {
		out := n.ends(t, 69, cmd)
		contains(t, out, fmt.Sprintf("queue %d is taken", trafficQueue(0, families[1])))
		if strings.Contains(out, "CAP_NET_ADMIN") {
			t.Errorf("it blames the capability: %s", out)
		}
	}
	if took := time.Since(start); took < 4*time.Second {
		t.Errorf("it gave up twice within %v", took)
	}
}

// ambient is a command as an ordinary user with the one capability, as a
// service manager starts it.
func ambient(args ...string) *exec.Cmd {
	return exec.Command("setpriv", append([]string{
		"--reuid", fmt.Sprint(ordinary), "--regid", fmt.Sprint(ordinary), "--clear-groups",
		"--inh-caps", "+net_admin", "--ambient-caps", "+net_admin", "--bounding-set", "-all,+net_admin"}, args...)...)
}

// However it comes by its capability, it filters, and is what it should be.
func TestStarters(t *testing.T) {
	t.Parallel()
	setcap := func(t *testing.T) string {
		path := filepath.Join(openDir(t), "egress-eddie")
		if err := copyFile(builtBinary, path); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("setcap", "cap_net_admin=ep", path).CombinedOutput(); err != nil {
			t.Fatalf("setcap: %v: %s", err, out)
		}
		return path
	}
	for what, command := range map[string]func(t *testing.T, args ...string) *exec.Cmd{
		"root": func(_ *testing.T, args ...string) *exec.Cmd { return exec.Command(builtBinary, args...) },
		"root as another user": func(_ *testing.T, args ...string) *exec.Cmd {
			return exec.Command(builtBinary, append(args, "-u", "61777")...)
		},
		"ambient capability": func(_ *testing.T, args ...string) *exec.Cmd {
			return ambient(append([]string{builtBinary}, args...)...)
		},
		"file capability": func(t *testing.T, args ...string) *exec.Cmd {
			cmd := exec.Command(setcap(t), args...)
			cmd.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: ordinary + 1, Gid: ordinary + 1}}
			return cmd
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := families[0]
			l := newLab(t)
			l.resolver(f.resolver, zone(map[string][]string{
				"example.com.": {fmt.Sprintf("example.com. 60 IN A %v", f.web(1))},
			}))
			path := configFile(t, allowing("example.com").String())
			l.daemon = startCommand(t, l.client, command(t, "-c", path, "-d", "-log-format", "json"))
			l.daemon.sees(t, "filtering", nil)
			l.rules(standardRules)
			l.isShut(t, f.web(2))
			l.resolves(t, f, "example.com", typeOf(f), f.web(1))
			l.reaches(t, f.web(1))
			l.isRefused(t, f, "denied.test", typeOf(f))
			checkCells(t, l.daemon.processes(t), 2)
		})
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// Ten filters, forty queues and more: it is up in a moment.
func TestManyFilters(t *testing.T) {
	t.Parallel()
	const filters = 10
	c := config{}
	for i := range filters {
		c.filters = append(c.filters, filter{allowed: []string{fmt.Sprintf("n%d.example", i), "shared.example"}})
	}
	l := newLab(t)
	start := time.Now()
	l.start(c)
	took := time.Since(start)
	t.Logf("%d filters in %v", filters, took)
	if took > 5*time.Second {
		t.Errorf("starting took %v", took)
	}
	if queues := l.client.queues(t); len(queues) != 2+4*filters {
		t.Errorf("%d queues", len(queues))
	}
	checkCells(t, l.daemon.processes(t), filters*2)
}

// TestRoleByHand: a role that somebody starts by hand refuses before it does
// anything. As root outside namespaces of its own it would put its empty root
// over everybody's; the test runs it where it could only harm the test.
func TestRoleByHand(t *testing.T) {
	n := newNetns(t, "client")
	for _, role := range ipc.AllChildren {
		script := fmt.Sprintf("exec 3</dev/null 4<&3 5<&3 6<&3 7<&3 8<&3 16<&3; %s %s 0; echo status $?; ls /proc/self/status", builtBinary, role)
		out := n.ends(t, 0, exec.Command("unshare", "--mount", "bash", "-c", script))
		contains(t, out, "only the parent starts this process", "status 64", "/proc/self/status")
	}
}

// TestStartedNice: the children come behind their parent whatever it was
// started with, and it starts with anything.
func TestStartedNice(t *testing.T) {
	t.Parallel()
	for given, want := range map[int]int{0: 5, 7: 12, 17: 19, 19: 19} {
		t.Run(fmt.Sprint(given), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.daemon = startDaemon(t, l.client, "/usr/bin/nice", "-n", fmt.Sprint(given), builtBinary,
				"-c", configFile(t, allowing("example.com").String()), "-log-format", "json")
			l.daemon.sees(t, "filtering", nil)
			p := l.daemon.processes(t)
			if got := niceness(t, p.parent); got != given {
				t.Errorf("the parent is at %d, not %d", got, given)
			}
			for role, pid := range p.children {
				if got := niceness(t, pid); got != want {
					t.Errorf("%s is at %d, not %d", role, got, want)
				}
			}
		})
	}
}

// TestMainThreadCarries: verdicts are carried on the parent's main thread, which
// alone can be put before others.
func TestMainThreadCarries(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	l.resolver(f.resolver, webZone(f))
	l.start(allowing("example.com"))
	l.rules(standardRules)
	const queries = 50
	before := switches(t, l.daemon.processes(t).parent)
	for range queries {
		l.resolves(t, f, "w1.example.com", typeOf(f), f.web(1))
	}
	if got := switches(t, l.daemon.processes(t).parent) - before; got < queries {
		t.Errorf("it waited %d times in %d queries", got, queries)
	}
}

// switches is how often a main thread has waited for something.
func switches(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func niceness(t *testing.T, pid int) int {
	t.Helper()
	n, err := unix.Getpriority(unix.PRIO_PROCESS, pid)
	if err != nil {
		t.Fatal(err)
	}
	return 20 - n // getpriority(2): the system call returns it so
}
