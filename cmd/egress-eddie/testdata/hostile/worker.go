package main

import (
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/dnsworker"
	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/child"
	"github.com/capnspacehook/egress-eddie/ipc/name"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

// attack is what an owned process does when its moment comes: a question for
// a name that begins with the label "go", the answer to one, the order to ask
// one, or a datagram to goPort. An error ends the process, with the error as its last words.
type attack func(m *moment) error

// moment is what is at hand then.
type moment struct {
	policy   *ipc.Policy
	queue    ipc.Queue // of the packet; the zero one in the allowlist and the resolver
	id       uint32
	request  *ipc.RequestFact  // the request parser's and the allowlist's: the true fact
	response *ipc.ResponseFact // the response parser's
	lookup   *ipc.Lookup       // the resolver's: what it shall ask
}

// goPort is the destination port of the datagrams that set off an owned
// trafficworker.
const goPort = 666

// mute has a stand-in read on and say nothing any more.
var mute bool

var (
	toHolder  = ipc.NewRequestSender(ipc.FDRequests)
	toHolder2 = ipc.NewResponseSender(ipc.FDResponses)
	toTraffic = ipc.NewGrantSender(ipc.FDGrants)
	toParent  = ipc.NewVerdictSender(ipc.FDVerdicts)

	unknowns = ipc.NewUnknownSender(ipc.FDUnknown)
	toAsk    = ipc.NewLookupSender(ipc.FDLookups)
)

// reader stands in for the three roles that read queues. Until its moment,
// and for all other packets, the parsers are honest; the trafficworker drops.
type reader struct {
	policy *ipc.Policy
	queues *queue.Reader
	parser *dnsworker.Parser
	attack attack
}

func newReader(p *ipc.Policy, a attack) child.Worker {
	return &reader{p, queue.NewReader(65531), dnsworker.NewParser(false), a}
}

func (r *reader) Descriptors() []int {
	fds := make([]int, len(r.policy.Queues))
	for slot := range fds {
		fds[slot] = ipc.FDQueues + slot
	}
	return fds
}

func (r *reader) Ready(fd int) error {
	packets, err := r.queues.Read(fd)
	if err != nil {
		return err
	}
	for i := range packets {
		m := &moment{policy: r.policy, queue: r.policy.Queues[fd-ipc.FDQueues], id: packets[i].ID}
		if err := r.packet(m, &packets[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) packet(m *moment, p *queue.Packet) error {
	due := false
	meta := dnsworker.Meta{Handle: m.queue.Handle, ID: p.ID, InIf: p.InIf, OutIf: p.OutIf, UID: p.UID, HasUID: p.HasUID,
		State: p.State, Protocol: p.Protocol, CapLen: p.Length, GSO: p.GSO}
	switch m.queue.Kind {
	case ipc.QueueRequests, ipc.QueueSelf:
		fact := r.parser.Request(meta, p.Payload)
		m.request, due = &fact, goes(fact.Questions)
	case ipc.QueueResponses:
		fact := r.parser.Response(meta, p.Payload)
		m.response, due = &fact, goes(fact.Questions)
	default: // UDP behind an IPv4 header without options
		due = len(p.Payload) >= 24 && binary.BigEndian.Uint16(p.Payload[22:]) == goPort
	}
	err := error(nil)
	switch {
	case mute:
	case due:
		err = r.attack(m)
	default:
		err = m.honest()
	}
	if errors.Is(err, unix.EPIPE) {
		return nil // it outlives its victim, so that the death reported is the victim's
	}
	return err
}

// honest reports the packet as it is.
func (m *moment) honest() error {
	switch {
	case m.lookup != nil:
		return askHonestly(m.lookup)
	case m.queue.Kind == 0: // the allowlist
		return accept(&m.request.Packet)
	case m.request != nil:
		return toHolder.Send(m.request)
	case m.response != nil:
		return toHolder2.Send(m.response)
	}
	return verdicts(ipc.VerdictRecord{Handle: m.queue.Handle, ID: m.id, Verdict: ipc.Drop})
}

func (r *reader) Change(*ipc.Policy) error { return nil }

func (r *reader) Close() {}

// goes reports whether a question sets the attack off.
func goes(qs []ipc.Question) bool {
	return len(qs) > 0 && strings.HasPrefix(string(qs[0].Name), "\x02go")
}

// holder stands in for the allowlist. It lets all requests and responses
// pass, and grants nothing, until its moment.
type holder struct {
	policy    *ipc.Policy
	requests  *ipc.Receiver[ipc.RequestFact, *ipc.RequestFact]
	responses *ipc.Receiver[ipc.ResponseFact, *ipc.ResponseFact]
	attack    attack
}

func newHolder(p *ipc.Policy, a attack) child.Worker {
	return &holder{p, ipc.NewRequestReceiver(ipc.FDRequests), ipc.NewResponseReceiver(ipc.FDResponses), a}
}

func (h *holder) Descriptors() []int { return []int{ipc.FDRequests, ipc.FDResponses} }

func (h *holder) Ready(fd int) error {
	m := &moment{policy: h.policy}
	var packet ipc.Packet
	if fd == ipc.FDRequests {
		f, err := h.requests.Recv()
		if err != nil {
			return quiet(err)
		}
		m.request, packet = f, f.Packet
	} else {
		f, err := h.responses.Recv()
		if err != nil {
			return quiet(err)
		}
		packet = f.Packet
	}
	switch {
	case mute:
		return nil
	case m.request != nil && goes(m.request.Questions):
		if err := h.attack(m); !errors.Is(err, unix.EPIPE) {
			return err
		}
		return nil // as a reader does
	}
	return accept(&packet)
}

func (h *holder) Change(*ipc.Policy) error { return nil }

func (h *holder) Edges() []int {
	return []int{ipc.FDRequests, ipc.FDResponses, ipc.FDGrants, ipc.FDUnknown, ipc.FDLookups}
}

// Broke: an owned one accuses nobody.
func (h *holder) Broke(int, error) error { return nil }

// TakeEdge is for the successors of its victims.
func (h *holder) TakeEdge(fd int) error {
	switch fd {
	case ipc.FDGrants:
		return toTraffic.Send(&ipc.Grants{Kind: ipc.GrantsAll})
	case ipc.FDRequests, ipc.FDResponses:
		return ipc.Watch(fd)
	}
	return nil
}

func (h *holder) Close() {}

// quiet: that an edge is empty is no error.
func quiet(err error) error {
	if errors.Is(err, ipc.ErrWouldBlock) {
		return nil
	}
	return err
}

func accept(p *ipc.Packet) error {
	return verdicts(ipc.VerdictRecord{Handle: p.Handle, ID: p.ID, Verdict: ipc.Accept})
}

func verdicts(records ...ipc.VerdictRecord) error {
	for _, r := range records {
		if err := toParent.Give(r); err != nil {
			return err
		}
	}
	return toParent.Flush()
}

// wire is a name of these labels, valid or not.
func wire(labels ...string) name.Name {
	var b []byte
	for _, l := range labels {
		b = append(append(b, byte(len(l))), l...)
	}
	return name.Name(append(b, 0))
}

// allowed is the name that the configuration of every test allows.
var allowed = wire("example", "com")
