package main_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// TestGrantsWait: a trafficworker that is kept waiting, as a busy machine may
// do, costs no answer in the second and a half that it may be silent, and when it
// goes on all that was answered is open. (A full edge: TestOwnedTrafficDeaf.)
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
	// 278 are what the kernel's default has room for.
	for began := time.Now(); answered < 4*278 && time.Since(began) < time.Second; answered++ {
		a.ask(f.dns(), fmt.Sprintf("n%d.example.com", answered), typeOf(f))
	}
	if err := unix.Kill(p.children[ipc.RoleTraffic], unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if answered <= 278 {
		t.Errorf("only %d answers in a second: it shows nothing", answered)
	}
	l.reaches(t, f.web(1))
	l.idle(t)
}
