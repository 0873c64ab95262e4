package parent

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/sandbox"
)

// kernelLog is the kernel's log from the moment it was opened on. It is
// opened before privileges are dropped, and often cannot be: then fd is -1.
type kernelLog struct{ fd int }

func openKernelLog() *kernelLog {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &kernelLog{fd: -1}
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return &kernelLog{fd: -1}
	}
	return &kernelLog{fd: fd}
}

// forbidden names the system call for which seccomp killed a process, as the
// kernel's audit line tells it (kernel/auditsc.c, audit_seccomp).
func (k *kernelLog) forbidden(pid int) string {
	found := "the kernel log names the system call: journalctl -k --grep type=1326"
	if k.fd < 0 {
		return found
	}
	buf := make([]byte, 8192) // a record is at most CONSOLE_EXT_LOG_MAX octets
	for range 10_000 {        // bounded: the log is filled by others too
		n, err := unix.Read(k.fd, buf)
		if err == unix.EPIPE || err == unix.EINTR {
			continue // records were overwritten before they were read
		}
		if err != nil || n == 0 {
			return found
		}
		fields := strings.Fields(string(buf[:n]))
		if nr, ok := auditSyscall(fields, pid); ok {
			return fmt.Sprintf("system call %s (%d)", sandbox.SyscallName(nr), nr)
		}
	}
	return found
}

func auditSyscall(fields []string, pid int) (int, bool) {
	seccomp, ours, nr := false, false, -1
	for _, f := range fields {
		key, value, _ := strings.Cut(f, "=")
		switch {
		case strings.HasSuffix(f, "type=1326"): // AUDIT_SECCOMP
			seccomp = true
		case key == "pid" && value == strconv.Itoa(pid):
			ours = true
		case key == "syscall":
			if v, err := strconv.Atoi(value); err == nil {
				nr = v
			}
		}
	}
	return nr, seccomp && ours && nr >= 0
}
