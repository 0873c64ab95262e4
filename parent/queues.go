package parent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

const (
	// queueLength is how many packets the kernel holds for us on one queue.
	queueLength = 4096
	// receiveBuffer is what their copies may take in the socket, in octets:
	// 4,096 DNS messages of the usual size with the kernel's overhead.
	receiveBuffer = 8 << 20
	// copyMessage asks for whole packets: NFQUEUE's largest (65,531 octets)
	// is what 0 and everything above mean to the kernel.
	copyMessage = 0xffff
	// copyHeader asks for the longest IPv4 header (RFC 791 section 3.1), or an
	// IPv6 one with a few extension headers, and the ports behind it; the
	// trafficworker reads no more.
	copyHeader = 128
	// bindFor is how long a taken queue is tried again: the children of a
	// predecessor may still be dying.
	bindFor = 2 * time.Second
)

// openQueue is a queue that this process bound: the descriptor keeps it.
type openQueue struct {
	ipc.Queue
	fd int
}

// openQueues opens and binds every queue. Nothing can be read from them yet:
// the kernel drops what it is sent until openFilter.
func openQueues(queues []ipc.Queue, warn func(string, ...any)) ([]*openQueue, error) {
	switch err := mayBind(); {
	case errors.Is(err, unix.EPERM):
		return nil, exit.WithHint(exit.NoPerm, sandbox.CapabilityHint, "CAP_NET_ADMIN is missing: %w", err)
	case err != nil:
		return nil, exit.Errorf(exit.Unavailable, "nfnetlink_queue: %w", err)
	}
	var open []*openQueue
	conntrack := true
	for _, q := range queues {
		o, err := bind(q)
		if err != nil {
			return nil, err
		}
		open = append(open, o)
		ok, err := o.configure()
		if err != nil {
			return nil, exit.Errorf(exit.Unavailable, "queue %d: %w", q.Number, err)
		}
		conntrack = conntrack && ok
	}
	if !conntrack {
		warn("the kernel gives no connection state with queued packets (NETFILTER_NETLINK_GLUE_CT): " +
			"requests and responses are paired without it; keep --ctstate in the rules")
	}
	return open, nil
}

// bind binds one queue with go-nfqueue, and keeps a duplicate of its socket.
//
// The library starts a goroutine that reads and decodes packets at once. With
// NFQNL_COPY_NONE the kernel drops packets instead of sending them
// (net/netfilter/nfnetlink_queue.c, __nfqnl_enqueue_packet), so it never sees
// one; then the library's own descriptor is closed, which ends the goroutine
// and leaves the queue bound to the duplicate.
func bind(q ipc.Queue) (*openQueue, error) {
	deadline := time.Now().Add(bindFor)
	for {
		fd, err := bindOnce(q.Number)
		switch {
		case err == nil:
			return &openQueue{Queue: q, fd: fd}, nil
		case !taken(err):
			return nil, exit.Errorf(exit.Unavailable, "queue %d: %w", q.Number, err)
		case time.Now().After(deadline):
			return nil, exit.Errorf(exit.Unavailable, "queue %d is taken: %w%s", q.Number, err, owner(q.Number))
		}
		<-time.After(50 * time.Millisecond)
	}
}

// mayBind asks the kernel whether it takes commands about queues from this
// process at all: with one that it has forgotten how to obey.
func mayBind() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := sendToKernel(fd, obsoleteMessage()); err != nil {
		return err
	}
	return awaitAck(fd)
}

// taken: a queue of another socket is EPERM (net/netfilter/nfnetlink_queue.c,
// nfqnl_recv_config). NB: only when mayBind had no EPERM.
func taken(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBUSY) }

