package sandbox

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (include/uapi/linux/seccomp.h), of which a
// filter reads 32 bits at a time. Both our machines are little-endian, so the
// low half of an argument comes first.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// assemble makes the program for a list of rules: what is not in it, or not
// with these arguments, kills the process; so does a call by another
// architecture's table.
//
// Every rule becomes a closed block. Once the number has matched, each path
// through the block ends in a return, so what a test of an argument left in
// the accumulator is never compared with a number; the number is loaded again
// after each such block all the same.
func assemble(m machine, rules []rule) ([]bpf.Instruction, error) {
	prog := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(m.info.ID), SkipTrue: 1},
		kill,
		bpf.LoadAbsolute{Off: offsetNumber, Size: 4},
	}
	if m.x32 != 0 { // no rule's number has the bit: this only says so at once
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: m.x32, SkipFalse: 1}, kill)
	}
	seen := make(map[string]bool)
	for _, r := range rules {
		number, ok := m.info.SyscallNames[r.name]
		if !ok || seen[r.name] {
			return nil, bug("seccomp rule %q: unknown to %s, or twice in a list", r.name, m.info.Name)
		}
		seen[r.name] = true
		block, err := r.block()
		if err != nil {
			return nil, err
		}
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(number), SkipFalse: uint8(len(block))})
		prog = append(prog, block...)
		if len(r.when) > 0 {
			prog = append(prog, bpf.LoadAbsolute{Off: offsetNumber, Size: 4})
		}
	}
	return append(prog, kill), nil
}

var (
	kill       = bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS}
	permit     = bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	answerZero = bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO} // errno 0: the call returns 0
)

// block is what follows once the number has matched.
func (r *rule) block() (block []bpf.Instruction, err error) {
	for _, c := range r.when {
		code, err := c.code()
		if err != nil {
			return nil, fmt.Errorf("seccomp rule %q: %w", r.name, err)
		}
		block = append(block, code...)
	}
	if r.zero {
		block = append(block, answerZero)
	} else {
		block = append(block, permit)
	}
	if len(block) > 255 {
		return nil, bug("seccomp rule %q: longer than a jump", r.name)
	}
	return block, nil
}

// code goes on behind its end if the condition holds and kills if not.
func (c *condition) code() ([]bpf.Instruction, error) {
	low := bpf.LoadAbsolute{Off: uint32(offsetArgs + 8*c.arg), Size: 4}
	high := bpf.LoadAbsolute{Off: low.Off + 4, Size: 4}
	noHigh := []bpf.Instruction{high, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1}, kill}
	for _, v := range c.values {
		if v>>32 != 0 || c.arg > 5 {
			return nil, bug("value %#x of argument %d", v, c.arg)
		}
	}
	switch c.kind {
	case isOneOf:
		return append([]bpf.Instruction{low}, equalsOneOf(c.values)...), nil
	case is64OneOf:
		return append(append(noHigh, low), equalsOneOf(c.values)...), nil
	case inRange:
		return append([]bpf.Instruction{low}, fromTo(c.values[0], c.values[1])...), nil
	case inRangeOrOneOf:
		code, single := []bpf.Instruction{low}, c.values[2:]
		for i, v := range single { // a match jumps behind the last instruction of fromTo
			code = append(code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(v), SkipTrue: uint8(len(single) - i + 2)})
		}
		return append(code, fromTo(c.values[0], c.values[1])...), nil
	case hasOnlyBits:
		return append(noHigh, low,
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: ^uint32(c.values[0]), SkipFalse: 1}, kill), nil
	case maskedIs:
		masked := []bpf.Instruction{low, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: uint32(c.values[0])}}
		return append(masked, equalsOneOf(c.values[1:])...), nil
	}
	return nil, bug("condition of kind %d", c.kind)
}

// equalsOneOf compares the accumulator with each value; the last instruction
// kills, and every match jumps behind it.
func equalsOneOf(values []uint64) (code []bpf.Instruction) {
	for i, v := range values {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(v), SkipTrue: uint8(len(values) - i)})
	}
	return append(code, kill)
}

// fromTo compares the accumulator with two bounds; the last of the three
// instructions kills, and what is within them jumps behind it.
func fromTo(first, last uint64) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: uint32(first), SkipFalse: 1},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(last), SkipFalse: 1},
		kill,
	}
}

// loadFilter puts the list on every thread at once, for good. It needs
// no_new_privs.
//
// NB: without TSYNC_ESRCH the kernel reports a thread that could not be
// brought under the filter by returning its number, which looks like success
// to a caller that checks the errno alone.
func loadFilter(rules []rule) error {
	prog, err := assemble(native, rules)
	if err != nil {
		return err
	}
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return bug("assemble: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, ins := range raw {
		code[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return errno
	}
	if r != 0 {
		return bug("thread %d is not under the filter", r)
	}
	return nil
}
