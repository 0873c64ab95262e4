//go:build !race

package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// leave starts a parent with one child that hangs in its cell.
func leave(t *testing.T, s start, role ipc.Role) (parent *exec.Cmd, child int) {
	t.Helper()
	hang := plan(role, buildEnter, "hang")
	hang.Leave = true
	cmd := parentCommand(s, parentPlan{Children: []childPlan{hang}})
	stdin, err1 := cmd.StdinPipe() // stays open: the parent waits for its end
	stdout, err2 := cmd.StdoutPipe()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := firstError(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	var r parentReport
	if err := firstError(err, json.Unmarshal(line, &r)); err != nil {
		t.Fatalf("%s: %v: %s", s, err, stderr.String())
	}
	return cmd, r.Outcomes[0].PID
}

// TestParentDeath kills a parent and requires that its child dies of it: the
// child reads nothing, so no closed socket can have told it.
func TestParentDeath(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	for _, s := range []start{startRoot, startAmbient} {
		parent, child := leave(t, s, ipc.RoleTraffic)
		if err := firstError(unix.Kill(child, 0), parent.Process.Kill()); err != nil {
			t.Fatal(err)
		}
		if err := parent.Wait(); err == nil {
			t.Error("the parent ended well")
		}
		status := waitFor(child, 2*time.Second)
		if !status.Signaled() || status.Signal() != unix.SIGKILL {
			t.Errorf("%s: child: status %#x, should have been killed", s, status)
			_ = unix.Kill(child, unix.SIGKILL)
		}
	}
}

// TestCellFromOutside looks at a complete cell as root can: every thread, the
// namespaces, the root, the descriptors.
func TestCellFromOutside(t *testing.T) {
	for _, role := range ipc.AllChildren {
		_, child := leave(t, startRoot, role)
		proc := "/proc/" + strconv.Itoa(child)
		threads, err := os.ReadDir(proc + "/task")
		if err != nil || len(threads) < 2 {
			t.Fatalf("%d threads, %v", len(threads), err)
		}
		for _, thread := range threads {
			status, err := readStatus(proc + "/task/" + thread.Name() + "/status")
			if err != nil {
				t.Fatal(err)
			}
			for field, want := range map[string]string{
				"Seccomp": "2", "NoNewPrivs": "1", "CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
			} {
				if status[field] != want {
					t.Errorf("%s, thread %s: %s is %q", role, thread.Name(), field, status[field])
				}
			}
		}
		for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts"} {
			theirs, err1 := os.Readlink(proc + "/ns/" + ns)
			ours, err2 := os.Readlink("/proc/self/ns/" + ns)
			if err := firstError(err1, err2); err != nil || theirs == ours {
				t.Errorf("%s: %s namespace %s, ours %s, %v", role, ns, theirs, ours, err)
			}
		}
		if root, err := os.ReadDir(proc + "/root/"); err != nil || len(root) != 0 {
			t.Errorf("%s: root %v, %v", role, root, err)
		}
		if mounts, err := os.ReadFile(proc + "/mounts"); err != nil || strings.Count(string(mounts), "\n") != 1 || !strings.HasPrefix(string(mounts), "tmpfs / tmpfs ro,nosuid,nodev,noexec,") {
			t.Errorf("%s: mounts %q, %v", role, mounts, err)
		}
		checkDescriptors(t, role, proc)
	}
}

const none = "0000000000000000"

func checkDescriptors(t *testing.T, role ipc.Role, proc string) {
	t.Helper()
	want := map[ipc.Role]string{
		ipc.RoleAllowlist: "0 1 10 11 2 3 4 5 6 7 8",
		ipc.RoleTraffic:   "0 1 10 16 17 18 2 3 4 7 8",
		ipc.RoleRequests:  "0 1 16 17 18 2 3 5",
		ipc.RoleResponses: "0 1 16 17 18 2 3 6",
		ipc.RoleResolver:  "0 1 11 2 3",
	}[role]
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, fd := range fds {
		names = append(names, fd.Name())
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("%s: descriptors %s, should be %s", role, got, want)
	}
	for fd, kind := range map[int]string{fdRuntimePoll: "anon_inode:[eventpoll]", fdRuntimeEvent: "anon_inode:[eventfd]"} {
		if link, err := os.Readlink(proc + "/fd/" + strconv.Itoa(fd)); err != nil || link != kind {
			t.Errorf("%s: descriptor %d is %s, %v", role, fd, link, err)
		}
	}
}

// waitFor is the status of a process that ends in time, else that of none.
func waitFor(pid int, limit time.Duration) (status unix.WaitStatus) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil); got == pid || err != nil {
			return status
		}
	}
	return 0
}
