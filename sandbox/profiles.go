package sandbox

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// profile is everything that distinguishes the cell of one role.
type profile struct {
	fds    []int // inherited descriptors below the queues, in order
	queues int   // queue sockets, from ipc.FDQueues on
	passes []int // where a socket may be open or not, once the cell stands
	limits []limit
	rules  []rule
}

// held are the descriptors that the role inherits and keeps.
func (p *profile) held() []int {
	held := append([]int(nil), p.fds...)
	for i := range p.queues {
		held = append(held, ipc.FDQueues+i)
	}
	return held
}

func (p *profile) holds(fd int) bool {
	return slices.Contains(p.fds, fd) || fd >= ipc.FDQueues && fd < ipc.FDQueues+p.queues
}

// roleRow is one line of the table of roles.
type roleRow struct {
	role   ipc.Role
	reads  []uint64 // descriptors besides the runtime's that it reads from
	writes []uint64 // and writes to
	log    bool     // holds ipc.FDLog, and takes a new one from the parent
	edges  []uint64 // that may lead to another process one day, which was started again
	queues bool     // reads queue sockets
	// sockets are those that the parent makes for it: so many numbers from
	// ipc.FDSockets on that it may read, write, fill and empty. None is open
	// when the cell is built.
	sockets uint64
	data    uint64 // RLIMIT_DATA in octets
}

// roles is the table. Who may say what to whom is in the descriptors alone: an
// edge goes one way, and its reader cannot write to it.
var roles = []roleRow{
	{
		role:   ipc.RoleRequests,
		reads:  []uint64{ipc.FDControl},
		writes: []uint64{ipc.FDStderr, ipc.FDControl, ipc.FDRequests},
		queues: true, data: 512 << 20,
	},
	{
		role:   ipc.RoleResponses,
		reads:  []uint64{ipc.FDControl},
		writes: []uint64{ipc.FDStderr, ipc.FDControl, ipc.FDResponses},
		queues: true, data: 512 << 20,
	},
	{
		role:   ipc.RoleAllowlist,
		reads:  []uint64{ipc.FDControl, ipc.FDRequests, ipc.FDResponses, ipc.FDUnknown},
		writes: []uint64{ipc.FDStderr, ipc.FDControl, ipc.FDVerdicts, ipc.FDGrants, ipc.FDLog, ipc.FDLookups},
		edges:  []uint64{ipc.FDRequests, ipc.FDResponses, ipc.FDGrants, ipc.FDUnknown, ipc.FDLookups},
		log:    true, data: 1 << 30,
	},
	{
		role:   ipc.RoleTraffic,
		reads:  []uint64{ipc.FDControl, ipc.FDGrants},
		writes: []uint64{ipc.FDStderr, ipc.FDControl, ipc.FDVerdicts, ipc.FDLog, ipc.FDUnknown},
		log:    true, queues: true, data: 1 << 30,
	},
	{
		role:    ipc.RoleResolver,
		reads:   []uint64{ipc.FDControl, ipc.FDLookups},
		writes:  []uint64{ipc.FDStderr, ipc.FDControl},
		sockets: ipc.MaxLookups, data: 256 << 20,
	},
}

// profileOf is the profile of a child's role with so many queue sockets, in
// namespaces of its own.
func profileOf(role ipc.Role, queues int) (*profile, error) {
	return profileFor(native, role, queues)
}

// profileIn is that of the calling process, wherever it lives.
func profileIn(in Isolation, role ipc.Role, queues int) (*profile, error) {
	p, err := profileOf(role, queues)
	if err == nil && in == Shared {
		p.share(uint64(os.Getpid()))
	}
	return p, err
}

func profileFor(m machine, role ipc.Role, queues int) (*profile, error) {
	for _, row := range roles {
		if row.role != role {
			continue
		}
		if queues < 0 || queues > ipc.MaxQueues || !row.queues && queues > 0 {
			return nil, bug("%s with %d queues", role, queues)
		}
		p := &profile{fds: row.descriptors(), queues: queues, passes: row.passes(), limits: row.limits(queues)}
		p.rules = append(append(row.rules(queues), runtimeRules(m, firstPID)...), childCanary.rule())
		return p, nil
	}
	return nil, bug("no profile for the role %q", role)
}

// descriptors are those below the queues that reads or writes name.
func (row *roleRow) descriptors() (fds []int) {
	for fd := uint64(ipc.FDStderr); fd < ipc.FDQueues; fd++ {
		if slices.Contains(row.reads, fd) || slices.Contains(row.writes, fd) {
			fds = append(fds, int(fd))
		}
	}
	return fds
}

