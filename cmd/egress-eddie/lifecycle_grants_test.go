package main_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// TestGrantsWait: a trafficworker that is kept waiting, as a busy machine may
// do, costs no answer for a long time; when its edge is full the answers are
// dropped, with the reason, and when it goes on all that was answered is open.
func TestGrantsWait(t *testing.T) {
	f := families[0]
	l := newLab(t)
	l.resolver(f.resolver, func(q *query) {
		q.send(q.reply(fmt.Sprintf("%s 60 IN A %v", q.name(), f.web(1))))
	})
	l.start(allowing("example.com"))
	l.rules(standardRules)
	p := l.daemon.processes(t)
	if err := unix.Kill(p.children[ipc.RoleTraffic], unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	a := l.client.asker(t, f.client)
	answered := 0
	for dropped := false; !dropped; answered++ {
		if answered == ipc.MaxWaiting {
			t.Fatalf("%d answers, and no end of the room", answered)
		}
		asked := time.Now()
		a.send(f.dns(), question(fmt.Sprintf("n%d.example.com", answered), typeOf(f)))
		a.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		for _, err := a.conn.Read(make([]byte, 512)); err != nil; _, err = a.conn.Read(make([]byte, 512)) {
			// Late on a busy machine, or dropped: then the log says so.
			if dropped = l.daemon.find(eventResponse, fields{"verdict": "drop", "reason": "grant could not be handed over"}) != nil; dropped {
				break
			}
			if time.Since(asked) > patience {
				t.Fatalf("question %d: neither an answer nor a reason", answered)
			}
			a.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		}
	}
	// 278 are what the kernel's default has room for.
	if answered < 4*278 {
		t.Errorf("only %d answers until the edge was full", answered)
	}
	if err := unix.Kill(p.children[ipc.RoleTraffic], unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l.reaches(t, f.web(1))
	l.idle(t)
}
