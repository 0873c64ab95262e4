package sandbox

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Description is the cell of one role for people to read. It is made from the
// tables that the cell is built from, and nothing in it is written twice.
type Description struct {
	Role         ipc.Role      `json:"role"`
	Lookups      bool          `json:"lookups,omitempty"`     // the parent with selfDNSQueue
	WithLookups  []string      `json:"withLookups,omitempty"` // calls of which more is allowed then, where it is shown without
	Machine      string        `json:"machine"`               // as GOARCH has it
	Descriptors  []Line        `json:"descriptors"`
	Limits       []Line        `json:"limits"`
	Namespaces   []Line        `json:"namespaces"`
	Capabilities []Line        `json:"capabilities"`
	Landlock     []Line        `json:"landlock"`
	Steps        []string      `json:"steps,omitempty"` // in which the cell is built
	Syscalls     []SyscallLine `json:"syscalls"`        // in the order in which the kernel tries them

	m      machine
	filter []bpf.Instruction
}

// Line is one thing that a process has, and why.
type Line struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Reason string `json:"reason"`
}

// SyscallLine is one system call that a process may make: when every text of
// When is true of its arguments.
type SyscallLine struct {
	Name   string   `json:"name"`
	When   []string `json:"when,omitempty"`
	Zero   bool     `json:"answeredZero,omitempty"` // not made: the filter answers 0
	Reason string   `json:"reason"`
}

// Describe is the cell of a role on this machine. queues counts the queue
// sockets of a role that reads any; the others take no notice of it. lookups is
// as of LockParent, and the parent's alone.
func Describe(role ipc.Role, queues int, lookups bool) (*Description, error) {
	return describe(native, role, queues, lookups)
}

func describe(m machine, role ipc.Role, queues int, lookups bool) (*Description, error) {
	d := &Description{Role: role, Machine: goarch(m), m: m}
	var rules []rule
	if role == ipc.RoleParent {
		rules = d.parent(lookups)
	} else {
		row := rowOf(role)
		if row == nil || !row.queues {
			queues = 0
		}
		p, err := profileFor(m, role, queues)
		if err != nil {
			return nil, err
		}
		rules = p.rules
		d.Descriptors, d.Capabilities = row.descriptorLines(p), childCapabilities
		d.Limits, d.Namespaces, d.Landlock = p.limitLines(), namespaceLines(), landlockLines(denyAll)
		for _, s := range append(p.cell(), p.lock()...) {
			d.Steps = append(d.Steps, s.name)
		}
	}
	for _, r := range rules {
		d.Syscalls = append(d.Syscalls, r.line())
	}
	var err error
	d.filter, err = assemble(m, rules)
	return d, err
}

// parent describes the parent but for its rules, which it returns.
func (d *Description) parent(lookups bool) []rule {
	d.Descriptors, d.Capabilities = parentDescriptors, parentCapabilities
	d.Namespaces = []Line{{"all", "inherited", "those it was started in; its verdicts count in that network namespace"}}
	d.Landlock = landlockLines(denyNetwork)
	if d.Lookups = lookups; lookups {
		d.Landlock = append(d.Landlock, permittedLines()...)
	} else {
		for _, r := range socketRules(true, Isolated) {
			d.WithLookups = append(d.WithLookups, r.name)
		}
	}
	return parentRules(d.m, shownIDs, lookups, Isolated)
}

