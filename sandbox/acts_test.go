package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

var childActs = map[string]func(childPlan) string{
	"nothing": func(childPlan) string { return "done" },
	"load":    func(childPlan) string { return load(loadPhase, func() { say("stop me") }) },
	"panic under load": func(childPlan) string {
		panicUnderLoad()
		return "no panic"
	},
	"grow":   func(childPlan) string { return grow() },
	"honest": honest,
	"hang": func(childPlan) string {
		for {
			ts := unix.Timespec{Sec: 1}
			_ = unix.Nanosleep(&ts, nil)
		}
	},
	"exit 3": func(childPlan) string { os.Exit(3); return "" },
	"panic": func(childPlan) string {
		go func() { panic("boom") }()
		select {}
	},
	"nil dereference": func(childPlan) string {
		var p *int
		*p = 1
		return ""
	},
	"SIGTERM": func(childPlan) string {
		say("terminate me")
		time.Sleep(10 * time.Second)
		return "still alive"
	},
	"thread bomb": func(childPlan) string {
		for range 100 {
			go func() {
				runtime.LockOSThread()
				ts := unix.Timespec{Sec: 5}
				_ = unix.Nanosleep(&ts, nil)
			}()
		}
		time.Sleep(2 * time.Second)
		return "100 threads"
	},
	"memory": func(childPlan) string {
		big := make([]byte, 2<<30)
		for i := 0; i < len(big); i += 4096 {
			big[i] = 1
		}
		return fmt.Sprint(len(big))
	},
	"enter without namespaces": func(c childPlan) string {
		return failedEnter(setCapabilities(0), c.Role, c.Queues)
	},
	"enter with a timer before": func(c childPlan) string {
		time.Sleep(time.Millisecond)
		return failedEnter(nil, c.Role, c.Queues)
	},
	"enter with too many queues": func(c childPlan) string {
		return failedEnter(nil, c.Role, c.Queues+1)
	},
	"enter with a file of its own": func(c childPlan) string {
		return failedEnter(unix.Dup3(ipc.FDControl, ipc.FDQueues+c.Queues, unix.O_CLOEXEC), c.Role, c.Queues+1)
	},
	"enter without landlock": func(c childPlan) string {
		return failedEnter(lose(unix.SYS_LANDLOCK_CREATE_RULESET), c.Role, c.Queues)
	},
	"enter without seccomp": func(c childPlan) string {
		return failedEnter(lose(unix.SYS_SECCOMP), c.Role, c.Queues)
	},
	"enter as nobody": func(childPlan) string { return failedEnter(nil, "nobody", 0) },
	"state":           func(childPlan) string { return state() },
	"landlock 1":      func(childPlan) string { return landlockAt(1) },
	"landlock 2":      func(childPlan) string { return landlockAt(2) },
	"landlock 4":      func(childPlan) string { return landlockAt(4) },
	"landlock 7":      func(childPlan) string { return landlockAt(7) },
	"landlock parent": func(childPlan) string { return landlockEffects(func() error { return denyNetworkOnAllThreads(false) }) },
	"landlock parent, lookups": func(childPlan) string {
		return landlockEffects(func() error { return denyNetworkOnAllThreads(true) })
	},
}

// honest does once what the loops of a role do.
func honest(c childPlan) string {
	poller, err := ipc.NewPoller()
	if err != nil {
		return err.Error()
	}
	p, err := profileOf(c.Role, c.Queues)
	if err != nil {
		return err.Error()
	}
	for _, fd := range p.held() {
		if fd == ipc.FDStderr || fd == ipc.FDLog {
			continue
		}
		if err := poller.Add(fd); err != nil {
			return fmt.Sprintf("add %d: %v", fd, err)
		}
	}
	if ipc.Now() == 0 {
		return "no time"
	}
	for i := range c.Queues {
		var hdr [64]byte
		_, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(ipc.FDQueues+i), uintptr(unsafe.Pointer(&hdr)), 1, unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EAGAIN {
			return "recvmmsg: " + answer(errno)
		}
	}
	if p.passes != nil {
		if err := useSockets(poller); err != nil {
			return err.Error()
		}
		return "did its work"
	}
	var buf [16]byte
	if n, _, _, _, err := unix.Recvmsg(ipc.FDControl, buf[:], buf[:], unix.MSG_CMSG_CLOEXEC); string(buf[:max(n, 0)]) != firstWord {
		return fmt.Sprintf("recvmsg: %q, %v", buf[:max(n, 0)], err)
	}
	if p.holds(ipc.FDLog) {
		if _, err := unix.Write(ipc.FDLog, []byte("line")); err != nil {
			return err.Error()
		}
		// Any new descriptor lands where one from the parent would.
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return err.Error()
		}
		if err := firstError(unix.Dup3(fd, ipc.FDLog, unix.O_CLOEXEC), unix.Close(fd)); err != nil {
			return err.Error()
		}
	}
	return "did its work"
}

