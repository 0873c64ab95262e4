package sandbox

import "golang.org/x/sys/unix"

// runtimeRules are what a Go 1.26 runtime without cgo needs, measured under
// load: garbage collection, timers, hundreds of goroutines, recovered and
// fatal panics. pid is the process's number in its own pid namespace.
//
// What is not here and why: mprotect and prctl (cgo, and a debugging aid that
// package main turns off with decoratemappings=0), sched_getaffinity and
// openat (processors are pinned), getrandom (the seed comes with the exec).
func runtimeRules(m machine, pid uint64) []rule {
	const (
		prot        = unix.PROT_READ | unix.PROT_WRITE
		reserve     = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
		futexWait   = 0 | 128 // FUTEX_WAIT, FUTEX_PRIVATE_FLAG
		futexWake   = 1 | 128 // FUTEX_WAKE
		noFile      = 0xffffffff
		noHugePages = unix.MADV_NOHUGEPAGE
	)
	return []rule{
		allow("futex", "goroutines and threads wait for each other", is(1, futexWait, futexWake)),
		allow("nanosleep", "the runtime's monitor thread"),
		allow("sched_yield", "spinning before a wait"),
		allow("madvise", "memory goes back to the kernel, or in huge pages",
			is(2, unix.MADV_DONTNEED, unix.MADV_FREE, unix.MADV_HUGEPAGE, noHugePages, unix.MADV_COLLAPSE)),
		allow("mmap", "heap and stacks: never executable, never a file; PROT_NONE reserves arenas",
			only(2, prot), is64(3, reserve, reserve|unix.MAP_FIXED), is(4, noFile)),
		allow("munmap", "gives back what mmap aligned"),
		allow("clone", "a thread, by exactly the runtime's flags: with CLONE_NEWUSER it would give all capabilities back",
			is64(0, m.clone)),
		allow("tgkill", "preemption and calls on all threads, within the process", is(0, pid)),
		allow("getpid", "tgkill's first argument"),
		allow("gettid", "tgkill's second argument, and a new thread's first question"),
		allow("rt_sigreturn", "the end of every signal handler"),
		allow("rt_sigprocmask", "signals are blocked while a thread is made"),
		allow("rt_sigaction", "the default action comes back before the runtime dies of a signal"),
		allow("sigaltstack", "each thread's signal stack"),
		allow("restart_syscall", "a sleep goes on after SIGSTOP and SIGCONT"),
		allow("exit", "a goroutine that ends while locked takes its thread along"),
		allow("exit_group", "the end, and the end of a panic's trace; refused with an errno it would hang for ever"),
	}
}
