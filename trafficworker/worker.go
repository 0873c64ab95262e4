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
	waiting  *waiting
	grants   *ipc.Receiver[ipc.Grants, *ipc.Grants]
	unknown  *ipc.Sender[ipc.Unknown]
	verdicts *ipc.VerdictSender
	log      *logging.Logger
	warned   map[queue.Hook]bool
	now      func() ipc.Instant
	begun    ipc.Instant
	judges   bool // it reads packets
}

// packet is what a verdict and its log line need of one. It outlives the batch
// that it was read with.
type packet struct {
	queue  *ipc.Queue
	id     uint32
	hook   queue.Hook
	uid    uint32
	hasUID bool
	headers
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
		waiting:  newWaiting(len(p.Filters)),
		grants:   ipc.NewGrantReceiver(ipc.FDGrants),
		unknown:  ipc.NewUnknownSender(ipc.FDUnknown),
		verdicts: ipc.NewVerdictSender(ipc.FDVerdicts),
		log: logging.New(ipc.FDLog, logging.Options{
			Process: string(ipc.RoleTraffic), JSON: p.Settings.JSON, Debug: p.Settings.Debug, Journal: p.Settings.Journal,
		}),
		warned: map[queue.Hook]bool{},
		now:    ipc.Now,
		begun:  ipc.Now(),
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

// Descriptors are the grants. The queue sockets follow when all is known that is
// open already.
func (w *worker) Descriptors() []int { return []int{ipc.FDGrants} }

// toldFor is how long the holder may take to tell what is open already. Then
// packets are judged by what is known: who is not told of is dropped, as before.
const toldFor = 2 * time.Second

// judgeFromNow has packets read.
func (w *worker) judgeFromNow() error {
	if w.judges {
		return nil
	}
	w.judges = true
	for slot := range w.queues {
		if err := ipc.Watch(ipc.FDQueues + slot); err != nil {
			return fmt.Errorf("queue %d: %w", w.queues[slot].Number, err)
		}
	}
	return nil
}

// Ready takes grants, or judges what waits on one queue.
func (w *worker) Ready(fd int) error {
	if fd == ipc.FDGrants {
		err := w.drain()
		return errors.Join(w.verdicts.Flush(), err)
	}
	packets, err := w.reader.Read(fd)
	if err != nil || len(packets) == 0 {
		return err
	}
	return w.batch(&w.queues[fd-ipc.FDQueues], packets)
}

// batch judges what was read from a queue.
func (w *worker) batch(q *ipc.Queue, packets []queue.Packet) error {
	// A packet of this batch was queued before now. If a DNS answer let its
	// sender know the address, the grant was written before that answer was
	// let through, so it is in the socket by now: one look for the batch, taken
	// after the read, is enough for every packet of it.
	if err := w.drain(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	now := w.now()
	for i := range packets {
		if err := w.judge(now, q, &packets[i]); err != nil {
			return err
		}
	}
	return w.verdicts.Flush()
}

// drain takes every grant that has been written, until the socket is empty or
// as much is taken as it can hold: a holder that writes without end cannot
// keep packets waiting. By octets and not by messages alone: as many of the
// longest would be 33 million addresses, which take seconds.
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
		now := w.now()
		if _, err := child.Alive(now); err != nil {
			return err
		}
		inForce, err := w.table.take(now, g)
		if err != nil {
			return fmt.Errorf("the allowlist broke the protocol: %w", err)
		}
		if err := w.taken(now, g); err != nil {
			return err
		}
		if inForce {
			if err := child.Tell(ipc.SignalInForce); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge gives exactly one verdict for a packet, or has it wait for one.
func (w *worker) judge(now ipc.Instant, q *ipc.Queue, read *queue.Packet) error {
	p := packet{queue: q, id: read.ID, hook: read.Hook, uid: read.UID, hasUID: read.HasUID}
	var port ipc.Port
	h, reason := readHeaders(read.Protocol, read.Payload)
	if p.headers = h; reason == ipc.ReasonNone {
		reason, port = w.lookUp(now, &p)
	}
	if reason == ipc.ReasonNoGrant || reason == ipc.ReasonNoPorts {
		waits, why, err := w.wait(now, &p, reason)
		if waits || err != nil {
			return err
		}
		reason = why
	}
	return w.decide(&p, port, reason)
}

// decide gives the verdict, and writes the line about it.
func (w *worker) decide(p *packet, port ipc.Port, reason ipc.Reason) error {
	verdict := ipc.Drop
	if reason == ipc.ReasonNone {
		verdict = ipc.Accept
	}
	if err := w.verdicts.Give(ipc.VerdictRecord{Handle: p.queue.Handle, ID: p.id, Verdict: verdict}); err != nil {
		return err
	}
	if verdict == ipc.Accept && !w.log.Enabled() {
		return nil
	}
	w.warn(p.queue, p.hook, reason)
	w.log.Decide(&logging.Decision{
		Event:   logging.EventTraffic,
		Filter:  w.table.filters[p.queue.Filter].Name,
		Port:    port,
		Queue:   p.queue.Number,
		Src:     netip.AddrPortFrom(p.src, 0),
		Dst:     netip.AddrPortFrom(p.dst, 0),
		UID:     p.uid,
		HasUID:  p.hasUID,
		Verdict: verdict,
		Reason:  reason,
	})
	return nil
}

// lookUp judges a packet by its far address, and the port there if single ones
// count in the filter.
func (w *worker) lookUp(now ipc.Instant, p *packet) (ipc.Reason, ipc.Port) {
	filter := p.queue.Filter
	far, port, reason := p.remote(p.hook)
	if reason != ipc.ReasonNone {
		return reason, ipc.Port{}
	}
	if !w.table.filters[filter].Ports {
		port = ipc.Port{}
	}
	switch {
	case w.table.open(now, filter, far, port):
		return ipc.ReasonNone, port
	case w.table.filters[filter].Ports && !p.hasPorts && (p.proto == ipc.ProtoTCP || p.proto == ipc.ProtoUDP):
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
// batch drops of an orderly end among them, and messages that named no packet;
// and with how many packets waited, for how many lookups. The parent drops
// what waits still.
func (w *worker) Close() {
	w.log.Info("read in all", "late_verdicts", w.reader.KernelErrors, "unreadable", w.reader.Unreadable,
		"waited", w.waiting.waited, "looked_up", w.waiting.asked)
	// At the end there is nobody left to tell that a line was lost.
	_ = w.log.Close(closeFor)
}
