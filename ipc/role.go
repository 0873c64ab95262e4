package ipc

// Role is what a process is. Its text is argv[1] of a child, so that ps shows
// it, and the process field of every log line.
type Role string

// The roles. The parent is started by people, the others only by the parent.
const (
	RoleParent    Role = "parent"
	RoleRequests  Role = "dnsworker-requests"
	RoleResponses Role = "dnsworker-responses"
	RoleAllowlist Role = "allowlist"
	RoleTraffic   Role = "trafficworker"
	RoleResolver  Role = "resolver" // only where the configuration has the daemon ask questions of its own
)

// Children are the roles that the parent always starts, and AllChildren those
// that it may start, in the order it does.
var (
	Children    = []Role{RoleAllowlist, RoleTraffic, RoleRequests, RoleResponses}
	AllChildren = append(Children[:len(Children):len(Children)], RoleResolver)
)

// Descriptor numbers in every child. A child holds only those of its role;
// numbers below FDQueues that no constant names are free for the descriptors
// that the Go runtime opens for itself (epoll, eventfd).
const (
	FDStderr    = 2  // pipe to the parent: a panic's trace
	FDControl   = 3  // to the parent: Ready up, policy and descriptors down
	FDVerdicts  = 4  // to the parent: allowlist and trafficworker only
	FDRequests  = 5  // dnsworker-requests to allowlist
	FDResponses = 6  // dnsworker-responses to allowlist
	FDGrants    = 7  // allowlist to trafficworker
	FDLog       = 8  // the log: allowlist and trafficworker only
	FDPoll      = 9  // the child's own epoll instance
	FDUnknown   = 10 // trafficworker to allowlist
	FDLookups   = 11 // allowlist to resolver; without a resolver the other end is closed
	FDQueues    = 16 // the first queue socket, the others follow without a gap
	FDSockets   = 16 // the first socket to a DNS server of the resolver, which reads no queues
)
