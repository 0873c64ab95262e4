package parent

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/logging"
)

const (
	// socketsPerSecond bounds the sockets that the resolver is given in the long
	// run, socketsAtOnce those at one time. A question takes one or two; at start
	// each cached name has up to two questions.
	socketsPerSecond = 500
	socketsAtOnce    = ipc.MaxLookups
	// warningsPerSecond bounds the lines about servers in the long run, and
	// warningsAtOnce those at one time: who can take all ports of this host
	// makes connecting fail as often as he likes.
	warningsPerSecond = 1
	warningsAtOnce    = 10
	// dnsPort is where servers are asked, RFC 1035 section 4.2.
	dnsPort = 53
)

// serverSockets makes the sockets that the resolver asks for. It cannot make
// any itself, and a socket that it is given leads to a configured server and
// nowhere else: to whom a process talks no seccomp list can see.
type serverSockets struct {
	to   atomic.Pointer[destination]
	open chan struct{} // closed when the filter is: before that no answer would come
	log  *logging.Logger

	bucket   ipc.Bucket
	warnings ipc.Bucket
	warned   map[failure]bool // those since the last socket of their kind
}

// failure is why a socket to a server could not be made.
type failure struct {
	server netip.Addr
	proto  uint8
	text   string
}

// destination is what a configuration says of them.
type destination struct {
	mark    uint32
	servers []netip.Addr // at least one
}

func newServerSockets(mark uint32, servers []netip.Addr, log *logging.Logger) *serverSockets {
	s := &serverSockets{
		open: make(chan struct{}), log: log,
		bucket:   ipc.Bucket{PerSecond: socketsPerSecond, Burst: socketsAtOnce},
		warnings: ipc.Bucket{PerSecond: warningsPerSecond, Burst: warningsAtOnce},
		warned:   map[failure]bool{},
	}
	s.change(mark, servers)
	return s
}

// change is for the sockets that are made from now on.
func (s *serverSockets) change(mark uint32, servers []netip.Addr) {
	s.to.Store(&destination{mark, servers})
}

// answer gives the resolver the socket that a packet of its control socket asks
// for. It waits until there may be another one.
func (s *serverSockets) answer(c *child, sender *ipc.Sender[ipc.PolicyItem], packet []byte) error {
	want, err := ipc.ParseSocket(packet)
	if err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	select {
	case <-s.open:
	case <-c.gone:
		return nil
	}
	for {
		wait, ok := s.bucket.Take(ipc.Now())
		if ok {
			break
		}
		<-time.After(wait)
	}
	item := ipc.PolicyItem{Kind: ipc.PolicySocket, Socket: want}
	to := s.to.Load()
	server := to.servers[uint64(want.Server)%uint64(len(to.servers))]
	fd, err := connect(server, want.Proto, to.mark)
	if err != nil {
		s.fails(failure{server, want.Proto, err.Error()})
		return gone(sender.Send(&item))
	}
	defer unix.Close(fd)
	s.works(server, want.Proto)
	err = sender.SendWith(&item, fd)
	if errors.Is(err, ipc.ErrWouldBlock) { // an honest one never has so many under way
		return fmt.Errorf("%w: it does not take the sockets that it asks for", errProtocol)
	}
	return gone(err)
}

// gone is an error of sending but for that of a child that has died: its
// death, which is heard of next, says how and why.
func gone(err error) error {
	if errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

// connect makes a socket and begins to connect it. The mark is how firewall
// rules tell its packets, whatever the uid. NB: with exactly these calls and
// arguments, which the parent's list names.
func connect(server netip.Addr, proto uint8, mark uint32) (int, error) {
	kind := unix.SOCK_DGRAM
	if proto == ipc.ProtoTCP {
		kind = unix.SOCK_STREAM
	}
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: dnsPort, Addr: server.As16()}
	family := unix.AF_INET6
	if server.Is4() {
		to, family = &unix.SockaddrInet4{Port: dnsPort, Addr: server.As4()}, unix.AF_INET
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return -1, errors.Join(fmt.Errorf("SO_MARK: %w", err), unix.Close(fd))
	}
	if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
		return -1, errors.Join(fmt.Errorf("connect: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// fails says that a server cannot be asked, once until it works again.
func (s *serverSockets) fails(f failure) {
	if s.warned[f] {
		return
	}
	if _, ok := s.warnings.Take(ipc.Now()); !ok {
		return // said the next time
	}
	s.warned[f] = true
	s.log.Warn("a DNS server cannot be asked for the daemon itself", "server", f.server.String(), "error", f.text)
}

// works has the next failure said anew: at boot there may be no route yet, and
// what fails later is news.
func (s *serverSockets) works(server netip.Addr, proto uint8) {
	maps.DeleteFunc(s.warned, func(f failure, _ bool) bool { return f.server == server && f.proto == proto })
}
