package main

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// binDir holds the two programs as make demo builds them, and nothing that
// another test could leave behind.
var binDir string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "demo-test-")
	if err != nil {
		println(err.Error())
		return 1
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Chmod(dir, 0o755), build(dir, "egress-eddie"), build(dir, "demo")); err != nil {
		println("building:", err.Error())
		return 1
	}
	binDir = dir
	return m.Run()
}

func build(dir, name string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, name), "../"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.New(string(out))
	}
	return os.Chmod(filepath.Join(dir, name), 0o755)
}

// run runs the demo on a daemon to its end.
func run(t *testing.T, daemon string) (output string, status int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("run this as root: the demo makes network namespaces of its own")
	}
	cmd := exec.Command(filepath.Join(binDir, "demo"), daemon)
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	requireNothingLeft(t, time.Now())
	return string(out), cmd.ProcessState.ExitCode()
}

func realDaemon() string { return filepath.Join(binDir, "egress-eddie") }

// leftovers are the processes of either program. No namespace of the demo can
// live without one: they have no names.
func leftovers(t *testing.T) []string {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		if exe, err := os.Readlink(e); err == nil && strings.HasPrefix(exe, binDir+"/") {
			left = append(left, e+": "+exe)
		}
	}
	return left
}

func requireNothingLeft(t *testing.T, until time.Time) {
	t.Helper()
	left := leftovers(t)
	for len(left) > 0 && time.Now().Before(until) {
		time.Sleep(20 * time.Millisecond)
		left = leftovers(t)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// hostNetwork is what the demo must not touch.
func hostNetwork(t *testing.T) string {
	t.Helper()
	var all bytes.Buffer
	for _, command := range []string{
		"ip -o address", "ip -4 route show table all", "ip -6 route show table all", "iptables-save", "ip6tables-save",
	} {
		args := strings.Fields(command)
		out, err := exec.Command(systemProgram(args[0]), args[1:]...).Output()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		for line := range strings.Lines(string(out)) {
			if !strings.HasPrefix(line, "#") { // times and counts
				all.WriteString(line)
			}
		}
	}
	return regexp.MustCompile(`(valid|preferred)_lft \d+sec`).ReplaceAllString(all.String(), "")
}

func TestDemo(t *testing.T) {
	before := hostNetwork(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	out, status := run(t, realDaemon())
	if status != 0 {
		t.Fatalf("exit status %d:\n%s", status, out)
	}
	if after := hostNetwork(t); after != before {
		t.Errorf("the host's network was:\n%s\nand is:\n%s", before, after)
	}
	if files, err := os.ReadDir(tmp); err != nil || len(files) > 0 {
		t.Errorf("files left: %v, %v", files, err)
	}
	for _, want := range []string{
		` No rules: +18 of 18 visits get through; forged answers received: 1\.`,
		` Rules, no daemon: +0 of 18\. Closed by default\.`,
		`  example\.com +198\.51\.100\.10 +200 OK +accept +[0-9.]+`,
		`  aPi\.ExAmPlE\.cOm +198\.51\.100\.12 +200 OK +accept +[0-9.]+`,
		`  v6\.example\.com +2001:db8:80::10 +200 OK +accept +[0-9.]+`,
		`  xexample\.com +- +- +drop +name not allowed +[0-9.]+`,
		`  edge1\.cdn\.net +198\.51\.100\.30 +200 OK +accept +[0-9.]+`,
		`  \(not asked\) +2001:db8:bad::9 +timeout +drop +address not granted +[0-9.]+`,
		`  meta\.example\.com +169\.254\.169\.254 +timeout +drop +address not granted +[0-9.]+`,
		`  bank\.example\.com +\(forged\) +- +drop +no pending request +[0-9.]+`,
		`  mail\.example\.com +- +- +drop +resolver not trusted +[0-9.]+`,
		`  \(1\.1 s later\) +198\.51\.100\.50 +timeout +drop +address not granted +[0-9.]+`,
		` parent +\d+ +\d+ net_admin +yes +filter x\d+ none +\d+ +\d+`,
		` allowlist +\d+ +\d+ none +yes +filter x\d+ 6 of 6 +0 +\d+`,
		` trafficworker +\d+ +\d+ none +yes +filter x\d+ 6 of 6 +0 +\d+`,
		` dnsworker-requests +\d+ +\d+ none +yes +filter x\d+ 6 of 6 +0 +\d+`,
		` dnsworker-responses +\d+ +\d+ none +yes +filter x\d+ 6 of 6 +0 +\d+`,
		` \d+ packets judged, 0 left in the queues, 0 lost; filter open after \d+ ms\.`,
		` All 18 visits went as they should, in [0-9.]+ s\. Nothing is left behind\.`,
	} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(out) {
			t.Errorf("no line %s", want)
		}
	}
	for line := range strings.Lines(out) {
		if len(line) > 81 || strings.ContainsAny(line, "\x1b\t\r") {
			t.Errorf("wider than 80 or not plain: %q", line)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// wrongDaemon is a program that starts the real daemon in its own way.
func wrongDaemon(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// A daemon that lets more through than it should must not pass for a good one.
func TestDemoFindsADaemonThatIsTooKind(t *testing.T) {
	loose := filepath.Join(t.TempDir(), "loose.toml")
	text := strings.Replace(defaultConfig, `["example.com"]`, `["example.com", "evil.net"]`, 1)
	if err := os.WriteFile(loose, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, status := run(t, wrongDaemon(t, "exec "+realDaemon()+" -c "+loose+" -l stdout -log-format json -d"))
	for _, want := range []string{
		"NOT AS EXPECTED: question: expected drop (name not allowed), the log says accept",
		" FAILED: ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("not said: %s", want)
		}
	}
	if status != failed || t.Failed() {
		t.Errorf("exit status %d:\n%s", status, out)
	}
}

func TestDemoFindsADaemonThatDies(t *testing.T) {
	out, status := run(t, wrongDaemon(t, "echo no such luck >&2; exit 3"))
	for _, want := range []string{"the daemon says: no such luck", "the daemon: exit status 3"} {
		if !strings.Contains(out, want) {
			t.Errorf("not said: %s", want)
		}
	}
	if status != failed || t.Failed() {
		t.Errorf("exit status %d:\n%s", status, out)
	}
}

// The demo ends cleanly at Ctrl-C, and leaves nothing even when it is killed.
func TestDemoIsStoppedHalfWay(t *testing.T) {
	for _, tc := range []struct {
		signal syscall.Signal
		at     string
		status int
	}{
		{syscall.SIGINT, "No rules:", interrupted},
		{syscall.SIGINT, "xexample.com", interrupted},
		{syscall.SIGTERM, "xexample.com", interrupted},
		{syscall.SIGKILL, "xexample.com", -1},
	} {
		t.Run(tc.signal.String()+" at "+tc.at, func(t *testing.T) {
			cmd := exec.Command(filepath.Join(binDir, "demo"), realDaemon())
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stdout)
			for lines.Scan() && !strings.Contains(lines.Text(), tc.at) {
			}
			if tc.at == "xexample.com" && len(leftovers(t)) < 8 {
				t.Errorf("not all was running: %q", leftovers(t))
			}
			if err := cmd.Process.Signal(tc.signal); err != nil {
				t.Error(err)
			}
			for lines.Scan() {
			}
			var exited *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exited) || exited.ExitCode() != tc.status {
				t.Errorf("ended with %v, want %d", err, tc.status)
			}
			limit := time.Now()
			if tc.signal == syscall.SIGKILL {
				limit = limit.Add(5 * time.Second)
			}
			requireNothingLeft(t, limit)
		})
	}
}

func TestDemoSaysWhatItNeeds(t *testing.T) {
	private := filepath.Join(t.TempDir(), "private")
	if err := os.WriteFile(private, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		uid    uint32
		args   []string
		status int
		want   string
	}{
		{"not root", 65534, []string{realDaemon()}, 77, "sudo make demo"},
		{"no daemon named", 0, nil, 64, "usage: demo"},
		{"no such daemon", 0, []string{"/nonexistent"}, 64, "make build"},
		{"daemon for root only", 0, []string{private}, 77, "chmod 755 " + private},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.Command(filepath.Join(binDir, "demo"), tc.args...)
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: tc.uid, Gid: tc.uid}}
			out, err := cmd.CombinedOutput()
			var exited *exec.ExitError
			if !errors.As(err, &exited) || errors.Is(err, fs.ErrPermission) {
				t.Fatalf("%v: %s", err, out)
			}
			if exited.ExitCode() != tc.status || !strings.Contains(string(out), tc.want) {
				t.Errorf("status %d, want %d: %s", exited.ExitCode(), tc.status, out)
			}
		})
	}
}
