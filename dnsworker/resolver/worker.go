package resolver

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/child"
)

// readSize is the room for what one read returns, in octets: more than the
// longest datagram.
const readSize = 64 << 10

// Main is the process; it returns the exit status.
func Main(args []string) int { return child.Main(ipc.RoleResolver, args, load) }

// load needs nothing of the policy: what may be asked is the holder's to say.
func load(*ipc.Policy) (child.Worker, error) {
	return &worker{lookups: ipc.NewLookupReceiver(ipc.FDLookups), buf: make([]byte, readSize)}, nil
}

// worker is the loop's state. One goroutine owns all of it.
type worker struct {
	lookups *ipc.Receiver[ipc.Lookup, *ipc.Lookup]
	tasks   [ipc.MaxLookups]*task // that of slot i has the descriptor FDSockets+i; nil is free
	owed    []request             // what the parent has not answered yet, in order
	buf     []byte
}

// request is a socket that was asked for. The task may have ended since, and
// another have its slot.
type request struct {
	socket ipc.Socket
	task   *task
}

// Descriptors is the edge from the holder. The sockets come and go.
func (w *worker) Descriptors() []int { return []int{ipc.FDLookups} }

// Change: there is nothing in a policy for the resolver.
func (w *worker) Change(*ipc.Policy) error {
	return errors.New("the resolver's policy does not change")
}

// Close has nothing to do: the kernel closes the sockets, and nobody waits.
func (w *worker) Close() {}

// Ready takes lookups, or goes on with one. It never returns io.EOF for a
// server's end: no server is a neighbour.
func (w *worker) Ready(fd int) error {
	if fd == ipc.FDLookups {
		return w.takeLookups()
	}
	// The event may be that of a socket that was closed since, and another have
	// its number: then there is nothing to read, or no room yet.
	t := w.tasks[fd-ipc.FDSockets]
	switch {
	case t == nil:
		return nil
	case t.stage == sending:
		return w.send(t)
	case t.stage == reading:
		return w.act(t, t.read(w.buf))
	}
	return nil
}

// takeLookups begins what the holder asks for, as much as can be under way.
func (w *worker) takeLookups() error {
	now := ipc.Now()
	for range ipc.MaxLookups {
		l, err := w.lookups.Recv()
		switch {
		case errors.Is(err, ipc.ErrWouldBlock):
			return nil
		case errors.Is(err, io.EOF):
			return err
		case err != nil:
			return fmt.Errorf("the allowlist broke the protocol: %w", err)
		}
		if l.Until <= now {
			continue
		}
		slot, err := w.free()
		if err != nil {
			return err
		}
		w.tasks[slot] = newTask(l, now, ipc.FDSockets+slot)
	}
	return nil
}

// free is a slot for another task. The holder keeps to the bound, but sees a
// lookup's end a little earlier: then the one here that ends first makes room.
func (w *worker) free() (slot int, err error) {
	for i, t := range w.tasks {
		if t == nil {
			return i, nil
		}
		if t.until < w.tasks[slot].until {
			slot = i
		}
	}
	return slot, w.end(w.tasks[slot])
}

// Tick ends what is out of time, has the next server asked where one has not
// answered, and asks for the sockets that are wanted.
func (w *worker) Tick() (time.Duration, error) {
	now := ipc.Now()
	next := ipc.Instant(math.MaxInt64)
	for _, t := range w.tasks {
		if t == nil {
			continue
		}
		if t.due <= now {
			if err := w.elapsed(now, t); err != nil {
				return 0, err
			}
		}
		if t.stage != ended {
			next = min(next, t.due)
		}
	}
	if next == math.MaxInt64 {
		return ipc.Forever, nil
	}
	return max(0, next.Sub(now)), nil
}

// elapsed is what follows when the time of a stage is over.
func (w *worker) elapsed(now ipc.Instant, t *task) error {
	if now >= t.until {
		return w.end(t)
	}
	if t.connected() {
		if err := w.fail(now, t, 0); err != nil {
			return err
		}
	}
	if t.stage == wanting {
		return w.ask(now, t)
	}
	return nil
}