// goarch: the table of architectures has the kernel's names.
func goarch(m machine) string {
	switch m.info.Name {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return m.info.Name
}

func rowOf(role ipc.Role) *roleRow {
	for i := range roles {
		if roles[i].role == role {
			return &roles[i]
		}
	}
	return nil
}

// descriptorLines are all that may be open in the cell.
func (row *roleRow) descriptorLines(p *profile) (lines []Line) {
	for _, known := range childDescriptors {
		if known.runtime || p.holds(known.number) {
			lines = append(lines, Line{strconv.Itoa(known.number), known.kind, known.what + row.direction(known.number)})
		}
	}
	if p.queues > 0 {
		lines = append(lines, Line{numbers(queueNumbers(p.queues)), kindSocket, whatQueues})
	}
	if row.sockets > 0 {
		lines = append(lines, Line{strconv.FormatUint(row.landing(), 10), kindSocket, whatLanding},
			Line{numbers(row.socketNumbers()), kindSocket, whatSockets})
	}
	return lines
}

// direction says which of read and write the list of the role lets pass.
func (row *roleRow) direction(fd int) string {
	reads, writes := slices.Contains(row.reads, uint64(fd)), slices.Contains(row.writes, uint64(fd))
	switch {
	case reads && writes:
		return ": read and written"
	case reads:
		return ": read"
	case writes:
		return ": written"
	}
	return ""
}

func queueNumbers(queues int) (fds []int) {
	for i := range queues {
		fds = append(fds, ipc.FDQueues+i)
	}
	return fds
}

// numbers shortens a sorted list: 3,5,16-18.
func numbers(fds []int) string {
	var parts []string
	for i := 0; i < len(fds); {
		last := i
		for last+1 < len(fds) && fds[last+1] == fds[last]+1 {
			last++
		}
		part := strconv.Itoa(fds[i])
		if last > i {
			part += "-" + strconv.Itoa(fds[last])
		}
		parts, i = append(parts, part), last+1
	}
	return strings.Join(parts, ",")
}

func (p *profile) limitLines() (lines []Line) {
	for _, l := range p.limits {
		lines = append(lines, Line{limitNames[l.resource].short, size(l.value), l.reason})
	}
	return lines
}

// size shows octets in the unit that leaves the fewest digits and loses none.
func size(n uint64) string {
	for _, unit := range []struct {
		name  string
		shift int
	}{{"G", 30}, {"M", 20}} {
		if n >= 1<<unit.shift && n%(1<<unit.shift) == 0 {
			return strconv.FormatUint(n>>unit.shift, 10) + unit.name
		}
	}
	return strconv.FormatUint(n, 10)
}

func namespaceLines() (lines []Line) {
	for _, ns := range namespaceTable {
		value := "shared"
		if namespaces&ns.flag != 0 {
			value = "own"
		}
		lines = append(lines, Line{ns.name, value, ns.reason})
	}
	return lines
}

// landlockLines are the rights that are denied, by the ABI that brought them.
// The newest kernels are assumed, with their errata fixed.
func landlockLines(deny func(abi, errata int) (landlockAttr, uintptr)) (lines []Line) {
	var before landlockAttr
	for abi := landlockFloor; abi <= landlockNewest; abi++ {
		now, _ := deny(abi, landlockErratumSignal)
		var names []string
		names = append(names, bits(now.fs&^before.fs, landlockFSNames)...)
		names = append(names, bits(now.net&^before.net, landlockNetNames)...)
		names = append(names, bits(now.scoped&^before.scoped, landlockScopeNames)...)
		if len(names) > 0 {
			lines = append(lines, Line{"ABI " + strconv.Itoa(abi), "denied", strings.Join(names, " ")})
		}
		before = now
	}
	return lines
}

// permittedLines are the exceptions to them.
func permittedLines() (lines []Line) {
	attr, _ := denyNetwork(landlockNewest, landlockErratumSignal)
	for _, p := range permitted(attr, true) {
		lines = append(lines, Line{"from ABI 4", "permitted",
			strings.Join(bits(p.allowed, landlockNetNames), " ") + " to port " + strconv.FormatUint(p.port, 10)})
	}
	return lines
}

func bits(mask uint64, names []string) (set []string) {
	for bit := range 64 {
		if mask&(1<<bit) == 0 {
			continue
		}
		if bit < len(names) {
			set = append(set, names[bit])
		} else {
			set = append(set, fmt.Sprintf("%#x", uint64(1)<<bit))
		}
	}
	return set
}

// capabilityNames are the few that anything here ever holds; the others show
// as numbers.
var capabilityNames = map[int]string{
	unix.CAP_NET_ADMIN: "net_admin", unix.CAP_SYS_ADMIN: "sys_admin", unix.CAP_SETPCAP: "setpcap",
}
