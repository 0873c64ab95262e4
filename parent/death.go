package parent

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

// death is how a child ended.
type death struct {
	status unix.WaitStatus
	words  []byte // the beginning of what it said on stderr
}

// how says it in words for the log. For SIGSYS the kernel tells the parent no
// system call (SECCOMP_RET_KILL_PROCESS leaves siginfo without a number), but
// its log does, where it can be read.
func (d death) how(pid int, k *kernelLog) string {
	switch {
	case d.status.Exited():
		return fmt.Sprintf("exit status %d", d.status.ExitStatus())
	case d.status.Signaled() && d.status.Signal() == unix.SIGSYS:
		return "killed by seccomp (SIGSYS): " + k.forbidden(pid)
	case d.status.Signaled():
		return fmt.Sprintf("signal %s", unix.SignalName(d.status.Signal()))
	}
	return fmt.Sprintf("wait status %#x", int(d.status))
}

// maxLines bounds the lines of last words: a trace is shorter.
const maxLines = 200

// lines are the last words, each escaped: a child may have been made to say
// anything.
func (d death) lines() []string {
	var lines []string
	for line := range bytes.Lines(d.words) {
		if len(lines) == maxLines {
			return append(lines, "(and more)")
		}
		text := fmt.Sprintf("%q", bytes.TrimRight(line, "\n"))
		lines = append(lines, text[1:len(text)-1])
	}
	return lines
}

// startError explains why a child could not be started.
func startError(role ipc.Role, err error) error {
	why := sandbox.WhyForbidden()
	switch {
	case errors.Is(err, syscall.EACCES) && len(why.By) == 0:
		return exit.WithHint(exit.NoPerm,
			"the file of the program must be executable for everybody (chmod 755): its children run as an unprivileged user",
			"%s: cannot start: %w", role, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return exit.WithHint(exit.Unavailable,
			"more open files are needed, two for each queue: ulimit -n, or LimitNOFILE= of the unit",
			"%s: cannot start: %w", role, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EACCES):
		return exit.WithHint(exit.Unavailable, why.Hint+"\n"+withoutIsolation,
			"%s: cannot start in namespaces of its own: %w%s", role, err, forbiddenBy(why))
	}
	return exit.Errorf(exit.Software, "%s: cannot start: %w", role, err)
}

// withoutIsolation is said to who has not chosen it already.
const withoutIsolation = `to run with processes that are not isolated: sandbox.userNamespaces = "best-effort"`

func forbiddenBy(why sandbox.Forbidden) string {
	if len(why.By) == 0 {
		return ""
	}
	return " (" + strings.Join(why.By, "; ") + ")"
}

// deathError is the error with which the tree ends when a child has died.
func deathError(c *child, d *death, how string) error {
	if !d.status.Exited() || d.status.ExitStatus() != exit.Unavailable {
		return exit.Errorf(exit.Software, "%s (pid %d) died: %s", c.role, c.pid, how)
	}
	if !sandbox.WithoutCapabilities(string(d.words)) {
		return exit.Errorf(exit.Unavailable, "%s (pid %d) died: %s", c.role, c.pid, how)
	}
	why := sandbox.WhyForbidden()
	return exit.WithHint(exit.Unavailable, why.Hint+"\n"+withoutIsolation,
		"%s (pid %d): no capabilities in namespaces of its own%s", c.role, c.pid, forbiddenBy(why))
}
