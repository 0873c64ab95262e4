package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// A child of the real tree that makes a system call outside its list is
// killed by the kernel; the tree ends and names role, signal and system call.
// The call is forced on the child the way a debugger would, as an attacker in
// its memory could make it.
func TestForbiddenSyscall(t *testing.T) {
	for i, role := range ipc.AllChildren {
		call := []struct {
			name   string
			number uint64
		}{{"socket", unix.SYS_SOCKET}, {"openat", unix.SYS_OPENAT}, {"execve", unix.SYS_EXECVE}, {"ptrace", unix.SYS_PTRACE}, {"connect", unix.SYS_CONNECT}}[i]
		t.Run(string(role), func(t *testing.T) {
			f := families[0]
			l := openedWith(t, f, role)
			p := l.daemon.processes(t)
			l.daemon.mayLogErrors = true
			if role == ipc.RoleAllowlist {
				l.daemon.expectExit(70)
			}
			if err := force(p.children[role], call.number); err != nil {
				t.Fatal(err)
			}
			line := l.daemon.sees(t, "died", fields{"@level": "error", "role": string(role), "pid": p.children[role]})
			if role == ipc.RoleAllowlist {
				l.daemon.stopped(t, p, 70)
			} else {
				l.daemon.sees(t, "started again", fields{"role": string(role)})
			}
			const want = "killed by seccomp (SIGSYS): "
			what, ok := strings.CutPrefix(line.text("how"), want)
			// The kernel says which call it was only so many times a second, to
			// all processes together (printk_ratelimit in kernel/audit.c).
			if !ok || what != fmt.Sprintf("system call %s (%d)", call.name, call.number) && !strings.HasPrefix(what, "the kernel log names the system call: ") {
				t.Errorf("the log says %q, not %q and the system call", line.text("how"), want)
			}
		})
	}
}

// The parent is under a list too; when it falls, everything does.
func TestForbiddenSyscallOfParent(t *testing.T) {
	f := families[0]
	l := opened(t, f)
	p := l.daemon.processes(t)
	l.daemon.expectExit(-1)
	if err := force(p.parent, unix.SYS_PTRACE); err != nil {
		t.Fatal(err)
	}
	p.goneWithin(t, orphansFor)
	l.daemon.wait(t, patience)
	if state := l.daemon.cmd.ProcessState.Sys().(syscall.WaitStatus); !state.Signaled() || state.Signal() != unix.SIGSYS {
		t.Errorf("the parent ended with %#x", state)
	}
}

// force makes a process make a system call: one of its threads is stopped,
// its registers are set, and it is let go at a SYSCALL instruction.
func force(pid int, number uint64) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // a tracer is a thread
		result <- forceHere(pid, number)
	}()
	return <-result
}

func forceHere(pid int, number uint64) error {
	tid, err := waitingThread(pid)
	if err != nil {
		return err
	}
	if err := syscall.PtraceAttach(tid); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(tid, &status, unix.WALL, nil); err != nil || !status.Stopped() {
		return fmt.Errorf("wait: %#x, %w", int(status), err)
	}
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return fmt.Errorf("registers: %w", err)
	}
	// It waits in a system call, so the two octets before are the instruction.
	code := make([]byte, 2)
	if _, err := syscall.PtracePeekText(tid, uintptr(regs.Rip-2), code); err != nil || code[0] != 0x0f || code[1] != 0x05 {
		return fmt.Errorf("no SYSCALL instruction but %x, %w", code, err)
	}
	regs.Rip -= 2
	regs.Rax, regs.Orig_rax = number, ^uint64(0) // no call to restart
	regs.Rdi, regs.Rsi, regs.Rdx = 0, 0, 0
	if err := syscall.PtraceSetRegs(tid, &regs); err != nil {
		return fmt.Errorf("set registers: %w", err)
	}
	return syscall.PtraceDetach(tid)
}

// waitingThread is a thread that waits in a system call which a signal ends.
// Not the main one: of the daemon's, others of this process await news too.
func waitingThread(pid int) (int, error) {
	dirs, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, dir := range dirs {
		if filepath.Base(dir) == fmt.Sprint(pid) {
			continue
		}
		text, err := os.ReadFile(dir + "/syscall")
		if err != nil {
			continue
		}
		number, err := strconv.Atoi(strings.Fields(string(text))[0])
		if err == nil && (number == unix.SYS_EPOLL_PWAIT || number == unix.SYS_FUTEX) {
			return strconv.Atoi(filepath.Base(dir))
		}
	}
	return 0, fmt.Errorf("process %d has no thread that waits", pid)
}
