package child

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// neighbourly is a worker whose neighbours may be started again.
type neighbourly struct {
	plain
	edges []int
	took  []int
	broke []string
	ready error
	err   error
}

func (n *neighbourly) Edges() []int { return n.edges }

func (n *neighbourly) TakeEdge(fd int) error { n.took = append(n.took, fd); return n.err }

func (n *neighbourly) Broke(fd int, why error) error {
	n.broke = append(n.broke, fmt.Sprint(fd, " ", why))
	return nil
}

// Ready says what the test wants of a neighbour.
func (n *neighbourly) Ready(int) error { return n.ready }

// TestEdges: an edge that comes takes the number of one that the worker has, which
// then leads elsewhere; nothing else is taken.
func TestEdges(t *testing.T) {
	pair := func() (a, b int) {
		t.Helper()
		a, b, err := ipc.Pair(true, true)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(b) })
		return a, b
	}
	theirs, ours := pair()
	defer unix.Close(theirs)
	edge, old := pair()
	next, other := pair()
	defer unix.Close(edge)
	if err := unix.SetNonblock(ours, false); err != nil {
		t.Fatal(err)
	}
	poller, err := ipc.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	w := &neighbourly{edges: []int{edge}}
	n := &neighbours{poller: poller, worker: w, silent: map[int]bool{edge: true}}
	c := changes{control: ipc.NewPolicyReceiver(ours), worker: w, neighbours: n}
	give := func(number, fd int) error {
		t.Helper()
		item := ipc.PolicyItem{Kind: ipc.PolicyEdge, Edge: uint32(number)}
		s, err := ipc.NewPolicySender(theirs), error(nil)
		if fd >= 0 {
			err = s.SendWith(&item, fd)
		} else {
			err = s.Send(&item)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c.order()
	}
	if err := poller.Add(edge); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second one is not waited on
		if err := give(edge, next); err != nil {
			t.Fatal(err)
		}
	}
	unix.Close(next)
	if !slices.Equal(w.took, []int{edge, edge}) || n.silent[edge] {
		t.Errorf("took %v, silent %v", w.took, n.silent)
	}
	if err := ipc.SendPacket(other, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, err := ipc.RecvPacket(edge, make([]byte, 9)); got != 1 || err != nil {
		t.Errorf("from the new one: %d, %v", got, err)
	}
	if err := ipc.SendPacket(old, []byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("the old one is there: %v", err)
	}
	if ready, err := poller.Wait(0); len(ready) != 0 || err != nil {
		t.Errorf("waited on: %v, %v", ready, err)
	}

	w.err = errors.New("not that one")
	if err := give(edge, other); !errors.Is(err, w.err) {
		t.Error(err)
	}
	w.err, w.took = nil, nil
	if give(edge, -1) == nil || give(edge+1, other) == nil || len(w.took) > 0 {
		t.Errorf("without a descriptor, or another number: %v", w.took)
	}
	c.worker = &w.plain
	if give(edge, other) == nil {
		t.Error("taken by who has no neighbours")
	}
}

// TestBroke: who breaks the protocol is not waited on any more, and the worker
// says so; one who has no other in its place ends with it, and so does any other
// error.
func TestBroke(t *testing.T) {
	edge, other, err := ipc.Pair(true, true)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(edge)
	defer unix.Close(other)
	poller, err := ipc.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		ready  error
		silent bool // an empty packet came before
		edges  []int
		broke  string
		fails  bool
	}{
		"broken":          {ready: &Broken{errors.New("so")}, edges: []int{edge}, broke: fmt.Sprint(edge, " so")},
		"wrapped":         {ready: errors.Join(nil, &Broken{errors.New("so")}), edges: []int{edge}, broke: fmt.Sprint(edge, " so")},
		"an empty packet": {silent: true, edges: []int{edge}, broke: fmt.Sprintf("%d descriptor %d: an empty packet", edge, edge)},
		"no such edge":    {ready: &Broken{errors.New("so")}, edges: []int{edge + 1}, fails: true},
		"its own fault":   {ready: errors.New("so"), edges: []int{edge}, fails: true},
		"an end":          {ready: io.EOF, edges: []int{edge}},
	} {
		if err := ipc.Watch(edge); err != nil {
			t.Fatal(err)
		}
		w := &neighbourly{edges: test.edges, ready: test.ready}
		n := neighbours{poller: poller, worker: w, silent: map[int]bool{edge: test.silent}}
		if err := n.ready(ipc.Event{FD: edge}); (err != nil) != test.fails {
			t.Errorf("%s: %v", what, err)
		}
		if got := strings.Join(w.broke, ", "); got != test.broke {
			t.Errorf("%s: %q, not %q", what, got, test.broke)
		}
		if err := ipc.Forget(edge); (err == nil) != (test.broke == "") {
			t.Errorf("%s: waited on is %t", what, err == nil)
		}
	}
	unix.Close(ipc.FDPoll)
}
