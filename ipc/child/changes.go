package child

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// changes takes what the parent sends after the first policy: another policy,
// of which nothing counts before it is complete, and between its items perhaps
// a new log, or the sockets that were asked for.
type changes struct {
	control policyReceiver
	worker  Worker
	next    *ipc.Policy // as far as it has come, or nil
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
	if err := unix.Dup3(passed, ipc.FDLog, unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("control: new log: %w", err)
	}
	return unix.Close(passed)
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
