package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// namespaceKinds are the namespaces in which a child is alone.
var namespaceKinds = []string{"user", "mnt", "pid", "net", "ipc", "uts"}

// process is what /proc says of one process of the tree, now.
type process struct {
	role         ipc.Role
	pid, ppid    int
	uid          string
	capabilities string
	noNewPrivs   string
	seccomp      string // mode, as a number
	filters      string // seccomp filters
	own          []string
	rootEntries  int
	descriptors  int
}

// perThread are the fields of /proc/PID/status that belong to a thread. Every
// thread must have the same in each.
var perThread = []string{"Uid", "CapEff", "NoNewPrivs", "Seccomp", "Seccomp_filters"}

// readTree reads the daemon and its children.
func readTree(daemon int) ([]process, error) {
	parent, err := readProcess(daemon, os.Getpid())
	if err != nil {
		return nil, err
	}
	parent.role = ipc.RoleParent
	tree := []process{parent}
	pids, err := childrenOf(daemon)
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		child, err := readProcess(pid, daemon)
		if err != nil {
			return nil, err
		}
		tree = append(tree, child)
	}
	return tree, nil
}

func childrenOf(parent int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		status, err := readStatus(filepath.Join("/proc", e.Name(), "status"))
		if err != nil {
			continue // somebody else's process that has just ended
		}
		if status["PPid"] == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// readProcess reads one process and compares its namespaces with another's.
func readProcess(pid, other int) (process, error) {
	p := process{pid: pid, ppid: other}
	dir := fmt.Sprintf("/proc/%d", pid)
	words, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return p, err
	}
	if args := strings.Split(string(words), "\x00"); len(args) > 1 {
		p.role = ipc.Role(args[1])
	}
	if err := p.readThreads(dir); err != nil {
		return p, fmt.Errorf("%s: %w", p.role, err)
	}
	for _, kind := range namespaceKinds {
		mine, err := os.Readlink(dir + "/ns/" + kind)
		theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", other, kind))
		if err := errors.Join(err, err2); err != nil {
			return p, err
		}
		if mine != theirs {
			p.own = append(p.own, kind)
		}
	}
	root, err := os.ReadDir(dir + "/root/.")
	fds, err2 := os.ReadDir(dir + "/fd")
	p.rootEntries, p.descriptors = len(root), len(fds)
	return p, errors.Join(err, err2)
}

func (p *process) readThreads(dir string) error {
	tasks, err := filepath.Glob(dir + "/task/*/status")
	if err != nil {
		return err
	}
	var common map[string]string
	for _, path := range tasks {
		status, err := readStatus(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread has ended
		}
		if err != nil {
			return err
		}
		if common == nil {
			common = status
		}
		for _, field := range perThread {
			if status[field] != common[field] {
				return fmt.Errorf("%s is %q in one thread and %q in another", field, common[field], status[field])
			}
		}
	}
	if common == nil {
		return errors.New("no threads")
	}
	p.uid = strings.Fields(common["Uid"] + " ?")[0]
	p.noNewPrivs, p.seccomp, p.filters = common["NoNewPrivs"], common["Seccomp"], common["Seccomp_filters"]
	p.capabilities, err = capabilities(common["CapEff"])
	return err
}

func readStatus(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	return fields, nil
}

// faults is in what a process is not the cell it should be.
func (p *process) faults() []string {
	var all []string
	need := func(ok bool, format string, args ...any) {
		if !ok {
			all = append(all, fmt.Sprintf("%s: ", p.role)+fmt.Sprintf(format, args...))
		}
	}
	need(p.uid != "0", "is root")
	need(p.noNewPrivs == "1", "no_new_privs is %q", p.noNewPrivs)
	need(p.seccomp == "2", "seccomp mode is %q, not 2", p.seccomp)
	if p.role == ipc.RoleParent {
		need(p.capabilities == "net_admin", "capabilities are %s", p.capabilities)
		return all
	}
	need(slices.Contains(ipc.Children, p.role), "is no process of the tree")
	need(p.capabilities == "none", "capabilities are %s", p.capabilities)
	need(len(p.own) == len(namespaceKinds), "shares namespaces with the parent: its own are only %v", p.own)
	need(p.rootEntries == 0, "its root holds %d entries", p.rootEntries)
	return all
}

// treeFaults is in what the tree is not what it should be.
func treeFaults(tree []process) []string {
	var all []string
	seen := map[ipc.Role]int{}
	for i := range tree {
		seen[tree[i].role]++
		all = append(all, tree[i].faults()...)
	}
	for _, role := range append([]ipc.Role{ipc.RoleParent}, ipc.Children...) {
		if seen[role] != 1 {
			all = append(all, fmt.Sprintf("%d processes are %s", seen[role], role))
		}
	}
	return all
}
