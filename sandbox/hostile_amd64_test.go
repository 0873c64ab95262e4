//go:build !race

package sandbox

import (
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// amd64 has old calls that newer machines never had, and two more tables of
// calls: x32's, and i386's by way of int 0x80.
func init() {
	forbidden = append(forbidden,
		call{what: "open", trap: unix.SYS_OPEN, args: [6]uintptr{at(&passwd[0])}},
		call{what: "stat", trap: unix.SYS_STAT, args: [6]uintptr{at(&passwd[0]), at(&scratch)}},
		call{what: "lstat", trap: unix.SYS_LSTAT, args: [6]uintptr{at(&passwd[0]), at(&scratch)}},
		call{what: "newfstatat", trap: unix.SYS_NEWFSTATAT, args: [6]uintptr{minus(100), at(&passwd[0]), at(&scratch)}},
		call{what: "access", trap: unix.SYS_ACCESS, args: [6]uintptr{at(&passwd[0])}},
		call{what: "readlink", trap: unix.SYS_READLINK, args: [6]uintptr{at(&self[0]), at(&scratch), 4096}},
		call{what: "creat", trap: unix.SYS_CREAT, args: [6]uintptr{at(&passwd[0])}},
		call{what: "link", trap: unix.SYS_LINK, args: [6]uintptr{at(&passwd[0]), at(&root[0])}},
		call{what: "symlink", trap: unix.SYS_SYMLINK, args: [6]uintptr{at(&passwd[0]), at(&root[0])}},
		call{what: "rename", trap: unix.SYS_RENAME, args: [6]uintptr{at(&passwd[0]), at(&root[0])}},
		call{what: "unlink", trap: unix.SYS_UNLINK, args: [6]uintptr{at(&passwd[0])}},
		call{what: "mknod", trap: unix.SYS_MKNOD, args: [6]uintptr{at(&passwd[0]), unix.S_IFREG}},
		call{what: "pipe", trap: unix.SYS_PIPE, args: [6]uintptr{at(&scratch)}},
		call{what: "epoll_create", trap: unix.SYS_EPOLL_CREATE, args: [6]uintptr{1}},
		call{what: "select", trap: unix.SYS_SELECT},
		call{what: "modify_ldt", trap: unix.SYS_MODIFY_LDT, args: [6]uintptr{0, at(&scratch), 8}},
		call{what: "ioperm", trap: unix.SYS_IOPERM, args: [6]uintptr{0, 1, 1}},
		call{what: "old fork", trap: unix.SYS_FORK},
		call{what: "vfork", trap: unix.SYS_VFORK},
		call{what: "dup2", trap: unix.SYS_DUP2, args: [6]uintptr{ipc.FDStderr, ipc.FDControl}},
		call{what: "epoll_wait", trap: unix.SYS_EPOLL_WAIT, args: [6]uintptr{ipc.FDPoll, at(&scratch), 1}},
		call{what: "poll", trap: unix.SYS_POLL, args: [6]uintptr{at(&scratch), 0}},
		call{what: "arch_prctl", trap: unix.SYS_ARCH_PRCTL, args: [6]uintptr{0x1003, at(&scratch)}},
		call{what: "iopl", trap: unix.SYS_IOPL, args: [6]uintptr{3}},
		call{what: "x32 getpid", trap: unix.SYS_GETPID | 0x40000000},
		call{what: "x32 write", trap: unix.SYS_WRITE | 0x40000000, args: [6]uintptr{ipc.FDControl, at(&scratch), 1}},
		call{what: otherTable, do: int80},
	)
	forbiddenToParent = append(forbiddenToParent,
		call{what: "parent: arch_prctl of the other base", trap: unix.SYS_ARCH_PRCTL, args: [6]uintptr{0x1001, at(&scratch)}},
		call{what: "parent: newfstatat beside a directory", trap: unix.SYS_NEWFSTATAT, args: [6]uintptr{3, at(&passwd[0]), at(&scratch)}},
	)
	withoutFilter[otherTable] = "ok"
}

const otherTable = "i386 getuid"

// int80 makes a call by the i386 table, as no instruction of Go does: number
// 24 is getuid there, and sched_yield here, which is allowed. It is
// mov eax, 24; int 0x80; ret, mapped at the start of the program, since in a
// cell nothing can be made executable; and only of a program that shall make the
// call, since under its parent's list no child can.
var int80 = func() func() {
	if !strings.Contains(os.Args[len(os.Args)-1], otherTable) {
		return func() { panic("not mapped") }
	}
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		panic(err)
	}
	copy(page, []byte{0xb8, 24, 0, 0, 0, 0xcd, 0x80, 0xc3})
	code := &page[0]
	pointer := unsafe.Pointer(&code)
	return *(*func())(unsafe.Pointer(&pointer))
}()
