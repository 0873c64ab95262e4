package sandbox

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// judge writes into each row what is not as it should be.
func (r *Report) judge() {
	parent := &r.Processes[0]
	for _, role := range ipc.AllChildren {
		n := 0
		for _, row := range r.Processes {
			if row.Role == role {
				n++
			}
		}
		if n > 1 || n < 1 && slices.Contains(ipc.Children, role) {
			parent.deviates("has %d children that are %s", n, role)
		}
	}
	r.compareNamespaces()
	for i := range r.Processes {
		row := &r.Processes[i]
		switch row.Role {
		case ipc.RoleParent:
			row.judgeParent()
		case "":
			row.deviates("is no process of the tree")
		default:
			if row.in == Shared { // as the configuration allows; it is no cell for all that
				row.deviates(`shares the namespaces of its parent: they are forbidden here, and sandbox.userNamespaces is "best-effort"`)
			}
			row.judgeChild(parent)
			row.judgeDescriptors()
		}
	}
	r.OK = !slices.ContainsFunc(r.Processes, func(row Row) bool { return len(row.Deviations) > 0 })
}

func (row *Row) deviates(format string, args ...any) {
	row.Deviations = append(row.Deviations, fmt.Sprintf(format, args...))
}

// compareNamespaces finds who else of the tree is in each namespace.
func (r *Report) compareNamespaces() {
	seen := map[string]ipc.Role{}
	for _, row := range r.Processes {
		for i := range row.Namespaces {
			ns := &row.Namespaces[i]
			if other, ok := seen[ns.ID]; ok {
				ns.Shared = string(other)
			} else {
				seen[ns.ID] = row.Role
			}
		}
	}
}

// requirement is what a field of every thread must be.
type requirement struct {
	what string
	of   func(*Thread) string
	want string
}

// requireThreads reports a field once, with the number of threads.
func (row *Row) requireThreads(requirements []requirement) {
	for _, q := range requirements {
		wrong, sample := 0, ""
		for i := range row.Threads {
			if got := q.of(&row.Threads[i]); got != q.want {
				wrong, sample = wrong+1, got
			}
		}
		if wrong > 0 {
			row.deviates("%s is %q, should be %q, on %d of %d threads", q.what, sample, q.want, wrong, len(row.Threads))
		}
	}
}

func everyThread(inheritable, permitted, ambient uint64) []requirement {
	set := func(n uint64) string { return fmt.Sprintf("%016x", n) }
	return []requirement{
		{"inheritable capabilities", func(t *Thread) string { return t.Inheritable }, set(inheritable)},
		{"permitted capabilities", func(t *Thread) string { return t.Permitted }, set(permitted)},
		{"effective capabilities", func(t *Thread) string { return t.Effective }, set(permitted)},
		{"ambient capabilities", func(t *Thread) string { return t.Ambient }, set(ambient)},
		{"no_new_privs", func(t *Thread) string { return t.NoNewPrivs }, "1"},
		{"seccomp mode", func(t *Thread) string { return t.Seccomp }, "2"},
	}
}

// sameIdentity: every thread has the ids and filters of one.
func sameIdentity(as *Thread) []requirement {
	return []requirement{
		{"uid", func(t *Thread) string { return t.UID }, as.UID},
		{"gid", func(t *Thread) string { return t.GID }, as.GID},
		{"groups", func(t *Thread) string { return t.Groups }, as.Groups},
	}
}

func filtersOf(t *Thread) string { return t.Filters }

func (row *Row) judgeParent() {
	first := &row.Threads[0]
	row.requireThreads(everyThread(0, netAdmin, 0))
	row.requireThreads(sameIdentity(first))
	row.requireThreads([]requirement{{"number of filters", filtersOf, first.Filters}})
	if _, err := strconv.Atoi(first.UID); err != nil || first.UID == "0" {
		row.deviates("runs as uid %s", first.UID)
	}
	if row.Dumpable {
		row.deviates("is dumpable")
	}
	inherited := map[string]bool{}
	for _, d := range row.Descriptors {
		if d.Number <= 2 {
			inherited[d.Target] = true
		}
		if !inherited[d.Target] && !d.fitsParent() {
			row.deviates("descriptor %d is a %s (%q)", d.Number, d.Kind, d.Target)
		}
	}
}

// fitsParent: of files, the log, which is only appended to, and the kernel's,
// which are only read. (A log that is standard output is one of the first
// three descriptors again, however that was opened.)
func (d *Descriptor) fitsParent() bool {
	if d.Kind == kindFile {
		mode := d.flags & (unix.O_ACCMODE | unix.O_APPEND)
		ofKernel := d.Target == "/dev/kmsg" || strings.HasPrefix(d.Target, "/proc/") && strings.HasSuffix(d.Target, "/net/netfilter/nfnetlink_queue")
		return mode == unix.O_WRONLY|unix.O_APPEND || mode == unix.O_RDONLY && ofKernel
	}
	return slices.ContainsFunc(parentDescriptors, func(l Line) bool { return l.Value == d.Kind })
}

