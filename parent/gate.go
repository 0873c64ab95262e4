package parent

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// gate carries the verdicts of one child to the kernel. It is all that the
// parent does with what a child says, and reads like a list: one packet of
// records of fixed size, each for a queue of this edge, each drop or accept.
type gate struct {
	fd     int
	queues map[uint32]*openQueue // by handle: the queues whose verdicts this edge may give
	shut   *atomic.Bool          // set when the filter has closed: verdicts are no longer carried

	packet  [ipc.MaxVerdicts*ipc.VerdictSize + 1]byte
	records [ipc.MaxVerdicts]ipc.VerdictRecord
	out     []byte
}

func newGate(fd int, kinds []ipc.QueueKind, queues []*openQueue, shut *atomic.Bool) *gate {
	g := &gate{fd: fd, queues: map[uint32]*openQueue{}, shut: shut}
	for _, q := range queues {
		for _, kind := range kinds {
			if q.Kind == kind {
				g.queues[q.Handle] = q
			}
		}
	}
	return g
}

// errProtocol marks what only a corrupted child does.
var errProtocol = errors.New("protocol error")

// one carries the verdicts of the next packet. io.EOF is the socket's end. Any
// other error is errProtocol, what only a corrupted child does, or the kernel's
// that refuses a message.
func (g *gate) one() error {
	n, err := ipc.RecvPacket(g.fd, g.packet[:])
	if errors.Is(err, io.EOF) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	records, err := ipc.ParseVerdicts(g.packet[:n], g.records[:0])
	if err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	return g.carry(records)
}

// carry sends the verdicts of one packet, all messages for one queue in one
// system call. Nothing is sent of a packet that names a foreign queue.
func (g *gate) carry(records []ipc.VerdictRecord) error {
	for _, r := range records {
		if g.queues[r.Handle] == nil {
			return fmt.Errorf("%w: verdict for handle %d, which is not of this edge", errProtocol, r.Handle)
		}
	}
	for len(records) > 0 && !g.shut.Load() {
		q := g.queues[records[0].Handle]
		g.out = g.out[:0]
		same := 0
		for _, r := range records {
			if r.Handle != q.Handle {
				break
			}
			g.out = appendVerdict(g.out, msgVerdict, q.Number, kernelVerdict(r.Verdict), r.ID)
			same++
		}
		if err := sendToKernel(q.fd, g.out); err != nil {
			return fmt.Errorf("verdicts for queue %d: %w", q.Number, err)
		}
		records = records[same:]
	}
	return nil
}