// ask asks the parent for a socket. As long as it owes no more than this many,
// its end has room for each, and the write does not block.
func (w *worker) ask(now ipc.Instant, t *task) error {
	if len(w.owed) == ipc.MaxLookups {
		t.enter(wanting, now, firstPause)
		return nil
	}
	if err := ipc.SendPacket(ipc.FDControl, ipc.AppendSocket(nil, t.socket)); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	w.owed = append(w.owed, request{t.socket, t})
	t.enter(asked, now, ipc.MaxLookupTime)
	return nil
}

// TakeSocket takes the answer to the oldest request.
func (w *worker) TakeSocket(s ipc.Socket, fd int) error {
	if len(w.owed) == 0 || w.owed[0].socket != s {
		return fmt.Errorf("a socket %+v that it is not the turn of", s)
	}
	t := w.owed[0].task
	w.owed = slices.Delete(w.owed, 0, 1)
	now := ipc.Now()
	if t.stage == asked && now >= t.until {
		if err := w.end(t); err != nil {
			return err
		}
	}
	switch {
	case t.stage == ended && fd < 0:
		return nil
	case t.stage == ended:
		return unix.Close(fd)
	case fd < 0:
		return w.failEarly(now, t)
	}
	if err := unix.Dup3(fd, t.fd, unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("dup3: %w", err)
	}
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return w.connect(now, t)
}

// connect begins with a socket. That of TCP is still connecting, and there is
// room when it has.
func (w *worker) connect(now ipc.Instant, t *task) error {
	t.begin()
	if t.socket.Proto == ipc.ProtoTCP {
		t.enter(sending, now, tcpTime)
		return ipc.AwaitRoom(t.fd)
	}
	t.enter(reading, now, udpTime)
	if err := ipc.Watch(t.fd); err != nil {
		return err
	}
	if all, err := t.send(); err != nil || !all {
		return w.failEarly(now, t)
	}
	return nil
}

// send goes on writing to a TCP connection, and reads when all is written.
func (w *worker) send(t *task) error {
	all, err := t.send()
	switch {
	case err != nil:
		return w.failEarly(ipc.Now(), t)
	case !all:
		return ipc.AwaitRoom(t.fd)
	}
	t.stage = reading
	return ipc.Watch(t.fd)
}

// act does what follows from what was read.
func (w *worker) act(t *task, r result) error {
	switch r {
	case answered:
		return w.end(t)
	case truncated: // over UDP: the same server has room for it over TCP
		now := ipc.Now()
		if err := w.disconnect(t); err != nil {
			return err
		}
		t.socket.Proto = ipc.ProtoTCP
		t.enter(wanting, now, 0)
	case failed:
		return w.failEarly(ipc.Now(), t)
	}
	return nil
}

// failEarly is fail before the attempt's time is up: what fails at once shall
// not be tried again at once.
func (w *worker) failEarly(now ipc.Instant, t *task) error {
	pause := t.pause
	t.pause *= 2
	return w.fail(now, t, pause)
}

// fail gives the present attempt up. The next server is asked after pause. NB:
// no other task learns of it. Whoever chooses one question (the address of a
// packet) would else choose the server that others are asked at.
func (w *worker) fail(now ipc.Instant, t *task, pause time.Duration) error {
	if t.attempts == maxAttempts {
		return w.end(t)
	}
	if err := w.disconnect(t); err != nil {
		return err
	}
	t.attempts++
	t.socket = ipc.Socket{Server: t.socket.Server + 1, Proto: ipc.ProtoUDP}
	t.enter(wanting, now, pause)
	return nil
}

// disconnect closes a task's socket, if it has one.
func (w *worker) disconnect(t *task) error {
	if !t.connected() {
		return nil
	}
	if err := ipc.Forget(t.fd); err != nil {
		return err
	}
	if err := unix.Close(t.fd); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// end ends a task, however it came out, and frees its slot.
func (w *worker) end(t *task) error {
	err := w.disconnect(t)
	t.stage = ended
	w.tasks[t.fd-ipc.FDSockets] = nil
	return err
}
