package resolver

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// soon is well before the time of a datagram is up.
const soon = 600 * time.Millisecond

// TestAnswered: a question is asked once, as it should be, and its socket
// closed when the answer is there, whatever that says.
func TestAnswered(t *testing.T) {
	t.Parallel()
	queries := make(chan []byte, 100)
	s := serve(t, func(q []byte, reply func([]byte)) {
		queries <- q
		reply(replyTo(t, q, rcode(len(queries)%2*dns.RcodeNameError)))
	}, nil)
	l := newLab(t, among(t, s))
	ids := map[uint16]bool{}
	for i := range 12 {
		typ := []uint16{ipc.TypeA, ipc.TypeAAAA, ipc.TypePTR}[i%3]
		l.ask("WWW.example.com", typ, patience)
		l.request(ipc.ProtoUDP, 0)
		var m dns.Msg
		q := <-queries
		if err := m.Unpack(q); err != nil {
			t.Fatal(err)
		}
		ids[m.Id] = true
		want := new(dns.Msg).SetQuestion("www.example.com.", typ)
		want.Id = m.Id
		if b, err := want.Pack(); err != nil || !slices.Equal(b, q) {
			t.Errorf("asked\n%v, should be\n%v", &m, want)
		}
		l.comesTo(0, soon)
	}
	l.quiet(soon)
	if len(ids) < 10 {
		t.Errorf("only %d transaction ids", len(ids))
	}
}

// wrong are answers that answer nothing.
func wrong(t testing.TB, q []byte) map[string][]byte {
	right := answerTo(t, q)
	edit := func(at int, octet byte) []byte {
		b := slices.Clone(right)
		b[at] = octet
		return b
	}
	end := len(q)
	return map[string][]byte{
		"nothing":          {},
		"one octet":        right[:1],
		"a header":         right[:headerSize],
		"question cut":     right[:end-1],
		"another id":       edit(0, right[0]^1),
		"an id's end":      edit(1, right[1]^0x80),
		"a query":          q,
		"another opcode":   edit(2, right[2]|0x20),
		"no question":      edit(5, 0),
		"two questions":    edit(5, 2),
		"257 questions":    edit(4, 1),
		"another name":     edit(headerSize+1, 'x'),
		"another length":   edit(headerSize, right[headerSize]|0x40),
		"another type":     edit(end-3, 2),
		"a high type":      edit(end-4, 1),
		"another class":    edit(end-1, 3),
		"a pointer":        append(append(slices.Clone(right[:headerSize]), 0xc0, headerSize), right[end-4:]...),
		"an earlier label": append(append(slices.Clone(right[:headerSize]), 1, 'x'), right[headerSize:]...),
	}
}

// TestIgnored: what does not match is passed over, and the answer after it
// taken; without one the next server is asked when the time is up.
func TestIgnored(t *testing.T) {
	t.Parallel()
	s := serve(t, func(q []byte, reply func([]byte)) {
		var m dns.Msg
		if err := m.Unpack(q); err != nil {
			t.Errorf("the query %x: %v", q, err)
			return
		}
		for _, b := range wrong(t, q) {
			reply(b)
		}
		if m.Question[0].Name == "answered.example." {
			reply(answerTo(t, q))
		}
	}, nil)
	l := newLab(t, among(t, s, honest(t)))
	l.ask("answered.example", ipc.TypeA, patience)
	l.request(ipc.ProtoUDP, 0)
	l.quiet(2 * udpTime)
	l.comesTo(0, 0)
	l.ask("ignored.example", ipc.TypeA, patience)
	first, second := l.request(ipc.ProtoUDP, 0), l.request(ipc.ProtoUDP, 1)
	if after := second.at.Sub(first.at); after < udpTime {
		t.Errorf("the next server is asked after %v", after)
	}
	l.comesTo(0, soon)
	l.quiet(soon)
}

