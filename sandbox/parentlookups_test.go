//go:build !race

package sandbox

import (
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const socketFlags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK

// lookupCall is a call by which sockets are made, and what becomes of it where
// the parent makes some for the resolver; and where it makes none.
type lookupCall struct {
	call
	want, otherwise string
}

// lookupCalls are sockets of every family and type with the flags that are
// right, those that are right with every other flag and protocol, and one
// option of them with every level, name and length.
func lookupCalls() (calls []lookupCall) {
	add := func(want, what string, trap uintptr, args ...uintptr) {
		c := lookupCall{call{what: fmt.Sprintf("%s%v", what, args), trap: trap}, want, "SIGSYS"}
		copy(c.args[:], args)
		if childrenTry(&c.call) {
			c.otherwise = want
		}
		calls = append(calls, c)
	}
	dead := "SIGSYS"
	for family := range uintptr(unix.AF_MAX + 2) {
		for kind := range uintptr(16) { // SOCK_TYPE_MASK
			want := dead
			if (family == unix.AF_INET || family == unix.AF_INET6) && (kind == unix.SOCK_STREAM || kind == unix.SOCK_DGRAM) {
				want = "ok"
			}
			add(want, "socket", unix.SYS_SOCKET, family, kind|socketFlags, 0)
		}
	}
	for _, family := range []uintptr{unix.AF_INET, unix.AF_INET6} {
		for _, kind := range []uintptr{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			for _, flags := range []uintptr{0, unix.SOCK_CLOEXEC, unix.SOCK_NONBLOCK} {
				add(dead, "socket", unix.SYS_SOCKET, family, kind|flags, 0)
			}
			for bit := 4; bit < 32; bit++ {
				if flag := uintptr(1) << bit; flag&socketFlags == 0 {
					add(dead, "socket", unix.SYS_SOCKET, family, kind|socketFlags|flag, 0)
				}
			}
			for protocol := uintptr(1); protocol < 300; protocol++ { // IPPROTO_MPTCP is 262
				add(dead, "socket", unix.SYS_SOCKET, family, kind|socketFlags, protocol)
			}
		}
	}
	option := func(level, name, length uintptr) {
		want := dead
		if level == unix.SOL_SOCKET && (name == unix.SO_MARK || name == unix.SO_SNDBUFFORCE) && length == 4 {
			want = "EBADF"
		}
		add(want, "setsockopt", unix.SYS_SETSOCKOPT, minus(1), level, name, at(&scratch), length)
	}
	for level := range uintptr(300) { // SOL_VSOCK is 287
		option(level, unix.SO_MARK, 4)
	}
	for name := range uintptr(128) {
		option(unix.SOL_SOCKET, name, 4)
	}
	for _, length := range []uintptr{0, 1, 2, 3, 5, 6, 7, 8, 16, 4096, minus(4)} {
		option(unix.SOL_SOCKET, unix.SO_MARK, length)
	}
	for length := range uintptr(130) {
		want := dead
		if length == unix.SizeofSockaddrInet4 || length == unix.SizeofSockaddrInet6 {
			want = "EBADF"
		}
		add(want, "connect", unix.SYS_CONNECT, minus(1), at(&address), length)
	}
	return calls
}

// childrenTry: what the parent may without lookups too, since it starts children,
// who try to get out of their network and have edges with room.
func childrenTry(c *call) bool {
	return c.trap == unix.SYS_SOCKET && c.args == [6]uintptr{unix.AF_INET, unix.SOCK_DGRAM | socketFlags} ||
		c.trap == unix.SYS_CONNECT && c.args[2] == unix.SizeofSockaddrInet4 ||
		c.trap == unix.SYS_SETSOCKOPT && c.args[1] == unix.SOL_SOCKET && c.args[2] == unix.SO_SNDBUFFORCE && c.args[4] == 4
}

// TestLookupCalls tries them all where the parent makes sockets for the resolver,
// and where it makes none.
func TestLookupCalls(t *testing.T) {
	calls := lookupCalls()
	got, err := results(runParent(t, startRoot, parentPlan{Act: "lookup calls", Lock: lockNone, Lookups: true}).Result, len(calls))
	if err != nil {
		t.Fatal(err)
	}
	allowed := 0
	for i, c := range calls {
		if got[i] != c.want {
			t.Errorf("%s: %s, should be %s", c.what, got[i], c.want)
		}
		if c.want != "SIGSYS" {
			allowed++
		}
	}
	if allowed != 4+2+1+2 { // SO_MARK among the levels and among the names
		t.Errorf("%d are allowed", allowed)
	}
	if got, err = results(runParent(t, startRoot, parentPlan{Act: "lookup calls", Lock: lockNone}).Result, len(calls)); err != nil {
		t.Fatal(err)
	}
	for i, c := range calls {
		if got[i] != c.otherwise {
			t.Errorf("%s without lookups: %s, should be %s", c.what, got[i], c.otherwise)
		}
	}
	t.Logf("%d attempts with lookups, %d of them allowed, and %d without", len(calls), allowed, len(calls))
}

func init() {
	parentActs["lookup calls"] = func(p *parentPlan) func() string {
		return func() string {
			var calls []call
			for _, c := range lookupCalls() {
				calls = append(calls, c.call)
			}
			return parentInCopies(p, calls)
		}
	}
	parentActs["make sockets"] = now(makeSockets)
}

// makeSockets does what the parent does for the resolver, and tries another
// port and to listen.
func makeSockets() string {
	var said []string
	for _, c := range []struct {
		kind, port int
	}{{unix.SOCK_DGRAM, 53}, {unix.SOCK_STREAM, 53}, {unix.SOCK_STREAM, 80}, {unix.SOCK_STREAM, 54}} {
		fd, err := unix.Socket(unix.AF_INET, c.kind|socketFlags, 0)
		if err := firstError(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 7)); err != nil {
			return err.Error()
		}
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: c.port})
		if err == unix.EINPROGRESS || err == nil {
			_, err = unix.Write(fd, []byte("question"))
		}
		said = append(said, fmt.Sprintf("type %d to port %d: %s", c.kind, c.port, errName(err)))
	}
	return strings.Join(said, ", ")
}

