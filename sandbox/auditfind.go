package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// running is a process as its command line and its parent show it.
type running struct {
	role   ipc.Role // "" when its command line names none
	queues int
	in     Isolation
	pid    int
	parent int
}

// runningTree is a parent and everything that it has started.
type runningTree struct {
	parent   int
	children []running
}

// all is every process, in the order in which the parent starts them.
func (t *runningTree) all() []running {
	slices.SortStableFunc(t.children, func(a, b running) int { return order(a.role) - order(b.role) })
	return append([]running{{role: ipc.RoleParent, pid: t.parent}}, t.children...)
}

func order(role ipc.Role) int {
	if i := slices.Index(ipc.AllChildren, role); i >= 0 {
		return i
	}
	return len(ipc.AllChildren)
}

// find finds the tree of that parent, or with 0 the only one.
func find(parent int) (*runningTree, error) {
	processes, err := everyProcess()
	if err != nil {
		return nil, err
	}
	trees, unseen := treesAmong(processes, parent)
	if len(trees) == 0 && unseen != nil {
		return nil, unseen
	}
	if parent != 0 {
		t, ok := trees[parent]
		if !ok {
			return nil, exit.Errorf(exit.Unavailable, "process %d is not the parent of a running tree", parent)
		}
		return t, nil
	}
	var pids []int
	for pid := range trees {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	switch len(pids) {
	case 0:
		return nil, exit.Errorf(exit.Unavailable, "no tree is running")
	case 1:
		return trees[pids[0]], nil
	}
	return nil, exit.Errorf(exit.Usage, "several trees are running: name one of %v", pids)
}

// treesAmong groups processes: a parent has a child whose command line names
// a role and that runs the same program. Whatever else it started belongs to
// the tree too, and should not be there. only, if not 0, is the one parent of
// interest. unseen is why a possible parent could not be looked at: it may
// also be one that took in what a dead parent left.
func treesAmong(processes []running, only int) (trees map[int]*runningTree, unseen error) {
	trees = map[int]*runningTree{}
	for _, p := range processes {
		if p.role == "" || trees[p.parent] != nil || only != 0 && p.parent != only {
			continue
		}
		same, err := sameProgram(p.parent, p.pid)
		if err != nil {
			unseen = err
		}
		if same {
			trees[p.parent] = &runningTree{parent: p.parent}
		}
	}
	for _, p := range processes {
		if t := trees[p.parent]; t != nil {
			t.children = append(t.children, p)
		}
	}
	return trees, unseen
}

func sameProgram(a, b int) (bool, error) {
	for _, pid := range []int{a, b} {
		_, err := os.Stat(procPath(pid, "exe"))
		if errors.Is(err, fs.ErrNotExist) { // it has ended, or is the kernel's
			return false, nil
		}
		if err != nil {
			return false, lookError(pid, err)
		}
	}
	return sameFile(procPath(a, "exe"), procPath(b, "exe")), nil
}

// everyProcess is every process that is alive.
func everyProcess() (processes []running, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, exit.Errorf(exit.Unavailable, "%w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		status, err1 := readStatus(procPath(pid, "status"))
		cmdline, err2 := os.ReadFile(procPath(pid, "cmdline"))
		if err1 != nil || err2 != nil || strings.HasPrefix(status["State"], "Z") {
			continue // it has ended meanwhile
		}
		p := running{pid: pid}
		p.parent, err = strconv.Atoi(status["PPid"])
		if err != nil {
			return nil, exit.Errorf(exit.Software, "process %d: PPid %q", pid, status["PPid"])
		}
		p.claims(string(cmdline))
		processes = append(processes, p)
	}
	return processes, nil
}

// claims reads the command line that the parent gives a child.
func (p *running) claims(cmdline string) {
	args := strings.Split(strings.TrimSuffix(cmdline, "\x00"), "\x00")
	if len(args) < 3 || args[0] != "egress-eddie" || !slices.Contains(ipc.AllChildren, ipc.Role(args[1])) {
		return
	}
	queues, err := strconv.Atoi(args[2])
	if err != nil {
		return
	}
	p.role, p.queues = ipc.Role(args[1]), queues
	if len(args) > 3 && args[3] == SharedWord {
		p.in = Shared
	}
}

// lookError says why a process could not be looked at.
func lookError(pid int, err error) error {
	switch {
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return exit.WithHint(exit.NoPerm, "run it as root", "looking at process %d: %w", pid, err)
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH):
		return exit.Errorf(exit.Software, "process %d has ended while it was looked at: %w", pid, err)
	}
	return exit.Errorf(exit.Software, "looking at process %d: %w", pid, err)
}
