package parent

import (
	"errors"
	"runtime"

	"github.com/capnspacehook/egress-eddie/sandbox"
)

// starter is the thread that starts children. They die with it (PDEATHSIG), so
// it lives as long as the process, and they stand where it stands: behind the main
// thread.
type starter struct{ work chan func() }

// newStarter makes the thread. NB: after DropPrivileges; see sandbox.ChildAttr.
func newStarter() (starter, error) {
	s := starter{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks it
		ready <- sandbox.StandBehind()
		for f := range s.work {
			f()
		}
	}()
	return s, <-ready
}

// do runs f on the thread, and in that time the process is dumpable: the uid_map
// of a child of a parent that is not belongs to root.
func (s starter) do(f func() error) error {
	done := make(chan error)
	s.work <- func() {
		err := sandbox.SetDumpable(true)
		if err == nil {
			err = f()
		}
		done <- errors.Join(err, sandbox.SetDumpable(false))
	}
	return <-done
}
