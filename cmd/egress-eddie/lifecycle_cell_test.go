package main_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// threads are the status files of all threads of a process, by field.
func threads(t *testing.T, pid int) (all []map[string]string) {
	t.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		status := map[string]string{"file": file}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			status[key] = strings.Join(strings.Fields(value), " ")
		}
		all = append(all, status)
	}
	if len(all) == 0 {
		t.Fatalf("process %d has no threads", pid)
	}
	return all
}

const (
	noCapability = "0000000000000000"
	netAdminOnly = "0000000000001000" // bit 12 (linux/capability.h)
)

// requireThreads requires fields of every thread.
func requireThreads(t *testing.T, what string, pid int, want map[string]string) {
	t.Helper()
	for _, status := range threads(t, pid) {
		for key, value := range want {
			if status[key] != value {
				t.Errorf("%s: %s: %s is %q, not %q", what, status["file"], key, status[key], value)
			}
		}
		for _, key := range []string{"Uid", "Gid"} {
			for _, id := range strings.Fields(status[key]) {
				if n, err := strconv.Atoi(id); err != nil || n == 0 || n == 65534 {
					t.Errorf("%s: %s is %q", what, key, status[key])
				}
			}
		}
	}
}

// namespaceLinks are a process's namespaces.
func namespaceLinks(t *testing.T, pid int) map[string]string {
	t.Helper()
	links := map[string]string{}
	for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts"} {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		if err != nil {
			t.Fatal(err)
		}
		links[ns] = link
	}
	return links
}

// The descriptors that each role holds besides the runtime's two (epoll and
// event) and its queues, with what they are.
var held = map[ipc.Role]map[int]string{
	ipc.RoleRequests:  {2: "pipe", 3: "socket", 5: "socket", 9: "anon_inode"},
	ipc.RoleResponses: {2: "pipe", 3: "socket", 6: "socket", 9: "anon_inode"},
	ipc.RoleAllowlist: {2: "pipe", 3: "socket", 4: "socket", 5: "socket", 6: "socket", 7: "socket", 8: "", 9: "anon_inode", 10: "socket", 11: "socket"},
	ipc.RoleTraffic:   {2: "pipe", 3: "socket", 4: "socket", 7: "socket", 8: "", 9: "anon_inode", 10: "socket"},
	ipc.RoleResolver:  {2: "pipe", 3: "socket", 9: "anon_inode", 11: "socket"},
}

// checkCells requires that every process of a running tree is what DESIGN.md
// draws: queues is how many request queues there are, and traffic queues as
// many; both families have responses.
func checkCells(t *testing.T, p processes, queues int) {
	t.Helper()
	requireThreads(t, "parent", p.parent, map[string]string{
		"CapEff": netAdminOnly, "CapPrm": netAdminOnly, "CapInh": noCapability, "CapAmb": noCapability,
		"NoNewPrivs": "1", "Seccomp": "2",
	})
	seen := map[string]string{}
	for ns, link := range namespaceLinks(t, p.parent) {
		seen[link] = "the parent's " + ns
	}
	self := 0 // queues of the daemon's own requests
	if p.children[ipc.RoleResolver] != 0 {
		self = 2
	}
	for _, role := range p.roles() {
		pid := p.children[role]
		requireThreads(t, string(role), pid, map[string]string{
			"CapEff": noCapability, "CapPrm": noCapability, "CapInh": noCapability, "CapAmb": noCapability, "CapBnd": noCapability,
			"NoNewPrivs": "1", "Seccomp": "2", "Groups": groupsOf(t, p.parent),
		})
		for ns, link := range namespaceLinks(t, pid) {
			if other, known := seen[link]; known {
				t.Errorf("%s: its %s namespace is %s", role, ns, other)
			}
			seen[link] = string(role) + "'s " + ns
		}
		count := map[ipc.Role]int{ipc.RoleRequests: self + queues, ipc.RoleResponses: 2, ipc.RoleTraffic: queues}[role]
		checkCell(t, role, pid, count)
	}
}

// groupsOf is the supplementary groups: root's are dropped, and who is not
// root cannot drop them.
func groupsOf(t *testing.T, pid int) string { return threads(t, pid)[0]["Groups"] }

