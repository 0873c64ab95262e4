package parent

import (
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// inNamespace runs f on a thread in a network namespace of its own, where UDP
// to port 5300+i on loopback, both families, goes to queue i of numbers. The
// thread ends with f, and the namespace with its last socket.
func inNamespace(t *testing.T, f func(), numbers ...uint16) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		err := fmt.Errorf("the test ended early")
		defer func() { done <- err }()
		runtime.LockOSThread() // never unlocked
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		if err = command("ip", "link", "set", "lo", "up"); err != nil {
			return
		}
		for i, number := range numbers {
			for _, program := range []string{"iptables", "ip6tables"} {
				if err = command(program, "-A", "OUTPUT", "-p", "udp", "--dport", fmt.Sprint(5300+i),
					"-j", "NFQUEUE", "--queue-num", fmt.Sprint(number)); err != nil {
					return
				}
			}
		}
		f()
		err = nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// command runs a program in the namespace of this thread.
func command(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}

// open opens queues as the parent does, to be closed with close.
func open(t *testing.T, queues ...ipc.Queue) []*openQueue {
	t.Helper()
	got, err := openQueues(queues, func(string, ...any) {})
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	return got
}

func closeQueues(queues []*openQueue) {
	for _, q := range queues {
		unix.Close(q.fd)
	}
}

// listener receives UDP on a port of loopback.
func listener(t *testing.T, port int) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	return conn
}

// sendNumbered sends datagrams of one octet each, its number.
func sendNumbered(t *testing.T, port, count int) {
	t.Helper()
	conn, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	defer conn.Close()
	for i := range count {
		if _, err := conn.Write([]byte{byte(i + 1)}); err != nil {
			t.Error(err)
		}
	}
}

// received reads what arrives until nothing does for a moment.
func received(conn *net.UDPConn) (numbers []byte) {
	for {
		var b [1]byte
		conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
		if _, err := conn.Read(b[:]); err != nil {
			return numbers
		}
		numbers = append(numbers, b[0])
	}
}
