package main_test

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// The orderly end, in the middle of a flood.
func TestStop(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT} {
		for _, f := range families {
			t.Run(fmt.Sprint(unix.SignalName(sig), " ", f.name), func(t *testing.T) {
				l := opened(t, f)
				tr := l.flood(t, f, f.web(1), f.web(2))
				l.questions(t, f, "example.com", "not.allowed.test")
				tr.flows(t)
				p := l.daemon.processes(t)
				l.daemon.expectExit(0)
				if err := unix.Kill(p.parent, sig); err != nil {
					t.Fatal(err)
				}
				asked := time.Now()
				l.daemon.stopped(t, p, 0)
				ended := time.Now()
				t.Logf("ended after %v", ended.Sub(asked))
				tr.closed(t, ended)
				l.daemon.sees(t, "stopped", fields{"@level": "info"})
				// The children wrote what they had still folded.
				if l.daemon.find("dns request: and", nil) == nil {
					found := false
					for _, line := range l.daemon.log() {
						found = found || line.text("repeats") != ""
					}
					if !found {
						t.Error("no counts of repeats at the end of the log")
					}
				}
			})
		}
	}
}

// Packets that wait when the end comes are dropped; a child that does not
// answer, because it is stopped, does not delay the end beyond its time.
func TestStopWithPacketsWaiting(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			l := opened(t, f)
			p := l.daemon.processes(t)
			if err := unix.Kill(p.children[ipc.RoleTraffic], unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			stopped := time.Now()
			tr := l.flood(t, f, f.web(1), f.web(2))
			l.held(t, trafficQueue(0, f), 100)
			l.daemon.expectExit(0)
			if err := unix.Kill(p.parent, unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			l.daemon.stopped(t, p, 0)
			tr.closed(t, stopped)
		})
	}
}

// A signal while the tree starts ends it at whatever point it is.
func TestStopWhileStarting(t *testing.T) {
	n := newNetns(t, "client")
	path := configFile(t, allowing("example.com").String())
	for i := range 16 {
		cmd := exec.Command(builtBinary, "-c", path, "-log-format", "json")
		d := startCommand(t, n, cmd)
		time.Sleep(time.Duration(i) * 8 * time.Millisecond)
		if err := unix.Kill(cmd.Process.Pid, unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if !d.wait(t, endsWithin) {
			t.Fatalf("signal after %d ms: it runs on", i*8)
		}
		if d.status != 0 && d.status != -1 { // -1: before it listened to signals
			t.Errorf("signal after %d ms: status %d\n%s", i*8, d.status, d.output())
		}
		d.expectExit(d.status)
		if queues := n.queues(t); len(queues) != 0 {
			t.Errorf("signal after %d ms: queues are left: %+v", i*8, queues)
		}
	}
}

// SIGHUP, which a closed terminal sends too and which asks for a reload, and
// SIGPIPE end nothing.
func TestHarmlessSignals(t *testing.T) {
	f := families[0]
	l := opened(t, f)
	l.daemon.error = notReloaded // the file is readable by root alone
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGPIPE, unix.SIGUSR1, unix.SIGWINCH, unix.SIGURG} {
		if err := unix.Kill(l.daemon.cmd.Process.Pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	l.reaches(t, f.web(1))
	l.resolves(t, f, "example.com", typeOf(f), f.web(1))
	l.daemon.processes(t)
}

// TestEverybodySignalled: whoever ends a service signals all its processes.
// That is an orderly end whatever order the signals come in, and a child alone
// does not take one for its own.
func TestEverybodySignalled(t *testing.T) {
	f := families[0]
	l := openedAsking(t, f)
	p := l.daemon.processes(t)
	for _, pid := range p.children {
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
			if err := unix.Kill(pid, sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.reaches(t, f.web(1))
	l.daemon.expectExit(0)
	if err := unix.Kill(p.parent, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	l.daemon.stopped(t, p, 0)
}