// TestNextServer: what a server may do instead of an answer has another asked,
// at once or when the time is up.
func TestNextServer(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		first  func(*testing.T) server
		after  time.Duration
		before time.Duration
	}{
		"silent":  {dead, udpTime, udpTime + soon},
		"refused": {func(*testing.T) server { return refusing() }, firstPause, udpTime},
		"SERVFAIL": {func(t *testing.T) server { return serve(t, always(t, rcode(dns.RcodeServerFailure)), nil) },
			firstPause, udpTime},
		"REFUSED, truncated": {func(t *testing.T) server {
			return serve(t, always(t, func(m *dns.Msg) { m.Rcode, m.Truncated = dns.RcodeRefused, true }), nil)
		}, firstPause, udpTime},
		"no socket": {func(*testing.T) server { return server{} }, firstPause, udpTime},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			first := test.first(t)
			make := among(t, first, honest(t))
			l := newLab(t, func(s ipc.Socket) int {
				if s.Server == 0 && !first.udp.IsValid() {
					return -1
				}
				return make(s)
			})
			l.ask("www.example.com", ipc.TypeA, patience)
			one, two := l.request(ipc.ProtoUDP, 0), l.request(ipc.ProtoUDP, 1)
			if after := two.at.Sub(one.at); after < test.after || after > test.before {
				t.Errorf("the next server is asked after %v", after)
			}
			l.comesTo(0, soon)
			l.quiet(2 * udpTime)
		})
	}
}

// TestServersInOrder: every lookup begins with the first server, however many
// failed there before.
func TestServersInOrder(t *testing.T) {
	t.Parallel()
	l := newLab(t, among(t, refusing(), honest(t)))
	for i := range 3 {
		l.ask(fmt.Sprintf("n%d.example", i), ipc.TypeA, patience)
		l.request(ipc.ProtoUDP, 0)
		l.request(ipc.ProtoUDP, 1)
		l.comesTo(0, soon)
	}
	l.quiet(soon)
}

// TestAttempts: a lookup that nobody answers tries so many servers and no
// more, less often every time where they fail at once, and never turns round
// for nothing.
func TestAttempts(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		server  server
		takes   time.Duration // until the last attempt begins
		another time.Duration // how long nothing may follow
	}{
		"silent":  {dead(t), (maxAttempts - 1) * udpTime, 2 * udpTime},
		"refused": {refusing(), firstPause * (1<<(maxAttempts-1) - 1), firstPause << maxAttempts},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, among(t, test.server))
			used := l.processorTime()
			l.ask("www.example.com", ipc.TypeA, time.Hour)
			first := l.request(ipc.ProtoUDP, 0)
			last := first
			for i := range uint32(maxAttempts - 1) {
				last = l.request(ipc.ProtoUDP, i+1)
			}
			if took := last.at.Sub(first.at); took < test.takes || took > test.takes+2*soon {
				t.Errorf("%d attempts in %v", maxAttempts, took)
			}
			l.quiet(min(test.another, ipc.MaxLookupTime-test.takes+soon))
			l.comesTo(0, 0)
			if used = l.processorTime() - used; used > 200*time.Millisecond {
				t.Errorf("used %v of a processor", used)
			}
		})
	}
}

// TestUntil: nothing is done for a lookup after its end.
func TestUntil(t *testing.T) {
	t.Parallel()
	t.Run("asked", func(t *testing.T) { // the socket is closed in time
		t.Parallel()
		l := newLab(t, among(t, dead(t)))
		l.ask("www.example.com", ipc.TypeA, 300*time.Millisecond)
		start := l.request(ipc.ProtoUDP, 0).at
		l.comesTo(1, soon)
		l.comesTo(0, soon)
		if took := time.Since(start); took < 250*time.Millisecond {
			t.Errorf("closed after %v", took)
		}
		l.quiet(2 * udpTime)
	})
	t.Run("connected", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, among(t, serve(t, always(t, tooLong), func(c net.Conn) { received(c); received(c) })))
		l.ask("www.example.com", ipc.TypeA, 300*time.Millisecond)
		l.request(ipc.ProtoUDP, 0)
		l.request(ipc.ProtoTCP, 0)
		l.comesTo(0, soon)
		l.quiet(2 * udpTime)
	})
	t.Run("pausing", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, among(t, refusing()))
		l.ask("www.example.com", ipc.TypeA, 300*time.Millisecond)
		for i := range uint32(3) { // after 0, 50 and 150 ms, and not after 350
			l.request(ipc.ProtoUDP, i)
		}
		l.quiet(2 * udpTime)
	})
	t.Run("over before", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, among(t, dead(t)))
		l.ask("www.example.com", ipc.TypeA, -time.Second)
		l.quiet(soon)
	})
	for what, lasts := range map[string]time.Duration{"late socket": 200 * time.Millisecond, "bound": time.Hour} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			queries := make(chan []byte, 100)
			s := serve(t, func(q []byte, reply func([]byte)) { queries <- q; reply(answerTo(t, q)) }, nil)
			l := newLab(t, among(t, s))
			l.hold.Lock()
			l.ask("late.example", ipc.TypeA, lasts)
			l.request(ipc.ProtoUDP, 0)
			time.Sleep(min(lasts, ipc.MaxLookupTime) + 100*time.Millisecond)
			l.hold.Unlock()
			l.ask("next.example", ipc.TypeA, patience)
			l.request(ipc.ProtoUDP, 0)
			var m dns.Msg
			if err := m.Unpack(<-queries); err != nil || m.Question[0].Name != "next.example." {
				t.Errorf("asked %v", m.Question)
			}
			l.comesTo(0, soon)
			l.quiet(soon)
		})
	}
}