func checkCell(t *testing.T, role ipc.Role, pid, queues int) {
	t.Helper()
	if args := commandLine(pid); !slices.Equal(args, []string{"egress-eddie", string(role), fmt.Sprint(queues)}) {
		t.Errorf("%s: arguments %q", role, args)
	}
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(strings.Trim(string(env), "\x00")) != 0 {
		t.Errorf("%s: environment %q, %v", role, env, err)
	}
	if entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/root/", pid)); err != nil || len(entries) != 0 {
		t.Errorf("%s: its root holds %v, %v", role, entries, err)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/" {
		t.Errorf("%s: its working directory is %q, %v", role, cwd, err)
	}
	if mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", pid)); err != nil || strings.Count(string(mounts), "\n") != 1 || !strings.Contains(string(mounts), " ro,") {
		t.Errorf("%s: its mounts are %q, %v", role, mounts, err)
	}
	if dev, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid)); err != nil || strings.Count(string(dev), "\n") != 3 {
		t.Errorf("%s: its network is %q, %v", role, dev, err) // two lines of heading, and lo
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	if f := strings.Fields(rest); err != nil || f[3] != fmt.Sprint(pid) {
		t.Errorf("%s: not in a session of its own: %s, %v", role, stat, err)
	}
	checkDescriptors(t, role, pid, queues)
	checkControl(t, role, pid)
}

func checkDescriptors(t *testing.T, role ipc.Role, pid, queues int) {
	t.Helper()
	want := maps.Clone(held[role])
	want[0], want[1] = "anon_inode:[eventpoll]", "anon_inode:[eventfd]"
	for i := range queues {
		want[16+i] = "socket"
	}
	got := descriptors(t, pid)
	for fd, target := range got {
		kind, ok := want[fd]
		if !ok || !strings.HasPrefix(target, kind) {
			t.Errorf("%s: descriptor %d is %s", role, fd, target)
		}
		delete(want, fd)
	}
	for fd := range want {
		t.Errorf("%s: descriptor %d is missing", role, fd)
	}
}

// checkControl requires that the control socket has room for all the sockets
// that a resolver may ask for, whatever the host's default is.
func checkControl(t *testing.T, role ipc.Role, pid int) {
	t.Helper()
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(process)
	control, err := unix.PidfdGetfd(process, ipc.FDControl, 0)
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	defer unix.Close(control)
	room, err := unix.GetsockoptInt(control, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil || room != 2*1024*ipc.MaxLookups { // doubled by the kernel
		t.Errorf("%s: room for %d octets in its control socket, %v", role, room, err)
	}
}

// descriptors are the open descriptors of a process, with what they are.
func descriptors(t *testing.T, pid int) map[int]string {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	fds := map[int]string{}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if fds[fd], err = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err != nil {
			t.Fatal(err)
		}
	}
	return fds
}

// asksNothing waits until the addresses of a cached name have been asked for,
// and the resolver has no sockets any more.
func (d *daemon) asksNothing(t *testing.T, p processes, cached string) {
	t.Helper()
	for _, record := range []string{"A", "AAAA"} {
		d.sees(t, eventResponse, fields{"name": cached, "type": record, "verdict": "accept"})
	}
	files := fmt.Sprintf("/proc/%d/fd/[0-9]*", p.children[ipc.RoleResolver])
	if !eventually(func() bool { open, _ := filepath.Glob(files); return len(open) == 2+len(held[ipc.RoleResolver]) }) {
		t.Error("the resolver keeps its sockets")
	}
}

// Whatever the starter leaves open, or in the environment, reaches no child.
func TestCells(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	l.resolver(f.resolver, zone(map[string][]string{"cdn.test.": {fmt.Sprintf("cdn.test. 60 IN A %v", f.web(1))}}))
	l.rules(askingRules)
	stray, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	cmd := exec.Command(builtBinary, "-c", configFile(t, asking(f, filter{allowed: []string{"example.com"}, cached: []string{"cdn.test"}}).String()), "-d", "-log-format", "json")
	cmd.Env = append(os.Environ(), "SECRET=1", "GODEBUG=madvdontneed=1", "GOTRACEBACK=all")
	for range 30 { // numbers 3 to 32: all that a child uses, and beyond
		cmd.ExtraFiles = append(cmd.ExtraFiles, stray)
	}
	l.daemon = startCommand(t, l.client, cmd)
	l.daemon.sees(t, "filtering", nil)
	p := l.daemon.processes(t)
	l.daemon.asksNothing(t, p, "cdn.test")
	checkCells(t, p, 2)
	requireThreads(t, "parent", p.parent, map[string]string{"CapBnd": noCapability, "Groups": ""})
	for _, role := range ipc.AllChildren {
		for fd, target := range descriptors(t, p.children[role]) {
			if strings.Contains(target, "passwd") {
				t.Errorf("%s: descriptor %d is %s", role, fd, target)
			}
		}
	}
}
