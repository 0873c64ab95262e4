//go:build !race

package sandbox

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// elsewhere is an address that no socket was connected to, and nowhere one by
// which a socket is no longer connected.
var (
	elsewhere    = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: 9 << 8, Addr: [4]byte{127, 0, 0, 2}}
	disconnected = unix.RawSockaddrInet4{Family: unix.AF_UNSPEC}
	markOption   = uint32(7)
	optionSize   = uint32(4)
)

// onSocket are what a process with a socket to a DNS server would do with it
// besides asking, or to make it another.
var onSocket = []call{
	{what: "socket: sendto", trap: unix.SYS_SENDTO, args: [6]uintptr{udpSocket, at(&scratch), 1, unix.MSG_DONTWAIT}},
	{what: "socket: sendto elsewhere", trap: unix.SYS_SENDTO, args: [6]uintptr{udpSocket, at(&scratch), 1, 0, at(&elsewhere), 16}},
	{what: "socket: sendmsg", trap: unix.SYS_SENDMSG, args: [6]uintptr{udpSocket, at(&scratch)}},
	{what: "socket: sendmmsg", trap: unix.SYS_SENDMMSG, args: [6]uintptr{udpSocket, at(&scratch), 1}},
	{what: "socket: connect elsewhere", trap: unix.SYS_CONNECT, args: [6]uintptr{udpSocket, at(&elsewhere), 16}},
	{what: "socket: disconnect", trap: unix.SYS_CONNECT, args: [6]uintptr{udpSocket, at(&disconnected), 16}},
	{what: "socket: another", trap: unix.SYS_SOCKET, args: [6]uintptr{unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK}},
	{what: "socket: bind", trap: unix.SYS_BIND, args: [6]uintptr{udpSocket, at(&elsewhere), 16}},
	{what: "socket: getsockopt", trap: unix.SYS_GETSOCKOPT, args: [6]uintptr{udpSocket, unix.SOL_SOCKET, unix.SO_ERROR, at(&scratch), at(&optionSize)}},
	{what: "socket: setsockopt SO_MARK", trap: unix.SYS_SETSOCKOPT, args: [6]uintptr{udpSocket, unix.SOL_SOCKET, unix.SO_MARK, at(&markOption), 4}},
	{what: "socket: setsockopt SO_BROADCAST", trap: unix.SYS_SETSOCKOPT, args: [6]uintptr{udpSocket, unix.SOL_SOCKET, unix.SO_BROADCAST, at(&markOption), 4}},
	{what: "socket: getpeername", trap: unix.SYS_GETPEERNAME, args: [6]uintptr{udpSocket, at(&scratch), at(&optionSize)}},
	{what: "socket: getsockname", trap: unix.SYS_GETSOCKNAME, args: [6]uintptr{udpSocket, at(&scratch), at(&optionSize)}},
	{what: "socket: shutdown", trap: unix.SYS_SHUTDOWN, args: [6]uintptr{udpSocket, unix.SHUT_RDWR}},
	{what: "socket: listen", trap: unix.SYS_LISTEN, args: [6]uintptr{udpSocket, 1}},
	{what: "socket: accept4", trap: unix.SYS_ACCEPT4, args: [6]uintptr{udpSocket}},
	{what: "socket: recvfrom", trap: unix.SYS_RECVFROM, args: [6]uintptr{udpSocket, at(&scratch), 1, unix.MSG_DONTWAIT}},
	{what: "socket: recvmsg", trap: unix.SYS_RECVMSG, args: [6]uintptr{udpSocket, at(&scratch), unix.MSG_CMSG_CLOEXEC}},
	{what: "socket: recvmmsg", trap: unix.SYS_RECVMMSG, args: [6]uintptr{udpSocket, at(&scratch), 1, unix.MSG_DONTWAIT}},
	{what: "socket: readv", trap: unix.SYS_READV, args: [6]uintptr{udpSocket, at(&scratch), 0}},
	{what: "socket: writev", trap: unix.SYS_WRITEV, args: [6]uintptr{udpSocket, at(&scratch), 0}},
	{what: "socket: splice", trap: unix.SYS_SPLICE, args: [6]uintptr{udpSocket, 0, ipc.FDControl, 0, 1}},
	{what: "socket: sendfile", trap: unix.SYS_SENDFILE, args: [6]uintptr{udpSocket, ipc.FDControl, 0, 1}},
	{what: "socket: ioctl", trap: unix.SYS_IOCTL, args: [6]uintptr{udpSocket, unix.TIOCINQ, at(&scratch)}},
	{what: "socket: fcntl", trap: unix.SYS_FCNTL, args: [6]uintptr{udpSocket, unix.F_GETFL}},
	{what: "socket: dup", trap: unix.SYS_DUP, args: [6]uintptr{udpSocket}},
	{what: "socket: over another", trap: unix.SYS_DUP3, args: [6]uintptr{udpSocket, udpSocket + 1, unix.O_CLOEXEC}},
	{what: "socket: over control", trap: unix.SYS_DUP3, args: [6]uintptr{udpSocket, ipc.FDControl, unix.O_CLOEXEC}},
	{what: "socket: control over it", trap: unix.SYS_DUP3, args: [6]uintptr{ipc.FDControl, udpSocket, unix.O_CLOEXEC}},
	{what: "socket: lookups over it", trap: unix.SYS_DUP3, args: [6]uintptr{ipc.FDLookups, udpSocket, unix.O_CLOEXEC}},
	{what: "socket: landed over lookups", trap: unix.SYS_DUP3, args: [6]uintptr{resolverLanding, ipc.FDLookups, unix.O_CLOEXEC}},
	{what: "socket: landed before them", trap: unix.SYS_DUP3, args: [6]uintptr{resolverLanding, ipc.FDSockets - 1, unix.O_CLOEXEC}},
	{what: "socket: landed behind them", trap: unix.SYS_DUP3, args: [6]uintptr{resolverLanding, tcpSocket + 1, unix.O_CLOEXEC}},
	{what: "socket: landed, inheritable", trap: unix.SYS_DUP3, args: [6]uintptr{resolverLanding, udpSocket}},
	{what: "socket: close control", trap: unix.SYS_CLOSE, args: [6]uintptr{ipc.FDControl}},
	{what: "socket: close lookups", trap: unix.SYS_CLOSE, args: [6]uintptr{ipc.FDLookups}},
	{what: "socket: close standard error", trap: unix.SYS_CLOSE, args: [6]uintptr{ipc.FDStderr}},
	{what: "socket: close before them", trap: unix.SYS_CLOSE, args: [6]uintptr{ipc.FDSockets - 1}},
	{what: "socket: close behind them", trap: unix.SYS_CLOSE, args: [6]uintptr{tcpSocket + 1}},
	{what: "socket: read where one landed", trap: unix.SYS_READ, args: [6]uintptr{resolverLanding, at(&scratch), 1}},
	{what: "socket: read before them", trap: unix.SYS_READ, args: [6]uintptr{ipc.FDSockets - 1, at(&scratch), 1}},
	{what: "socket: read behind them", trap: unix.SYS_READ, args: [6]uintptr{tcpSocket + 1, at(&scratch), 1}},
	{what: "socket: write where one landed", trap: unix.SYS_WRITE, args: [6]uintptr{resolverLanding, at(&scratch), 1}},
	{what: "socket: write before them", trap: unix.SYS_WRITE, args: [6]uintptr{ipc.FDSockets - 1, at(&scratch), 1}},
	{what: "socket: write behind them", trap: unix.SYS_WRITE, args: [6]uintptr{tcpSocket + 1, at(&scratch), 1}},
	{what: "socket: write lookups", trap: unix.SYS_WRITE, args: [6]uintptr{ipc.FDLookups, at(&scratch), 1}},
}

