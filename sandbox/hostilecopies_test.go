//go:build !race

package sandbox

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A cell takes milliseconds to build and its namespaces as long to go, too
// much for thousands of attempts. So where a call is made with many values,
// one child builds the cell but for the filter, and for each attempt forks a
// copy of itself, which is in the same cell, loads the list and makes the
// call. The copy has a wait status of its own.

// noFilter is the exit code of a copy that could not load the list. The
// others exit with the errno of their call.
const noFilter = 200

// tryInCopies makes each call in a copy of this process under the lists and
// says what became of them, in order. It uses no call that has do.
func tryInCopies(lists [][]rule, calls []call, say func(string)) error {
	var progs []*unix.SockFprog
	for _, rules := range lists {
		prog, err := rawFilter(rules)
		if err != nil {
			return err
		}
		progs = append(progs, prog)
	}
	// A copy has one thread and no scheduler: nothing may be collected,
	// preempted or grown in it.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for i := range calls {
		pid, errno := copyAndCall(progs, &calls[i])
		if errno != 0 {
			return errno
		}
		var status unix.WaitStatus
		for {
			_, err := unix.Wait4(int(pid), &status, 0, nil)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			break
		}
		say(copyResult(status))
	}
	runtime.KeepAlive(progs)
	return nil
}

func copyResult(status unix.WaitStatus) string {
	switch {
	case status.Signaled():
		return unix.SignalName(status.Signal())
	case status.ExitStatus() == noFilter:
		return "no-filter"
	}
	return answer(unix.Errno(status.ExitStatus()))
}

// copyAndCall forks. What the copy does must not enter the runtime.
//
//go:nosplit
//go:norace
func copyAndCall(progs []*unix.SockFprog, c *call) (uintptr, unix.Errno) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		return pid, errno
	}
	for i := range progs {
		_, _, errno = unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, allThreads, uintptr(unsafe.Pointer(progs[i])))
		if errno != 0 {
			break
		}
	}
	if errno != 0 {
		errno = noFilter
	} else {
		_, _, errno = unix.RawSyscall6(c.trap, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
	}
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(errno), 0, 0)
	}
}

func rawFilter(rules []rule) (*unix.SockFprog, error) {
	prog, err := assemble(native, rules)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return nil, err
	}
	code := make([]unix.SockFilter, len(raw))
	for i, ins := range raw {
		code[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	return &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}, nil
}

func init() {
	for what, calls := range map[string]func(childPlan) []call{
		"swept":  func(childPlan) []call { return swept },
		"sweeps": sweepCalls,
	} {
		// By its own list alone, or by that of a parent first.
		for name, before := range map[string][][]rule{
			what: nil, what + ", inherited": {parentRules(native, ids{4711, testUID, testUID}, false, Isolated)},
		} {
			childActs[name] = func(c childPlan) string {
				p, err := profileOf(c.Role, c.Queues)
				if err == nil {
					err = tryInCopies(append(before, p.rules), calls(c), say)
				}
				if err != nil {
					return err.Error()
				}
				return "end"
			}
		}
	}
	parentActs["swept"] = func(p *parentPlan) func() string {
		return func() string { return parentInCopies(p, swept) }
	}
}

// parentInCopies makes each call in a copy of the parent.
func parentInCopies(p *parentPlan, calls []call) string {
	var said []string
	rules := parentRules(native, ownIDs(), p.Lookups, p.In)
	err := run(parentCell(p.Lookups), parentFault)
	if err == nil {
		err = tryInCopies([][]rule{rules}, calls, func(s string) { said = append(said, s) })
	}
	if err != nil {
		return err.Error()
	}
	return strings.Join(append(said, "end"), " ")
}

// results takes apart what was said of so many calls.
func results(text string, count int) ([]string, error) {
	said := strings.Fields(text)
	if len(said) != count+1 || said[count] != "end" {
		return nil, fmt.Errorf("%d results of %d: %s", len(said)-1, count, strconv.Quote(text))
	}
	return said[:count], nil
}
