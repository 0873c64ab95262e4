package main_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// The holder killed, in the middle of a flood that gives all processes work: the
// tree ends in time, says who died and how, and nothing is let through that was
// sent after it.
func TestKilledHolder(t *testing.T) {
	const role = ipc.RoleAllowlist
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			l := opened(t, f)
			tr := l.flood(t, f, f.web(1), f.web(2))
			l.questions(t, f, "example.com", "not.allowed.test")
			tr.flows(t)
			l.daemon.expectExit(70)
			p := l.daemon.processes(t)
			victim := p.children[role]
			dead := kill(t, victim)
			l.daemon.stopped(t, p, 70)
			ended := time.Now()
			t.Logf("ended %v after the death", ended.Sub(dead))
			tr.closed(t, ended) // until then the trafficworker may have judged
			line := l.daemon.sees(t, "stopped", fields{"@level": "error", "status": 70})
			if want := fmt.Sprintf("%s (pid %d) died: signal SIGKILL", role, victim); line.text("error") != want {
				t.Errorf("the log says %q, not %q", line.text("error"), want)
			}
			if out := l.daemon.output(); !strings.Contains(out, "\negress-eddie: "+string(role)) {
				t.Errorf("standard error does not say which role died")
			}
		})
	}
}

// kill kills a process and returns when it was dead.
func kill(t *testing.T, pid int) time.Time {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for running(pid) {
		time.Sleep(100 * time.Microsecond)
	}
	return time.Now()
}

// The parent killed: no child outlives it for long, and nothing passes.
func TestKilledParent(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			l := opened(t, f)
			tr := l.flood(t, f, f.web(1), f.web(2))
			l.questions(t, f, "example.com", "not.allowed.test")
			tr.flows(t)
			l.daemon.expectExit(-1)
			p := l.daemon.processes(t)
			if err := unix.Kill(p.parent, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			for running(p.parent) {
				time.Sleep(100 * time.Microsecond)
			}
			dead := time.Now()
			p.goneWithin(t, orphansFor)
			t.Logf("the children were gone %v after the parent", time.Since(dead))
			tr.closed(t, dead)
			if queues := l.client.queues(t); len(queues) != 0 {
				t.Errorf("queues are left: %+v", queues)
			}
			l.daemon.wait(t, patience)
		})
	}
}

// A child that is stopped, and could not take note of anything, goes too.
func TestKilledParentOfStoppedChildren(t *testing.T) {
	l := openedAsking(t, families[0])
	l.daemon.expectExit(-1)
	p := l.daemon.processes(t)
	for _, role := range ipc.AllChildren {
		if err := unix.Kill(p.children[role], unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Kill(p.parent, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.goneWithin(t, orphansFor)
	l.daemon.wait(t, patience)
}

// held waits until so many packets wait in a queue.
func (l *lab) held(t *testing.T, number, count int) {
	t.Helper()
	if !eventually(func() bool {
		for _, q := range l.client.queues(t) {
			if q.number == number && q.waiting >= count {
				return true
			}
		}
		return false
	}) {
		t.Fatalf("no %d packets wait in queue %d: %+v", count, number, l.client.queues(t))
	}
}
