package parent

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/logging"
)

const testMark = 0x20000000

// resolverOf is a resolver's control socket, as the resolver has it, with the
// parent's side listening: what it hears comes as events.
func resolverOf(t *testing.T, s *serverSockets) (theirs int, events chan event) {
	t.Helper()
	c, theirs := mute(t, ipc.RoleResolver)
	return theirs, listenTo(t, c, theirs, s)
}

// listenTo is the parent's side of that.
func listenTo(t *testing.T, c *child, theirs int, s *serverSockets) chan event {
	tr := &tree{events: make(chan event, 8), servers: s}
	done := make(chan struct{})
	c.busy.Add(1)
	go func() { defer close(done); tr.watchControl(c) }()
	t.Cleanup(func() { // NB: its numbers are somebody else's next
		close(c.gone)
		unix.Shutdown(theirs, unix.SHUT_RDWR)
		<-done
		unix.Close(theirs)
	})
	return tr.events
}

func testSockets(servers ...string) *serverSockets {
	var all []netip.Addr
	for _, a := range servers {
		all = append(all, netip.MustParseAddr(a))
	}
	return newServerSockets(testMark, all, logging.New(2, logging.Options{Process: "parent"}))
}

// get asks for a socket and takes what comes.
func get(t *testing.T, control int, want ipc.Socket) int {
	t.Helper()
	if err := ipc.SendPacket(control, ipc.AppendSocket(nil, want)); err != nil {
		t.Fatal(err)
	}
	item, fd, err := ipc.NewPolicyReceiver(control).RecvWith()
	if err != nil || item.Kind != ipc.PolicySocket || item.Socket != want {
		t.Fatalf("%+v for %+v: %v", item, want, err)
	}
	return fd
}

// TestServerSockets: a socket leads to the server that the configuration names,
// is marked, and is there only when the filter is open.
func TestServerSockets(t *testing.T) {
	s := testSockets("127.0.0.53")
	theirs, _ := resolverOf(t, s)
	if err := ipc.SendPacket(theirs, ipc.AppendSocket(nil, ipc.Socket{Proto: ipc.ProtoUDP})); err != nil {
		t.Error(err)
	}
	ready := []unix.PollFd{{Fd: int32(theirs), Events: unix.POLLIN}}
	if n, err := unix.Poll(ready, 50); n > 0 || err != nil && err != unix.EINTR {
		t.Errorf("a socket before the filter is open: %d, %v", n, err)
	}
	close(s.open)
	n, err := unix.Poll(ready, 10_000)
	for err == unix.EINTR { // the runtime preempts by signals
		n, err = unix.Poll(ready, 10_000)
	}
	if n != 1 || err != nil {
		t.Errorf("none when it is: %d, %v", n, err)
	}
	inNamespace(t, func() {
		listening, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil || unix.Bind(listening, &unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 54}}) != nil || unix.Listen(listening, 1) != nil {
			t.Error("no server")
			runtime.Goexit()
		}
		defer unix.Close(listening)
		for _, c := range []struct {
			server string
			proto  uint8
			kind   int
		}{
			{"127.0.0.53", ipc.ProtoUDP, unix.SOCK_DGRAM}, {"::1", ipc.ProtoUDP, unix.SOCK_DGRAM}, {"127.0.0.54", ipc.ProtoTCP, unix.SOCK_STREAM},
		} {
			fd, err := connect(netip.MustParseAddr(c.server), c.proto, testMark)
			if err != nil {
				t.Errorf("%s: %v", c.server, err)
				continue
			}
			checkSocket(t, fd, netip.AddrPortFrom(netip.MustParseAddr(c.server), 53), c.kind)
			unix.Close(fd)
		}
		if fd, err := connect(netip.MustParseAddr("192.0.2.1"), ipc.ProtoUDP, testMark); !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("a server without a route: %d, %v", fd, err)
		}
	})
}

func checkSocket(t *testing.T, fd int, to netip.AddrPort, kind int) {
	t.Helper()
	mark, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK)
	if err != nil || uint32(mark) != testMark {
		t.Errorf("%v: mark %#x, %v", to, mark, err)
	}
	if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || got != kind {
		t.Errorf("%v: type %d, %v", to, got, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("%v: flags %#x, %v", to, flags, err)
	}
	peer, err := unix.Getpeername(fd)
	if err != nil {
		t.Errorf("%v: %v", to, err)
		return
	}
	got := netip.AddrPort{}
	switch p := peer.(type) {
	case *unix.SockaddrInet4:
		got = netip.AddrPortFrom(netip.AddrFrom4(p.Addr), uint16(p.Port))
	case *unix.SockaddrInet6:
		got = netip.AddrPortFrom(netip.AddrFrom16(p.Addr), uint16(p.Port))
	}
	if got != to {
		t.Errorf("connected to %v, should be %v", got, to)
	}
}

