//go:build !race

package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// TestSharedCell: without namespaces every role still works, under a list that
// still kills.
func TestSharedCell(t *testing.T) {
	for _, s := range []start{startRoot, startAmbient} {
		for _, o := range runParent(t, s, parentPlan{Children: allRoles(buildShared, "honest"), In: Shared}).Outcomes {
			if !o.Ready || o.Result != "did its work" {
				t.Errorf("%s: %s", s, o)
			}
		}
		var plans []childPlan
		for _, act := range []string{"openat", "clone newuser", "mmap executable", "kill everybody", "tgkill another", "sendto on a queue"} {
			plans = append(plans, plan(ipc.RoleRequests, buildShared, act))
		}
		for _, o := range runParent(t, s, parentPlan{Children: plans, In: Shared, Lock: lockOpen}).Outcomes {
			if !o.Ready || o.Result != "SIGSYS" {
				t.Errorf("%s: should have died of SIGSYS: %s", s, o)
			}
		}
	}
}

// TestSharedCellUnderLoad: its list has another process id in it, by which the
// runtime signals its threads.
func TestSharedCellUnderLoad(t *testing.T) {
	t.Parallel()
	l := loadChild(plan(ipc.RoleTraffic, buildShared, "load"))
	if err := l.check(); err != nil {
		t.Error(err)
	}
}

// TestSharedCellAudited: an auditor calls each of them a deviation, and finds
// nothing else.
func TestSharedCellAudited(t *testing.T) {
	p := parentPlan{Children: allRoles(buildShared, "hang"), In: Shared}
	for i := range p.Children {
		p.Children[i].Leave = true
	}
	r := mustAudit(t, standing(t, startRoot, p))
	if r.OK || len(r.Processes) != 1+len(ipc.AllChildren) {
		t.Errorf("ok:\n%s", r.Text())
	}
	for _, row := range r.Processes[1:] {
		requireDeviations(t, &row, []string{"shares the namespaces of its parent"})
		if !slices.Contains(row.Limits, LimitSeen{"nproc", "192", "192"}) { // counted for all six together
			t.Errorf("%s: %+v", row.Role, row.Limits)
		}
	}
}

// TestListedThreads: one thread of many that has a capability is found.
func TestListedThreads(t *testing.T) {
	for act, want := range map[string]string{
		"list threads, one without": " still has {effective:4096 permitted:4096 inheritable:0}",
		"list threads, all without": "proven",
	} {
		if got := runParent(t, startRoot, parentPlan{Act: act, Lock: lockNone}).Result; !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q", act, got)
		}
	}
}

func init() {
	// The parent has a capability, which the first thread alone gives away, or
	// all do.
	listThreads := func(drop func() error) func(*parentPlan) func() string {
		return now(func() string {
			if err := firstError(drop(), proveListedThreads()); err != nil {
				return err.Error()
			}
			return "proven"
		})
	}
	parentActs["list threads, one without"] = listThreads(replacement("capset"))
	parentActs["list threads, all without"] = listThreads(func() error { return setCapabilities(0) })

	probe := func() string {
		forbidden, err := ProbeNamespaces(os.Getuid(), os.Getgid())
		if err != nil {
			return fmt.Sprintf("forbidden %t: %v", forbidden, err)
		}
		return "has them"
	}
	dumpable := func(before ...func() error) func() string {
		return func() string {
			if err := SetDumpable(true); err != nil {
				return err.Error()
			}
			for _, f := range before {
				if err := f(); err != nil {
					return err.Error()
				}
			}
			return probe()
		}
	}
	parentActs["probe"] = now(dumpable())
	// Threads it may make: the runtime can want one at any time.
	noProcesses := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetArgs},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_THREAD, Jt: 1},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	}
	// systemd's RestrictNamespaces and container runtimes refuse so.
	parentActs["probe without clone"] = now(dumpable(func() error { return loadRaw(noProcesses) }))
	// Ubuntu's AppArmor gives the namespace and no capability in it.
	parentActs["probe without mount"] = now(dumpable(func() error { return lose(unix.SYS_MOUNT) }))
	// A passing shortage of processes is none of these.
	parentActs["probe without processes"] = now(dumpable(func() error {
		return unix.Prlimit(0, unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 1, Max: 1}, nil)
	}))
}

