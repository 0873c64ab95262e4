package sandbox

import "golang.org/x/sys/unix"

// rule is one line of a seccomp list: a system call by name, what its
// arguments must be, and why the process needs it.
type rule struct {
	name   string
	reason string
	when   []condition // all must hold, else the process is killed
	zero   bool        // do not make the call, answer 0: the canary
}

// condition is a test of one argument. A test on 32 bits is for arguments
// that the kernel itself cuts to an int or unsigned int, so that the upper
// half means nothing; the others test all 64.
type condition struct {
	arg  uint
	kind conditionKind
	// isOneOf, is64OneOf: the values; inRange: first and last; inRangeOrOneOf:
	// first, last and then the values; hasOnlyBits: the mask; maskedIs: the mask
	// and then the values.
	values []uint64
}

type conditionKind uint8

const (
	isOneOf conditionKind = iota + 1
	is64OneOf
	inRange
	inRangeOrOneOf
	hasOnlyBits
	maskedIs
)

func allow(name, reason string, when ...condition) rule {
	return rule{name: name, reason: reason, when: when}
}

// is: the low 32 bits are one of the values.
func is(arg uint, values ...uint64) condition {
	return condition{arg: arg, kind: isOneOf, values: values}
}

// is64: the argument is one of the values, which fit 32 bits, in full.
func is64(arg uint, values ...uint64) condition {
	return condition{arg: arg, kind: is64OneOf, values: values}
}

// between: the low 32 bits are from first to last, unsigned.
func between(arg uint, first, last uint64) condition {
	return condition{arg: arg, kind: inRange, values: []uint64{first, last}}
}

// betweenOr: the low 32 bits are from first to last, or one of the values.
func betweenOr(arg uint, first, last uint64, values ...uint64) condition {
	return condition{arg: arg, kind: inRangeOrOneOf, values: append([]uint64{first, last}, values...)}
}

// only: the argument has no bit outside mask, in full.
func only(arg uint, mask uint64) condition {
	return condition{arg: arg, kind: hasOnlyBits, values: []uint64{mask}}
}

// masked: the low 32 bits of the argument under mask are one of the values.
func masked(arg uint, mask uint64, values ...uint64) condition {
	return condition{arg: arg, kind: maskedIs, values: append([]uint64{mask}, values...)}
}

// canary is a call that nobody needs, with an answer that is never 0 (sched(7):
// SCHED_FIFO has the priorities 1 to 99). A list answers it with 0 instead, which
// shows on each thread that the list is in force and kills nothing.
type canary struct {
	name string
	trap uintptr
}

// canaryArgument is SCHED_FIFO.
const canaryArgument = 1

// That of a child is another one than its parent's, whose list it inherits.
var (
	childCanary  = canary{"sched_get_priority_max", unix.SYS_SCHED_GET_PRIORITY_MAX}
	parentCanary = canary{"sched_get_priority_min", unix.SYS_SCHED_GET_PRIORITY_MIN}
)

func (c canary) rule() rule {
	return rule{name: c.name, zero: true,
		reason: "canary: the self-test asks every thread whether it is under the list"}
}
