package main_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// maxExposure is what `systemd-analyze security` may give the unit, 0 to 10.
// Version 252 comes to 1.96. Of that the host's network costs 0.44, user
// namespaces 0.27, the other five 0.37, CAP_NET_ADMIN 0.18 and as an ambient one
// 0.09, no PrivateUsers 0.18, mount and its like 0.16, capset and pivot_root
// 0.11, the clock's device that ProtectClock lets be read 0.09,
// netlink 0.04, no RootDirectory 0.04.
const maxExposure = 2.0

// TestSystemd runs the shipped unit under a real systemd, from the first look
// at it to a parent that is killed.
func TestSystemd(t *testing.T) {
	l := newSystemdLab(t)
	l.network(t)
	for _, step := range []struct {
		name string
		test func(*testing.T, *systemdLab)
	}{
		{"verify", unitVerifies},
		{"order", unitMakesNoCycle},
		{"security", unitIsHardened},
		{"bad configuration", unitNeedsAPerson},
		{"ready", unitIsReady},
		{"lab", unitPullsNothingIn},
		{"files", unitSeesNoFiles},
		{"audit", unitPassesAudit},
		{"ahead", unitIsAhead},
		{"filters", unitFilters},
		{"reload", unitReloads},
		{"stop", unitStops},
		{"signal to all", unitStopsBySignal},
		{"child killed", unitChildKilled},
		{"journal", unitTellsTheJournal},
		{"parent killed", unitParentKilled},
		{"parent hangs", unitParentHangs},
		{"namespaces forbidden", unitWithoutNamespaces},
		{"asks itself", unitAsks},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.test(t, l) }) {
			t.Fatalf("the journal:\n%s", l.journal(t))
		}
	}
}

// What the default dependencies pull in must be the lab's own, or tests would
// do to the machine what is done at its boot.
func unitPullsNothingIn(t *testing.T, l *systemdLab) {
	// What has run and ended is seen in the journal only.
	for line := range strings.Lines(l.must(t, "journalctl", "--no-pager", "-o", "cat", "_PID=1")) {
		if strings.HasPrefix(line, "Finished ") || strings.HasPrefix(line, "Mounted ") {
			t.Errorf("the lab has run %s", line)
		}
	}
	out := l.must(t, "systemctl", "list-units", "--plain", "--no-legend", "--no-pager", "--state=active,failed,activating")
	for line := range strings.Lines(out) {
		unit := strings.Fields(line)[0]
		switch {
		case unit == "init.scope" || unit == service || strings.HasPrefix(unit, "systemd-journald"):
		case strings.HasSuffix(unit, ".target") || strings.HasSuffix(unit, ".slice"): // do nothing themselves
		case strings.HasSuffix(unit, ".mount") && !strings.HasPrefix(unit, "sys-"): // the lab's, before systemd
		default:
			t.Errorf("the lab runs %s", line)
		}
	}
}

