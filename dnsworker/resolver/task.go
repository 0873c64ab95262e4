package resolver

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

const (
	// maxAttempts bounds the servers that are tried for one lookup, one after the
	// other; the same may come again.
	maxAttempts = 8
	// udpTime is how long one may take to answer a datagram, and tcpTime from the
	// beginning of a connection to the last octet of an answer.
	udpTime = 700 * time.Millisecond
	tcpTime = 2 * time.Second
	// firstPause comes after an attempt that failed before its time was up, and
	// twice as much after the next one of the same lookup.
	firstPause = 50 * time.Millisecond
	// datagramsAtOnce bounds what is read of one socket before the others have
	// their turn.
	datagramsAtOnce = 16
	// maxIgnored bounds the datagrams of one socket that answer nothing.
	maxIgnored = 1024
)

// stage is how far an attempt is.
type stage uint8

const (
	ended   stage = iota // the lookup is, and with it the task
	wanting              // a socket, which is to be asked for when due
	asked                // for a socket
	sending              // over TCP, as there is room
	reading
)

// task is one lookup under way.
type task struct {
	stage stage
	fd    int         // the descriptor of its socket while it has one
	until ipc.Instant // when nobody waits for the answer any more
	due   ipc.Instant // when the stage is over unless something happens; never after until
	query []byte

	attempts int           // begun so far, the present one included
	pause    time.Duration // that comes after the present attempt if it fails early
	socket   ipc.Socket    // of the present attempt

	ignored int    // datagrams of the present socket
	unsent  []byte // over TCP
	reply   reply  // over TCP
}

func newTask(l *ipc.Lookup, now ipc.Instant, fd int) *task {
	return &task{
		stage:    wanting,
		fd:       fd,
		until:    min(l.Until, now.Add(ipc.MaxLookupTime)),
		due:      now,
		query:    newQuery(l),
		attempts: 1,
		pause:    firstPause,
		socket:   ipc.Socket{Proto: ipc.ProtoUDP}, // of the first server
	}
}

// connected reports whether the task has a socket.
func (t *task) connected() bool { return t.stage == sending || t.stage == reading }

// enter begins a stage, which lasts so long at most.
func (t *task) enter(s stage, now ipc.Instant, lasts time.Duration) {
	t.stage, t.due = s, min(t.until, now.Add(lasts))
}

// begin makes the present socket's query, in the form that its protocol takes.
func (t *task) begin() {
	renew(t.query)
	t.ignored, t.reply, t.unsent = 0, reply{}, nil
	if t.socket.Proto == ipc.ProtoTCP { // RFC 1035 section 4.2.2
		t.unsent = binary.BigEndian.AppendUint16(nil, uint16(len(t.query)))
	}
	t.unsent = append(t.unsent, t.query...)
}

// send writes what there is room for. It reports whether that was all.
func (t *task) send() (all bool, err error) {
	for len(t.unsent) > 0 {
		n, err := unix.Write(t.fd, t.unsent)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false, nil
		case err != nil:
			return false, err
		default:
			t.unsent = t.unsent[n:]
		}
	}
	return true, nil
}

// read takes what the server has sent, up to a bound. What the kernel says of the
// socket, be it ICMP's word or TCP's, is the end of the attempt.
func (t *task) read(buf []byte) result {
	for range datagramsAtOnce {
		n, err := unix.Read(t.fd, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return nothing
		case err != nil:
			return failed
		}
		if r := t.take(buf[:n]); r != nothing {
			return r
		}
	}
	return nothing
}

// take is given a datagram, or the next octets of a connection: none at its end.
func (t *task) take(b []byte) result {
	if t.socket.Proto == ipc.ProtoTCP {
		if len(b) == 0 {
			return failed
		}
		return t.reply.take(t.query, b)
	}
	r := judge(t.query, b)
	if r == nothing {
		if t.ignored++; t.ignored > maxIgnored {
			return failed
		}
	}
	return r
}
