package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// lookParent and lookChild are what /proc shows of a process to who may trace
// it, as a parent may a child in a user namespace that it has made; everything
// is what it shows to root, descriptors too.
var (
	lookParent = []func(*Row) error{lookThreads, lookNamespaces}
	lookChild  = []func(*Row) error{lookThreads, lookNamespaces, lookMaps, lookRoot, lookLimits, lookDumpable}
	everything = append(slices.Clone(lookChild), lookDescriptors)
)

// look reads some or all of what /proc says of one process.
func look(p running, parts []func(*Row) error) (row Row, err error) {
	row = Row{Role: p.role, PID: p.pid, queues: p.queues, in: p.in, Deviations: []string{}}
	for _, part := range parts {
		if err := part(&row); err != nil {
			return row, err
		}
	}
	return row, nil
}

// ended: a thread or a descriptor may go between the list and the look.
func ended(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

func lookThreads(row *Row) error {
	entries, err := os.ReadDir(procPath(row.PID, "task"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		s, err := readStatus(procPath(row.PID, "task/"+e.Name()+"/status"))
		if ended(err) {
			continue
		}
		if err != nil {
			return err
		}
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			return err
		}
		nice, err := niceness(tid)
		if ended(err) {
			continue
		}
		if err != nil {
			return err
		}
		row.Threads = append(row.Threads, Thread{
			TID: tid, Niceness: nice, UID: oneID(s["Uid"]), GID: oneID(s["Gid"]), Groups: s["Groups"],
			Inheritable: s["CapInh"], Permitted: s["CapPrm"], Effective: s["CapEff"], Bounding: s["CapBnd"], Ambient: s["CapAmb"],
			NoNewPrivs: s["NoNewPrivs"], Seccomp: s["Seccomp"], Filters: s["Seccomp_filters"],
		})
	}
	if len(row.Threads) == 0 {
		return fs.ErrNotExist
	}
	return nil
}

// oneID: the real, effective, saved and file system id are one, or all shown.
func oneID(field string) string {
	ids := strings.Fields(field)
	if slices.ContainsFunc(ids, func(id string) bool { return id != ids[0] }) || len(ids) == 0 {
		return strings.Join(ids, " ")
	}
	return ids[0]
}

func lookNamespaces(row *Row) error {
	for _, ns := range namespaceTable {
		id, err := os.Readlink(procPath(row.PID, "ns/"+ns.name))
		if errors.Is(err, fs.ErrNotExist) && ns.flag&namespaces == 0 {
			continue // a kernel without it
		}
		if err != nil {
			return err
		}
		row.Namespaces = append(row.Namespaces, NamespaceSeen{Name: ns.name, ID: id})
	}
	return nil
}

// lookMaps reads how the ids of its user namespace are those of the reader's:
// lines of first id inside, first id outside, and how many (user_namespaces(7)).
func lookMaps(row *Row) error {
	for _, m := range []struct {
		file string
		into *string
	}{{"uid_map", &row.UIDMap}, {"gid_map", &row.GIDMap}} {
		text, err := os.ReadFile(procPath(row.PID, m.file))
		if err != nil {
			return err
		}
		*m.into = strings.Join(strings.Fields(string(text)), " ")
	}
	return nil
}

func lookRoot(row *Row) error {
	entries, err := os.ReadDir(procPath(row.PID, "root/"))
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile(procPath(row.PID, "mounts"))
	row.Root, row.Mounts = len(entries), strings.Count(string(mounts), "\n")
	return err
}

func lookDescriptors(row *Row) error {
	entries, err := os.ReadDir(procPath(row.PID, "fd"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		target, err := os.Readlink(procPath(row.PID, "fd/"+e.Name()))
		info, err2 := os.ReadFile(procPath(row.PID, "fdinfo/"+e.Name()))
		if ended(err) || ended(err2) {
			continue
		}
		number, err3 := strconv.Atoi(e.Name())
		if err := errors.Join(err, err2, err3); err != nil {
			return err
		}
		d := Descriptor{Number: number, Kind: kindOf(target), Target: target}
		if _, err := fmt.Sscanf(fieldOf(string(info), "flags:"), "%o", &d.flags); err != nil {
			return fmt.Errorf("descriptor %d: flags: %w", number, err)
		}
		row.Descriptors = append(row.Descriptors, d)
	}
	slices.SortFunc(row.Descriptors, func(a, b Descriptor) int { return a.Number - b.Number })
	return nil
}

// fieldOf is the rest of the line that begins with name.
func fieldOf(text, name string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// kindOf is what a target in /proc/PID/fd is: a path, TYPE:[INODE] or
// anon_inode:[KIND] (fs/proc/fd.c, proc_pid_symlinks(5)).
func kindOf(target string) string {
	if strings.HasPrefix(target, "/") {
		return kindFile
	}
	if kind, ok := strings.CutPrefix(target, "anon_inode:"); ok {
		return strings.Trim(kind, "[]")
	}
	kind, _, _ := strings.Cut(target, ":")
	return kind
}

func lookLimits(row *Row) error {
	text, err := os.ReadFile(procPath(row.PID, "limits"))
	if err != nil {
		return err
	}
	for _, resource := range []int{unix.RLIMIT_CORE, unix.RLIMIT_NPROC, unix.RLIMIT_NOFILE, unix.RLIMIT_DATA, unix.RLIMIT_FSIZE} {
		name := limitNames[resource]
		values := strings.Fields(fieldOf(string(text), name.proc))
		if len(values) < 2 {
			return fmt.Errorf("no %q in its limits", name.proc)
		}
		row.Limits = append(row.Limits, LimitSeen{name.short, values[0], values[1]})
	}
	return nil
}

// lookDumpable: the kernel gives the files of a process that is not dumpable
// to the root of its user namespace, whom only a mapped one gives another uid
// (proc(5)). A process of root's own shows nothing this way.
func lookDumpable(row *Row) error {
	info, err := os.Stat(procPath(row.PID, "environ"))
	if err != nil {
		return err
	}
	row.Dumpable = info.Sys().(*syscall.Stat_t).Uid != 0 || row.Threads[0].UID == "0"
	return nil
}
