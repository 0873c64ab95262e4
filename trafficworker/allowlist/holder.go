package allowlist

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/child"
	"github.com/capnspacehook/egress-eddie/ipc/logging"
)

const (
	// factsAtOnce bounds the facts taken from one parser before the other one
	// and the parent get their turn.
	factsAtOnce = 64
	// owedAtOnce is the same for what the trafficworker has to be told.
	owedAtOnce = 512
	// closeFor is how long the log may take its last lines at the end.
	closeFor = 300 * time.Millisecond
	// grantsInLine bounds the addresses of one log line; the others follow in
	// lines of their own, so that nothing that was opened is left out.
	grantsInLine = 64
)

// Main is the process; it returns the exit status.
func Main(args []string) int {
	return child.Main(ipc.RoleAllowlist, args, func(p *ipc.Policy) (child.Worker, error) {
		h, err := newHolder(p)
		if err != nil {
			return nil, err
		}
		return h, h.tellAll()
	})
}

// holder is the loop around the engine. One goroutine owns it.
type holder struct {
	policy    *ipc.Policy
	engine    *Engine
	requests  *ipc.Receiver[ipc.RequestFact, *ipc.RequestFact]
	segment   []*ipc.RequestFact // what was told so far of one of a request queue, and is not all
	responses *ipc.Receiver[ipc.ResponseFact, *ipc.ResponseFact]
	grants    *ipc.Sender[ipc.Grants]
	owed      []ipc.Grants // what the trafficworker has to be told before anything else
	waited    uint64       // how often there was no room for it
	verdicts  *ipc.VerdictSender
	unknown   *ipc.Receiver[ipc.Unknown, *ipc.Unknown]
	lookups   *ipc.Sender[ipc.Lookup]
	hinted    bool // that no question of the daemon's comes by its queue
	log       *logging.Logger
}

func newHolder(p *ipc.Policy) (*holder, error) {
	e, err := New(p)
	if err != nil {
		return nil, err
	}
	h := &holder{
		policy:    p,
		engine:    e,
		requests:  ipc.NewRequestReceiver(ipc.FDRequests),
		responses: ipc.NewResponseReceiver(ipc.FDResponses),
		grants:    ipc.NewGrantSender(ipc.FDGrants),
		verdicts:  ipc.NewVerdictSender(ipc.FDVerdicts),
		unknown:   ipc.NewUnknownReceiver(ipc.FDUnknown),
		lookups:   ipc.NewLookupSender(ipc.FDLookups),
		log: logging.New(ipc.FDLog, logging.Options{
			Process: string(ipc.RoleAllowlist), JSON: p.Settings.JSON, Debug: p.Settings.Debug, Journal: p.Settings.Journal,
		}),
	}
	p.Hostnames = nil // the engine has them
	return h, nil
}

// Descriptors are the edges from the two parsers and the trafficworker.
func (h *holder) Descriptors() []int { return []int{ipc.FDRequests, ipc.FDResponses, ipc.FDUnknown} }

// Ready takes the facts that wait on one edge and answers each with a verdict.
func (h *holder) Ready(fd int) error {
	if fd == ipc.FDGrants { // there is room
		return h.payOwed()
	}
	one := h.request
	switch fd {
	case ipc.FDResponses:
		one = h.response
	case ipc.FDUnknown:
		one = h.unknownAddress
	}
	now := ipc.Now()
	for range factsAtOnce {
		err := one(now)
		switch {
		case errors.Is(err, ipc.ErrWouldBlock):
			return h.verdicts.Flush()
		case errors.Is(err, io.EOF):
			return errors.Join(h.verdicts.Flush(), err)
		case err != nil:
			return errors.Join(h.verdicts.Flush(), err)
		}
	}
	return h.verdicts.Flush()
}

