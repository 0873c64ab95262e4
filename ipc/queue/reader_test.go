package queue

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"
)

const testQueue = 4711

// inNamespace runs f on a thread in a network namespace of its own, with
// loopback up. The thread ends with f, and the namespace with it.
func inNamespace(t *testing.T, f func()) {
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

// bindQueue binds the test's queue and returns its socket.
func bindQueue(t *testing.T, copyRange uint32) int {
	t.Helper()
	nf, err := nfqueue.Open(&nfqueue.Config{NfQueue: testQueue, MaxQueueLen: 1024, Copymode: nfqueue.NfQnlCopyNone, Flags: nfqueue.NfQaCfgFlagUIDGid})
	if err != nil {
		t.Error(err)
		return -1
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := nf.RegisterWithErrorFunc(ctx, func(nfqueue.Attribute) int { return 1 }, func(error) int { return 1 }); err != nil {
		t.Error(err)
		return -1
	}
	raw, err := nf.Con.SyscallConn()
	if err != nil {
		t.Error(err)
		return -1
	}
	fd := -1
	if err := raw.Control(func(p uintptr) { fd, err = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		t.Error(err)
	}
	if err := nf.Con.Close(); err != nil {
		t.Error(err)
	}
	// Copy packets, from now on.
	params := append(binary.BigEndian.AppendUint32(nil, copyRange), 2)
	send(t, fd, 3<<8|2, attr(2, params...))
	return fd
}

func send(t *testing.T, fd int, kind uint16, attribute []byte) {
	t.Helper()
	b := binary.NativeEndian.AppendUint32(nil, uint32(20+len(attribute)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 10)...)
	b = binary.BigEndian.AppendUint16(b, testQueue)
	if _, err := unix.Write(fd, append(b, attribute...)); err != nil {
		t.Error(err)
	}
}

func drop(t *testing.T, fd int, id uint32) {
	send(t, fd, 3<<8|1, attr(2, append(make([]byte, 4), binary.BigEndian.AppendUint32(nil, id)...)...))
}

// readAll reads until so many packets have come, and copies their payloads.
func readAll(t *testing.T, r *Reader, fd, count int) []Packet {
	t.Helper()
	var all []Packet
	for deadline := time.Now().Add(5 * time.Second); len(all) < count; {
		packets, err := r.Read(fd)
		if err != nil || time.Now().After(deadline) {
			t.Errorf("%d packets of %d: %v", len(all), count, err)
			return all
		}
		for _, p := range packets {
			p.Payload = append([]byte(nil), p.Payload...)
			all = append(all, p)
		}
	}
	return all
}

// sendUDP sends datagrams of the given lengths to an address nobody needs to
// listen on.
func sendUDP(t *testing.T, to string, lengths ...int) {
	t.Helper()
	conn, err := net.Dial("udp", to)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	for _, n := range lengths {
		if _, err := conn.Write(make([]byte, n)); err != nil {
			t.Error(err)
		}
	}
}

// TestRead reads from a real queue: both families, whole packets, more than a
// batch, and what the kernel says besides packets.
func TestRead(t *testing.T) {
	inNamespace(t, func() {
		fd := bindQueue(t, 65531)
		if t.Failed() {
			return
		}
		defer unix.Close(fd)
		for _, program := range []string{"iptables", "ip6tables"} {
			if err := command(program, "-A", "OUTPUT", "-p", "udp", "--dport", "53", "-j", "NFQUEUE", "--queue-num", fmt.Sprint(testQueue)); err != nil {
				t.Error(err)
				return
			}
		}
		r := NewReader(65531)
		if packets, err := r.Read(fd); err != nil || len(packets) != 0 {
			t.Errorf("an empty queue: %d packets, %v", len(packets), err)
		}
		sendUDP(t, "127.0.0.1:53", 0, 1, 1400, 60000)
		sendUDP(t, "[::1]:53", 7)
		got := readAll(t, r, fd, 5)
		lo, err := net.InterfaceByName("lo")
		if err != nil || len(got) != 5 {
			t.Error(err)
			return
		}
		for i, length := range []int{28, 29, 1428, 60028, 55} {
			p := got[i]
			if len(p.Payload) != length || p.Length != 0 || p.Hook != HookOutput || p.ID != uint32(i+1) ||
				int(p.OutIf) != lo.Index || p.InIf != 0 || !p.HasUID || int(p.UID) != os.Getuid() || p.GSO {
				t.Errorf("packet %d: %d octets, %+v", i, len(p.Payload), dump(p))
			}
			if version, ethertype := p.Payload[0]>>4, p.Protocol; (version == 4) != (ethertype == 0x0800) || (version == 6) != (ethertype == 0x86dd) {
				t.Errorf("packet %d: version %d, ethertype %#x", i, version, ethertype)
			}
		}
		for _, p := range got {
			drop(t, fd, p.ID)
		}

		// More than one batch; every id once and in order.
		lengths := make([]int, 3*Batch+1)
		sendUDP(t, "127.0.0.1:53", lengths...)
		got = readAll(t, r, fd, len(lengths))
		for i, p := range got {
			if p.ID != uint32(6+i) {
				t.Errorf("packet %d has the id %d", i, p.ID)
			}
			drop(t, fd, p.ID)
		}

		// A verdict for a packet that is not there comes back as an error, in
		// this process and in the parent's.
		before := r.KernelErrors
		drop(t, fd, 1<<30)
		if packets, err := r.Read(fd); err != nil || len(packets) != 0 || r.KernelErrors != before+1 {
			t.Errorf("%d packets, %v, %d errors", len(packets), err, r.KernelErrors-before)
		}
		// In front of a packet it takes nothing from that packet.
		drop(t, fd, 1<<30)
		sendUDP(t, "127.0.0.1:53", 3)
		if packets, err := r.Read(fd); err != nil || len(packets) != 1 || len(packets[0].Payload) != 31 || r.KernelErrors != before+2 {
			t.Errorf("%d packets, %v, %d errors", len(packets), err, r.KernelErrors-before)
		}
		if r.Unreadable != 0 {
			t.Errorf("%d unreadable messages", r.Unreadable)
		}
	})
}

func dump(p Packet) Packet { p.Payload = nil; return p }

// TestReadHeaders: of a longer packet the kernel copies what it was asked for
// and says how long the packet was.
func TestReadHeaders(t *testing.T) {
	inNamespace(t, func() {
		fd := bindQueue(t, 60)
		if t.Failed() {
			return
		}
		defer unix.Close(fd)
		if err := command("iptables", "-A", "OUTPUT", "-p", "udp", "-j", "NFQUEUE", "--queue-num", fmt.Sprint(testQueue)); err != nil {
			t.Error(err)
			return
		}
		sendUDP(t, "127.0.0.1:53", 1000, 10)
		r := NewReader(60)
		got := readAll(t, r, fd, 2)
		if len(got) != 2 || len(got[0].Payload) != 60 || got[0].Length != 1028 || len(got[1].Payload) != 38 || got[1].Length != 0 {
			t.Errorf("%+v", got)
		}
		// A message longer than the buffer: its id is known all the same.
		small := &Reader{}
		for i := range small.bufs {
			small.bufs[i] = make([]byte, 60)
			small.iovs[i].Base = &small.bufs[i][0]
			small.iovs[i].SetLen(60)
		}
		sendUDP(t, "127.0.0.1:53", 1000)
		got = readAll(t, small, fd, 1)
		if len(got) != 1 || got[0].ID != 3 || got[0].Payload == nil && got[0].Length == 0 || len(got[0].Payload) >= 60 {
			t.Errorf("%+v", got)
		}
	})
}

// TestForeignSender: another process's message to the socket is no packet.
func TestForeignSender(t *testing.T) {
	inNamespace(t, func() {
		fd := bindQueue(t, 60)
		if t.Failed() {
			return
		}
		defer unix.Close(fd)
		own, err := unix.Getsockname(fd)
		if err != nil {
			t.Error(err)
			return
		}
		other, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(other)
		forged := message(header, attr(attrPayload, make([]byte, 40)...))
		if err := unix.Sendto(other, forged, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: own.(*unix.SockaddrNetlink).Pid}); err != nil {
			t.Error(err)
			return
		}
		r := NewReader(60)
		if packets, err := r.Read(fd); err != nil || len(packets) != 0 || r.Unreadable != 1 {
			t.Errorf("%d packets, %v, %d unreadable", len(packets), err, r.Unreadable)
		}
	})
}
