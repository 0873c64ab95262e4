package trafficworker

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/child"
	"github.com/capnspacehook/egress-eddie/ipc/logging"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

const (
	// copyRange is the most that the parent asks the kernel to copy of a
	// packet on a traffic queue, in octets: an IPv4 header at its longest or an
	// IPv6 one with a few extensions, and the ports behind it.
	copyRange = 128
	// closeFor is how long the log may take its last lines at the end.
	closeFor = 300 * time.Millisecond
)

// Main is the process; it returns the exit status.
func Main(args []string) int {
	return child.Main(ipc.RoleTraffic, args, func(p *ipc.Policy) (child.Worker, error) { return newWorker(p) })
}

// worker is the loop's state. One goroutine owns all of it and reads the
// grants itself, so that no grant can be between two goroutines when a packet
// is judged.
type worker struct {
	queues   []ipc.Queue // by slot
	reader   *queue.Reader
	table    *table
	grants   *ipc.Receiver[ipc.Grants, *ipc.Grants]
	verdicts *ipc.VerdictSender
	log      *logging.Logger
	warned   map[queue.Hook]bool
}

func newWorker(p *ipc.Policy) (*worker, error) {
	t, err := newTable(p.Filters, p.Addresses)
	if err != nil {
		return nil, err
	}
	if err := checkQueues(p); err != nil {
		return nil, err
	}
	return &worker{
		queues:   p.Queues,
		reader:   queue.NewReader(copyRange),
		table:    t,
		grants:   ipc.NewGrantReceiver(ipc.FDGrants),
		verdicts: ipc.NewVerdictSender(ipc.FDVerdicts),
		log: logging.New(ipc.FDLog, logging.Options{
			Process: string(ipc.RoleTraffic), JSON: p.Settings.JSON, Debug: p.Settings.Debug, Journal: p.Settings.Journal,
		}),
		warned: map[queue.Hook]bool{},
	}, nil
}

func checkQueues(p *ipc.Policy) error {
	for i, q := range p.Queues {
		if q.Kind != ipc.QueueTraffic || int(q.Slot) != i || int(q.Filter) >= len(p.Filters) || p.Filters[q.Filter].AllowAll {
			return fmt.Errorf("queue %d: %s queue of filter %d in slot %d", q.Number, q.Kind, q.Filter, q.Slot)
		}
	}
	return nil
}

// Change takes the policy that is to come, for the queues that there are.
func (w *worker) Change(p *ipc.Policy) error {
	if err := checkQueues(p); err != nil {
		return err
	}
	if !slices.Equal(p.Queues, w.queues) {
		return errors.New("a change of policy that changes queues")
	}
	return w.table.announce(p.Filters, p.Addresses)
}

// Descriptors are the queue sockets and the grants.
func (w *worker) Descriptors() []int {
	fds := []int{ipc.FDGrants}
	for slot := range w.queues {
		fds = append(fds, ipc.FDQueues+slot)
	}
	return fds
}

// Ready takes grants, or judges what waits on one queue.
func (w *worker) Ready(fd int) error {
	if fd == ipc.FDGrants {
		return w.drain()
	}
	packets, err := w.reader.Read(fd)
	if err != nil || len(packets) == 0 {
		return err
	}
	// A packet of this batch was queued before now. If a DNS answer let its
	// sender know the address, the grant was written before that answer was
	// let through, so it is in the socket by now: one look for the batch, taken
	// after the read, is enough for every packet of it.
	if err := w.drain(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	now := ipc.Now()
	for i := range packets {
		if err := w.judge(now, &w.queues[fd-ipc.FDQueues], &packets[i]); err != nil {
			return err
		}
	}
	return w.verdicts.Flush()
}

// drain takes every grant that has been written, until the socket is empty or
// as much is taken as it can hold: a holder that writes without end cannot
// keep packets waiting. By octets and not by messages alone: as many of the
// longest would be 16 million addresses, which take seconds.
func (w *worker) drain() error {
	for room := 2 * ipc.GrantBuffer; room > 0; {
		g, err := w.grants.Recv()
		switch {
		case errors.Is(err, ipc.ErrWouldBlock):
			return nil
		case errors.Is(err, io.EOF):
			return err
		case err != nil:
			return fmt.Errorf("the allowlist broke the protocol: %w", err)
		}
		room -= max(ipc.LeastWaiting, len(g.V4)+len(g.V6))
		inForce, err := w.table.take(ipc.Now(), g)
		if err != nil {
			return fmt.Errorf("the allowlist broke the protocol: %w", err)
		}
		if inForce {
			if err := child.Tell(ipc.SignalInForce); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge gives exactly one verdict for a packet.
func (w *worker) judge(now ipc.Instant, q *ipc.Queue, p *queue.Packet) error {
	h, reason := readHeaders(p.Protocol, p.Payload)
	src, dst := h.src, h.dst
	var port ipc.Port
	if reason == ipc.ReasonNone {
		reason, port = w.lookUp(now, q.Filter, p.Hook, &h)
	}
	verdict := ipc.Drop
	if reason == ipc.ReasonNone {
		verdict = ipc.Accept
	}
	if err := w.verdicts.Give(ipc.VerdictRecord{Handle: q.Handle, ID: p.ID, Verdict: verdict}); err != nil {
		return err
	}
	if verdict == ipc.Accept && !w.log.Enabled() {
		return nil
	}
	w.warn(q, p.Hook, reason)
	w.log.Decide(&logging.Decision{
		Event:   logging.EventTraffic,
		Filter:  w.table.filters[q.Filter].Name,
		Port:    port,
		Queue:   q.Number,
		Src:     netip.AddrPortFrom(src, 0),
		Dst:     netip.AddrPortFrom(dst, 0),
		UID:     p.UID,
		HasUID:  p.HasUID,
		Verdict: verdict,
		Reason:  reason,
	})
	return nil
}

// lookUp judges a packet by its far address, and the port there if single ones
// count in the filter.
func (w *worker) lookUp(now ipc.Instant, filter uint32, hook queue.Hook, h *headers) (ipc.Reason, ipc.Port) {
	far, port, reason := h.remote(hook)
	if reason != ipc.ReasonNone {
		return reason, ipc.Port{}
	}
	if !w.table.filters[filter].Ports {
		port = ipc.Port{}
	}
	switch {
	case w.table.open(now, filter, far, port):
		return ipc.ReasonNone, port
	case w.table.filters[filter].Ports && !h.hasPorts && (h.proto == ipc.ProtoTCP || h.proto == ipc.ProtoUDP):
		return ipc.ReasonNoPorts, port
	}
	return ipc.ReasonNoGrant, port
}

// warn says once for each hook that rules were put where they cannot work.
func (w *worker) warn(q *ipc.Queue, hook queue.Hook, reason ipc.Reason) {
	if (reason != ipc.ReasonPrerouting && reason != ipc.ReasonUnknownHook) || w.warned[hook] {
		return
	}
	w.warned[hook] = true
	w.log.Warn("a rule sends traffic from a hook where its direction is not known: use OUTPUT, FORWARD, POSTROUTING or INPUT",
		"queue", q.Number, "hook", hook.String())
}

// Close writes the last log lines, with what the queue sockets said besides
// packets: verdicts for which the kernel held no packet any more, the parent's
// batch drops of an orderly end among them, and messages that named no packet.
func (w *worker) Close() {
	w.log.Info("read in all", "late_verdicts", w.reader.KernelErrors, "unreadable", w.reader.Unreadable)
	// At the end there is nobody left to tell that a line was lost.
	_ = w.log.Close(closeFor)
}
