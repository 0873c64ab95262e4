package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// modules are the processes that have written lines to a log file, and how
// many lines there are. Every line must be whole.
func modules(t *testing.T, path string) (who map[string]int, lines int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	who = map[string]int{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		var m logLine
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s: %q: %v", path, line, err)
		}
		who[m.text("@module")]++
		lines++
	}
	return who, lines
}

// SIGUSR1: after the file was renamed, all three processes that hold a log
// write to the new one.
func TestLogReopened(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	l.resolver(f.resolver, func(q *query) { q.send(q.reply(fmt.Sprintf("%s 60 IN A %v", q.name(), f.web(1)))) })
	dir := openDir(t)
	if err := os.Chown(dir, 61778, 61778); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	l.daemon = startCommand(t, l.client, exec.Command(builtBinary, "-u", "61778", "-l", path, "-d",
		"-c", configFile(t, allowing("example.com").String())))
	if !eventually(func() bool { text, _ := os.ReadFile(path); return strings.Contains(string(text), `"filtering"`) }) {
		t.Fatal("it does not come up")
	}
	l.rules(standardRules)
	// Every call is about another name and address: repeats are only counted.
	everybody := func(path string, i int) bool {
		l.resolves(t, f, fmt.Sprintf("n%d.example.com", i), typeOf(f), f.web(1))
		l.client.curl(t, 0, f.web(i), 0.1)
		return eventually(func() bool {
			who, _ := modules(t, path)
			return who["parent"] > 0 && who["allowlist"] > 0 && who["trafficworker"] > 0
		})
	}
	if !everybody(path, 2) {
		who, _ := modules(t, path)
		t.Errorf("before: %v", who)
	}
	for i := range 3 {
		old := fmt.Sprintf("%s.%d", path, i)
		if err := os.Rename(path, old); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(l.daemon.cmd.Process.Pid, unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if !eventually(func() bool {
			text, _ := os.ReadFile(path)
			return strings.Contains(string(text), "log file opened again")
		}) {
			t.Fatalf("the log was not opened again: %s", l.daemon.output())
		}
		if !everybody(path, 3+i) {
			who, _ := modules(t, path)
			t.Errorf("round %d: in the new file are lines of %v", i, who)
		}
		_, before := modules(t, old)
		everybody(path, 10+i)
		if _, after := modules(t, old); after != before {
			t.Errorf("round %d: the old file still grows, from %d lines to %d", i, before, after)
		}
	}
	checkCells(t, l.daemon.processes(t), 2) // what was received in between is closed again
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("everybody may read the log: %v, %v", info.Mode(), err)
	}
}

// A log that cannot be opened again is reported, and the old one kept.
func TestLogNotReopened(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	dir := openDir(t) // root's: the daemon, which is not root, cannot create files
	path := filepath.Join(dir, "log")
	l.daemon = startCommand(t, l.client, exec.Command(builtBinary, "-l", path, "-c", configFile(t, allowing("example.com").String())))
	read := func(path, part string) bool {
		return eventually(func() bool { text, _ := os.ReadFile(path); return strings.Contains(string(text), part) })
	}
	if !read(path, `"filtering"`) {
		t.Fatal("it does not come up")
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(l.daemon.cmd.Process.Pid, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if !read(path+".1", "could not be opened again, the old one is kept") {
		t.Error("nobody says so in the old file")
	}
	l.daemon.processes(t)
}

// A log that nobody reads, or that cannot be written, costs lines and nothing
// else: verdicts go on, and the end is the ordinary one, in time.
func TestBlockedLog(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	unread, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Close()
	defer pipe.Close()
	if _, err := unix.FcntlInt(pipe.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	gone, broken, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	gone.Close()
	for what, file := range map[string]*os.File{"full disk": full, "pipe that nobody reads": pipe, "pipe without a reader": broken} {
		t.Run(what, func(t *testing.T) {
			f := families[0]
			l := newLab(t)
			l.resolver(f.resolver, zone(map[string][]string{
				"example.com.": {fmt.Sprintf("example.com. 60 IN A %v", f.web(1))},
			}))
			cmd := exec.Command(builtBinary, "-d", "-f", "-c", configFile(t, allowing("example.com").String()))
			cmd.Stdout, cmd.Stderr = file, file
			l.daemon = startCommand(t, l.client, cmd)
			if !eventually(func() bool { return len(l.client.queues(t)) == 6 && l.client.queues(t)[0].mode == 2 }) {
				t.Fatal("it does not come up")
			}
			l.rules(standardRules)
			l.resolves(t, f, "example.com", typeOf(f), f.web(1))
			// Thousands of lines of accepted traffic, of denied, of questions.
			tr := l.flood(t, f, f.web(1), f.web(2))
			asker := l.client.asker(t, f.client)
			for i := range 3000 {
				asker.send(f.dns(), question(fmt.Sprintf("n%d.denied.test", i), typeOf(f)))
			}
			tr.flows(t)
			time.Sleep(300 * time.Millisecond)
			l.resolves(t, f, "example.com", typeOf(f), f.web(1))
			if got, want := l.client.curl(t, 0, f.web(1), patience.Seconds()), fmt.Sprintf("here %v:80\n", f.web(1)); got != want {
				t.Errorf("curl said %q", got)
			}
			l.idleAfter(t, tr)
			if file == pipe {
				fill(t, pipe)
			}
			p := l.daemon.processes(t)
			l.daemon.expectExit(0)
			asked := time.Now()
			if err := unix.Kill(p.parent, unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			l.daemon.stopped(t, p, 0)
			t.Logf("ended after %v", time.Since(asked))
		})
	}
}

// A death with a log and a standard error that nobody reads ends the tree too.
func TestDeathWithBlockedLog(t *testing.T) {
	unread, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Close()
	defer pipe.Close()
	n := newNetns(t, "client")
	cmd := exec.Command(builtBinary, "-c", configFile(t, allowing("example.com").String()))
	cmd.Stdout, cmd.Stderr = pipe, pipe
	d := startCommand(t, n, cmd)
	if !eventually(func() bool { queues := n.queues(t); return len(queues) == 6 && queues[0].mode == 2 }) {
		t.Fatal("it does not come up")
	}
	p := d.processes(t)
	fill(t, pipe)
	if err := unix.Kill(p.children[ipc.RoleTraffic], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool {
		now, err := d.tryProcesses()
		return err == nil && now.children[ipc.RoleTraffic] != p.children[ipc.RoleTraffic]
	}) {
		t.Fatal("the trafficworker is not started again")
	}
	d.expectExit(70)
	if err := unix.Kill(p.children[ipc.RoleAllowlist], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.stopped(t, p, 70)
}

// fill fills a pipe up.
func fill(t *testing.T, pipe *os.File) {
	t.Helper()
	fd := int(pipe.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for size := 4096; size > 0; {
		if _, err := unix.Write(fd, make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

// idleAfter ends a flood and requires that nothing waits.
func (l *lab) idleAfter(t *testing.T, tr *traffic) {
	t.Helper()
	tr.end()
	l.idle(t)
}
