package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// service is the unit, and where its processes are found in the lab.
const (
	service      = "egress-eddie.service"
	serviceGroup = "/sys/fs/cgroup/system.slice/" + service + "/cgroup.procs"
	unitPath     = "/usr/lib/systemd/system/" + service
	configPath   = "/etc/egress-eddie/egress-eddie.toml"
	dropInPath   = "/run/systemd/system/" + service + ".d/test.conf"
)

// systemdLab is a real systemd in namespaces of its own (testdata/systemd-lab),
// with the unit, the binary and a DNS server installed.
type systemdLab struct {
	pid int
}

func newSystemdLab(t *testing.T) *systemdLab {
	t.Helper()
	unit, err := filepath.Abs("systemd")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("testdata/systemd-lab", "-b", unit+":/lab/unit", "-b", filepath.Dir(builtBinary)+":/lab/bin")
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := cmd.Start(); err1 != nil || err2 != nil || err != nil {
		t.Fatalf("systemd-lab: %v, %v, %v", err1, err2, err)
	}
	t.Cleanup(func() {
		stdin.Close() // takes the lab down, also when this process is killed
		if err := cmd.Wait(); err != nil {
			t.Errorf("systemd-lab: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	pid, convErr := strconv.Atoi(text)
	if err != nil || !ok || convErr != nil {
		t.Fatalf("systemd-lab said %q: %v", line, err)
	}
	l := &systemdLab{pid: pid}
	l.must(t, "cp", "/lab/bin/egress-eddie", "/usr/bin/egress-eddie")
	l.must(t, "cp", "/lab/unit/"+service, unitPath)
	l.must(t, "mkdir", "-p", filepath.Dir(configPath), filepath.Dir(dropInPath))
	// Somebody must want it, or systemd forgets it as soon as it has stopped.
	l.must(t, "systemctl", "--quiet", "add-wants", "lab.target", service)
	return l
}

// run runs a command in the lab.
func (l *systemdLab) run(t *testing.T, input io.Reader, command ...string) (output string, status int) {
	t.Helper()
	cmd := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(l.pid), "-a", "--"}, command...)...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &out
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.WaitDelay = time.Second // a daemon may keep the pipe
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	return out.String(), cmd.ProcessState.ExitCode()
}

func (l *systemdLab) must(t *testing.T, command ...string) string {
	t.Helper()
	out, status := l.run(t, nil, command...)
	if status != 0 {
		t.Fatalf("%v: status %d\n%s", command, status, out)
	}
	return out
}

// write writes a file in the lab, for everybody to read.
func (l *systemdLab) write(t *testing.T, path, text string) {
	t.Helper()
	if out, status := l.run(t, strings.NewReader(text), "dd", "status=none", "of="+path); status != 0 {
		t.Fatalf("%s: %s", path, out)
	}
}

// property is one of the service (systemctl show).
func (l *systemdLab) property(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(l.must(t, "systemctl", "show", "-P", name, service))
}

// becomes waits for a state that must come.
func (l *systemdLab) becomes(t *testing.T, state string) {
	t.Helper()
	got := ""
	if !eventually(func() bool { got = l.property(t, "ActiveState"); return got == state }) {
		t.Fatalf("the service is %s, should be %s\n%s", got, state, l.journal(t))
	}
}

func (l *systemdLab) journal(t *testing.T) string {
	t.Helper()
	return l.must(t, "journalctl", "--no-pager", "-o", "cat", "-u", service)
}

// processes are the numbers of the service's processes in the lab, none when
// it has no control group.
func (l *systemdLab) processes(t *testing.T) []string {
	t.Helper()
	out, status := l.run(t, nil, "cat", serviceGroup)
	if status != 0 {
		return nil
	}
	return strings.Fields(out)
}

// gone requires that none of these runs any more.
func (l *systemdLab) gone(t *testing.T, processes []string) {
	t.Helper()
	for _, pid := range processes {
		if _, status := l.run(t, nil, "test", "-e", "/proc/"+pid); status == 0 {
			t.Errorf("process %s of the service is left", pid)
		}
	}
}

// queueModes are the copy modes of the queues that are bound: 0 for one that
// is closed still, 2 for one that is open.
func (l *systemdLab) queueModes(t *testing.T) (modes []string) {
	t.Helper()
	for line := range strings.Lines(l.must(t, "cat", "/proc/net/netfilter/nfnetlink_queue")) {
		modes = append(modes, strings.Fields(line)[3])
	}
	return modes
}

// network gives the lab a resolver on loopback that knows two names, the
// addresses that it tells, and the rules.
func (l *systemdLab) network(t *testing.T) {
	t.Helper()
	l.must(t, "ip", "addr", "add", "198.51.100.1/32", "dev", "lo")
	l.must(t, "dnsmasq", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=",
		"--log-facility=/dev/null", "--listen-address=127.0.0.1", "--bind-interfaces",
		"--address=/example.com/198.51.100.1", "--address=/not.allowed.test/198.51.100.1")
	f := families[0]
	for _, rule := range standardRules(f) {
		l.must(t, append([]string{"iptables"}, strings.Fields(rule)...)...)
	}
}

// resolves asks the lab's resolver.
func (l *systemdLab) resolves(t *testing.T, name string) bool {
	t.Helper()
	out, status := l.run(t, nil, "dig", "+tries=1", "+time=1", "+short", "@127.0.0.1", name, "A")
	switch {
	case status == 0 && strings.TrimSpace(out) == "198.51.100.1":
		return true
	case status == 9: // no reply from server (dig(1))
		return false
	}
	t.Fatalf("dig %s: status %d: %s", name, status, out)
	return false
}

// reaches tries the address. Nobody listens there, so that whoever reaches it
// is refused.
func (l *systemdLab) reaches(t *testing.T) bool {
	t.Helper()
	out, status := l.run(t, nil, "curl", "-q", "-sS", "--connect-timeout", "0.3", "http://198.51.100.1/")
	switch status {
	case 7: // CURLE_COULDNT_CONNECT
		return true
	case 28: // CURLE_OPERATION_TIMEDOUT
		return false
	}
	t.Fatalf("curl: status %d: %s", status, out)
	return false
}