func bindOnce(number uint16) (int, error) {
	nf, err := nfqueue.Open(&nfqueue.Config{
		NfQueue:     number,
		MaxQueueLen: queueLength,
		Copymode:    nfqueue.NfQnlCopyNone,
	})
	if err != nil {
		return -1, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Neither function can run: no packet is sent to the socket in this mode.
	// They answer "stop" so that a packet seen here would end the reading.
	err = nf.RegisterWithErrorFunc(ctx,
		func(nfqueue.Attribute) int { return 1 },
		func(error) int { return 1 })
	if err != nil {
		return -1, errors.Join(err, nf.Con.Close())
	}
	fd, err := duplicate(nf)
	if err != nil {
		return -1, errors.Join(err, nf.Con.Close())
	}
	if err := nf.Con.Close(); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func duplicate(nf *nfqueue.Nfqueue) (int, error) {
	raw, err := nf.Con.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(p uintptr) {
		fd, dupErr = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return -1, err
	}
	return fd, dupErr
}

// configure sets up a bound queue: buffer, no ENOBUFS, the sender's uid and,
// where the kernel can, connection state. It reports whether it can.
func (q *openQueue) configure() (conntrack bool, err error) {
	if err := unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		return false, fmt.Errorf("SO_RCVBUFFORCE: %w", err)
	}
	if err := unix.SetsockoptInt(q.fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1); err != nil {
		return false, fmt.Errorf("NETLINK_NO_ENOBUFS: %w", err)
	}
	flags := uint32(flagUIDGID)
	if q.Kind == ipc.QueueTraffic {
		// One verdict for all segments of an offloaded packet: they have one
		// destination. NB: never on a DNS queue. There the kernel must cut
		// such a packet first, or datagrams could hide inside one message.
		flags |= flagGSO
	}
	if err := q.setFlags(flags); err != nil {
		return false, err
	}
	switch err := q.setFlags(flagConntrack); {
	case errors.Is(err, errUnsupported):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

func (q *openQueue) setFlags(flags uint32) error {
	if err := sendToKernel(q.fd, flagsMessage(q.Number, flags)); err != nil {
		return fmt.Errorf("flags %#x: %w", flags, err)
	}
	if err := awaitAck(q.fd); err != nil {
		return fmt.Errorf("flags %#x: %w", flags, err)
	}
	return nil
}

// open lets the kernel hand out packets. NB: this message is the moment the
// filter opens; it is sent when every child has its policy, not before.
func (q *openQueue) open() error {
	copyRange := uint32(copyMessage)
	if q.Kind == ipc.QueueTraffic {
		copyRange = copyHeader
	}
	return sendToKernel(q.fd, paramsMessage(q.Number, copyPacket, copyRange))
}

// shut makes the kernel drop what it holds and what still comes.
func (q *openQueue) shut() error {
	return sendToKernel(q.fd, shutMessages(q.Number))
}

func shutMessages(number uint16) []byte {
	return appendDropAll(paramsMessage(number, copyNone, 0), number)
}

// appendDropAll appends verdicts for all that a queue holds. Packet ids rise by
// one from 1 and wrap, and a batch verdict goes through what is held, oldest first, and stops at the first id above
// its own in serial arithmetic (nfq_cmp_id in nfnetlink_queue.c). Two of them
// half the number space apart cover every id there can be, and the first once
// more what begins in the second's half and wraps into its own.
func appendDropAll(b []byte, number uint16) []byte {
	for _, id := range []uint32{1 << 30, 3 << 30, 1 << 30} {
		b = appendVerdict(b, msgVerdictBatch, number, kernelDrop, id)
	}
	return b
}

// dropHeld makes the kernel drop what it holds, read by somebody or not.
func (q *openQueue) dropHeld() error {
	return sendToKernel(q.fd, appendDropAll(nil, q.Number))
}

// owner names who has a queue that is taken, where the kernel shows it: the
// port id of a process's first netlink socket is by default its process id.
func owner(number uint16) string {
	f, err := os.Open(queueStatistics)
	if err != nil {
		return " (by another program)"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == strconv.Itoa(int(number)) {
			if name, err := os.ReadFile("/proc/" + fields[1] + "/comm"); err == nil {
				return fmt.Sprintf(" (probably by process %s, %q)", fields[1], strings.TrimSpace(string(name)))
			}
			return fmt.Sprintf(" (by netlink port %s)", fields[1])
		}
	}
	return " (by another program)"
}
