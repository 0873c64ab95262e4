package main_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

// forbidding are ways in which a host forbids namespaces, and what is said.
var forbidding = []struct{ dropIn, says string }{
	{"RestrictNamespaces=yes", "cannot start in namespaces of its own"},
	// As Ubuntu's AppArmor: there are namespaces, and no capability in them.
	{"SystemCallFilter=~mount\nSystemCallErrorNumber=EPERM", "no capabilities in namespaces of its own"},
}

// unitWithoutNamespaces: where user namespaces are forbidden the service does
// not start and says what to do; where its administrator has said that it may,
// it filters all the same, says so at the start, and no audit passes.
func unitWithoutNamespaces(t *testing.T, l *systemdLab) {
	defer l.must(t, "systemctl", "daemon-reload")
	defer l.must(t, "rm", dropInPath)
	for _, host := range forbidding {
		l.write(t, dropInPath, "[Service]\nRestart=no\n"+host.dropIn+"\n")
		l.must(t, "systemctl", "daemon-reload")
		l.refusesToStart(t, host.says)
		l.filtersUnisolated(t)
	}
}

func (l *systemdLab) refusesToStart(t *testing.T, says string) {
	t.Helper()
	c := allowing("example.com")
	c.onlyV4Queues = true
	l.write(t, configPath, c.String())
	l.must(t, "journalctl", "--rotate", "--vacuum-time=1ms")
	if _, status := l.run(t, nil, "systemctl", "restart", service); status == 0 {
		t.Error("it started")
	}
	if got := l.property(t, "ExecMainStatus"); got != fmt.Sprint(exit.Unavailable) {
		t.Errorf("exit status %s, want %d\n%s", got, exit.Unavailable, l.journal(t))
	}
	journal := l.journal(t)
	for _, want := range []string{says, "RestrictNamespaces= of the unit must have user mnt pid net ipc uts", `sandbox.userNamespaces = \"best-effort\"`} {
		if !strings.Contains(journal, want) {
			t.Errorf("the journal does not say %q:\n%s", want, journal)
		}
	}
	l.closed(t)
}

func (l *systemdLab) filtersUnisolated(t *testing.T) {
	t.Helper()
	c := allowing("example.com")
	c.onlyV4Queues = true
	l.write(t, configPath, "sandbox.userNamespaces = \"best-effort\"\n"+c.String())
	l.must(t, "systemctl", "restart", service)
	if journal := l.journal(t); !strings.Contains(journal, "NOT ISOLATED: user namespaces are forbidden here") {
		t.Errorf("the journal does not say so:\n%s", journal)
	}
	if processes := l.processes(t); len(processes) != 1+len(ipc.Children) {
		t.Errorf("its processes are %v", processes)
	}
	l.filters(t)
	out, status := l.run(t, nil, "/usr/bin/egress-eddie", "audit", l.property(t, "MainPID"))
	if status != exit.Software || strings.Count(out, " WRONG\n") != len(ipc.Children) ||
		strings.Count(out, "shares the namespaces of its parent") != len(ipc.Children) {
		t.Errorf("audit: status %d\n%s", status, out)
	}
	if status := l.must(t, "systemctl", "status", "--no-pager", service); strings.Count(status, sandbox.SharedWord) < len(ipc.Children) {
		t.Errorf("systemctl status does not show it:\n%s", status)
	}
	l.must(t, "systemctl", "stop", service)
}