// TestSocketRequests: which server is counted round, a change of configuration
// counts from then on, and what cannot be made is answered all the same.
func TestSocketRequests(t *testing.T) {
	s := testSockets("127.0.0.53", "127.0.0.54")
	close(s.open)
	theirs, events := resolverOf(t, s)
	for _, c := range []struct {
		server uint32
		want   string
	}{{0, "127.0.0.53"}, {1, "127.0.0.54"}, {2, "127.0.0.53"}, {1<<32 - 1, "127.0.0.54"}} {
		fd := get(t, theirs, ipc.Socket{Server: c.server, Proto: ipc.ProtoUDP})
		checkSocket(t, fd, netip.AddrPortFrom(netip.MustParseAddr(c.want), 53), unix.SOCK_DGRAM)
		unix.Close(fd)
	}
	s.change(testMark, []netip.Addr{netip.MustParseAddr("127.0.0.55")})
	fd := get(t, theirs, ipc.Socket{Server: 1, Proto: ipc.ProtoUDP})
	checkSocket(t, fd, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.55"), 53), unix.SOCK_DGRAM)
	unix.Close(fd)
	s.change(testMark, []netip.Addr{netip.MustParseAddr("255.255.255.255")}) // EACCES without SO_BROADCAST
	if fd := get(t, theirs, ipc.Socket{Proto: ipc.ProtoUDP}); fd != -1 {
		t.Errorf("a socket that could not be connected: %d", fd)
	}
	// A signal goes the same way.
	if err := ipc.SendPacket(theirs, ipc.AppendSignal(nil, ipc.SignalReady)); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.signal != ipc.SignalReady || e.err != nil {
		t.Errorf("%+v", e)
	}
}

// TestSocketRequestsRefused: what an honest resolver never says ends it.
func TestSocketRequestsRefused(t *testing.T) {
	for what, packet := range map[string][]byte{
		"protocol 0":    {0, 0, 0, 0, 0, 0, 0, 0},
		"ICMP":          {0, 0, 0, 0, 1, 0, 0, 0},
		"stray octets":  {0, 0, 0, 0, 17, 0, 0, 1},
		"7 octets":      {0, 0, 0, 0, 17, 0, 0},
		"9 octets":      {0, 0, 0, 0, 17, 0, 0, 0, 0},
		"an odd signal": {9, 0, 0, 0},
	} {
		s := testSockets("127.0.0.53")
		close(s.open)
		theirs, events := resolverOf(t, s)
		if err := ipc.SendPacket(theirs, packet); err != nil {
			t.Fatal(err)
		}
		if e := <-events; !errors.Is(e.err, errProtocol) {
			t.Errorf("%s: %+v", what, e)
		}
	}
	// Nobody else may ask for one.
	c, theirs := mute(t, ipc.RoleTraffic)
	tr := &tree{events: make(chan event, 1), servers: testSockets("127.0.0.53")}
	c.busy.Add(1)
	go tr.watchControl(c)
	if err := ipc.SendPacket(theirs, ipc.AppendSocket(nil, ipc.Socket{Proto: ipc.ProtoUDP})); err != nil {
		t.Fatal(err)
	}
	if e := <-tr.events; !errors.Is(e.err, errProtocol) {
		t.Errorf("the trafficworker's: %+v", e)
	}
}

// TestSocketsAtOnce: on a host with a small net.core.wmem_default too, an honest
// resolver asks for as many sockets at once as it may, before it takes any.
func TestSocketsAtOnce(t *testing.T) {
	c, theirs := mute(t, ipc.RoleResolver)
	for _, fd := range []int{c.control, theirs} { // as they begin where it is 65,536
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 65_536/2); err != nil {
			t.Fatal(err)
		}
	}
	if err := giveRoom(c.control, theirs); err != nil {
		t.Fatal(err)
	}
	s := testSockets("127.0.0.53")
	events := listenTo(t, c, theirs, s)
	asked := make(chan error, 1)
	go func() {
		var err error
		for range ipc.MaxLookups {
			err = errors.Join(err, ipc.SendPacket(theirs, ipc.AppendSocket(nil, ipc.Socket{Proto: ipc.ProtoUDP})))
		}
		asked <- errors.Join(err, ipc.SendPacket(theirs, ipc.AppendSignal(nil, ipc.SignalReady)))
	}()
	select {
	case err := <-asked:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		close(s.open)
		t.Fatal("it waits for room to ask")
	}
	close(s.open)
	if e := <-events; e.err != nil || e.signal != ipc.SignalReady {
		t.Fatalf("the tree ends: %v", e.err)
	}
	sockets := ipc.NewPolicyReceiver(theirs)
	for i := range ipc.MaxLookups {
		_, fd, err := sockets.RecvWith()
		if err != nil || fd < 0 {
			t.Fatalf("socket %d: %d, %v", i, fd, err)
		}
		unix.Close(fd)
	}
}