func unitVerifies(t *testing.T, l *systemdLab) {
	if out := l.must(t, "systemd-analyze", "verify", unitPath); out != "" {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
}

// earlyNetwork is ordered as cloud-init is, which brings the network up before
// the system's initialization is done.
const earlyNetwork = `[Unit]
DefaultDependencies=no
After=network-pre.target
Wants=network-pre.target
Before=network-online.target sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/true
`

// A cycle at boot would be broken by leaving out one of the units in it.
func unitMakesNoCycle(t *testing.T, l *systemdLab) {
	const path, target = "/run/systemd/system/early-network.service", "/run/systemd/system/boot.target"
	l.write(t, path, earlyNetwork)
	l.write(t, target, "[Unit]\nRequires=basic.target network.target network-online.target nss-lookup.target "+
		"early-network.service "+service+"\n")
	out, _ := l.run(t, nil, "systemd-analyze", "verify", target)
	if strings.Contains(out, "cycle") {
		t.Error(out)
	}
	l.must(t, "rm", path, target)
}

// The running service is what its profiles say.
func unitPassesAudit(t *testing.T, l *systemdLab) {
	out, status := l.run(t, nil, "egress-eddie", "audit")
	if status != 0 || strings.Count(out, " ok\n") != 1+len(ipc.Children) {
		t.Errorf("status %d:\n%s", status, out)
	}
}

var exposure = regexp.MustCompile(`Overall exposure level for egress-eddie.service: ([0-9.]+)`)

func unitIsHardened(t *testing.T, l *systemdLab) {
	out := l.must(t, "systemd-analyze", "security", "--no-pager", service)
	found := exposure.FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no level in\n%s", out)
	}
	level, err := strconv.ParseFloat(found[1], 64)
	if err != nil || level > maxExposure {
		t.Errorf("exposure %s, at most %v allowed\n%s", found[1], maxExposure, out)
	}
	t.Logf("exposure %s", found[1])
	for name, want := range map[string]string{
		"RestrictNamespaces":      "uts ipc pid user net mnt", // what a cell is made of, and no other
		"CapabilityBoundingSet":   "cap_net_admin",
		"AmbientCapabilities":     "cap_net_admin",
		"RestrictAddressFamilies": "AF_NETLINK",
		"TasksMax":                fmt.Sprint(33*len(ipc.Children) + 64),
	} {
		got := strings.Fields(l.property(t, name))
		if wanted := strings.Fields(want); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(wanted))) {
			t.Errorf("%s is %s, want %s", name, got, wanted)
		}
	}
}

// The thread that carries verdicts comes before the children and before its own
// process's other threads, which nobody had to be allowed to make so.
func unitIsAhead(t *testing.T, l *systemdLab) {
	for _, pid := range l.processes(t) {
		for _, line := range strings.Split(strings.TrimSpace(l.must(t, "ps", "-L", "-o", "pid=,tid=,ni=,cls=", "-p", pid)), "\n") {
			f := strings.Fields(line)
			want := "0"
			if pid == l.property(t, "MainPID") && f[0] == f[1] {
				want = "-5"
			}
			if len(f) != 4 || f[2] != want || f[3] != "TS" {
				t.Errorf("%q: should be at %s", line, want)
			}
		}
	}
}

// What only a person can put right is not tried again.
func unitNeedsAPerson(t *testing.T, l *systemdLab) {
	refused := func(what string) {
		t.Helper()
		if _, status := l.run(t, nil, "systemctl", "start", service); status == 0 {
			t.Errorf("it started with %s", what)
		}
		l.becomes(t, "failed")
		if got := l.property(t, "ExecMainStatus"); got != fmt.Sprint(exit.Config) {
			t.Errorf("%s: exit status %s, want %d", what, got, exit.Config)
		}
		if got := l.property(t, "NRestarts"); got != "0" {
			t.Errorf("%s: restarted %s times", what, got)
		}
	}
	l.must(t, "rmdir", filepath.Dir(configPath))
	refused("no directory of a configuration")
	l.must(t, "mkdir", filepath.Dir(configPath))
	l.write(t, configPath, "nonsense = 1\n")
	refused("a faulty configuration")
}

