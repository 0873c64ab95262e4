// Package child is the common course of every process that the parent
// starts: build the cell, say Ready, take the policy, say Loaded, then loop
// over whatever can be read until the parent is gone.
//
// Nothing of the network is read before the cell stands. A child that cannot
// build it says why on stderr and exits; the parent reports it.
package child

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

// Worker is what differs from role to role.
type Worker interface {
	// Ready is called for a descriptor of Descriptors that can be read. io.EOF
	// means that the process at the other end seems to be gone.
	Ready(fd int) error
	// Descriptors are those to wait on besides the control socket.
	Descriptors() []int
	// Change is called with a policy that takes the place of the present one.
	Change(p *ipc.Policy) error
	// Close is called once at the end, with the parent gone or err the reason.
	Close()
}

// Ticker is a Worker that has something to do when time has passed.
type Ticker interface {
	// Tick is called before every wait. It does what is due and returns how
	// long it may be until the next call, or ipc.Forever.
	Tick() (time.Duration, error)
}

// SocketTaker is a Worker that asks the parent for sockets (ipc.AppendSocket).
type SocketTaker interface {
	// TakeSocket is called with each answer. fd is the worker's to move and to
	// close, or -1 if there is no socket.
	TakeSocket(s ipc.Socket, fd int) error
}

// EdgeTaker is a Worker with neighbours that the parent may start again.
type EdgeTaker interface {
	// Edges are the descriptors of the edges to them.
	Edges() []int
	// TakeEdge is called when one of them leads to a new process, which knows
	// nothing yet. What the old one has said and was not read is gone.
	TakeEdge(fd int) error
	// Broke is called when what came over one of them was a Broken. Nothing is read
	// from it any more until TakeEdge.
	Broke(fd int, why error) error
}

// Broken is an error of Ready: what the neighbour has said is nothing that an
// honest one ever says. In a worker that is no EdgeTaker it ends the process.
type Broken struct{ Err error }

func (b *Broken) Error() string { return b.Err.Error() }

func (b *Broken) Unwrap() error { return b.Err }

// Main is the life of a child: args are those after the role. It returns the
// exit status.
func Main(role ipc.Role, args []string, load func(*ipc.Policy) (Worker, error)) int {
	if sandbox.BuiltWithCgo {
		fmt.Fprintln(os.Stderr, "built with cgo: rebuild with CGO_ENABLED=0")
		return exit.Software
	}
	// Whoever ends a whole service (systemd, pkill) signals every process of
	// it; only the parent decides when a child ends.
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	queues, in, err := arguments(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "egress-eddie %s: %v\n", role, err)
		return exit.Usage
	}
	if err := run(role, queues, in, load); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		return exit.Code(err)
	}
	return 0
}

// arguments are how many queue sockets it holds, and sandbox.SharedWord for a
// child that has no namespaces of its own.
func arguments(args []string) (queues int, in sandbox.Isolation, err error) {
	if len(args) == 2 && args[1] == sandbox.SharedWord {
		in, args = sandbox.Shared, args[:1]
	}
	// NB: looked at before the cell is built. Outside a pid namespace of its
	// own, root would put the empty root over the host's.
	if len(args) == 1 && (os.Getpid() == 1 || in == sandbox.Shared) {
		if n, err := strconv.Atoi(args[0]); err == nil && n >= 0 && n <= ipc.MaxQueues {
			return n, in, nil
		}
	}
	return 0, in, errors.New("only the parent starts this process")
}

// errEnd is the parent's end of the control socket being closed: the orderly
// end of a child.
var errEnd = errors.New("the parent is gone")

func run(role ipc.Role, queues int, in sandbox.Isolation, load func(*ipc.Policy) (Worker, error)) error {
	if err := sandbox.Enter(role, queues, in); err != nil {
		return err
	}
	return Serve(load)
}

// Serve is what Main does in the cell, from Ready to the parent's end. NB: it is
// for Main, and for tests of a worker, which have no cell.
func Serve(load func(*ipc.Policy) (Worker, error)) error {
	if err := Tell(ipc.SignalReady); err != nil {
		return err
	}
	control := ipc.NewPolicyReceiver(ipc.FDControl)
	policy, err := receivePolicy(control)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	w, err := load(policy)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	defer w.Close()
	poller, err := ipc.NewPoller()
	if err != nil {
		return err
	}
	for _, fd := range append(w.Descriptors(), ipc.FDControl) {
		if err := poller.Add(fd); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	if err := Tell(ipc.SignalLoaded); err != nil {
		return err
	}
	// EPIPE is the parent's end of the verdicts, gone before the control
	// socket said so: a neighbour's is handled where it is written to.
	if err := loop(poller, control, w); !errors.Is(err, errEnd) && !errors.Is(err, unix.EPIPE) {
		return err
	}
	return nil
}

// Tell sends the parent a signal.
func Tell(s ipc.Signal) error {
	if err := ipc.SendPacket(ipc.FDControl, ipc.AppendSignal(nil, s)); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

type policyReceiver = *ipc.Receiver[ipc.PolicyItem, *ipc.PolicyItem]

func receivePolicy(control policyReceiver) (*ipc.Policy, error) {
	p := &ipc.Policy{}
	for {
		item, err := control.Recv()
		if err != nil {
			return nil, err
		}
		complete, err := p.Add(item)
		if err != nil {
			return nil, err
		}
		if complete {
			return p, nil
		}
	}
}

func loop(poller *ipc.Poller, control policyReceiver, w Worker) error {
	n := neighbours{poller: poller, worker: w, silent: map[int]bool{}}
	c := changes{control: control, worker: w, neighbours: &n}
	ticker, _ := w.(Ticker)
	for {
		limit, err := Alive(ipc.Now())
		if err != nil {
			return err
		}
		if ticker != nil {
			next, err := ticker.Tick()
			if err != nil {
				return err
			}
			if next != ipc.Forever {
				limit = min(limit, next)
			}
		}
		ready, err := poller.Wait(limit)
		if err != nil {
			return err
		}
		for _, e := range ready {
			if e.FD == ipc.FDControl {
				err = c.order()
			} else {
				err = n.ready(e)
			}
			if err != nil {
				return err
			}
			if _, err := Alive(ipc.Now()); err != nil {
				return err
			}
		}
	}
}
