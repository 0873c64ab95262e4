package dnsworker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"testing"
	"time"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

func TestWorkerPolicyRefused(t *testing.T) {
	for what, c := range map[string]struct {
		kinds []ipc.QueueKind
		q     ipc.Queue
	}{
		"traffic queue, requests":  {requestKinds, ipc.Queue{Handle: 1, Kind: ipc.QueueTraffic}},
		"traffic queue, responses": {responseKinds, ipc.Queue{Handle: 1, Kind: ipc.QueueTraffic}},
		"response queue":           {requestKinds, ipc.Queue{Handle: 1, Kind: ipc.QueueResponses}},
		"request queue":            {responseKinds, ipc.Queue{Handle: 1, Kind: ipc.QueueRequests}},
		"own request queue":        {responseKinds, ipc.Queue{Handle: 1, Kind: ipc.QueueSelf}},
		"no kind, requests":        {requestKinds, ipc.Queue{Handle: 1}},
		"no kind, responses":       {responseKinds, ipc.Queue{Handle: 1}},
		"wrong slot":               {requestKinds, ipc.Queue{Handle: 1, Kind: ipc.QueueRequests, Slot: 1}},
	} {
		if _, err := newWorker(&ipc.Policy{Queues: []ipc.Queue{c.q}}, c.kinds, nil, nil); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	for _, c := range []struct {
		kinds         []ipc.QueueKind
		first, second ipc.QueueKind
	}{
		{requestKinds, ipc.QueueRequests, ipc.QueueRequests},
		{requestKinds, ipc.QueueSelf, ipc.QueueRequests},
		{requestKinds, ipc.QueueRequests, ipc.QueueSelf},
		{responseKinds, ipc.QueueResponses, ipc.QueueResponses},
	} {
		w, err := newWorker(&ipc.Policy{Queues: []ipc.Queue{
			{Handle: 7, Kind: c.first}, {Handle: 9, Kind: c.second, Slot: 1},
		}}, c.kinds, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if fds := w.Descriptors(); len(fds) != 2 || fds[0] != ipc.FDQueues || fds[1] != ipc.FDQueues+1 {
			t.Errorf("%v and %v: descriptors %v", c.first, c.second, fds)
		}
	}
}

const workerQueue = 4712

// inOwnNamespace runs f on a thread in a network namespace of its own with a
// queue that holds back every UDP packet to port 53; fd reads it.
func inOwnNamespace(t *testing.T, f func(fd int) error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			for _, args := range [][]string{
				{"ip", "link", "set", "lo", "up"},
				{"iptables", "-A", "OUTPUT", "-p", "udp", "--dport", "53", "-j", "NFQUEUE", "--queue-num", fmt.Sprint(workerQueue)},
			} {
				if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
					return fmt.Errorf("%v: %w: %s", args, err, out)
				}
			}
			fd, err := openWorkerQueue()
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return f(fd)
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// openWorkerQueue binds the queue; its socket's number is at least FDQueues.
func openWorkerQueue() (fd int, err error) {
	nf, err := nfqueue.Open(&nfqueue.Config{NfQueue: workerQueue, MaxQueueLen: 1024, Copymode: nfqueue.NfQnlCopyNone})
	if err != nil {
		return -1, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := nf.RegisterWithErrorFunc(ctx, func(nfqueue.Attribute) int { return 1 }, func(error) int { return 1 }); err != nil {
		return -1, err
	}
	raw, err := nf.Con.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dupErr error
	err = raw.Control(func(p uintptr) { fd, dupErr = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, ipc.FDQueues) })
	if err := errors.Join(err, dupErr, nf.Con.Close()); err != nil {
		return -1, err
	}
	// NFQNL_MSG_CONFIG with NFQA_CFG_PARAMS: copy whole packets from now on.
	b := binary.NativeEndian.AppendUint32(nil, 32)
	b = binary.NativeEndian.AppendUint16(b, 3<<8|2)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 10)...)
	b = binary.BigEndian.AppendUint16(b, workerQueue)
	b = append(b, 9, 0, 2, 0, 0, 0, 0xff, 0xff, 2, 0, 0, 0)
	_, err = unix.Write(fd, b)
	return fd, err
}

// TestOneFactAPacket reads a real queue: every packet is told once, in order
// and by its id, also what is no DNS at all; and the worker goes on when
// nobody listens any more.
func TestOneFactAPacket(t *testing.T) {
	inOwnNamespace(t, func(fd int) error {
		parser := NewParser(false)
		var facts []ipc.RequestFact
		var answer error
		w := &worker{reader: queue.NewReader(copyRange), handles: make([]uint32, fd-ipc.FDQueues+1)}
		w.handles[fd-ipc.FDQueues] = 77
		w.tell = func(_ ipc.Instant, m Meta, packet []byte) error {
			f := parser.Request(m, packet)
			if err := f.Validate(); err != nil {
				t.Errorf("packet %d: %v", m.ID, err)
			}
			facts = append(facts, f)
			return answer
		}
		conn, err := net.Dial("udp", "127.0.0.1:53")
		if err != nil {
			return err
		}
		defer conn.Close()
		good := []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07EXAMPLE\x03com\x00\x00\x01\x00\x01")
		const garbage = 70
		for i := range garbage {
			if _, err := conn.Write(make([]byte, i*20)); err != nil {
				return err
			}
		}
		if _, err := conn.Write(good); err != nil {
			return err
		}
		for deadline := time.Now().Add(5 * time.Second); len(facts) <= garbage && time.Now().Before(deadline); {
			if err := w.Ready(fd); err != nil {
				return err
			}
		}
		if len(facts) != garbage+1 {
			return fmt.Errorf("%d facts", len(facts))
		}
		for i, f := range facts {
			if f.Handle != 77 || f.ID != uint32(i+1) || (f.Drop == ipc.ReasonNone) != (i == garbage) {
				t.Errorf("packet %d: %+v", i, f)
			}
		}
		last := facts[garbage]
		if len(last.Questions) != 1 || last.Questions[0].Name.String() != "example.com" || last.TxID != 0x1234 {
			t.Errorf("%+v", last)
		}
		for want, err := range map[error]error{nil: fmt.Errorf("told: %w", unix.EPIPE), unix.EIO: unix.EIO} {
			answer = err
			if _, err := conn.Write(good); err != nil {
				return err
			}
			if got := w.Ready(fd); !errors.Is(got, want) {
				t.Errorf("%v became %v", err, got)
			}
		}
		return nil
	})
}
