package sandbox

import (
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Kinds of descriptors, as /proc/PID/fd names them without the inode.
const (
	kindPoll   = "eventpoll"
	kindEvent  = "eventfd"
	kindPipe   = "pipe"
	kindSocket = "socket"
	kindPidfd  = "pidfd"
	kindFile   = "file"
	kindAny    = "any" // in a profile only: what the operator gave
)

// childDescriptors are the numbers below the queues that any child may have open.
var childDescriptors = []struct {
	number  int
	kind    string
	what    string
	runtime bool // in every child, made there
}{
	{fdRuntimePoll, kindPoll, "the Go runtime's poller", true},
	{fdRuntimeEvent, kindEvent, "the Go runtime's wake-ups", true},
	{ipc.FDStderr, kindPipe, "a panic's trace, to the parent", false},
	{ipc.FDControl, kindSocket, "ready up, policy and descriptors down, with the parent", false},
	{ipc.FDVerdicts, kindSocket, "verdicts, to the parent", false},
	{ipc.FDRequests, kindSocket, "facts about requests, to the allowlist", false},
	{ipc.FDResponses, kindSocket, "facts about responses, to the allowlist", false},
	{ipc.FDGrants, kindSocket, "grants, from the allowlist to the trafficworker", false},
	{ipc.FDLog, kindAny, "the log", false},
	{ipc.FDPoll, kindPoll, "the working goroutine waits here; made with the policy", true},
	{ipc.FDUnknown, kindSocket, "unknown addresses, from the trafficworker to the allowlist", false},
	{ipc.FDLookups, kindSocket, "lookups, from the allowlist to the resolver", false},
}

// What the other descriptors of a child are: all are sockets.
const (
	whatQueues  = "queue sockets, without the capability that a verdict needs: read"
	whatLanding = "where one to a DNS server lands, on its way to its number"
	whatSockets = "sockets to DNS servers, which come and go: read and written"
)

// parentDescriptors have no numbers: they differ with the configuration. The
// sockets that it makes for the resolver pass through, as everything else that
// it hands over.
var parentDescriptors = []Line{
	{"0-2", kindAny, "standard input, output and error, as they were inherited"},
	{"-", kindSocket, "the queues; control and verdict sockets of children; with selfDNSQueue, those to DNS servers until the resolver has them"},
	{"-", kindPipe, "the standard error of each child; what ends the carrying of verdicts"},
	{"-", kindPidfd, "each child, to end it"},
	{"-", kindFile, "the log to append to; the kernel's log and queue statistics to read"},
	{"-", kindPoll, "the Go runtime's poller"},
	{"-", kindEvent, "the Go runtime's wake-ups"},
}

var parentCapabilities = []Line{
	{"effective", "net_admin", "the kernel takes verdicts from nobody else"},
	{"permitted", "net_admin", "the same"},
	{"inheritable", "none", "no exec passes anything on"},
	{"ambient", "none", "no exec passes anything on"},
	{"bounding", "none", "when started as root; nobody else can change it"},
}

var childCapabilities = []Line{
	{"all five", "none", "on every thread, with the securebits locked and no_new_privs"},
}

// limitNames: the name in a table, and that in /proc/PID/limits.
var limitNames = map[int]struct{ short, proc string }{
	unix.RLIMIT_CORE:   {"core", "Max core file size"},
	unix.RLIMIT_NPROC:  {"nproc", "Max processes"},
	unix.RLIMIT_NOFILE: {"nofile", "Max open files"},
	unix.RLIMIT_DATA:   {"data", "Max data size"},
	unix.RLIMIT_FSIZE:  {"fsize", "Max file size"},
}

// namespaceTable has the names of /proc/PID/ns.
var namespaceTable = []struct {
	name   string
	flag   int
	reason string
}{
	{"user", unix.CLONE_NEWUSER, "capabilities would count in here only"},
	{"mnt", unix.CLONE_NEWNS, "an empty read-only root, and nothing else mounted"},
	{"pid", unix.CLONE_NEWPID, "sees and signals nobody else"},
	{"net", unix.CLONE_NEWNET, "no interface but a loopback that is down"},
	{"ipc", unix.CLONE_NEWIPC, "shares no memory, semaphore or queue"},
	{"uts", unix.CLONE_NEWUTS, "cannot rename the host"},
	{"cgroup", unix.CLONE_NEWCGROUP, "the empty root hides cgroups already"},
}

// landlockNewest is the newest ABI that denyAll tells from its predecessors.
const landlockNewest = 6

// The rights by bit, as include/uapi/linux/landlock.h names them.
var (
	landlockFSNames = []string{
		"execute", "write_file", "read_file", "read_dir", "remove_dir", "remove_file", "make_char", "make_dir",
		"make_reg", "make_sock", "make_fifo", "make_block", "make_sym", "refer", "truncate", "ioctl_dev",
	}
	landlockNetNames   = []string{"bind_tcp", "connect_tcp"}
	landlockScopeNames = []string{"abstract_unix_socket", "signal"}
)
