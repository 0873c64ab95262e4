package dnsworker

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/child"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

// copyRange is the most that the kernel copies of a packet (NFQNL_MAX_COPY_RANGE
// in net/netfilter/nfnetlink_queue.c: 65,535 less an attribute's header).
const copyRange = 65531

// MainRequests is the process that parses DNS requests; MainResponses the one
// that parses DNS responses. They return the exit status.
func MainRequests(args []string) int {
	return child.Main(ipc.RoleRequests, args, func(p *ipc.Policy) (child.Worker, error) {
		sender := ipc.NewRequestSender(ipc.FDRequests)
		parser := NewParser(p.Settings.FullDNS)
		return newWorker(p, ipc.QueueRequests, func(m Meta, packet []byte) error {
			fact := parser.Request(m, packet)
			return sender.Send(&fact)
		})
	})
}

// MainResponses: see MainRequests.
func MainResponses(args []string) int {
	return child.Main(ipc.RoleResponses, args, func(p *ipc.Policy) (child.Worker, error) {
		sender := ipc.NewResponseSender(ipc.FDResponses)
		parser := NewParser(p.Settings.FullDNS)
		return newWorker(p, ipc.QueueResponses, func(m Meta, packet []byte) error {
			fact := parser.Response(m, packet)
			return sender.Send(&fact)
		})
	})
}

// worker reads packets and tells the holder one fact for each, also for one
// that it cannot parse: the holder gives every verdict.
type worker struct {
	reader  *queue.Reader
	handles []uint32 // by slot
	tell    func(Meta, []byte) error
}

func newWorker(p *ipc.Policy, kind ipc.QueueKind, tell func(Meta, []byte) error) (child.Worker, error) {
	w := &worker{reader: queue.NewReader(copyRange), tell: tell}
	for i, q := range p.Queues {
		if q.Kind != kind || int(q.Slot) != i {
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
		// Without a holder nobody can accept: the packet waits for the
		// parent, which has seen the death and drops it.
		if err := w.tell(m, p.Payload); err != nil && !errors.Is(err, unix.EPIPE) {
			return fmt.Errorf("telling the allowlist: %w", err)
		}
	}
	return nil
}

// Close has nothing to do: a dnsworker keeps nothing.
func (w *worker) Close() {}
