package child

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// changes takes what the parent sends after the first policy: another policy,
// of which nothing counts before it is complete, and between its items perhaps
// a new log, the sockets that were asked for, or an edge to a new neighbour.
type changes struct {
	control    policyReceiver
	worker     Worker
	neighbours *neighbours
	next       *ipc.Policy // as far as it has come, or nil
}

// order takes one message.
func (c *changes) order() error {
	item, passed, err := c.control.RecvWith()
	if errors.Is(err, io.EOF) {
		return errEnd
	}
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	switch item.Kind {
	case ipc.PolicyLog:
		return replaceLog(passed)
	case ipc.PolicySocket:
		return c.takeSocket(item.Socket, passed)
	case ipc.PolicyEdge:
		return c.takeEdge(int(item.Edge), passed)
	}
	if passed >= 0 {
		return fmt.Errorf("control: a descriptor beside an item of kind %d", item.Kind)
	}
	if c.next == nil {
		c.next = &ipc.Policy{}
	}
	complete, err := c.next.Add(item)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if !complete {
		return nil
	}
	policy := c.next
	c.next = nil
	if err := c.worker.Change(policy); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return Tell(ipc.SignalLoaded)
}

func replaceLog(passed int) error {
	if passed < 0 {
		return errors.New("control: a new log without a descriptor")
	}
	return move(passed, ipc.FDLog)
}

// move gives a descriptor that came from the parent its number, and closes what
// had it.
func move(passed, number int) error {
	if err := unix.Dup3(passed, number, unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("control: descriptor %d: %w", number, err)
	}
	return unix.Close(passed)
}

func (c *changes) takeEdge(number, passed int) error {
	taker, ok := c.worker.(EdgeTaker)
	if !ok || passed < 0 || !slices.Contains(taker.Edges(), number) {
		return fmt.Errorf("control: a new edge %d, without a descriptor or for nobody", number)
	}
	if err := c.neighbours.forget(number); err != nil {
		return err
	}
	if err := move(passed, number); err != nil {
		return err
	}
	if err := taker.TakeEdge(number); err != nil {
		return fmt.Errorf("descriptor %d: %w", number, err)
	}
	return nil
}

func (c *changes) takeSocket(s ipc.Socket, passed int) error {
	taker, ok := c.worker.(SocketTaker)
	if !ok {
		return errors.New("control: a socket for a process that asks for none")
	}
	if err := taker.TakeSocket(s, passed); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}
