package parent

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// logTarget is where the log goes. The parent opens it, the children that
// hold a log inherit it.
type logTarget struct {
	path    string // empty for stdout and stderr
	fd      int
	created bool // by this process
	journal bool // it is the journal's stream; what has a path never is
}

func openLog(where string, journal journalStream) (*logTarget, error) {
	source := -1
	switch where {
	case "stdout":
		source = unix.Stdout
	case "stderr":
		source = unix.Stderr
	}
	if source < 0 {
		fd, err := openLogFile(where, unix.O_EXCL)
		created := err == nil
		if err == unix.EEXIST {
			fd, err = openLogFile(where, 0)
		}
		if err != nil {
			return nil, exit.Errorf(exit.Usage, "-l %s: %w", where, err)
		}
		return &logTarget{path: where, fd: fd, created: created}, nil
	}
	fd, err := unix.FcntlInt(uintptr(source), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, exit.Errorf(exit.Usage, "-l %s: %w", where, err)
	}
	return &logTarget{fd: fd, journal: journal.is(fd)}, nil
}

// openLogFile opens for appending: every line is one write by one of three
// processes, and O_APPEND keeps them whole and in order. O_NONBLOCK is for a
// FIFO: without a reader its opening would wait for one.
func openLogFile(path string, flags int) (int, error) {
	flags |= unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK
	return unix.Open(path, flags, 0o640)
}

// terminal reports whether the log is read by a person as it is written.
func (l *logTarget) terminal() bool {
	_, err := unix.IoctlGetTermios(l.fd, unix.TCGETS)
	return err == nil
}

// reopen opens the file again under the number that the old one had, so that
// whoever holds the number writes to the new file from then on.
func (l *logTarget) reopen() error {
	if l.path == "" {
		return nil
	}
	fd, err := openLogFile(l.path, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", l.path, err)
	}
	defer unix.Close(fd)
	if err := unix.Dup3(fd, l.fd, unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("%s: dup3: %w", l.path, err)
	}
	return nil
}

// give makes a file that this process created as root belong to the user it
// is about to become, so that it can be opened again. Only what it created: -l
// may name a device, or a file that is somebody else's.
func (l *logTarget) give(uid, gid int) error {
	if !l.created {
		return nil
	}
	if err := unix.Fchown(l.fd, uid, gid); err != nil && err != unix.EPERM {
		return fmt.Errorf("%s: chown: %w", l.path, err)
	}
	return nil
}