// TestServerFailures: that a server cannot be asked is said once, and again only
// when it could be meanwhile, by the same protocol, and not without end.
func TestServerFailures(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	s := testSockets("192.0.2.1", "127.0.0.53")
	s.log = logging.New(int(write.Fd()), logging.Options{})
	close(s.open)
	c, theirs := mute(t, ipc.RoleResolver)
	defer unix.Close(theirs)
	sender := ipc.NewPolicySender(c.control)
	ask := func(server uint32, proto uint8, want bool) {
		t.Helper()
		if err := s.answer(c, sender, ipc.AppendSocket(nil, ipc.Socket{Server: server, Proto: proto})); err != nil {
			t.Error(err)
		}
		_, fd, err := ipc.NewPolicyReceiver(theirs).RecvWith()
		if err != nil || (fd >= 0) != want {
			t.Errorf("server %d, protocol %d: %d, %v", server, proto, fd, err)
		}
		unix.Close(fd)
	}
	ip := func(args ...string) {
		t.Helper()
		if err := command(append([]string{"ip"}, args...)...); err != nil {
			t.Error(err)
		}
	}
	inNamespace(t, func() {
		ask(0, ipc.ProtoUDP, false) // said
		ask(0, ipc.ProtoUDP, false)
		ask(1, ipc.ProtoUDP, true)
		ask(0, ipc.ProtoUDP, false)
		ip("route", "add", "192.0.2.0/24", "dev", "lo")
		ip("rule", "add", "pref", "1", "to", "192.0.2.0/24", "ipproto", "tcp", "prohibit")
		ask(0, ipc.ProtoTCP, false) // said
		ask(0, ipc.ProtoUDP, true)
		ask(0, ipc.ProtoTCP, false)
		ip("route", "del", "192.0.2.0/24", "dev", "lo")
		ask(0, ipc.ProtoUDP, false) // said
		ask(0, ipc.ProtoUDP, false)
	})
	began := time.Now()
	for range 1000 {
		s.works(netip.MustParseAddr("127.0.0.53"), ipc.ProtoUDP)
		s.fails(failure{netip.MustParseAddr("127.0.0.53"), ipc.ProtoUDP, "no ports left"})
	}
	most := warningsAtOnce + int(time.Since(began)/time.Second) + 1
	if err := s.log.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	write.Close()
	text, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]int{"network is unreachable": 2, "permission denied": 1} {
		if got := strings.Count(string(text), what); got != want {
			t.Errorf("%q is said %d times, not %d:\n%s", what, got, want, text)
		}
	}
	if got := strings.Count(string(text), "no ports left"); got == 0 || got > most {
		t.Errorf("%d lines of one that comes and goes, at most %d", got, most)
	}
}

// TestSocketFlood: one that asks without end and takes none is found out, and
// one that takes them gets no more than its rate.
func TestSocketFlood(t *testing.T) {
	s := testSockets("127.0.0.53")
	close(s.open)
	theirs, events := resolverOf(t, s)
	packet := ipc.AppendSocket(nil, ipc.Socket{Proto: ipc.ProtoUDP})
	go func() {
		for ipc.SendPacket(theirs, packet) == nil {
		}
	}()
	select {
	case e := <-events:
		if !errors.Is(e.err, errProtocol) {
			t.Errorf("%+v", e)
		}
	case <-time.After(10 * time.Second):
		t.Error("not noticed")
	}

	s = testSockets("127.0.0.53")
	close(s.open)
	theirs, _ = resolverOf(t, s)
	const more = 250
	began := time.Now()
	for i := range socketsAtOnce + more {
		unix.Close(get(t, theirs, ipc.Socket{Server: uint32(i), Proto: ipc.ProtoUDP}))
	}
	if took, least := time.Since(began), more*time.Second/socketsPerSecond; took < least {
		t.Errorf("%s sockets in %v, at least %v", fmt.Sprint(socketsAtOnce+more), took, least)
	}
}
