package main_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// maxExposureAsking is maxExposure with the drop-in for the daemon's own
// questions: the two families cost 0.27, localhost 0.04.
const maxExposureAsking = 2.3

const lookupsDropIn = "/etc/systemd/system/" + service + ".d/lookups.conf"

// unitAsks: with the drop-in that is shipped for it the service asks questions
// of its own, of the servers in /etc/resolv.conf, and is audited with its fifth
// child; without, it says what is missing. It starts by itself as soon as what
// is missing is there, as at boot.
func unitAsks(t *testing.T, l *systemdLab) {
	c := config{self: true, onlyV4Queues: true, filters: []filter{{cached: []string{"example.com"}}}}
	l.write(t, configPath, c.String())
	l.write(t, "/etc/resolv.conf", "# before the network\n")
	f := families[0]
	for _, rule := range askingRules(f)[:2] {
		l.must(t, append([]string{"iptables"}, strings.Fields(strings.Replace(rule, "-A OUTPUT", "-I OUTPUT", 1))...)...)
	}
	if _, status := l.run(t, nil, "systemctl", "start", service); status == 0 {
		t.Error("it started without its drop-in, where /etc/resolv.conf is not to be seen")
	}
	if journal := l.journal(t); !strings.Contains(journal, "/etc/resolv.conf cannot be read") {
		t.Errorf("the journal does not say why:\n%s", journal)
	}

	l.must(t, "mkdir", "-p", filepath.Dir(lookupsDropIn))
	l.must(t, "cp", "/lab/unit/lookups.conf", lookupsDropIn)
	l.must(t, "systemctl", "daemon-reload")
	if out := l.must(t, "systemd-analyze", "verify", unitPath); out != "" {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
	if !eventually(func() bool {
		return strings.Contains(l.journal(t), "/etc/resolv.conf names no server that can be asked")
	}) {
		t.Errorf("it is not tried again:\n%s", l.journal(t))
	}
	l.write(t, "/etc/resolv.conf", "nameserver 127.0.0.1\n")
	l.becomes(t, "active")
	if !eventually(func() bool { return l.reaches(t) }) {
		t.Errorf("the address of the cached name is shut:\n%s", l.journal(t))
	}
	if processes := l.processes(t); len(processes) != 1+len(ipc.AllChildren) {
		t.Errorf("its processes are %v", processes)
	}
	out, status := l.run(t, nil, "egress-eddie", "audit")
	if status != 0 || strings.Count(out, " ok\n") != 1+len(ipc.AllChildren) {
		t.Errorf("audit: status %d:\n%s", status, out)
	}
	out = l.must(t, "systemd-analyze", "security", "--no-pager", service)
	found := exposure.FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no level in\n%s", out)
	}
	if level, err := strconv.ParseFloat(found[1], 64); err != nil || level > maxExposureAsking {
		t.Errorf("exposure %s, at most %v allowed\n%s", found[1], maxExposureAsking, out)
	}
	t.Logf("exposure %s", found[1])
	if got, want := l.property(t, "TasksMax"), fmt.Sprint(33*len(ipc.AllChildren)+64); got != want {
		t.Errorf("TasksMax is %s, want %s", got, want)
	}
	l.must(t, "systemctl", "stop", service)
}