// passes are the numbers where a socket that the parent made comes and goes:
// it lands, and moves to its own.
func (row *roleRow) passes() (fds []int) {
	if row.sockets == 0 {
		return nil
	}
	return append([]int{int(row.landing())}, row.socketNumbers()...)
}

func (row *roleRow) socketNumbers() (fds []int) {
	for i := range row.sockets {
		fds = append(fds, int(ipc.FDSockets+i))
	}
	return fds
}

// maxThreads bounds the threads of a child: measured, an honest one has fewer
// than 10.
const maxThreads = 32

func (row *roleRow) limits(queues int) []limit {
	limits := []limit{
		{unix.RLIMIT_CORE, 0, "a core file would hold what the process read"},
		{unix.RLIMIT_NPROC, maxThreads, "a runaway child must not starve the others; counted in its own user namespace since Linux 5.14; 0 would kill Go"},
		{unix.RLIMIT_NOFILE, max(ipc.FDQueues+uint64(queues), ipc.FDSockets+row.sockets) + 1, "its descriptors and one landing slot for a descriptor received"},
		{unix.RLIMIT_DATA, row.data, "memory: tables are bounded, this is what holds when a bound is wrong"},
	}
	if !row.log { // whose lines would be lost without a word, were it a file
		limits = append(limits, limit{unix.RLIMIT_FSIZE, 0, "it writes to no file"})
	}
	return limits
}

// rules are the role's own lines, the busiest first: the kernel tries them in
// this order.
func (row *roleRow) rules(queues int) []rule {
	var rules []rule
	if queues > 0 { // a configuration may have none of a kind
		rules = append(rules, allow("recvmmsg", "packets from its queue sockets, those that wait now",
			between(0, ipc.FDQueues, uint64(ipc.FDQueues+queues-1)), is(3, unix.MSG_DONTWAIT)))
	}
	rules = append(rules,
		allow("epoll_pwait", "the working goroutine waits here, the runtime on its own instance",
			is(0, ipc.FDPoll, fdRuntimePoll)),
		allow("read", row.besides("answers of DNS servers; ")+"one packet from an edge; the runtime's wake-ups",
			row.orSocket(0, append([]uint64{fdRuntimeEvent}, row.reads...)...)),
		allow("write", row.besides("questions to DNS servers; ")+"one packet to an edge; log lines; a panic's trace; the runtime's wake-ups",
			row.orSocket(0, append([]uint64{fdRuntimeEvent}, row.writes...)...)),
		allow("clock_gettime", "CLOCK_BOOTTIME for expiries; the runtime's two where the vDSO falls back",
			is(0, unix.CLOCK_BOOTTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_REALTIME)),
	)
	rules = append(rules,
		allow("recvmsg", "policy from the parent, and descriptors with it",
			is(0, ipc.FDControl), is(2, unix.MSG_CMSG_CLOEXEC)),
		allow("epoll_create1", "its epoll instance, made when the policy has come", is(0, unix.EPOLL_CLOEXEC)),
		allow("epoll_ctl", "what to wait for; the runtime's own instance has all it needs since the warm-up",
			is(0, ipc.FDPoll), is(1, unix.EPOLL_CTL_ADD, unix.EPOLL_CTL_DEL)),
		allow("dup3", "a descriptor received or made goes to its number, and no other does",
			is(0, row.landing()), row.orSocket(1, row.destinations()...), is(2, unix.O_CLOEXEC)),
		allow("close", row.besides("sockets to DNS servers; ")+"the landing slot", row.orSocket(0, row.landing())),
	)
	return rules
}

// orSocket: a descriptor is one of those, or of the sockets if the role has
// any.
func (row *roleRow) orSocket(arg uint, fds ...uint64) condition {
	if row.sockets == 0 {
		return is(arg, fds...)
	}
	return betweenOr(arg, ipc.FDSockets, ipc.FDSockets+row.sockets-1, fds...)
}

// besides is a reason that only a role with sockets has.
func (row *roleRow) besides(reason string) string {
	if row.sockets == 0 {
		return ""
	}
	return reason
}

// landing is the number that a new descriptor gets in a process that holds
// what its role does: the lowest free one. Only from there may it be moved, so
// that no queue socket or edge can be put where the list allows to write.
func (row *roleRow) landing() uint64 {
	held := row.descriptors()
	for fd := uint64(ipc.FDControl); ; fd++ {
		if fd != ipc.FDPoll && !slices.Contains(held, int(fd)) {
			return fd
		}
	}
}

// destinations are the numbers that dup3 may replace, besides sockets.
func (row *roleRow) destinations() []uint64 {
	all := []uint64{ipc.FDPoll}
	if row.log {
		all = append(all, ipc.FDLog)
	}
	return append(all, row.edges...)
}
