package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// step is one line of a list in which the order is the document.
type step struct {
	name    string
	do      func() error
	threads bool // needs calls on all threads, or would break the race detector
}

// plain is a step that concerns the process as a whole.
func plain(name string, do func() error) step { return step{name: name, do: do} }

// threads is a step that a race build has to leave out.
func threads(name string, do func() error) step { return step{name: name, do: do, threads: true} }

// errLacks marks a mechanism that the kernel does not have.
var errLacks = errors.New("the kernel lacks it")

// run does the steps in their order up to the first that fails. Its error
// names that step and has one of the codes that classify knows.
func run(steps []step, classify func(error) int) error {
	for _, s := range steps {
		if s.threads && RaceBuild {
			continue
		}
		if err := s.do(); err != nil {
			return exit.Errorf(classify(err), "%s: %w", s.name, err)
		}
	}
	return nil
}

// childFault: a child runs where the parent has already made namespaces, so
// what fails is missing in the kernel or a bug.
func childFault(err error) int {
	if errors.Is(err, errLacks) || errors.Is(err, errors.ErrUnsupported) {
		return exit.Unavailable
	}
	return exit.Software
}

// parentFault: the parent may also have been given too little.
func parentFault(err error) int {
	if errors.Is(err, unix.EPERM) {
		return exit.NoPerm
	}
	return childFault(err)
}

// bug is an error that only wrong code can cause.
func bug(format string, args ...any) error { return fmt.Errorf("bug: "+format, args...) }
