package dnsworker

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/child"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

// copyRange is the most that the kernel copies of a packet (NFQNL_MAX_COPY_RANGE
// in net/netfilter/nfnetlink_queue.c: 65,535 less an attribute's header).
const copyRange = 65531

// The queues that each of the two processes reads. What the resolver asks is a
// request like any other; its answers come by the queues of all answers.
var (
	requestKinds  = []ipc.QueueKind{ipc.QueueRequests, ipc.QueueSelf}
	responseKinds = []ipc.QueueKind{ipc.QueueResponses}
)

// MainRequests is the process that parses DNS requests; MainResponses the one
// that parses DNS responses. They return the exit status.
func MainRequests(args []string) int {
	return child.Main(ipc.RoleRequests, args, func(p *ipc.Policy) (child.Worker, error) {
		sender := ipc.NewRequestSender(ipc.FDRequests)
		streams := newRequestStreams(p, NewParser(p.Settings.FullDNS), sender.Send)
		return newWorker(p, requestKinds, streams.packet, streams.tick)
	})
}

// MainResponses: see MainRequests.
func MainResponses(args []string) int {
	return child.Main(ipc.RoleResponses, args, func(p *ipc.Policy) (child.Worker, error) {
		sender := ipc.NewResponseSender(ipc.FDResponses)
		streams := newResponseStreams(NewParser(p.Settings.FullDNS), sender.Send)
		forever := func() (time.Duration, error) { return ipc.Forever, nil }
		return newWorker(p, responseKinds, streams.packet, forever)
	})
}

// worker reads packets and has each told to the holder once, at once or when
// the rest of its message has come, also one that it cannot parse: the holder
// gives every verdict.
type worker struct {
	reader  *queue.Reader
	handles []uint32 // by slot
	tell    func(ipc.Instant, Meta, []byte) error
	tick    func() (time.Duration, error)
}

// newWorker makes a worker that reads queues of the kinds and no others.
func newWorker(p *ipc.Policy, kinds []ipc.QueueKind, tell func(ipc.Instant, Meta, []byte) error, tick func() (time.Duration, error)) (child.Worker, error) {
	w := &worker{reader: queue.NewReader(copyRange), tell: tell, tick: tick}
	for i, q := range p.Queues {
		if !slices.Contains(kinds, q.Kind) || int(q.Slot) != i {
			return nil, fmt.Errorf("queue %d: %s queue in slot %d", q.Number, q.Kind, q.Slot)
		}
		w.handles = append(w.handles, q.Handle)
	}
	return w, nil
}

// Descriptors are the queue sockets.
func (w *worker) Descriptors() []int {
	fds := make([]int, len(w.handles))
	for slot := range w.handles {
		fds[slot] = ipc.FDQueues + slot
	}
	return fds
}

// Change: a parser knows its queues and nothing else, and those stay.
func (w *worker) Change(*ipc.Policy) error { return errors.New("a parser's policy does not change") }

// Ready reads what waits on one queue and tells all of it.
func (w *worker) Ready(fd int) error {
	packets, err := w.reader.Read(fd)
	if err != nil {
		return err
	}
	now := ipc.Now()
	for i := range packets {
		p := &packets[i]
		m := Meta{
			Handle:   w.handles[fd-ipc.FDQueues],
			ID:       p.ID,
			InIf:     p.InIf,
			OutIf:    p.OutIf,
			UID:      p.UID,
			HasUID:   p.HasUID,
			State:    p.State,
			Protocol: p.Protocol,
			CapLen:   p.Length,
			GSO:      p.GSO,
		}
		if err := heard(w.tell(now, m, p.Payload)); err != nil {
			return err
		}
	}
	return nil
}

// Tick drops what was held too long.
func (w *worker) Tick() (time.Duration, error) {
	next, err := w.tick()
	return next, heard(err)
}

// heard is what an error of telling means. Without a holder nobody can accept:
// the packet waits for the parent, which has seen the death and drops it.
func heard(err error) error {
	if err == nil || errors.Is(err, unix.EPIPE) {
		return nil
	}
	return fmt.Errorf("telling the allowlist: %w", err)
}

// Close has nothing to do: a dnsworker keeps nothing.
func (w *worker) Close() {}
