package sandbox

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

var machines = []machine{
	{info: arch.X86_64, clone: 0xd0f00, x32: 0x40000000, fileStatus: "newfstatat", startsWith: "arch_prctl", startsWithWhat: 0x1002},
	{info: arch.AARCH64, clone: 0x50f00, fileStatus: "fstatat"},
}

// seccompData is what a filter is asked about.
type seccompData struct {
	number uint32
	arch   uint32
	args   [6]uint64
}

// run runs a program in the BPF virtual machine, which loads big-endian words
// where the kernel loads native ones.
func (d *seccompData) run(t *testing.T, vm *bpf.VM) uint32 {
	t.Helper()
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[0:], d.number)
	binary.BigEndian.PutUint32(b[4:], d.arch)
	for i, a := range d.args {
		binary.BigEndian.PutUint32(b[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(b[20+8*i:], uint32(a>>32))
	}
	v, err := vm.Run(b)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(v)
}

// expect is the obvious version of what assemble compiles.
func (d *seccompData) expect(m machine, rules []rule) uint32 {
	if d.arch != uint32(m.info.ID) {
		return unix.SECCOMP_RET_KILL_PROCESS
	}
	for _, r := range rules {
		if m.info.SyscallNames[r.name] != int(d.number) {
			continue
		}
		for _, c := range r.when {
			if !holds(c, d.args[c.arg]) {
				return unix.SECCOMP_RET_KILL_PROCESS
			}
		}
		if r.zero {
			return unix.SECCOMP_RET_ERRNO | 0
		}
		return unix.SECCOMP_RET_ALLOW
	}
	return unix.SECCOMP_RET_KILL_PROCESS
}

func holds(c condition, arg uint64) bool {
	low := arg & 0xffffffff
	switch c.kind {
	case isOneOf:
		return slices.Contains(c.values, low)
	case is64OneOf:
		return slices.Contains(c.values, arg)
	case inRange:
		return low >= c.values[0] && low <= c.values[1]
	case inRangeOrOneOf:
		return slices.Contains(c.values[2:], low) || low >= c.values[0] && low <= c.values[1]
	case hasOnlyBits:
		return arg|c.values[0] == c.values[0]
	case maskedIs:
		return slices.Contains(c.values[1:], low&c.values[0])
	}
	panic(c.kind)
}

// edges are values around those that the list names for an argument.
func edges(rules []rule, arg uint) []uint64 {
	values := []uint64{0, 1, 2, 3, 4, 7, 1 << 31, 1<<32 - 1, 1 << 32, ^uint64(0)}
	for _, r := range rules {
		for _, c := range r.when {
			if c.arg != arg {
				continue
			}
			for _, v := range c.values {
				values = append(values, v, v-1, v+1, v^4, v|1<<32, v|1<<63)
			}
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// satisfying is a set of arguments that the rule lets pass.
func satisfying(r rule) (args [6]uint64) {
	for _, c := range r.when {
		args[c.arg] = c.values[len(c.values)-1]
	}
	return args
}

type listCase struct {
	name  string
	m     machine
	rules []rule
}

func lists(t *testing.T) (cases []listCase) {
	t.Helper()
	for _, m := range machines {
		for _, lookups := range []bool{false, true} {
			for _, in := range []Isolation{Isolated, Shared} {
				cases = append(cases, listCase{fmt.Sprintf("%s/parent, lookups %t, isolation %d", m.info.Name, lookups, in), m,
					parentRules(m, ids{4711, 4712, 4713}, lookups, in)})
			}
		}
		for _, role := range ipc.AllChildren {
			for _, queues := range []int{0, 1, 3, ipc.MaxQueues} {
				if queues > 0 && !rowOf(role).queues {
					continue
				}
				p, err := profileFor(m, role, queues)
				if err != nil {
					t.Fatal(err)
				}
				cases = append(cases, listCase{fmt.Sprintf("%s/%s/%d", m.info.Name, role, queues), m, p.rules})
			}
		}
	}
	return cases
}

// TestListsAgainstPredicate runs every list in a virtual machine: all numbers
// with the edges of every argument, x32 numbers, and another architecture.
func TestListsAgainstPredicate(t *testing.T) {
	for _, c := range lists(t) {
		t.Run(c.name, func(t *testing.T) {
			prog, err := assemble(c.m, c.rules)
			if err != nil {
				t.Fatal(err)
			}
			vm, err := bpf.NewVM(prog)
			if err != nil {
				t.Fatal(err)
			}
			asked := 0
			ask := func(d seccompData) {
				asked++
				if got, want := d.run(t, vm), d.expect(c.m, c.rules); got != want {
					t.Fatalf("%+v: %#x, should be %#x", d, got, want)
				}
			}
			for number := range uint32(1024) {
				base, named := [6]uint64{}, false
				for _, r := range c.rules {
					if c.m.info.SyscallNames[r.name] == int(number) {
						base, named = satisfying(r), true
					}
				}
				for arg := range uint(6) {
					for _, v := range edges(c.rules, arg) {
						d := seccompData{number: number, arch: uint32(c.m.info.ID), args: base}
						d.args[arg] = v
						ask(d)
						if !named {
							break // an argument says nothing where the number is not listed
						}
					}
				}
				d := seccompData{number: number, args: base}
				for _, foreign := range []*arch.Info{arch.I386, arch.ARM, arch.X86_64, arch.AARCH64} {
					d.arch = uint32(foreign.ID)
					ask(d)
				}
				d = seccompData{number: number | 0x40000000, arch: uint32(c.m.info.ID), args: base}
				ask(d)
				if d.run(t, vm) != unix.SECCOMP_RET_KILL_PROCESS {
					t.Fatalf("x32 number %d is not killed", number)
				}
			}
			if asked < 1024*10 {
				t.Fatalf("only %d questions asked", asked)
			}
		})
	}
}

// TestParentsListHoldsChildrens: a child inherits its parent's list, so whatever
// its own allows the parent's must.
func TestParentsListHoldsChildrens(t *testing.T) {
	asked := 0
	for _, m := range machines {
		for _, in := range []Isolation{Isolated, Shared} {
			parents := parentRules(m, ids{4711, 4712, 4713}, false, in)
			for _, role := range ipc.AllChildren {
				p, err := profileFor(m, role, plan(role, "", "").Queues)
				if err != nil {
					t.Fatal(err)
				}
				if in == Shared {
					p.share(4714)
				}
				for _, r := range p.rules {
					d := seccompData{number: uint32(m.info.SyscallNames[r.name]), arch: uint32(m.info.ID)}
					base := satisfying(r)
					if r.zero {
						base[0] = canaryArgument
					}
					for arg := range uint(6) {
						for _, v := range append(edges(p.rules, arg), base[arg]) {
							d.args = base
							d.args[arg] = v
							own := d.expect(m, p.rules)
							if own == unix.SECCOMP_RET_KILL_PROCESS || r.zero && d.args[0] != canaryArgument {
								continue
							}
							asked++
							if got := d.expect(m, parents); got != unix.SECCOMP_RET_ALLOW {
								t.Errorf("%s/%s, isolation %d: %s%v: the parent's list answers %#x", m.info.Name, role, in, r.name, d.args, got)
							}
						}
					}
				}
			}
		}
	}
	if asked < 10_000 {
		t.Errorf("only %d questions asked", asked)
	}
}

// TestRulesHaveReasons: a line that nobody can give a reason for goes.
func TestRulesHaveReasons(t *testing.T) {
	for _, c := range lists(t) {
		for _, r := range c.rules {
			if len(r.reason) < 10 {
				t.Errorf("%s: %s has the reason %q", c.name, r.name, r.reason)
			}
		}
	}
}

// TestAssembleRefuses what it would compile wrongly.
func TestAssembleRefuses(t *testing.T) {
	many := make([]uint64, 300)
	for name, rules := range map[string][]rule{
		"unknown name":     {allow("no_such_call", "")},
		"name twice":       {allow("read", ""), allow("read", "")},
		"value too wide":   {allow("read", "", is(0, 1<<32))},
		"seventh argument": {allow("read", "", is(6, 1))},
		"too many values":  {allow("read", "", is(0, many...))},
		"and a range":      {allow("read", "", betweenOr(0, 1, 2, many...))},
		"range too wide":   {allow("read", "", betweenOr(0, 1, 1<<32, 3))},
		"no such kind":     {allow("read", "", condition{values: []uint64{1}})},
	} {
		if prog, err := assemble(machines[0], rules); err == nil {
			t.Errorf("%s: assembled to %d instructions", name, len(prog))
		}
	}
}

// TestProfileRefuses what no parent asks for.
func TestProfileRefuses(t *testing.T) {
	for _, c := range []struct {
		role   ipc.Role
		queues int
	}{
		{ipc.RoleParent, 0}, {"nobody", 0}, {ipc.RoleAllowlist, 1}, {ipc.RoleResolver, 1},
		{ipc.RoleTraffic, -1}, {ipc.RoleRequests, ipc.MaxQueues + 1},
	} {
		if _, err := profileOf(c.role, c.queues); err == nil {
			t.Errorf("%s with %d queues: accepted", c.role, c.queues)
		}
	}
}
