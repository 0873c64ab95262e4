package allowlist

import (
	"errors"
	"fmt"
	"io"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/child"
)

// Without it no neighbour could be started again.
var _ child.EdgeTaker = (*holder)(nil)

// Edges are those to all neighbours.
func (h *holder) Edges() []int {
	return []int{ipc.FDRequests, ipc.FDResponses, ipc.FDGrants, ipc.FDUnknown, ipc.FDLookups}
}

// TakeEdge begins anew with a neighbour that was started again.
//
// A parser has forgotten all streams, and so may not go on with one: what it sees
// first of it would be taken for its beginning. The trafficworker has forgotten
// what is open, and is told before it reads a packet. What the resolver was asked
// runs out and is asked again.
func (h *holder) TakeEdge(fd int) error {
	switch fd {
	case ipc.FDRequests:
		h.requests, h.segment = ipc.NewRequestReceiver(fd), nil
		h.engine.ForgetStreams()
	case ipc.FDResponses:
		h.responses = ipc.NewResponseReceiver(fd)
		h.engine.ForgetStreams()
	case ipc.FDUnknown:
		h.unknown = ipc.NewUnknownReceiver(fd)
	case ipc.FDGrants:
		h.grants = ipc.NewGrantSender(fd)
		return h.tellAll()
	case ipc.FDLookups:
		h.lookups = ipc.NewLookupSender(fd)
		return nil
	default:
		return fmt.Errorf("no edge to a neighbour")
	}
	return ipc.Watch(fd)
}

// readEdges are those that neighbours write to, and what the parent is told of
// one who breaks the protocol there.
var readEdges = map[int]struct {
	role   ipc.Role
	signal ipc.Signal
}{
	ipc.FDRequests:  {ipc.RoleRequests, ipc.SignalBrokeRequests},
	ipc.FDResponses: {ipc.RoleResponses, ipc.SignalBrokeResponses},
	ipc.FDUnknown:   {ipc.RoleTraffic, ipc.SignalBrokeTraffic},
}

// broken is an error that is a neighbour's fault: nothing of what it said then
// was taken. That there is nothing to read is none.
func broken(err error) error {
	if err == nil || errors.Is(err, ipc.ErrWouldBlock) || errors.Is(err, io.EOF) {
		return err
	}
	return &child.Broken{Err: err}
}

// Broke accuses a neighbour. What it has read and not told of is dropped with all
// that waits in its queues.
func (h *holder) Broke(fd int, why error) error {
	edge := readEdges[fd]
	h.log.Error("broke the protocol", "role", string(edge.role), "error", why.Error())
	if fd == ipc.FDRequests {
		h.segment = nil
	}
	return child.Tell(edge.signal)
}

// tellAll has a trafficworker that knows nothing told what is open, before
// anything else. What the one before it was still to be told of a change of policy
// is in that: nothing is open that the policy in force does not give.
func (h *holder) tellAll() error {
	var err error
	all := h.engine.Open(ipc.Now(), func() {
		if _, failed := child.Alive(ipc.Now()); failed != nil {
			err = failed
		}
	})
	h.owed = append(all, ipc.Grants{Kind: ipc.GrantsAll})
	return errors.Join(err, h.payOwed())
}
