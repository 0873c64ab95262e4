package parent

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

func itoa(n uint16) string { return strconv.Itoa(int(n)) }

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Error(err)
	}
	return n
}

// flood sends to both queues' ports until stop is closed, and counts.
func flood(stop chan struct{}) (sent *int, ended *sync.WaitGroup) {
	sent, ended = new(int), &sync.WaitGroup{}
	conn, err := net.Dial("udp4", "127.0.0.1:5300")
	ended.Go(func() {
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := conn.Write([]byte("flood")); err == nil {
				*sent++
			}
		}
	})
	return sent, ended
}

// TestNothingIsReadAtStart floods a queue while it is opened, again and again:
// the kernel never numbers a packet, so that none can have reached the
// library's reader in the parent, and none is accepted.
func TestNothingIsReadAtStart(t *testing.T) {
	inNamespace(t, func() {
		conn := listener(t, 5300)
		defer conn.Close()
		stop := make(chan struct{})
		sent, ended := flood(stop)
		for i := range 50 {
			queues := open(t, ipc.Queue{Handle: 1, Number: 100, Kind: ipc.QueueRequests})
			time.Sleep(2 * time.Millisecond) // of flood with the queue open
			if waiting, last := state(t, 100); waiting != 0 || last != 0 {
				t.Errorf("round %d: %d packets wait, the last has the id %d", i, waiting, last)
			}
			if n, _, err := unix.Recvfrom(queues[0].fd, make([]byte, 4096), unix.MSG_DONTWAIT); err != unix.EAGAIN {
				t.Errorf("round %d: %d octets to read, %v", i, n, err)
			}
			closeQueues(queues)
		}
		close(stop)
		ended.Wait()
		if *sent < 1000 {
			t.Errorf("the flood had %d packets", *sent)
		}
		if got := received(conn); len(got) != 0 {
			t.Errorf("%d packets arrived", len(got))
		}
	}, 100)
}

// TestOpenAndShut: packets wait from open on, shut drops all that are held
// and all that come after it.
func TestOpenAndShut(t *testing.T) {
	for _, kind := range []ipc.QueueKind{ipc.QueueRequests, ipc.QueueTraffic} {
		inNamespace(t, func() {
			conn := listener(t, 5300)
			defer conn.Close()
			queues := open(t, ipc.Queue{Handle: 1, Number: 100, Kind: kind})
			defer closeQueues(queues)
			sendNumbered(t, 5300, 10)
			if waiting, last := state(t, 100); waiting != 0 || last != 0 {
				t.Errorf("before it is open: %d waiting, last %d", waiting, last)
			}
			if err := queues[0].open(); err != nil {
				t.Error(err)
			}
			sendNumbered(t, 5300, 100)
			if waiting, last := state(t, 100); waiting != 100 || last != 100 {
				t.Errorf("open: %d waiting, last %d", waiting, last)
			}
			if err := queues[0].shut(); err != nil {
				t.Error(err)
			}
			sendNumbered(t, 5300, 10)
			if waiting, last := state(t, 100); waiting != 0 || last != 100 {
				t.Errorf("shut: %d waiting, last %d", waiting, last)
			}
			if got := received(conn); len(got) != 0 {
				t.Errorf("%d packets arrived", len(got))
			}
			if err := queues[0].shut(); err != nil { // with nothing to drop
				t.Error(err)
			}
		}, 100)
	}
}

// batchIDs reads the ids of the batch verdicts in netlink messages, and
// requires that all verdicts are drops.
func batchIDs(t *testing.T, b []byte) (ids []uint32) {
	t.Helper()
	for len(b) > 0 {
		length := binary.NativeEndian.Uint32(b)
		if binary.NativeEndian.Uint16(b[4:]) == msgVerdictBatch {
			if v := binary.BigEndian.Uint32(b[24:]); v != 0 {
				t.Errorf("the kernel verdict is %d", v)
			}
			ids = append(ids, binary.BigEndian.Uint32(b[28:]))
		}
		b = b[length:]
	}
	return ids
}

// TestShutArithmetic does what the kernel does with the batch verdicts of a
// shut (nfqnl_recv_verdict_batch), for packets with any ids.
func TestShutArithmetic(t *testing.T) {
	ids := batchIDs(t, shutMessages(100))
	for _, first := range []uint32{0, 1, 1<<30 - 50, 1 << 30, 1<<30 + 1, 1<<31 - 50, 1 << 31, 3<<30 - 50, 3 << 30, 3<<30 + 1, 1<<32 - 50, 1<<32 - 1} {
		var held []uint32
		for i := range uint32(queueLength) {
			held = append(held, first+i)
		}
		for _, max := range ids {
			for len(held) > 0 && int32(held[0]-max) <= 0 {
				held = held[1:]
			}
		}
		if len(held) > 0 {
			t.Errorf("from id %d on: %d packets are left, the first is %d", first, len(held), held[0])
		}
	}
}

