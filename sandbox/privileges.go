package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// netAdmin is the one capability that the parent keeps: it opens queues and
// sends verdicts with it.
const netAdmin = uint64(1) << unix.CAP_NET_ADMIN

// CapabilityHint says how the capability is given.
const CapabilityHint = "give it to the program:  setcap cap_net_admin+ep /path/to/egress-eddie\n" +
	"or to the service:      AmbientCapabilities=CAP_NET_ADMIN\n" +
	"or start it as root, which it stops being at once"

// DropPrivileges makes the parent an unprivileged process with CAP_NET_ADMIN
// and nothing else, for good: it tries to get the old ids back and requires
// that to fail. It returns the ids for ChildAttr.
//
// As root it becomes user: an account's name, a number, or "" for the account
// egress-eddie, and where there is none for a number between 61184 and 65519
// that no account and no process uses. root and nobody are refused. Files
// that only root may open must be open before. It needs CAP_SETUID,
// CAP_SETGID and CAP_SETPCAP besides.
//
// prepare, if not nil, is called with the ids while the process is still what
// it was: what shall belong to the new user is given to it there.
//
// As anybody else it stays who it is, gives every capability but the one
// back, and refuses a user who is somebody else.
//
// The process is not dumpable afterwards: see SetDumpable. The error is an
// *exit.Error: 77 for a privilege that is missing, 64 for a user that will
// not do, 69 and 70 as of Enter.
func DropPrivileges(user string, prepare func(uid, gid int) error) (uid, gid int, err error) {
	if err := needNetAdmin(); err != nil {
		return 0, 0, err
	}
	asRoot := os.Geteuid() == 0
	if asRoot {
		uid, gid, err = systemAccounts.identity(user)
	} else {
		uid, gid, err = ownIdentity(systemAccounts, user)
	}
	if err != nil {
		return 0, 0, err
	}
	if prepare != nil {
		if err := prepare(uid, gid); err != nil {
			return 0, 0, err
		}
	}
	var steps []step
	if asRoot {
		steps = leaveRoot(uid, gid)
	}
	if err := run(append(steps, keepNetAdminOnly(uid, gid, asRoot)...), parentFault); err != nil {
		return 0, 0, err
	}
	return uid, gid, nil
}

// leaveRoot changes the ids. The securebits make the change keep the
// capabilities, so that there is one place that takes them away.
func leaveRoot(uid, gid int) []step {
	return []step{
		threads("bounding set", dropBoundingSet),
		threads("securebits", lockSecurebits),
		threads("groups", func() error { return onAllThreadsNoResult(unix.SYS_SETGROUPS, 0, 0, 0) }),
		threads("gid", func() error { return onAllThreadsNoResult(unix.SYS_SETRESGID, gid, gid, gid) }),
		threads("uid", func() error { return onAllThreadsNoResult(unix.SYS_SETRESUID, uid, uid, uid) }),
	}
}

func keepNetAdminOnly(uid, gid int, asRoot bool) []step {
	return []step{
		plain("inherited descriptors", closeOnExec),
		plain("panics", showPanics),
		threads("ambient set", clearAmbientSet),
		threads("capset", func() error { return setCapabilities(netAdmin) }),
		threads("no_new_privs", noNewPrivs),
		threads("old ids", func() error { return proveNoWayBack(uid, gid) }),
		threads("read back", func() error { return provePrivileges(uid, gid, asRoot) }),
		plain("dumpable", func() error { return SetDumpable(false) }),
	}
}

func onAllThreadsNoResult(trap uintptr, a1, a2, a3 int) error {
	_, err := onAllThreads(trap, uintptr(a1), uintptr(a2), uintptr(a3), 0, 0)
	return err
}

func needNetAdmin() error {
	c, err := capabilitiesOf(0)
	if err != nil {
		return exit.Errorf(exit.Software, "capabilities: %w", err)
	}
	if c.permitted&netAdmin == 0 {
		return exit.WithHint(exit.NoPerm, CapabilityHint, "the capability CAP_NET_ADMIN is missing")
	}
	return nil
}

// ownIdentity is the identity of a process that is not root and so can have
// no other.
func ownIdentity(f accountFiles, user string) (uid, gid int, err error) {
	uid, gid = os.Getuid(), os.Getgid()
	if uid != os.Geteuid() || gid != os.Getegid() {
		return 0, 0, exit.Errorf(exit.Usage, "set-user-id and set-group-id programs are not supported")
	}
	if uid == nobody {
		return 0, 0, exit.WithHint(exit.Usage, "use an account of its own, or DynamicUser=yes",
			"this is nobody: any other process of nobody could end it")
	}
	if user == "" {
		return uid, gid, nil
	}
	other, _, err := f.identity(user)
	if err != nil {
		return 0, 0, err
	}
	if other != uid {
		return 0, 0, exit.Errorf(exit.Usage, "only root can become %q (uid %d), this is uid %d", user, other, uid)
	}
	return uid, gid, nil
}

// closeOnExec marks what the shell or the service manager left open, so that
// no child is born with it.
func closeOnExec() error { return unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) }

// showPanics: a program started with file capabilities runs in the runtime's
// secure mode, which hides the trace of a panic.
func showPanics() error {
	debug.SetTraceback("single")
	return nil
}

// proveNoWayBack asks for root, and for the saved ids a careless change would
// have left behind.
func proveNoWayBack(uid, gid int) error {
	for _, try := range []struct {
		name string
		trap uintptr
		own  int
	}{
		{"setuid", unix.SYS_SETUID, uid},
		{"setgid", unix.SYS_SETGID, gid},
	} {
		if try.own == 0 {
			return bug("%s: still 0", try.name)
		}
		if err := onAllThreadsNoResult(try.trap, 0, 0, 0); err == nil {
			return bug("%s(0) succeeded", try.name)
		} else if !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	return nil
}

// provePrivileges reads the state of every thread back from /proc.
func provePrivileges(uid, gid int, wasRoot bool) error {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	want := map[string]string{
		"Uid":        fmt.Sprintf("%d\t%[1]d\t%[1]d\t%[1]d", uid),
		"Gid":        fmt.Sprintf("%d\t%[1]d\t%[1]d\t%[1]d", gid),
		"CapInh":     fmt.Sprintf("%016x", 0),
		"CapPrm":     fmt.Sprintf("%016x", netAdmin),
		"CapEff":     fmt.Sprintf("%016x", netAdmin),
		"CapAmb":     fmt.Sprintf("%016x", 0),
		"NoNewPrivs": "1",
	}
	if wasRoot { // nobody else can change these two
		want["CapBnd"] = fmt.Sprintf("%016x", 0)
		want["Groups"] = ""
	}
	for _, e := range entries {
		status, err := readStatus("/proc/self/task/" + e.Name() + "/status")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return err
		}
		for field, value := range want {
			if got, ok := status[field]; !ok || got != value {
				return bug("thread %s: %s is %q, should be %q", e.Name(), field, got, value)
			}
		}
	}
	return nil
}
