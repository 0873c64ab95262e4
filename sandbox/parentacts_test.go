package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// parentActs are what the parent does at the end of its plan. The outer
// function runs before LockParent and prepares.
var parentActs = map[string]func(*parentPlan) func() string{
	"nothing":    now(func() string { return "" }),
	"privileges": now(parentPrivileges),
	"load":       now(func() string { return load(loadPhase, func() { fmt.Fprintln(os.Stderr, "stop me") }) }),
	"grow":       now(grow),
	"short load": now(func() string { return load(time.Second, func() {}) }),
	"panic under load": now(func() string {
		panicUnderLoad()
		return "no panic"
	}),
	"honest": honestParent,
	"execute another program": now(func() string {
		return syscall.Exec("/bin/true", []string{"true"}, nil).Error()
	}),
	"why forbidden": now(func() string { return fmt.Sprintf("%q", WhyForbidden().By) }),
	"panic":         now(func() string { panic("boom") }),
	"second thread": now(func() string {
		if err := parentCanary.prove(); err != nil {
			return err.Error()
		}
		return "all threads under the list"
	}),
}

func now(f func() string) func(*parentPlan) func() string {
	return func(*parentPlan) func() string { return f }
}

// parentPrivileges is what the parent has and what it can get.
func parentPrivileges() string {
	status, err := readStatus("/proc/self/status")
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, field := range []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"} {
		fmt.Fprintf(&b, "%s=%s ", field, strings.Join(strings.Fields(status[field]), ","))
	}
	_, shadow := os.ReadFile("/etc/shadow")
	dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	inherited, _ := unix.FcntlInt(3, unix.F_GETFD, 0)
	fmt.Fprintf(&b, "setuid %v, setgid %v, setgroups %v, shadow %v, setcap %v, dumpable %d, fd3 %d",
		errName(syscall.Setuid(0)), errName(syscall.Setgid(0)), errName(syscall.Setgroups([]int{0})),
		os.IsPermission(shadow), errName(setCapabilities(netAdmin|1<<unix.CAP_SYS_ADMIN)), dumpable, inherited)
	return b.String()
}

// honestParent does what the parent does once it is locked.
func honestParent(*parentPlan) func() string {
	fail := func(err error) func() string { return func() string { return err.Error() } }
	dir, err := os.MkdirTemp("", "egress-eddie-test")
	if err != nil {
		return fail(err)
	}
	path := filepath.Join(dir, "log")
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fail(err)
	}
	// The parent is killed in some tests: leave nothing behind.
	if err := os.RemoveAll(dir); err != nil {
		return fail(err)
	}
	proc, err := os.Open("/proc/net/dev")
	if err != nil {
		return fail(err)
	}
	netlink, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fail(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	return func() string {
		files := []uintptr{^uintptr(0), ^uintptr(0), os.Stderr.Fd(), log.Fd()}
		pid, pidfd, err := fork(childPlan{Role: ipc.RoleRequests, Build: buildNone, Act: "hang"}, files, own.uid, own.gid, Isolated)
		if err != nil {
			return err.Error()
		}
		again, openErr := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
		if openErr != nil {
			return openErr.Error()
		}
		if err := unix.Dup3(again, int(log.Fd()), unix.O_CLOEXEC); err != nil {
			return err.Error()
		}
		if _, err := log.WriteString("line\n"); err != nil {
			return err.Error()
		}
		if err := unix.Close(again); err != nil {
			return err.Error()
		}
		var buf [16]byte
		if _, err := proc.ReadAt(buf[:], 0); err != nil {
			return err.Error()
		}
		rights := unix.UnixRights(int(log.Fd()))
		_, netlinkErr := unix.Write(netlink, buf[:])
		if err := firstError(netlinkErr, unix.Sendmsg(pair[0], buf[:], rights, nil, unix.MSG_DONTWAIT)); err != nil {
			return err.Error()
		}
		if _, err := unix.Read(pair[1], buf[:]); err != nil {
			return err.Error()
		}
		if err := firstError(unix.Shutdown(pair[1], unix.SHUT_RDWR), unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)); err != nil {
			return err.Error()
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
			return err.Error()
		}
		return "signal: " + status.Signal().String()
	}
}