// TestTakenQueue: a queue that somebody else has is tried for two seconds and
// then named, with who has it and the exit code.
func TestTakenQueue(t *testing.T) {
	inNamespace(t, func() {
		taken := open(t, ipc.Queue{Handle: 1, Number: 100, Kind: ipc.QueueTraffic})
		defer closeQueues(taken)
		name, err := unix.Getsockname(taken[0].fd)
		if err != nil {
			t.Error(err)
		}
		start := time.Now()
		_, err = openQueues([]ipc.Queue{{Handle: 1, Number: 99, Kind: ipc.QueueTraffic}, {Handle: 2, Number: 100, Kind: ipc.QueueTraffic}}, func(string, ...any) {})
		if took := time.Since(start); took < bindFor || took > 2*bindFor {
			t.Errorf("it took %v", took)
		}
		port := fmt.Sprint(name.(*unix.SockaddrNetlink).Pid) // a process id, or a number of the kernel's
		if exit.Code(err) != exit.Unavailable || !strings.Contains(err.Error(), "queue 100 is taken") || !strings.Contains(err.Error(), port) {
			t.Errorf("code %d: %v", exit.Code(err), err)
		}
	})
}

// TestQueueOfDyingPredecessor: a queue that becomes free in time is taken.
func TestQueueOfDyingPredecessor(t *testing.T) {
	inNamespace(t, func() {
		taken := open(t, ipc.Queue{Handle: 1, Number: 100, Kind: ipc.QueueTraffic})
		time.AfterFunc(300*time.Millisecond, func() { closeQueues(taken) })
		closeQueues(open(t, ipc.Queue{Handle: 2, Number: 100, Kind: ipc.QueueTraffic}))
	})
}

// TestNoCapability: without CAP_NET_ADMIN the error says so, and how to give
// it. Capabilities are a thread's own.
func TestNoCapability(t *testing.T) {
	inNamespace(t, func() {
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&head, &none[0]); err != nil {
			t.Error(err)
			return
		}
		_, err := openQueues([]ipc.Queue{{Handle: 1, Number: 100, Kind: ipc.QueueTraffic}}, func(string, ...any) {})
		if exit.Code(err) != exit.NoPerm || !strings.Contains(fmt.Sprint(err), "CAP_NET_ADMIN") || !strings.Contains(fmt.Sprint(err), "setcap") {
			t.Errorf("code %d: %v", exit.Code(err), err)
		}
	})
}

// TestQueueSocket: a large receive buffer, no ENOBUFS, not inherited; the
// warning about the connection state comes at most once.
func TestQueueSocket(t *testing.T) {
	inNamespace(t, func() {
		warnings := 0
		before := openFiles(t)
		queues, err := openQueues([]ipc.Queue{
			{Handle: 1, Number: 100, Kind: ipc.QueueRequests}, {Handle: 2, Number: 101, Kind: ipc.QueueResponses}, {Handle: 3, Number: 102, Kind: ipc.QueueTraffic},
		}, func(string, ...any) { warnings++ })
		if err != nil {
			t.Error(err)
			return
		}
		if warnings > 1 {
			t.Errorf("%d warnings", warnings)
		}
		if after := openFiles(t); after != before+3 {
			t.Errorf("%d descriptors more for three queues", after-before)
		}
		for _, q := range queues {
			// The kernel doubles what is asked for (socket(7)).
			if size, err := unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil || size != 2*receiveBuffer {
				t.Errorf("receive buffer %d, %v", size, err)
			}
			if v, err := unix.GetsockoptInt(q.fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS); err != nil || v != 1 {
				t.Errorf("NETLINK_NO_ENOBUFS %d, %v", v, err)
			}
			if flags, err := unix.FcntlInt(uintptr(q.fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("flags %#x, %v: the queue would be inherited", flags, err)
			}
		}
		closeQueues(queues)
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Error(err)
	}
	return len(entries)
}

// TestKernelDrops counts what the kernel dropped because a queue was full.
func TestKernelDrops(t *testing.T) {
	inNamespace(t, func() {
		queues := open(t, ipc.Queue{Handle: 1, Number: 100, Kind: ipc.QueueTraffic})
		defer closeQueues(queues)
		if err := queues[0].open(); err != nil {
			t.Error(err)
		}
		k := openKernelDrops(queues)
		if k.fd < 0 {
			t.Error("the statistics cannot be opened")
			return
		}
		defer unix.Close(k.fd)
		k.buf = k.buf[:20] // smaller than a line: read in parts
		total := uint64(0)
		poll := func() {
			if err := k.poll(func(queue uint16, dropped uint64) {
				if queue != 100 {
					t.Errorf("queue %d", queue)
				}
				total += dropped
			}); err != nil {
				t.Error(err)
			}
		}
		poll()
		if total != 0 {
			t.Errorf("%d dropped before anything was sent", total)
		}
		// A sender has only so much buffer, and what waits is charged to it.
		for range 50 {
			sendNumbered(t, 5300, 100)
		}
		poll()
		if want := uint64(5000 - queueLength); total != want {
			t.Errorf("%d dropped, not %d", total, want)
		}
		poll()
		if want := uint64(5000 - queueLength); total != want {
			t.Error("the same ones are counted again")
		}
	}, 100)
}
