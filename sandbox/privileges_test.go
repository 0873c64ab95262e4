//go:build !race

package sandbox

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

const onlyNetAdmin = "CapInh=0000000000000000 CapPrm=0000000000001000 CapEff=0000000000001000 "

const nothingBack = "setuid EPERM, setgid EPERM, setgroups EPERM, shadow true, setcap EPERM, dumpable 0"

func TestDropFromRoot(t *testing.T) {
	for _, user := range []string{"", "61777"} {
		cmd := parentCommand(startRoot, parentPlan{User: user, Act: "privileges", Lock: lockNone})
		cmd.SysProcAttr.Credential = &syscall.Credential{Groups: []uint32{4, 27}}
		// A descriptor as a careless shell leaves it.
		cmd.ExtraFiles = []*os.File{os.Stdin}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		var r parentReport
		if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if user == "" && (r.UID < firstDynamic || r.UID > lastDynamic) || user != "" && strconv.Itoa(r.UID) != user || r.GID != r.UID {
			t.Errorf("user %q became %d, %d", user, r.UID, r.GID)
		}
		ids := strings.Repeat(strconv.Itoa(r.UID)+",", 4)
		ids = ids[:len(ids)-1]
		want := "Uid=" + ids + " Gid=" + ids + " Groups= " + onlyNetAdmin +
			"CapBnd=0000000000000000 CapAmb=0000000000000000 NoNewPrivs=1 " + nothingBack + ", fd3 1"
		if r.Result != want {
			t.Errorf("user %q:\n%s\nshould be:\n%s", user, r.Result, want)
		}
	}
}

func TestDropWithAmbient(t *testing.T) {
	r := runParent(t, startAmbient, parentPlan{Act: "privileges", Lock: lockNone})
	bounding := r.Result[strings.Index(r.Result, "CapBnd"):strings.Index(r.Result, "CapAmb")]
	want := "Uid=61999,61999,61999,61999 Gid=61999,61999,61999,61999 Groups= " + onlyNetAdmin + bounding +
		"CapAmb=0000000000000000 NoNewPrivs=1 " + nothingBack
	if !strings.HasPrefix(r.Result, want) || r.UID != testUID || r.GID != testUID {
		t.Errorf("%s\nshould be:\n%s", r.Result, want)
	}
}

func TestDropRefuses(t *testing.T) {
	for _, c := range []struct {
		s            start
		user, status string
		fault        string
	}{
		{startBare, "", "exit 77", "the capability CAP_NET_ADMIN is missing"},
		{startBare, "", "exit 77", "setcap cap_net_admin+ep"},
		{startBare, "", "exit 77", "AmbientCapabilities=CAP_NET_ADMIN"},
		{startRoot, "nobody", "exit 64", "neither root nor nobody"},
		{startRoot, "0", "exit 64", "neither root nor nobody"},
		{startRoot, "no-such-account", "exit 64", "no such account"},
		{startAmbient, "61998", "exit 64", "only root can become"},
	} {
		status, stderr := failParent(t, parentCommand(c.s, parentPlan{User: c.user}))
		if status != c.status || !strings.Contains(stderr, c.fault) {
			t.Errorf("%s as %q: %s, %s", c.s, c.user, status, stderr)
		}
	}
}

// TestDropWithoutSetpcap: a root that has been given too little.
func TestDropWithoutSetpcap(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", `exec setpriv --bounding-set=-setpcap "$@"`, "sh",
		"/proc/"+strconv.Itoa(os.Getpid())+"/exe", asParent, mustJSON(parentPlan{}))
	status, stderr := failParent(t, cmd)
	if status != "exit 77" || !strings.HasPrefix(stderr, "bounding set: capability 0: operation not permitted") {
		t.Errorf("%s: %s", status, stderr)
	}
}

// TestFileCapabilities starts a program with a capability of its own under an
// ordinary uid. It starts not dumpable, and must build cells all the same.
func TestFileCapabilities(t *testing.T) {
	dir, err := os.MkdirTemp("", "egress-eddie-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // others must pass
		t.Fatal(err)
	}
	path := filepath.Join(dir, "eddie")
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	// struct vfs_cap_data, revision 2, effective (capabilities(7)).
	if err := unix.Setxattr(path, "security.capability", fileCapability(unix.CAP_NET_ADMIN), 0); err != nil {
		t.Fatal(err)
	}
	command := func(p parentPlan) *exec.Cmd {
		cmd := exec.Command(path, asParent, mustJSON(p))
		cmd.Env = []string{}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testUID, Gid: testUID}}
		return cmd
	}
	for act, want := range map[string]string{"": "", "start again": startedAgain} {
		r, err := tryParent(command(parentPlan{Children: allRoles(buildEnter, "honest"), Act: act}))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range r.Outcomes {
			if o.Result != "did its work" {
				t.Error(o)
			}
		}
		if len(r.Outcomes) != len(ipc.AllChildren) || r.Result != want {
			t.Errorf("%d children, %s", len(r.Outcomes), r.Result)
		}
	}
	if r, err := tryParent(command(parentPlan{Act: "privileges", Lock: lockNone})); err != nil || !strings.Contains(r.Result, onlyNetAdmin) || !strings.Contains(r.Result, nothingBack) {
		t.Errorf("%s, %v", r.Result, err)
	}
	// The runtime's secure mode would hide this.
	cmd := command(parentPlan{Act: "panic"})
	if status, stderr := failParent(t, cmd); status != "exit 2" || !strings.Contains(stderr, "panic: boom\n\ngoroutine ") {
		t.Errorf("panic: %s: %s", status, stderr)
	}
}

func fileCapability(c uint) []byte {
	b := make([]byte, 20)
	binary.LittleEndian.PutUint32(b, 0x02000001)
	binary.LittleEndian.PutUint32(b[4:], 1<<c)
	return b
}
