//go:build !race

package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// standingTree starts a parent with all children in their cells, of which one
// is built as said, and leaves them there.
func standingTree(t *testing.T, s start, build string, lock locking) (parent int) {
	t.Helper()
	p := parentPlan{Children: allRoles(buildEnter, "hang"), Lock: lock, Flawed: flaws[build].unheard}
	for i := range p.Children {
		p.Children[i].Leave = true
		if p.Children[i].Role == roleOf(build) {
			p.Children[i].Build = build
		}
	}
	return standing(t, s, p)
}

func standing(t *testing.T, s start, p parentPlan) (parent int) {
	t.Helper()
	cmd := parentCommand(s, p)
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
	if _, err := bufio.NewReader(stdout).ReadBytes('\n'); err != nil {
		t.Fatalf("%s: %v: %s", s, err, stderr.String())
	}
	return cmd.Process.Pid
}

func mustAudit(t *testing.T, parent int) *Report {
	t.Helper()
	r, err := Audit(parent)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(r.Text(), "\n") {
		if len(line) > columns {
			t.Errorf("%d columns: %q", len(line), line)
		}
	}
	return r
}

// TestAudit: a tree of real cells is as it should be, whoever started it.
func TestAudit(t *testing.T) {
	for _, s := range []start{startRoot, startAmbient} {
		parent := standingTree(t, s, buildEnter, lockFirst)
		r := mustAudit(t, parent)
		if !r.OK || len(r.Processes) != 1+len(ipc.AllChildren) || !r.SameBinary || r.LandlockABI < landlockFloor {
			t.Errorf("%s:\n%s", s, r.Text())
		}
		for i, row := range r.Processes {
			if want := append([]ipc.Role{ipc.RoleParent}, ipc.AllChildren...)[i]; row.Role != want || !strings.Contains(r.Text(), "\n"+string(want)+" ") {
				t.Errorf("row %d is %s, should be %s", i, row.Role, want)
			}
			if len(row.Threads) < 2 || len(row.Namespaces) != len(namespaceTable) || len(row.Descriptors) < 5 || len(row.Limits) != len(limitNames) {
				t.Errorf("%+v", row)
			}
		}
	}
}

// flawsFound are the deviations that a cell can have, as they are told.
var flawsFound = map[string][]string{
	"flaw: no filter":              {`number of filters is "1", should be "2", on `},
	"flaw: filter on one thread":   {`number of filters is "1", should be "2", on `},
	"flaw: shared net":             {"shares its net namespace with parent"},
	"flaw: shared ipc and uts":     {"shares its ipc namespace with parent", "shares its uts namespace with parent"},
	"flaw: not behind":             {"niceness is 0, should be at least 5"},
	"flaw: capabilities":           {`permitted capabilities is "0000000000200100"`, `effective capabilities is "0000000000200100"`, `inheritable capabilities is "0000000000200100"`},
	"flaw: inheritable":            {`inheritable capabilities is "0000000000000100", should be "0000000000000000", on `},
	"flaw: capabilities on others": {`permitted capabilities is "0000000000200100"`, `effective capabilities is "0000000000200100"`, `inheritable capabilities is "0000000000200100"`},
	"flaw: bounding set":           {`bounding capabilities is "`},
	"flaw: mapped as root":         {`has the uid map "0 `, `has the gid map "0 `, "is dumpable"},
	"flaw: limit":                  {"limit nproc is 31 (hard 31), should be 32"},
	"flaw: soft limit":             {"limit data is 419430400 (hard 536870912), should be 536870912"},
	"flaw: no_new_privs on a few":  {`no_new_privs is "0", should be "1", on `, `number of filters is "1", should be "2", on `},
	"flaw: dumpable":               {"is dumpable"},
	"flaw: root":                   {"has a root with "},
	"flaw: one descriptor more":    {`descriptor 10 is open, a socket ("socket:[`},
	"flaw: one descriptor less":    {"descriptor 5 is missing"},
	"flaw: another kind":           {"descriptor 17 is a eventfd, should be a socket"},
	"flaw: no poller, but an edge": {"descriptor 9 is a socket, should be a eventpoll"},
	"flaw: no socket":              {"descriptor 17 is a eventfd, should be a socket"},
	"flaw: an epoll that landed":   {"descriptor 4 is a eventpoll, should be a socket"},
	"flaw: before the sockets":     {`descriptor 15 is open, a socket ("socket:[`},
	"flaw: behind the sockets":     {`descriptor 144 is open, a socket ("socket:[`},
	"flaw: no lookups":             {"descriptor 11 is missing"},
}

