package child

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// plain is a worker that asks for no sockets.
type plain struct{ changed int }

func (*plain) Ready(int) error            { return nil }
func (*plain) Descriptors() []int         { return nil }
func (p *plain) Change(*ipc.Policy) error { p.changed++; return nil }
func (*plain) Close()                     {}

// taker notes what it was given.
type taker struct {
	plain
	got []string
	err error
}

func (w *taker) TakeSocket(s ipc.Socket, fd int) error {
	w.got = append(w.got, fmt.Sprintf("%d %d %t", s.Server, s.Proto, fd >= 0))
	if fd >= 0 {
		return errors.Join(w.err, unix.Close(fd))
	}
	return w.err
}

// TestSockets: an answer to a request for a socket goes to the worker, with
// and without one, also between the items of a policy, and to no worker that
// asks for none.
func TestSockets(t *testing.T) {
	theirs, ours, err := ipc.Pair(false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(theirs)
	defer unix.Close(ours)
	parent := ipc.NewPolicySender(theirs)
	send := func(item ipc.PolicyItem, fd int) {
		t.Helper()
		err := error(nil)
		if fd < 0 {
			err = parent.Send(&item)
		} else {
			err = parent.SendWith(&item, fd)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	socket := func(server uint32) ipc.PolicyItem {
		return ipc.PolicyItem{Kind: ipc.PolicySocket, Socket: ipc.Socket{Server: server, Proto: ipc.ProtoUDP}}
	}
	w := &taker{}
	c := changes{control: ipc.NewPolicyReceiver(ours), worker: w}
	send(socket(1), ours)
	send(ipc.PolicyItem{Kind: ipc.PolicyBegin}, -1)
	send(socket(2), -1)
	for range 3 {
		if err := c.order(); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(w.got, ", "); got != "1 17 true, 2 17 false" || w.changed != 0 {
		t.Errorf("got %s, %d policies", got, w.changed)
	}
	w.err = errors.New("not that one")
	send(socket(3), -1)
	if err := c.order(); !errors.Is(err, w.err) || !strings.HasPrefix(err.Error(), "control: ") {
		t.Error(err)
	}
	c.worker = &w.plain
	send(socket(4), ours)
	if err := c.order(); err == nil || !strings.Contains(err.Error(), "asks for none") {
		t.Error(err)
	}
	send(ipc.PolicyItem{Kind: ipc.PolicySocket}, -1)
	if err := c.order(); err == nil || len(w.got) != 3 {
		t.Errorf("a socket of no protocol: %v, %q", err, w.got)
	}
}

// TestSocketTooEarly: before the first policy is complete there is nobody to
// give a socket to.
func TestSocketTooEarly(t *testing.T) {
	theirs, ours, err := ipc.Pair(false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(theirs)
	defer unix.Close(ours)
	parent := ipc.NewPolicySender(theirs)
	for _, item := range []ipc.PolicyItem{
		{Kind: ipc.PolicyBegin}, {Kind: ipc.PolicySocket, Socket: ipc.Socket{Proto: ipc.ProtoUDP}}, {Kind: ipc.PolicyDone},
	} {
		if err := parent.Send(&item); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := receivePolicy(ipc.NewPolicyReceiver(ours)); err == nil {
		t.Errorf("taken: %+v", p)
	}
}