// TestMany: as many lookups as there may be have a socket each, and one more
// takes the place of that which ends first.
func TestMany(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	replies := map[string]func(){}
	s := serve(t, func(q []byte, reply func([]byte)) {
		var m dns.Msg
		if err := m.Unpack(q); err != nil {
			t.Errorf("the query: %v", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		replies[m.Question[0].Name] = func() { reply(answerTo(t, q)) }
		if len(replies) == ipc.MaxLookups+1 {
			for _, reply := range replies {
				reply()
			}
		}
	}, nil)
	l := newLab(t, among(t, s))
	for i := range ipc.MaxLookups {
		l.ask(fmt.Sprintf("n%d.example", i), ipc.TypeAAAA, patience)
	}
	for range ipc.MaxLookups {
		l.request(ipc.ProtoUDP, 0)
	}
	l.comesTo(ipc.MaxLookups, soon)
	if fds := l.sockets(); fds[0] != ipc.FDSockets || fds[len(fds)-1] != ipc.FDSockets+ipc.MaxLookups-1 {
		t.Errorf("descriptors %v", fds)
	}
	l.ask("more.example", ipc.TypeAAAA, patience)
	l.request(ipc.ProtoUDP, 0)
	l.comesTo(0, soon)
	l.quiet(2 * udpTime)
}

// TestEvicted: that which ends first makes room, and its socket is closed.
func TestEvicted(t *testing.T) {
	t.Parallel()
	queries := make(chan string, 2000)
	s := serve(t, func(q []byte, _ func([]byte)) {
		var m dns.Msg
		if err := m.Unpack(q); err == nil {
			queries <- m.Question[0].Name
		}
	}, nil)
	l := newLab(t, among(t, s))
	l.hold.Lock()
	for i := range ipc.MaxLookups {
		lasts := patience
		if i == 77 {
			lasts -= time.Second
		}
		l.ask(fmt.Sprintf("n%d.example", i), ipc.TypeAAAA, lasts)
	}
	l.request(ipc.ProtoUDP, 0)
	time.Sleep(soon)
	l.ask("more.example", ipc.TypeAAAA, patience)
	time.Sleep(soon)
	// The parent owes no more sockets than these: for that one it is asked later.
	// (Signs of life wait among them.)
	requests := (ipc.MaxLookups - 1) * ipc.SocketSize
	if n, err := unix.IoctlGetInt(l.control, unix.SIOCINQ); err != nil || n < requests || n > requests+4*ipc.SignalSize {
		t.Errorf("%d octets of requests wait, %v", n, err)
	}
	l.hold.Unlock()
	for range ipc.MaxLookups {
		l.request(ipc.ProtoUDP, 0)
	}
	asked := map[string]int{}
	for range ipc.MaxLookups {
		asked[<-queries]++
	}
	if len(asked) != ipc.MaxLookups || asked["n77.example."] != 0 || asked["more.example."] != 1 {
		t.Errorf("asked %v", asked)
	}
	l.comesTo(ipc.MaxLookups, soon)
}

// TestFlood: servers that send without end what answers nothing keep nobody
// else waiting, and are given up.
func TestFlood(t *testing.T) {
	t.Parallel()
	const floods = 20
	good, stop := make(chan bool, 100), make(chan struct{})
	defer close(stop)
	s := serve(t, func(q []byte, reply func([]byte)) {
		var m dns.Msg
		if err := m.Unpack(q); err != nil || m.Question[0].Name == "good.example." {
			reply(answerTo(t, q))
			good <- true
			return
		}
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
					reply(q)
				}
			}
		}()
	}, nil)
	l := newLab(t, among(t, s))
	for i := range floods {
		l.ask(fmt.Sprintf("bad%d.example", i), ipc.TypeA, patience)
	}
	for range floods {
		<-l.requests
	}
	l.ask("good.example", ipc.TypeA, patience)
	select {
	case <-good:
	case <-time.After(patience):
		t.Fatal("the good one is not asked")
	}
	for answered := time.Now(); slices.Contains(l.sockets(), ipc.FDSockets+floods); time.Sleep(time.Millisecond) {
		if time.Since(answered) > soon {
			t.Fatal("the good answer is not read")
		}
	}
}