// state is what a child can say of itself where no filter forbids it.
func state() string {
	c, err := capabilitiesOf(0)
	if err != nil {
		return err.Error()
	}
	var nofile, nproc, core unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &nofile)
	_ = unix.Getrlimit(unix.RLIMIT_NPROC, &nproc)
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &core)
	raise := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: nofile.Cur + 1, Max: nofile.Max + 1}, nil)
	dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	cwd, _ := unix.Getwd()
	return fmt.Sprintf("caps %x/%x/%x nofile %d nproc %d core %d raise %v dumpable %d cwd %s env %d procs %t",
		c.effective, c.permitted, c.inheritable, nofile.Max, nproc.Max, core.Max, raise, dumpable, cwd, len(os.Environ()),
		runtime.GOMAXPROCS(0) <= maxProcessors)
}

func landlockAt(abi int) string {
	real, errata, err := landlockVersion()
	if err != nil || real < abi {
		return fmt.Sprintf("this kernel has ABI %d, the test needs %d: %v", real, abi, err)
	}
	return landlockEffects(func() error { return restrict(denyAll(abi, errata)) })
}

// landlockEffects restricts, then tries one thing for each kind of right, on
// another thread than the one that was restricted first.
func landlockEffects(restrict func() error) string {
	const name = "@landlock test" // abstract, in the child's own network namespace
	server, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	// Both goroutines keep their threads, and both threads are there before.
	runtime.LockOSThread()
	begin, result := make(chan bool), make(chan string)
	go func() {
		runtime.LockOSThread()
		begin <- true
		<-begin
		inet, err1 := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		local, err2 := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err := firstError(err1, err2); err != nil {
			result <- err.Error()
		}
		result <- fmt.Sprintf("open %s, bind %s, abstract %s, mount %s, signal own thread %s",
			errName(tryOpen("/etc/passwd")()),
			errName(unix.Bind(inet, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})),
			errName(unix.Connect(local, &unix.SockaddrUnix{Name: name})),
			errName(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")),
			errName(tgkillSelf()))
	}()
	<-begin
	if err := firstError(err, unix.Bind(server, &unix.SockaddrUnix{Name: name}), unix.Listen(server, 1), restrict()); err != nil {
		return err.Error()
	}
	begin <- true
	return <-result
}

// tgkillSelf signals a thread of the own process, as the runtime does.
func tgkillSelf() error {
	_, _, errno := unix.RawSyscall(unix.SYS_TGKILL, uintptr(unix.Getpid()), uintptr(unix.Getpid()), uintptr(unix.SIGURG))
	if errno != 0 {
		return errno
	}
	return nil
}

func errName(err error) string {
	if err == nil {
		return "ok"
	}
	return unix.ErrnoName(err.(syscall.Errno))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// failedEnter ends the child as main would when Enter fails.
func failedEnter(before error, role ipc.Role, queues int) string {
	if before != nil {
		return before.Error()
	}
	if err := Enter(role, queues, Isolated); err != nil {
		childFails(err)
	}
	return "entered"
}

// lose makes a system call answer as on a kernel that does not have it.
func lose(trap uint32) error {
	return loadRaw([]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: trap, Jf: 1},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	})
}

func loadRaw(filter []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}
