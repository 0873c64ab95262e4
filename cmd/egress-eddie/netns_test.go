package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// netns is a network namespace without a name: it is gone with the last
// thread, process and socket in it, so that nothing can stay behind.
type netns struct {
	what  string // for messages
	tid   int    // its home thread, by which ip(8) finds it
	fd    int
	tasks chan func()
}

func newNetns(t *testing.T, what string) *netns {
	t.Helper()
	n := &netns{what: what, tasks: make(chan func())}
	ready := make(chan error)
	go n.home(ready)
	if err := <-ready; err != nil {
		t.Fatalf("namespace of the %s: %v", what, err)
	}
	t.Cleanup(func() {
		close(n.tasks)
		unix.Close(n.fd)
	})
	n.configure(t)
	return n
}

// home is the thread that lives in the namespace. It is never unlocked, so
// it ends with the goroutine; what was started on it with Pdeathsig too.
func (n *netns) home(ready chan<- error) {
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_NEWNET)
	if err == nil {
		n.tid = unix.Gettid()
		n.fd, err = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", n.tid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	ready <- err
	for task := range n.tasks {
		task()
	}
}

// onHome runs f on the home thread. f must not block.
func (n *netns) onHome(f func()) {
	done := make(chan struct{})
	n.tasks <- func() { defer close(done); f() }
	<-done
}

// inside runs f on a thread of its own in the namespace; f may block. Sockets
// that f makes stay in the namespace, whoever uses them.
func (n *netns) inside(t *testing.T, f func() error) {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends
		err := unix.Setns(n.fd, unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatalf("in the %s's namespace: %v", n.what, err)
	}
}

// configure makes addresses usable at once and keeps the kernel from talking
// on its own.
func (n *netns) configure(t *testing.T) {
	t.Helper()
	for _, scope := range []string{"all", "default"} {
		n.sysctl(t, "ipv6/conf/"+scope+"/accept_dad", "0")
		n.sysctl(t, "ipv6/conf/"+scope+"/accept_ra", "0")
		n.sysctl(t, "ipv6/conf/"+scope+"/router_solicitations", "0")
		n.sysctl(t, "ipv4/conf/"+scope+"/rp_filter", "0")
		n.sysctl(t, "ipv4/conf/"+scope+"/send_redirects", "0")
	}
	n.ip(t, "link set lo up")
}

// sysctl sets net/KEY in the namespace.
func (n *netns) sysctl(t *testing.T, key, value string) {
	t.Helper()
	n.inside(t, func() error { return os.WriteFile("/proc/sys/net/"+key, []byte(value), 0) })
}

// ip runs ip(8) commands, one a line or argument.
func (n *netns) ip(t *testing.T, commands ...string) {
	t.Helper()
	n.feed(t, strings.Join(commands, "\n")+"\n", "ip", "-batch", "-")
}

// feed runs a command that must succeed, with input on its stdin.
func (n *netns) feed(t *testing.T, input string, command ...string) {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, status := n.run(t, cmd); status != 0 {
		t.Fatalf("%s: %s: status %d\n%s\n%s", n.what, strings.Join(command, " "), status, input, out)
	}
}

// run runs a command to its end in the namespace and returns what it wrote
// and its status.
func (n *netns) run(t *testing.T, cmd *exec.Cmd) (output string, status int) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.start(cmd, true); err != nil {
		t.Fatalf("%s: %v: %v", n.what, cmd.Args, err)
	}
	timer := time.AfterFunc(2*patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s: %v: %v", n.what, cmd.Args, err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// start starts a command in the namespace. With bound it dies with it, unless
// it changes its user.
func (n *netns) start(cmd *exec.Cmd, bound bool) (err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &unix.SysProcAttr{}
	}
	if bound {
		cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	}
	n.onHome(func() { err = cmd.Start() })
	return err
}

// as makes a command run as another user.
func as(uid uint32, cmd *exec.Cmd) *exec.Cmd {
	if uid != 0 {
		cmd.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	return cmd
}

// listenUDP opens a UDP socket, which is closed after the test.
func (n *netns) listenUDP(t *testing.T, at netip.AddrPort) *net.UDPConn {
	t.Helper()
	var conn net.PacketConn
	n.inside(t, func() (err error) {
		// The web servers' addresses are routed to their machine, no more.
		conn, err = (&net.ListenConfig{Control: freeBind}).ListenPacket(t.Context(), "udp", at.String())
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UDPConn)
}

// listenTCP opens a TCP listener, which is closed after the test.
func (n *netns) listenTCP(t *testing.T, at netip.AddrPort) net.Listener {
	t.Helper()
	var l net.Listener
	n.inside(t, func() (err error) {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		return err
	})
	t.Cleanup(func() { l.Close() })
	return l
}

// dial connects from (any port, or any address if that is the zero one) to.
func (n *netns) dial(t *testing.T, from netip.Addr, to netip.AddrPort, limit time.Duration) (conn net.Conn, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	n.inside(t, func() error {
		d := net.Dialer{}
		if from.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
			d.Control = freeBind
		}
		conn, err = d.DialContext(ctx, "tcp", to.String())
		return nil
	})
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// connects reports whether a TCP connection comes about.
func (n *netns) connects(t *testing.T, from netip.Addr, to netip.AddrPort, limit time.Duration) bool {
	t.Helper()
	conn, err := n.dial(t, from, to, limit)
	var netErr net.Error
	switch {
	case err == nil:
		conn.Close()
		return true
	case errors.As(err, &netErr) && netErr.Timeout():
		return false
	}
	t.Fatalf("%s: connecting to %v: %v", n.what, to, err)
	return false
}

// queueState is a line of /proc/net/netfilter/nfnetlink_queue
// (net/netfilter/nfnetlink_queue.c, seq_show).
type queueState struct {
	number, port, waiting, mode, copyRange, dropped, lost, last int
}

// queues reads the queues of the namespace.
func (n *netns) queues(t *testing.T) []queueState {
	t.Helper()
	var text []byte
	n.inside(t, func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
		return err
	})
	var queues []queueState
	for line := range strings.Lines(string(text)) {
		var q queueState
		if _, err := fmt.Sscan(line, &q.number, &q.port, &q.waiting, &q.mode, &q.copyRange, &q.dropped, &q.lost, &q.last); err != nil {
			t.Fatalf("nfnetlink_queue: %q: %v", line, err)
		}
		queues = append(queues, q)
	}
	return queues
}