// TestProbeNamespaces: what a child would be refused is known before.
func TestProbeNamespaces(t *testing.T) {
	for _, s := range []start{startRoot, startAmbient} {
		for act, want := range map[string]string{
			"probe":                   "has them",
			"probe without clone":     "forbidden true: a process in namespaces of its own: function not implemented",
			"probe without mount":     "forbidden true: no capabilities in namespaces of its own: wait status 0x",
			"probe without processes": "forbidden false: a process in namespaces of its own: resource temporarily unavailable",
		} {
			if got := runParent(t, s, parentPlan{Act: act, Lock: lockNone}).Result; !strings.HasPrefix(got, want) {
				t.Errorf("%s, %s: %q", s, act, got)
			}
		}
	}
}

// TestProbeByHand: nothing is mounted by a process that the parent has not put
// into a user namespace, were it the first of its pid namespace: in these
// mounts, which are the test's own, all stay shared.
func TestProbeByHand(t *testing.T) {
	if status := Probe(); status == 0 {
		t.Error("it would have changed the host's mounts")
	}
	const script = `mount --make-rshared / && "$0" "$@"; status=$?
grep -c ' shared:' /proc/self/mountinfo; exit $status`
	for what, args := range map[string][]string{
		"probe": {ProbeWord},
		"role":  {string(ipc.RoleAllowlist), "0", mustJSON(childPlan{Role: ipc.RoleAllowlist, Build: buildEnter, Act: "nothing"})},
	} {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, self}, args...)...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "only the parent starts this") && what == "role" {
			t.Errorf("%s: %v: %s", what, err, out)
		}
		lines := strings.Fields(string(out))
		if lines[len(lines)-1] == "0" {
			t.Errorf("%s: no mount is shared any more: %s", what, out)
		}
	}
}

// TestWhyForbidden looks at hosts that are not here, by their files.
func TestWhyForbidden(t *testing.T) {
	for _, c := range []struct {
		what  string
		files map[string]string
		by    string
		hint  string
	}{
		{"nothing visible", nil, "", "nothing that can be seen"},
		{"all allowed", map[string]string{"sys/user/max_user_namespaces": "63452\n", "sys/kernel/unprivileged_userns_clone": "1\n",
			"sys/kernel/apparmor_restrict_unprivileged_userns": "0\n"}, "", "nothing that can be seen"},
		{"none for anybody", map[string]string{"sys/user/max_user_namespaces": "0\n"}, "sysctl user.max_user_namespaces is 0", "raise it"},
		{"no networks", map[string]string{"sys/user/max_net_namespaces": "0\n"}, "sysctl user.max_net_namespaces is 0", "raise it"},
		{"Debian", map[string]string{"sys/kernel/unprivileged_userns_clone": "0\n"}, "sysctl kernel.unprivileged_userns_clone is 0", "kernel.unprivileged_userns_clone=1"},
		{"Ubuntu", map[string]string{"sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
			"sysctl kernel.apparmor_restrict_unprivileged_userns is 1", "/etc/apparmor.d"},
		{"its own filter", map[string]string{"self/status": "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"}, "", "in a chroot"},
		{"systemd", map[string]string{"self/status": "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t2\n"}, "possibly a system call filter of who started this", "RestrictNamespaces="},
		{"no kernel support", map[string]string{"self/ns/user": ""}, "the kernel has no user namespaces (CONFIG_USER_NS)", "use a kernel"},
	} {
		proc := t.TempDir()
		if err := os.MkdirAll(filepath.Join(proc, "self/ns"), 0o700); err != nil {
			t.Fatal(err)
		}
		files := map[string]string{"self/ns/user": "there"}
		for name, text := range c.files {
			files[name] = text
		}
		for name, text := range files {
			path := filepath.Join(proc, name)
			if text == "" {
				continue
			}
			if err := firstError(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		f := whyForbidden(proc, 1)
		if strings.Join(f.By, "; ") != c.by || !strings.Contains(f.Hint, c.hint) {
			t.Errorf("%s: %+v", c.what, f)
		}
	}
}