// TestLookupPorts: a parent that makes sockets reaches port 53, and no other
// by TCP although something listens there.
func TestLookupPorts(t *testing.T) {
	for _, s := range []start{startRoot, startAmbient} {
		if err := inOwnNetwork(func() error { return lookupPorts(t, s) }); err != nil {
			t.Fatal(err)
		}
	}
}

func lookupPorts(t *testing.T, s start) error {
	listeners := map[int]net.Listener{}
	for _, port := range []int{53, 54, 80} {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		defer l.Close()
		listeners[port] = l
	}
	udp, err := net.ListenPacket("udp4", "127.0.0.1:53")
	if err != nil {
		return err
	}
	defer udp.Close()
	r, err := tryParent(parentCommand(s, parentPlan{Act: "make sockets", Lookups: true}))
	if err != nil {
		return err
	}
	const want = "type 2 to port 53: ok, type 1 to port 53: ok, type 1 to port 80: EACCES, type 1 to port 54: EACCES"
	if r.Result != want {
		t.Errorf("%s:\n%s\nshould be\n%s", s, r.Result, want)
	}
	soon := time.Now().Add(5 * time.Second)
	buf := make([]byte, 16)
	if err := udp.SetReadDeadline(soon); err != nil {
		return err
	}
	if n, _, err := udp.ReadFrom(buf); err != nil || string(buf[:n]) != "question" {
		t.Errorf("%s: by UDP %q, %v", s, buf[:n], err)
	}
	if err := listeners[53].(*net.TCPListener).SetDeadline(soon); err != nil {
		return err
	}
	conn, err := listeners[53].Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(soon); err != nil {
		return err
	}
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "question" {
		t.Errorf("%s: by TCP %q, %v", s, buf[:n], err)
	}
	return nil
}

// inOwnNetwork runs f on a thread in a network namespace of its own, with
// loopback. The thread ends with f.
func inOwnNetwork(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = exec.Command("ip", "link", "set", "lo", "up").Run()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}