func init() {
	for i := range onSocket {
		c := &onSocket[i]
		childActs[c.what] = func(childPlan) string {
			if err := takeSocket(udpSocket); err != nil {
				return err.Error()
			}
			return c.act()
		}
	}
}

// TestHostileSockets is the matrix for the role that is given sockets, with one
// in its hands.
func TestHostileSockets(t *testing.T) {
	t.Parallel()
	var plans []childPlan
	for _, c := range onSocket {
		plans = append(plans, plan(ipc.RoleResolver, buildEnter, c.what))
	}
	for _, o := range runParent(t, startRoot, parentPlan{Children: plans, Lock: lockOpen}).Outcomes {
		if !o.Ready || o.Result != "SIGSYS" {
			t.Errorf("should have died of SIGSYS: %s", o)
		}
	}
	t.Logf("%d attempts", len(plans))
}

// TestSocketsWithoutFilter shows what of it the filter alone prevents: the
// socket lives in the parent's network namespace, wherever its holder does.
func TestSocketsWithoutFilter(t *testing.T) {
	want := map[string]string{
		"socket: sendto":                  "ok",
		"socket: sendto elsewhere":        "ok",
		"socket: sendmsg":                 "ok",
		"socket: connect elsewhere":       "ok",
		"socket: disconnect":              "ok",
		"socket: getsockopt":              "ok",
		"socket: setsockopt SO_MARK":      "EPERM",
		"socket: setsockopt SO_BROADCAST": "ok",
		"socket: shutdown":                "ok",
		"socket: control over it":         "ok",
		"socket: close lookups":           "ok",
	}
	var plans []childPlan
	for act := range want {
		plans = append(plans, plan(ipc.RoleResolver, buildCell, act))
	}
	for _, o := range runParent(t, startRoot, parentPlan{Children: plans, Lock: lockOpen}).Outcomes {
		if !o.Ready || o.Result != want[o.Plan.Act] {
			t.Errorf("should be %s: %s", want[o.Plan.Act], o)
		}
	}
}
