//go:build !race

package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// nowhere is no address of any process: what is allowed fails there at once,
// having done nothing.
const nowhere = 1 << 63

// sweep is a call that a list allows on some descriptors only.
type sweep struct {
	what string
	trap uintptr
	at   int        // the argument that is the descriptor
	args [6]uintptr // the others, as the list wants them
	may  func(row *roleRow, queues int) []uint64
}

var sweeps = []sweep{
	{"read", unix.SYS_READ, 0, [6]uintptr{0, nowhere, 1},
		func(row *roleRow, _ int) []uint64 {
			return row.andSockets(append([]uint64{fdRuntimeEvent}, row.reads...)...)
		}},
	{"write", unix.SYS_WRITE, 0, [6]uintptr{0, nowhere, 1},
		func(row *roleRow, _ int) []uint64 {
			return row.andSockets(append([]uint64{fdRuntimeEvent}, row.writes...)...)
		}},
	{"recvmsg", unix.SYS_RECVMSG, 0, [6]uintptr{0, nowhere, unix.MSG_CMSG_CLOEXEC}, always(ipc.FDControl)},
	{"recvmmsg", unix.SYS_RECVMMSG, 0, [6]uintptr{0, nowhere, 1, unix.MSG_DONTWAIT},
		func(_ *roleRow, queues int) (fds []uint64) {
			for i := range queues {
				fds = append(fds, ipc.FDQueues+uint64(i))
			}
			return fds
		}},
	{"epoll_ctl", unix.SYS_EPOLL_CTL, 0, [6]uintptr{0, unix.EPOLL_CTL_ADD, ipc.FDControl, nowhere}, always(ipc.FDPoll)},
	{"epoll_pwait", unix.SYS_EPOLL_PWAIT, 0, [6]uintptr{0, nowhere, 0}, always(ipc.FDPoll, fdRuntimePoll)},
	{"close", unix.SYS_CLOSE, 0, [6]uintptr{},
		func(row *roleRow, _ int) []uint64 { return row.andSockets(row.landing()) }},
	{"dup3 from", unix.SYS_DUP3, 0, [6]uintptr{0, ipc.FDPoll, unix.O_CLOEXEC}, landed},
	{"dup3 from, inheritable", unix.SYS_DUP3, 0, [6]uintptr{0, ipc.FDPoll, 0}, always()},
	dup3To(4), dup3To(5), dup3To(12), // where roles have their landing slots
}

func dup3To(from uintptr) sweep {
	return sweep{fmt.Sprintf("dup3 from %d to", from), unix.SYS_DUP3, 1, [6]uintptr{from, 0, unix.O_CLOEXEC},
		func(row *roleRow, _ int) []uint64 {
			if row.landing() != uint64(from) {
				return nil
			}
			return row.andSockets(row.destinations()...)
		}}
}

func always(fds ...uint64) func(*roleRow, int) []uint64 {
	return func(*roleRow, int) []uint64 { return fds }
}

func landed(row *roleRow, _ int) []uint64 { return []uint64{row.landing()} }

// andSockets are those descriptors and the sockets.
func (row *roleRow) andSockets(fds ...uint64) []uint64 {
	for i := range row.sockets {
		fds = append(fds, ipc.FDSockets+i)
	}
	return fds
}

// numbersSwept are those that a child with three queues, or all its sockets, can
// have, and two more.
func numbersSwept(c childPlan) int {
	return ipc.FDQueues + max(3, int(rowOf(c.Role).sockets)) + 3
}

// sweepCalls are all calls on all numbers.
func sweepCalls(c childPlan) (calls []call) {
	for _, s := range sweeps {
		for fd := range uintptr(numbersSwept(c)) {
			c := call{what: fmt.Sprintf("%s, descriptor %d", s.what, fd), trap: s.trap, args: s.args}
			c.args[s.at] = fd
			calls = append(calls, c)
		}
	}
	return calls
}

// TestDescriptorSweep makes each call on every number there is: it kills
// unless the role's row has the number, and then it does not. It is so under the
// role's list alone, and under its parent's as well.
func TestDescriptorSweep(t *testing.T) {
	for i := range roles {
		row := &roles[i]
		p := plan(row.role, buildCell, "sweeps")
		calls, numbers := sweepCalls(p), numbersSwept(p)
		inherited := p
		inherited.Act += ", inherited"
		for _, o := range runParent(t, startRoot, parentPlan{Children: []childPlan{p, inherited}, Lock: lockOpen}).Outcomes {
			got, err := results(o.Result, len(calls))
			if err != nil {
				t.Fatalf("%s: %v", o, err)
			}
			allowed := 0
			for i, result := range got {
				s, fd := &sweeps[i/numbers], uint64(i%numbers)
				want, ok := "SIGSYS", result == "SIGSYS"
				if slices.Contains(s.may(row, p.Queues), fd) {
					allowed++
					want, ok = "an error", strings.HasPrefix(result, "E")
				}
				if !ok {
					t.Errorf("%s: %s: %s, should be %s", row.role, calls[i].what, result, want)
				}
			}
			t.Logf("%s, %s: %d attempts, %d of them allowed", row.role, o.Plan.Act, len(calls), allowed)
		}
	}
}