// TestAuditFinds every deviation that a cell can have, and nothing else.
func TestAuditFinds(t *testing.T) {
	for build, want := range flawsFound {
		t.Run(build, func(t *testing.T) {
			t.Parallel()
			r := mustAudit(t, standingTree(t, startRoot, build, flaws[build].lock()))
			if r.OK {
				t.Fatalf("ok:\n%s", r.Text())
			}
			for _, row := range r.Processes {
				if row.Role != roleOf(build) {
					if len(row.Deviations) > 0 {
						t.Errorf("%s: %q", row.Role, row.Deviations)
					}
					continue
				}
				requireDeviations(t, &row, want)
			}
		})
	}
}

// TestAuditSockets: a resolver may have any of its sockets, or none.
func TestAuditSockets(t *testing.T) {
	for build, text := range map[string]string{buildEnter: "socket 3,11  ", buildSockets: "socket 3-4,11,16-19,143  "} {
		r := mustAudit(t, standingTree(t, startRoot, build, lockFirst))
		row := &r.Processes[len(r.Processes)-1]
		if !r.OK || row.Role != ipc.RoleResolver || !slices.Contains(row.descriptorText(), text) {
			t.Errorf("%s: should have %q:\n%s", build, text, r.Text())
		}
	}
}

func requireDeviations(t *testing.T, row *Row, want []string) {
	t.Helper()
	left := slices.Clone(row.Deviations)
	for _, w := range want {
		i := slices.IndexFunc(left, func(d string) bool { return strings.HasPrefix(d, w) })
		if i < 0 {
			t.Errorf("%q is not found: %q", w, row.Deviations)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		t.Errorf("found besides: %q", left)
	}
}

// TestAuditOrder: children that were started before their parent locked itself are
// not under its list, and that is found.
func TestAuditOrder(t *testing.T) {
	r := mustAudit(t, standingTree(t, startRoot, buildEnter, lockLast))
	if r.OK || len(r.Processes) != 1+len(ipc.AllChildren) || len(r.Processes[0].Deviations) > 0 {
		t.Errorf("it is found:\n%s", r.Text())
	}
	for _, row := range r.Processes[1:] {
		requireDeviations(t, &row, []string{`number of filters is "1", should be "2", on `})
	}
}

// TestAuditParent: a parent that is not locked, and trees that are not whole.
func TestAuditParent(t *testing.T) {
	r := mustAudit(t, standingTree(t, startRoot, buildEnter, lockNone))
	if r.OK || len(r.Processes[0].Deviations) != 1 || !strings.HasPrefix(r.Processes[0].Deviations[0], `seccomp mode is "0"`) {
		t.Errorf("not locked:\n%s", r.Text())
	}
	// The four that are always there, and no resolver.
	p := parentPlan{Children: allRoles(buildEnter, "hang")[:len(ipc.Children)]}
	for i := range p.Children {
		p.Children[i].Leave = true
	}
	if r = mustAudit(t, standing(t, startRoot, p)); !r.OK || len(r.Processes) != 1+len(ipc.Children) {
		t.Errorf("without a resolver:\n%s", r.Text())
	}
	resolver := plan(ipc.RoleResolver, buildEnter, "hang")
	p.Children = append(p.Children[:3], p.Children[2], resolver, resolver)
	for i := range p.Children {
		p.Children[i].Leave = true
	}
	r = mustAudit(t, standing(t, startRoot, p))
	requireDeviations(t, &r.Processes[0], []string{"has 2 children that are dnsworker-requests", "has 0 children that are dnsworker-responses", "has 2 children that are resolver"})
	if r.OK {
		t.Error("a tree without a process is ok")
	}
}

// TestAuditParentFiles: which files a parent may hold.
func TestAuditParentFiles(t *testing.T) {
	file := func(number int, target string, flags int) Descriptor {
		return Descriptor{Number: number, Kind: kindOf(target), Target: target, flags: flags}
	}
	output := file(1, "/dev/pts/0", unix.O_RDWR)
	for _, c := range []struct {
		d  Descriptor
		ok bool
	}{
		{file(9, "/var/log/egress-eddie", unix.O_WRONLY|unix.O_APPEND|unix.O_NONBLOCK), true},
		{file(9, "/var/log/egress-eddie", unix.O_WRONLY), false},
		{file(9, "/var/log/egress-eddie", unix.O_RDWR|unix.O_APPEND), false},
		{file(9, "/dev/pts/0", unix.O_RDWR), true},
		{file(9, "/dev/pts/1", unix.O_RDWR), false},
		{file(9, "/dev/kmsg", unix.O_RDONLY), true},
		{file(9, "/dev/kmsg", unix.O_RDWR), false},
		{file(9, "/proc/7/net/netfilter/nfnetlink_queue", unix.O_RDONLY), true},
		{file(9, "/etc/shadow", unix.O_RDONLY), false},
		{file(9, "/", unix.O_RDONLY|unix.O_DIRECTORY), false},
		{file(9, "anon_inode:[io_uring]", unix.O_RDWR), false},
		{file(9, "anon_inode:bpf-map", unix.O_RDWR), false},
		{file(9, "anon_inode:[pidfd]", unix.O_RDWR), true},
		{file(9, "socket:[4711]", unix.O_RDWR), true},
	} {
		set := fmt.Sprintf("%016x", netAdmin)
		row := Row{
			Role: ipc.RoleParent, Descriptors: []Descriptor{output, c.d},
			Threads: []Thread{{UID: "1", Inheritable: none, Permitted: set, Effective: set, Ambient: none, NoNewPrivs: "1", Seccomp: "2", Filters: "1"}},
		}
		if row.judgeParent(); len(row.Deviations) == 0 != c.ok {
			t.Errorf("%+v: %q", c.d, row.Deviations)
		}
	}
}

// TestAuditRefuses: what is no tree, and who may not look.
func TestAuditRefuses(t *testing.T) {
	parent := standingTree(t, startRoot, buildEnter, lockFirst)
	for pid, code := range map[int]int{unix.Getpid(): exit.Unavailable, 1 << 30: exit.Unavailable, 1: exit.Unavailable} {
		if r, err := Audit(pid); exit.Code(err) != code || r != nil {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	standingTree(t, startRoot, buildEnter, lockFirst)
	if _, err := Audit(0); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), strconv.Itoa(parent)) {
		t.Errorf("two trees: %v", err)
	}
	cmd := exec.Command("/proc/self/exe", asAuditor, strconv.Itoa(parent))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testUID, Gid: testUID}}
	if out, err := cmd.CombinedOutput(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != exit.NoPerm || !strings.Contains(string(out), "run it as root") {
		t.Errorf("as another user: %v: %s", err, out)
	}
}

// TestAuditJSON: JSON has every thread.
func TestAuditJSON(t *testing.T) {
	r := mustAudit(t, standingTree(t, startRoot, buildEnter, lockFirst))
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil || back.Text() != r.Text() || !back.OK {
		t.Errorf("%v: %s", err, text)
	}
	for i, row := range back.Processes {
		if !slices.Equal(row.Threads, r.Processes[i].Threads) || !slices.Equal(row.Limits, r.Processes[i].Limits) {
			t.Errorf("%+v is not %+v", row, r.Processes[i])
		}
	}
}