// A configuration so large that one can watch: as long as not everything
// stands the service is not active, and when it is, every queue is open.
func unitIsReady(t *testing.T, l *systemdLab) {
	names := []string{"example.com"}
	for i := range 200_000 {
		names = append(names, fmt.Sprintf("name-%d.example", i))
	}
	c := allowing(names...)
	c.onlyV4Queues = true
	l.write(t, configPath, c.String())
	l.must(t, "systemctl", "start", "--no-block", service)
	watched := 0
	active := eventually(func() bool {
		state := l.property(t, "ActiveState") // NB: before the queues
		modes, processes := l.queueModes(t), l.processes(t)
		if state != "active" {
			if len(modes) == 3 && len(processes) == 1+len(ipc.Children) && modes[0] == "0" {
				watched++
			}
			return false
		}
		if !slices.Equal(modes, []string{"2", "2", "2"}) {
			t.Errorf("active while the queues are in modes %v", modes)
		}
		return true
	})
	if !active {
		t.Fatalf("the service is %s", l.property(t, "ActiveState"))
	}
	if watched == 0 {
		t.Error("was never seen with all processes and its queues closed: nothing is shown")
	}
	if got := l.property(t, "StatusText"); got != "filtering" {
		t.Errorf("its status is %q", got)
	}
	if got := l.property(t, "WatchdogUSec"); got != "10s" {
		t.Errorf("as shipped, WatchdogSec is %s", got)
	}
	status := l.must(t, "systemctl", "status", "--no-pager", service)
	for _, role := range ipc.Children {
		if !strings.Contains(status, "egress-eddie "+string(role)) {
			t.Errorf("systemctl status does not show %s:\n%s", role, status)
		}
	}
	if processes := l.processes(t); len(processes) != 1+len(ipc.Children) {
		t.Errorf("its processes are %v", processes)
	}
}

func unitFilters(t *testing.T, l *systemdLab) {
	l.filters(t)
}

// A reload changes what is allowed, in the running processes; a faulty file
// changes nothing, and systemd shows that.
func unitReloads(t *testing.T, l *systemdLab) {
	pid := l.property(t, "MainPID")
	c := allowing("not.allowed.test")
	c.onlyV4Queues = true
	for _, step := range []struct{ text, status string }{
		{"nonsense = 1\n", "filtering by the old configuration: the new one was refused, see the log"},
		{c.String(), "filtering"},
	} {
		l.write(t, configPath, step.text)
		l.must(t, "systemctl", "reload", service)
		if !eventually(func() bool {
			return l.property(t, "StatusText") == step.status && l.property(t, "ActiveState") == "active"
		}) {
			t.Fatalf("it is %s and says %q, not %q", l.property(t, "ActiveState"), l.property(t, "StatusText"), step.status)
		}
		if l.reaches(t) != (step.status != "filtering") {
			t.Errorf("%q: the address of the name that was allowed is reached, or not", step.status)
		}
	}
	if l.resolves(t, "example.com") {
		t.Error("a name resolves that was taken away")
	}
	if !l.resolves(t, "not.allowed.test") || !l.reaches(t) {
		t.Error("a name that was added does not resolve, or is not reached")
	}
	if got := l.property(t, "MainPID"); got != pid || l.property(t, "NRestarts") != "0" {
		t.Errorf("the parent was %s and is %s", pid, got)
	}
	if !strings.Contains(l.journal(t), `unknown key \"nonsense\"`) {
		t.Error("the journal does not say what is wrong with the file")
	}
}

// filters requires that the service filters, and knows nothing yet.
func (l *systemdLab) filters(t *testing.T) {
	t.Helper()
	if l.reaches(t) {
		t.Error("an address is reached that nobody granted")
	}
	if l.resolves(t, "not.allowed.test") {
		t.Error("a name resolves that is not allowed")
	}
	if !l.resolves(t, "example.com") {
		t.Fatal("an allowed name does not resolve")
	}
	if !l.reaches(t) {
		t.Error("the address of an allowed name is not reached")
	}
}

// closed requires that nothing passes, not even what did before.
func (l *systemdLab) closed(t *testing.T) {
	t.Helper()
	// A process is gone from its control group when its last thread begins to
	// end; that thread closes the queues only then.
	if !eventually(func() bool { return len(l.queueModes(t)) == 0 }) {
		t.Errorf("queues stay bound: %v", l.queueModes(t))
	}
	if l.reaches(t) {
		t.Error("an address is reached while nobody filters")
	}
}

