package sandbox

import (
	"os"
	"strings"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// Started is an isolated child as its parent started it.
type Started struct {
	Role   ipc.Role
	Queues int // queue sockets that it holds
	PID    int
}

// Verify looks from outside at children of the calling process, which
// have said that their cells stand, and compares every thread of each with its
// profile: ids, capabilities, no_new_privs, filters, namespaces, id maps, root,
// limits, dumpable. Nobody believes a neighbour: work is handed out to what
// the kernel shows, not to who says Ready. The error is an *exit.Error with
// code 70 that names the role and all that deviates.
//
// Descriptors are not looked at: /proc/PID/fd of a process that is not
// dumpable is root's. Each child has proved its own before it became so
// (proveDescriptors), and Audit, as root, sees them. Nor are Shared children:
// the parent may trace none of them, and may not even see them in /proc.
//
// NB: on the thread that started them. Each thread has a Landlock domain of its
// own, and may look only at what was born below it.
func Verify(children []Started) error {
	rows, err := lookOutside(children)
	if err != nil {
		return exit.Errorf(exit.Software, "verifying the cells: %w", err)
	}
	r := Report{Processes: rows}
	r.compareNamespaces()
	for i := range r.Processes[1:] {
		row := &r.Processes[i+1]
		row.judgeChild(&r.Processes[0])
		if len(row.Deviations) > 0 {
			return exit.Errorf(exit.Software, "%s (pid %d) is not in its cell: %s",
				row.Role, row.PID, strings.Join(row.Deviations, "; "))
		}
	}
	return nil
}

// lookOutside is the calling process and its children, as far as it may see.
func lookOutside(children []Started) ([]Row, error) {
	parent, err := look(running{role: ipc.RoleParent, pid: os.Getpid()}, lookParent)
	if err != nil {
		return nil, lookError(os.Getpid(), err)
	}
	rows := []Row{parent}
	for _, c := range children {
		row, err := look(running{role: c.Role, queues: c.Queues, pid: c.PID}, lookChild)
		if err != nil {
			return nil, lookError(c.PID, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}
