package main_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

// keepFiles: what was left open to the tests is no business of the daemon's,
// which keeps what it inherits.
func keepFiles(t *testing.T) {
	t.Helper()
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		t.Fatal(err)
	}
}

// TestAudit: the running tree is what its profiles say, and looking at it
// does not change what it does.
func TestAudit(t *testing.T) {
	t.Parallel()
	keepFiles(t)
	l := openedAsking(t, families[0])
	p := l.daemon.processes(t)
	out, status := l.client.run(t, exec.Command(builtBinary, "audit", fmt.Sprint(p.parent)))
	if status != 0 || strings.Count(out, " ok\n") != 1+len(ipc.AllChildren) {
		t.Errorf("status %d:\n%s", status, out)
	}
	for line := range strings.Lines(out) {
		if len(line) > 81 {
			t.Errorf("%q is wider than a screen", line)
		}
	}
	var r sandbox.Report
	out, status = l.client.run(t, exec.Command(builtBinary, "audit", fmt.Sprint(p.parent), "-json"))
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 || !r.OK || !r.SameBinary || len(r.Processes) != 1+len(ipc.AllChildren) {
		t.Fatalf("status %d, %v: %s", status, err, out)
	}
	for i, pid := range p.all() {
		if r.Processes[i].PID != pid {
			t.Errorf("row %d is process %d, should be %d", i, r.Processes[i].PID, pid)
		}
	}
	for _, c := range []struct {
		uid    uint32
		pid    int
		status int
		says   string
	}{
		{0, p.children[ipc.RoleAllowlist], exit.Unavailable, "is not the parent of a running tree"},
		{4711, p.parent, exit.NoPerm, "run it as root"},
	} {
		out, status := l.client.run(t, as(c.uid, exec.Command(builtBinary, "audit", fmt.Sprint(c.pid))))
		if status != c.status || !strings.Contains(out, c.says) {
			t.Errorf("process %d as %d: status %d: %s", c.pid, c.uid, status, out)
		}
	}
	l.reaches(t, families[0].web(1))
}

// TestAuditFindsTree: without a process id it finds the tree by itself, where
// there is one: in a pid namespace there is nobody else's.
func TestAuditFindsTree(t *testing.T) {
	t.Parallel()
	keepFiles(t)
	n := newNetns(t, "audited")
	const script = `"$0" audit; test $? = 69 || exit 1
"$0" -c "$1" -l stderr 2>/dev/null & parent=$!
for try in $(seq 100); do
	out=$("$0" audit 2>&1); status=$?
	test $status = 0 && break
	sleep 0.02
done
echo "$out"
kill $parent; wait $parent; exit $status`
	out, status := n.run(t, exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-c", script, builtBinary, configFile(t, allowing("example.com").String())))
	if status != 0 || !strings.Contains(out, "no tree is running") || strings.Count(out, " ok\n") != 1+len(ipc.Children) {
		t.Errorf("status %d:\n%s", status, out)
	}
}