func (h *holder) request(now ipc.Instant) error {
	f, err := h.requests.Recv()
	if err != nil {
		return broken(err)
	}
	if len(h.segment) == ipc.MaxPipelined {
		return broken(fmt.Errorf("more than %d messages in a segment", ipc.MaxPipelined))
	}
	if h.segment = append(h.segment, f); f.Segment.More {
		return nil
	}
	facts := h.segment
	h.segment = nil
	outcomes, err := h.engine.Requests(now, facts)
	if err != nil {
		return broken(err)
	}
	for _, id := range append(f.Segment.Also, ipc.PacketID{Handle: f.Handle, ID: f.ID}) {
		if err := h.verdicts.Give(ipc.VerdictRecord{Handle: id.Handle, ID: id.ID, Verdict: outcomes[0].Verdict}); err != nil {
			return err
		}
	}
	for i, f := range facts {
		if o := &outcomes[i]; o.Verdict == ipc.Drop || len(f.Questions) > 0 { // a part of a message is no news
			d := h.decision(logging.EventRequest, &f.Packet, o)
			d.Questions, d.Dump = f.Questions, f.Dump
			h.log.Decide(d)
		}
	}
	return nil
}

func (h *holder) response(now ipc.Instant) error {
	f, err := h.responses.Recv()
	if err != nil {
		return broken(err)
	}
	p, err := h.engine.Response(now, f)
	if err != nil {
		return broken(err)
	}
	var granted []ipc.Grants
	if p.Verdict == ipc.Accept {
		if granted, err = h.handOver(now, &p); err != nil {
			return err
		}
	}
	if !f.Segment.More { // the last message's: one that was dropped has those after it dropped
		if err := h.verdicts.Give(ipc.VerdictRecord{Handle: f.Handle, ID: f.ID, Verdict: p.Verdict}); err != nil {
			return err
		}
	}
	if p.Verdict == ipc.Drop || isMessage(f) {
		h.logResponse(f, &p, granted)
	}
	return nil
}

// handOver writes the grants to the trafficworker's socket before anything
// else: by the time the client sees the answer, they are there. It does not
// wait for room. Without room nothing is learnt, and the answer is dropped; a
// part that was written opens addresses of a checked answer all the same. It
// returns what was written, for the log.
func (h *holder) handOver(now ipc.Instant, p *Plan) (granted []ipc.Grants, err error) {
	all := p.Grants
	if len(all) > 0 && len(h.owed) > 0 { // it would be undone by what is older
		h.engine.NotSent(p)
		return nil, nil
	}
	for i := range all {
		err := h.grants.Send(&all[i])
		switch {
		case errors.Is(err, ipc.ErrWouldBlock), errors.Is(err, unix.EPIPE):
			h.engine.NotSent(p)
			return all[:i], nil
		case err != nil:
			return all[:i], fmt.Errorf("handing over grants: %w", err)
		}
	}
	h.engine.Commit(now, p)
	return all, nil
}

// Change puts another policy in force here, and then in the trafficworker, who
// is told what no longer is open and after it that this is all.
func (h *holder) Change(p *ipc.Policy) error {
	// What the old policy looked up is settled before the trafficworker has the new one.
	if err := h.passOn(); err != nil {
		return err
	}
	c, err := h.engine.Change(ipc.Now(), p)
	if err != nil {
		return err
	}
	h.policy, p.Hostnames = p, nil
	h.log.Info("policy changed", "grants_kept", c.Kept, "grants_shortened", c.Shortened, "grants_closed", c.Closed,
		"learnt_kept", c.NamesKept, "learnt_forgotten", c.NamesForgotten, "pending", c.PendingRequests)
	h.owed = append(append(h.owed, c.Grants...), ipc.Grants{Kind: ipc.GrantsDone})
	return h.payOwed()
}

// payOwed tells the trafficworker what there is room for, and has the rest
// wait for more. Until all is told nothing else is opened.
func (h *holder) payOwed() error {
	for n := 0; len(h.owed) > 0; n++ {
		if n == owedAtOnce {
			return ipc.AwaitRoom(ipc.FDGrants)
		}
		err := h.grants.Send(&h.owed[0])
		switch {
		case errors.Is(err, ipc.ErrWouldBlock):
			h.waited++
			return ipc.AwaitRoom(ipc.FDGrants)
		case errors.Is(err, unix.EPIPE): // it is gone, and everything closed with it
			h.owed = nil
			return nil
		case err != nil:
			return fmt.Errorf("changing grants: %w", err)
		}
		h.owed = h.owed[1:]
	}
	h.owed = nil
	return nil
}

