package sandbox

import "github.com/elastic/go-seccomp-bpf/arch"

// machine is what a filter must know of the processor it is for.
type machine struct {
	info *arch.Info
	// clone are the flags with which the Go runtime starts a thread
	// (runtime/os_linux.go, cloneFlags; amd64 adds CLONE_SETTLS in
	// sys_linux_amd64.s).
	clone uint64
	// x32 is the bit that marks calls of the x32 ABI, which share amd64's
	// audit number; 0 where there is no such ABI.
	x32 uint32
	// startsWith is what the Go runtime sets its thread's base register with
	// before anything else (runtime/sys_linux_amd64.s), "" where it is no call.
	startsWith string
	// startsWithWhat is its first argument.
	startsWithWhat uint64
	// fileStatus is the name of stat's system call.
	fileStatus string
}