func (row *Row) judgeChild(parent *Row) {
	row.requireThreads(everyThread(0, 0, 0))
	row.requireThreads(sameIdentity(&parent.Threads[0]))
	row.judgeFilters(parent)
	row.judgeNiceness(parent)
	bounding := parent.Threads[0].Bounding // which takes a capability to change
	if row.in == Isolated {
		bounding = fmt.Sprintf("%016x", 0)
		row.judgeIsolation()
	}
	row.requireThreads([]requirement{
		{"bounding capabilities", func(t *Thread) string { return t.Bounding }, bounding},
	})
	row.judgeLimits()
	if row.Dumpable {
		row.deviates("is dumpable")
	}
}

// judgeNiceness: behind the thread of the parent that carries its verdicts.
func (row *Row) judgeNiceness(parent *Row) {
	first := slices.IndexFunc(parent.Threads, func(t Thread) bool { return t.TID == parent.PID })
	if first < 0 {
		row.deviates("its parent shows no main thread")
		return
	}
	least := leastNiceness(parent.Threads[first].Niceness)
	for i := range row.Threads {
		if got := row.Threads[i].Niceness; got < least {
			row.deviates("niceness is %d, should be at least %d", got, least)
			return
		}
	}
}

func (row *Row) judgeIsolation() {
	for _, ns := range row.Namespaces {
		if ns.Shared != "" && isOwn(ns.Name) {
			row.deviates("shares its %s namespace with %s", ns.Name, ns.Shared)
		}
	}
	if row.Root != 0 || row.Mounts != 1 {
		row.deviates("has a root with %d entries and %d mounts, should be 0 and 1", row.Root, row.Mounts)
	}
	row.judgeMaps()
}

// judgeMaps: the one id of the tree and no other, and not as root: an exec by
// a mapped root would get every capability of its namespace.
func (row *Row) judgeMaps() {
	for _, m := range []struct{ name, got, id string }{
		{"uid", row.UIDMap, row.Threads[0].UID}, {"gid", row.GIDMap, row.Threads[0].GID},
	} {
		if f := strings.Fields(m.got); len(f) != 3 || f[0] == "0" || f[1] != m.id || f[2] != "1" {
			row.deviates("has the %s map %q, should be one id, %s, that is not 0 inside", m.name, m.got, m.id)
		}
	}
}

func isOwn(name string) bool {
	for _, ns := range namespaceTable {
		if ns.name == name {
			return namespaces&ns.flag != 0
		}
	}
	return false
}

// profile is what the process claims to be, nil for what nothing can be.
func (row *Row) profile() *profile {
	p, err := profileOf(row.Role, row.queues)
	if err != nil {
		return nil
	}
	if row.in == Shared {
		p.share(uint64(row.PID))
	}
	return p
}

// judgeFilters: a child inherits what a service manager put on its parent and
// what that has put on itself, and has one of its own: neither fewer nor more, on
// each thread. Mode 2 alone may be an inherited filter's.
func (row *Row) judgeFilters(parent *Row) {
	n, _ := strconv.Atoi(parent.Threads[0].Filters)
	row.requireThreads([]requirement{{"number of filters", filtersOf, strconv.Itoa(n + 1)}})
}

func (row *Row) judgeDescriptors() {
	p := row.profile()
	if p == nil {
		return
	}
	want := map[int]string{}
	for _, known := range childDescriptors {
		if known.runtime || p.holds(known.number) {
			want[known.number] = known.kind
		}
	}
	for _, fd := range append(queueNumbers(p.queues), p.passes...) {
		want[fd] = kindSocket
	}
	for _, d := range row.Descriptors {
		kind, ok := want[d.Number]
		switch {
		case !ok:
			row.deviates("descriptor %d is open, a %s (%q)", d.Number, d.Kind, d.Target)
		case kind != kindAny && kind != d.Kind:
			row.deviates("descriptor %d is a %s, should be a %s", d.Number, d.Kind, kind)
		}
		delete(want, d.Number)
	}
	delete(want, ipc.FDPoll) // there only once it has its policy
	for _, fd := range p.passes {
		delete(want, fd)
	}
	for _, known := range childDescriptors {
		if _, missing := want[known.number]; missing {
			row.deviates("descriptor %d is missing", known.number)
			delete(want, known.number)
		}
	}
	if len(want) > 0 {
		row.deviates("%d queue sockets are missing", len(want))
	}
}

func (row *Row) judgeLimits() {
	p := row.profile()
	if p == nil {
		row.deviates("its command line names %d queues", row.queues)
		return
	}
	for _, l := range p.limits {
		name, want := limitNames[l.resource].short, strconv.FormatUint(l.value, 10)
		for _, got := range row.Limits {
			if got.Name == name && (got.Soft != want || got.Hard != want) {
				row.deviates("limit %s is %s (hard %s), should be %s", name, got.Soft, got.Hard, want)
			}
		}
	}
}