func (h *holder) decision(event string, p *ipc.Packet, o *Outcome) *logging.Decision {
	d := &logging.Decision{
		Event:   event,
		Queue:   o.Queue,
		UID:     p.UID,
		HasUID:  p.HasUID,
		Verdict: o.Verdict,
		Reason:  o.Reason,
	}
	if o.Verdict == ipc.Accept {
		d.AllowedBy, d.ByAnswer = o.Entry, o.Learnt
	}
	if o.Filter >= 0 {
		d.Filter = h.policy.Filters[o.Filter].Name
	}
	if p.HasFlow() {
		d.Src, d.Dst = endpoint(p.Src, p.SrcPort), endpoint(p.Dst, p.DstPort)
	}
	return d
}

func endpoint(a ipc.Address, port uint16) netip.AddrPort {
	addr, _ := a.Addr() // validated when it was received
	return netip.AddrPortFrom(addr, port)
}

// logResponse writes one line, and more where it opened more than fits one, or
// for several filters, as the answer to a question of the daemon's own may.
func (h *holder) logResponse(f *ipc.ResponseFact, p *Plan, grants []ipc.Grants) {
	d := h.decision(logging.EventResponse, &f.Packet, &p.Outcome)
	d.Questions, d.Dump, d.Refused, d.Learnt = f.Questions, f.Dump, p.Special, p.Names
	if len(d.Questions) == 0 {
		d.Questions = p.Questions // an error that does not repeat its question
	}
	if len(grants)+len(d.Learnt) > 0 {
		d.For = max(p.Lasts, h.learntFor(p)).String()
	}
	for {
		of := sameFilter(grants)
		if len(of) > 0 {
			d.Filter = h.policy.Filters[of[0].Filter].Name
		}
		h.logOpened(d, openedBy(of))
		if grants = grants[len(of):]; len(grants) == 0 {
			return
		}
	}
}

// logOpened writes a line for as many of what was opened as fit it. What else
// there is to say is said in the first.
func (h *holder) logOpened(d *logging.Decision, granted []logging.Opened) {
	for {
		n := min(len(granted), grantsInLine)
		line := *d
		line.Granted = granted[:n]
		h.log.Decide(&line)
		d.Learnt, d.Refused, d.Dump = nil, nil, ""
		if granted = granted[n:]; len(granted) == 0 {
			return
		}
	}
}

// sameFilter is the messages at the beginning that are about one filter.
func sameFilter(grants []ipc.Grants) []ipc.Grants {
	n := 0
	for n < len(grants) && grants[n].Filter == grants[0].Filter {
		n++
	}
	return grants[:n]
}

// learntFor is how long the names of a plan are known, 0 if there are none.
func (h *holder) learntFor(p *Plan) time.Duration {
	if len(p.Names) == 0 {
		return 0
	}
	return h.policy.Filters[p.Filter].AllowAnswersFor
}

func openedBy(grants []ipc.Grants) (all []logging.Opened) {
	for i := range grants {
		grants[i].Each(func(a netip.Addr) { all = append(all, logging.Opened{Addr: a, Port: grants[i].Port}) })
	}
	return all
}

// Close writes the last log lines, with what was decided in all.
func (h *holder) Close() {
	c := h.engine.Counts()
	fields := []any{"requests", c.Requests, "responses", c.Responses, "segments", c.Segments,
		"special_addresses", c.Special, "names_left_out", c.LeftOut,
		"learnt_evicted", c.LearntEvicted, "grants_evicted", c.GrantsEvicted, "changes_waited", h.waited}
	for reason := range ipc.Reasons() {
		if n := c.Drops[reason]; n > 0 {
			fields = append(fields, "dropped: "+reason.String(), n)
		}
	}
	h.log.Info("decided in all", fields...)
	// At the end there is nobody left to tell that a line was lost.
	_ = h.log.Close(closeFor)
}