// ended requires an orderly end.
func (l *systemdLab) ended(t *testing.T, processes []string) {
	t.Helper()
	l.becomes(t, "inactive")
	// ExecMainCode 1 is CLD_EXITED, and shows that systemd still knows.
	for name, want := range map[string]string{"Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0", "NRestarts": "0"} {
		if got := l.property(t, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	l.gone(t, processes)
	l.closed(t)
}

// startSmall starts the service with a short configuration and returns its
// processes, the parent first.
func (l *systemdLab) startSmall(t *testing.T) []string {
	t.Helper()
	c := allowing("example.com")
	c.onlyV4Queues = true
	l.write(t, configPath, c.String())
	l.must(t, "systemctl", "restart", service)
	processes := l.processes(t)
	if len(processes) != 1+len(ipc.Children) || processes[0] != l.property(t, "MainPID") {
		t.Fatalf("its processes are %v", processes)
	}
	return processes
}

func unitStops(t *testing.T, l *systemdLab) {
	processes := l.startSmall(t)
	l.must(t, "systemctl", "stop", service)
	l.ended(t, processes)
}

func unitStopsBySignal(t *testing.T, l *systemdLab) {
	processes := l.startSmall(t)
	l.must(t, "systemctl", "kill", "--kill-whom=all", "--signal=TERM", service)
	l.ended(t, processes)
}

// A parser or the trafficworker that dies is no affair of the service manager's,
// and the allowlist is.
func unitChildKilled(t *testing.T, l *systemdLab) {
	processes := l.startSmall(t)
	for _, role := range ipc.Children[1:] {
		l.must(t, "pkill", "-KILL", "-f", "^egress-eddie "+string(role))
	}
	if !eventually(func() bool { return strings.Count(l.journal(t), `"started again"`) >= len(ipc.Children)-1 }) {
		t.Fatalf("not all are started again:\n%s", l.journal(t))
	}
	if got := l.property(t, "NRestarts"); got != "0" {
		t.Errorf("the service was restarted %s times", got)
	}
	l.filters(t)
	unitPassesAudit(t, l)
	unitIsAhead(t, l)
	now := l.processes(t)
	l.must(t, "kill", "-KILL", processes[1])
	l.restarts(t, now, "1")
}

// restarts waits until a new tree filters, and requires that nothing is left
// of the old one.
func (l *systemdLab) restarts(t *testing.T, old []string, times string) {
	t.Helper()
	if !eventually(func() bool {
		return l.property(t, "NRestarts") == times && l.property(t, "ActiveState") == "active"
	}) {
		t.Fatalf("restarted %s times, want %s; it is %s", l.property(t, "NRestarts"), times, l.property(t, "ActiveState"))
	}
	l.gone(t, old)
	l.filters(t)
}

func unitParentKilled(t *testing.T, l *systemdLab) {
	processes := l.startSmall(t)
	l.filters(t)
	l.must(t, "kill", "-KILL", processes[0])
	// Whatever lives on ends with it, long before the restart after a second.
	if !eventually(func() bool { return len(l.processes(t)) == 0 }) {
		t.Fatalf("left of the service: %v", l.processes(t))
	}
	l.closed(t)
	if got := l.property(t, "SubState"); got != "auto-restart" {
		t.Errorf("the service is %s: the restart came too early to see anything", got)
	}
	l.restarts(t, processes, "1")
}

// Signs of life keep the service running beyond WatchdogSec; a parent that
// gives none is replaced.
func unitParentHangs(t *testing.T, l *systemdLab) {
	l.write(t, dropInPath, "[Service]\nWatchdogSec=1s\n")
	l.must(t, "systemctl", "daemon-reload")
	processes := l.startSmall(t)
	time.Sleep(2500 * time.Millisecond) // there is nothing else to wait for
	if got := l.property(t, "MainPID"); got != processes[0] || l.property(t, "NRestarts") != "0" {
		t.Fatalf("the parent was %s and is %s, with nothing wrong", processes[0], got)
	}
	l.must(t, "kill", "-STOP", processes[0])
	l.restarts(t, processes, "1")
	if journal := l.journal(t); !strings.Contains(journal, "Watchdog timeout") {
		t.Error("it was not the watchdog")
	}
}
