package sandbox

import (
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Isolation says in whose namespaces a child lives. The zero value is that
// which is safe.
type Isolation uint8

const (
	// Isolated children have six namespaces of their own.
	Isolated Isolation = iota
	// Shared children live in those of their parent: what is left when a host
	// forbids user namespaces and its administrator has said that this shall do
	// (sandbox.userNamespaces = "best-effort"). Seccomp, Landlock, no
	// capabilities, no_new_privs and the limits still stand. There is no empty
	// root, no pid and no network namespace behind them.
	Shared
)

// SharedWord is the last argument of a child with shared namespaces, so that
// ps and the audit show it.
const SharedWord = "shared-namespaces"

// firstPID is what a process calls itself in a pid namespace of its own.
const firstPID = 1

// share makes the profile that of process pid in its parent's namespaces. One
// limit cannot be kept: threads are counted together for all processes of the
// uid there, so that a runaway child can take those of the others.
func (p *profile) share(pid uint64) {
	for i := range p.rules {
		if p.rules[i].name == "tgkill" {
			p.rules[i].when = []condition{is(0, pid)}
		}
	}
	for i := range p.limits {
		if p.limits[i].resource == unix.RLIMIT_NPROC {
			p.limits[i].value = uint64(len(ipc.AllChildren)+1) * maxThreads
		}
	}
}