// TestSocketKept: a socket that somebody else holds too is not heard of any
// more once it is closed here.
func TestSocketKept(t *testing.T) {
	t.Parallel()
	more := make(chan func(), 1)
	s := serve(t, func(q []byte, reply func([]byte)) {
		reply(answerTo(t, q))
		more <- func() { reply(q) }
	}, nil)
	l := newLab(t, among(t, s))
	l.keep = true
	l.ask("www.example.com", ipc.TypeA, patience)
	l.request(ipc.ProtoUDP, 0)
	reply := <-more
	l.comesTo(0, soon)
	used := l.processorTime()
	reply()
	time.Sleep(time.Second)
	if used = l.processorTime() - used; used > 200*time.Millisecond {
		t.Errorf("used %v of a processor", used)
	}
}

// TestHolderGone: what was asked for is done, and nothing turns round.
func TestHolderGone(t *testing.T) {
	t.Parallel()
	l := newLab(t, among(t, dead(t), honest(t)))
	l.ask("www.example.com", ipc.TypeA, patience)
	if err := unix.Shutdown(l.lookups, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	used := l.processorTime()
	l.request(ipc.ProtoUDP, 0)
	l.request(ipc.ProtoUDP, 1)
	l.comesTo(0, soon)
	if used = l.processorTime() - used; used > 200*time.Millisecond {
		t.Errorf("used %v of a processor", used)
	}
}

// TestProtocol: what the holder or the parent may not do ends the process.
func TestProtocol(t *testing.T) {
	t.Parallel()
	udp := ipc.Socket{Proto: ipc.ProtoUDP}
	for what, test := range map[string]struct {
		do    func(*lab) error
		words string
	}{
		"garbage from the holder": {func(l *lab) error { return ipc.SendPacket(l.lookups, []byte("garbage")) }, "the allowlist broke the protocol"},
		"another edge's type": {func(l *lab) error {
			return ipc.NewPolicySender(l.lookups).Send(&ipc.PolicyItem{Kind: ipc.PolicyDone})
		}, "the allowlist broke the protocol"},
		"lookup of TXT": {func(l *lab) error {
			return l.sender.Send(&ipc.Lookup{Name: "\x01a\x00", Type: 16, Until: 1})
		}, "the allowlist broke the protocol"},
		"a socket for nobody":          {func(l *lab) error { return l.give(udp, among(l.T, dead(l.T))(udp)) }, "control: a socket"},
		"no socket for nobody":         {func(l *lab) error { return l.give(udp, -1) }, "control: a socket"},
		"another socket":               {func(l *lab) error { return wrongSocket(l, ipc.Socket{Server: 1, Proto: ipc.ProtoUDP}) }, "control: a socket"},
		"a socket of another protocol": {func(l *lab) error { return wrongSocket(l, ipc.Socket{Proto: ipc.ProtoTCP}) }, "control: a socket"},
		"another policy": {func(l *lab) error {
			items := (&ipc.Policy{}).Items()
			for i := range items {
				if err := l.parent.Send(&items[i]); err != nil {
					return err
				}
			}
			return nil
		}, "does not change"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, func(ipc.Socket) int { return -1 })
			if err := test.do(l); err != nil {
				t.Fatal(err)
			}
			l.mustBreak(test.words)
		})
	}
}

// wrongSocket answers a request for another socket than s with s.
func wrongSocket(l *lab, s ipc.Socket) error {
	l.hold.Lock()
	l.ask("www.example.com", ipc.TypeA, patience)
	l.request(ipc.ProtoUDP, 0)
	l.Cleanup(l.hold.Unlock) // the right answer does not follow
	return l.give(s, among(l.T, dead(l.T))(s))
}
