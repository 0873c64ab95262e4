package main_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// ownQuestion is what the log must say of a question on the daemon's own queue
// that is none of its own.
func (o *owned) ownQuestion(name, record, reason string) {
	o.t.Helper()
	want := fields{"queue": selfQueue(o.f), "verdict": "drop", "reason": reason}
	if name != "" {
		want["name"], want["type"] = name, record
	}
	o.daemon.sees(o.t, eventRequest, want)
}

const notAsked = "not a question that the daemon has to ask"

// honestQuestions requires that nothing came to the server but what the
// configuration has the daemon ask, and the name that set off no more than once.
func (o *owned) honestQuestions() {
	o.t.Helper()
	honest := map[string]bool{
		"cdn.test. A": true, "cdn.test. AAAA": true, "held.cdn.test. A": true, "held.cdn.test. AAAA": true,
		reverse(o.f.web(2)) + " PTR": true, "go.example.com. A": true,
	}
	for _, q := range o.resolver.got() {
		if q.msg == nil || len(q.msg.Question) != 1 || len(q.msg.Extra) > 0 || q.msg.Response ||
			!honest[q.name()+" "+dns.TypeToString[q.msg.Question[0].Qtype]] || q.msg.Question[0].Qclass != dns.ClassINET {
			o.t.Errorf("a question left the host: %x", q.wire)
			break
		}
	}
	if n := o.resolver.asked("go.example.com"); n > 1 {
		o.t.Errorf("%d questions for what set off", n)
	}
}

// cachedOnly requires that nothing was opened but what the cached name has.
func (o *owned) cachedOnly() {
	o.t.Helper()
	for _, line := range o.daemon.granted() {
		if want := fmt.Sprint("filter 0: ", o.f.web(1)); line != want {
			o.t.Errorf("granted: %q", line)
		}
	}
	o.asker.nothing()
	o.target.nothing()
}

// What an owned resolver asks, and nobody wants asked, does not leave the host,
// and its true question after all that does.
func TestOwnedResolverAsks(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleResolver, "wrong", askingConfig())
	o.cachedAnswer(t, "cdn.test", o.f.web(1))
	o.setOff()
	for _, q := range []struct{ name, record, reason string }{
		{"evil.test", "A", notAsked},
		{"secret.go.example.com", "A", notAsked},
		{"secret.cdn.test", "A", notAsked},
		{"example.com", "A", notAsked},
		{"cdn.test", "A", "lookup that is over"},
		{"go.example.com", "TXT", notAsked},
		{"go.example.com", "AAAA", notAsked},
		{strings.TrimSuffix(reverse(o.f.web(7)), "."), "PTR", notAsked},
		{"", "", "class not IN"},
		{`go\.example\.com`, "A", "label with a dot or NUL"},
		{"", "", "unexpected records in a request"},
		{"", "", "response on a request queue"},
		{"", "", "opcode not QUERY"},
		{"", "", "bytes after the DNS message"},
		{"", "", "no question"},
		{"", "", "not a DNS message"},
	} {
		o.ownQuestion(q.name, q.record, q.reason)
	}
	o.daemon.sees(t, eventRequest, fields{"queue": selfQueue(o.f), "name": "go.example.com", "type": "A", "verdict": "accept"})
	o.daemon.sees(t, eventTraffic, fields{"dst": o.f.web(2), "verdict": "drop"})
	if o.resolver.asked("go.example.com") != 1 {
		t.Error("the true question did not leave")
	}
	o.honestQuestions()
	o.cachedOnly()
	o.idle(t)
	o.stops()
	// Two messages have two questions, 19 are wrong, and one is of a lookup that is over.
	if n := count(o.daemon.sees(t, "decided in all", nil), "dropped: "+notAsked); n != 9 {
		t.Errorf("%d questions were not for the daemon to ask", n)
	}
}

// The same over TCP: not an octet of a query leaves before the holder has
// allowed all of it, nor anything after one that it has not.
func TestOwnedResolverTCP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		attack, name, reason string
		leaves               bool // the question that is wanted
	}{
		{"tcp-partial", "", "rest of the message did not come", false},
		{"tcp-pipelined", "secret.evil.test", notAsked, false},
		{"tcp-after", "secret.evil.test", notAsked, true},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleResolver, c.attack, askingConfig())
			s := o.tcpServer(o.f.resolver, func(conn net.Conn, q *dns.Msg) { conn.Write(framed(t, new(dns.Msg).SetReply(q))) })
			o.setOff()
			if !eventually(func() bool { return s.connections() > 0 }) {
				t.Fatal("no connection")
			}
			o.ownQuestion(c.name, "A", c.reason)
			o.daemon.sees(t, eventTraffic, fields{"dst": o.f.web(2), "verdict": "drop"})
			want := 0
			if c.leaves {
				want = 2 + 12 + len("\x02go\x07example\x03com\x00") + 4
			}
			if got := s.got(0); len(got) != want || strings.Contains(string(got), "secret") {
				t.Errorf("the server got %q", got)
			}
			o.honestQuestions()
			o.cachedOnly()
			o.stops()
		})
	}
}

// What the cell of the resolver forbids is its end: another server, another
// mark, a socket of its own, a word to anybody.
func TestOwnedResolverKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		attack, name string
		number       int
	}{
		{"connect", "connect", unix.SYS_CONNECT},
		{"sendto", "sendto", unix.SYS_SENDTO},
		{"sendmsg", "sendmsg", unix.SYS_SENDMSG},
		{"setsockopt", "setsockopt", unix.SYS_SETSOCKOPT},
		{"bind", "bind", unix.SYS_BIND},
		{"recvmsg", "recvmsg", unix.SYS_RECVMSG},
		{"dup3", "dup3", unix.SYS_DUP3},
		{"socket", "socket", unix.SYS_SOCKET},
		{"read", "read", unix.SYS_READ},
		{"write-lookups", "write", unix.SYS_WRITE},
		{"write-responses", "write", unix.SYS_WRITE},
		{"write-verdicts", "write", unix.SYS_WRITE},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleResolver, c.attack, askingConfig())
			o.setOff()
			o.falls(killed(ipc.RoleResolver, c.name, c.number))
			o.honestQuestions()
			o.cachedOnly()
		})
	}
}

// What an owned resolver must not tell the parent.
func TestOwnedResolverDoomed(t *testing.T) {
	t.Parallel()
	control := func(attack, what string) doom {
		return doom{attack, end{ipc.RoleResolver, "control: protocol error: " + what, "", ""}}
	}
	by := func(attack, what string) doom { return doom{attack, broken(ipc.RoleResolver, what)} }
	for _, d := range []doom{
		control("socket-proto", "socket of protocol 47"),
		control("socket-zero", "socket of protocol 0"),
		control("socket-stray", "socket request with stray octets"),
		control("socket-7", "control packet of 7 octets"),
		control("socket-9", "packet longer than 8 octets"),
		control("sockets-untaken", "it does not take the sockets that it asks for"),
		by("signal-ready", "signal 1 out of turn"),
		by("signal-loaded", "signal 2 out of turn"),
		by("signal-million", "signal 2 out of turn"),
		by("signal-force", "signal 3 out of turn"),
		by("signal-nothing", "it closed its control socket"),
		by("stderr-flood", "more than 1048576 octets on stderr"),
		control("signal-0", "signal 0"),
		control("signal-short", "control packet of 1 octets"),
		control("signal-long", "packet longer than 8 octets"),
		control("policy-up", "packet longer than 8 octets"),
	} {
		t.Run(d.attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleResolver, d.attack, askingConfig())
			o.setOff()
			o.falls(d.end)
			o.honestQuestions()
			o.cachedOnly()
		})
	}
}

// othersGoOn requires that traffic and questions go on in time beside an owned
// process that is at its worst.
func (o *owned) othersGoOn(p *pulse, limit time.Duration) {
	o.t.Helper()
	requireInTime(o.t, "questions", o.lookups(200), limit)
	p.inTime(o.t, limit)
	o.isRefused(o.t, o.f, "evil.test", typeOf(o.f))
}

// A resolver that takes sockets without end gets as many as the parent gives
// in a second, and nobody waits for it. Each is a connection here, which
// the far end counts.
func TestOwnedResolverSockets(t *testing.T) {
	t.Parallel()
	const perSecond, atOnce = 500, 128 // parent/sockets.go
	o := ownedLab(t, ipc.RoleResolver, "sockets-taken", askingConfig())
	s := o.tcpServer(o.f.resolver, func(net.Conn, *dns.Msg) {})
	o.open()
	p := o.pulse(o.f.web(1), often)
	p.beats(t, 20)
	began := time.Now()
	o.setOff()
	if !eventually(func() bool { return s.connections() > 2*atOnce }) {
		t.Fatalf("%d connections: no flood", s.connections())
	}
	o.othersGoOn(p, crowded)
	got, most := s.connections(), atOnce+int(perSecond*time.Since(began).Seconds())
	t.Logf("%d connections in %v", got, time.Since(began))
	if got > most {
		t.Errorf("%d connections in %v, more than %d", got, time.Since(began), most)
	}
	o.stops()
}

// connections is how many there were.
func (s *tcpServer) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// A resolver that asks the one question that is wanted as fast as it can, by
// 64 sockets: nobody waits for it. While the question is unanswered each leaves,
// for a configured server; with the answer it is over.
func TestOwnedResolverRepeats(t *testing.T) {
	t.Parallel()
	c := askingConfig()
	const repeated = "go.held.cdn.test"
	c.filters[0].cached = []string{"cdn.test", repeated}
	began := time.Now()
	o := ownedLab(t, ipc.RoleResolver, "repeat", c)
	option(t, o.resolver.conn, unix.SO_RCVBUFFORCE, 64<<20) // so that it is not the server that loses questions
	o.open()
	p := o.pulse(o.f.web(1), often)
	o.daemon.sees(t, eventRequest, fields{"queue": selfQueue(o.f), "name": repeated, "verdict": "drop", "reason": "lookup that is over"})
	o.othersGoOn(p, crowded)
	// Of the lookup and those that followed it, which began a second apart at least.
	if left, most := o.resolver.asked(repeated), 16*int(2+time.Since(began)/(6*time.Second)); left == 0 || left > 2*most { // two types
		t.Errorf("%d questions left, at most %d", left, 2*most)
	}
	for _, q := range o.resolver.got() {
		if q.name() == repeated+"." {
			o.reply(q)
			break
		}
	}
	o.lookups(1) // what left before has come
	left := o.resolver.asked(repeated)
	o.lookups(100)
	if more := o.resolver.asked(repeated); more > left {
		t.Errorf("%d left after the answer", more-left)
	}
	o.stops()
	t.Logf("%d questions left", left)
}

// A resolver that never asks: cached names are not opened, what waits for the
// lookup of its address is dropped in time, and all else goes on.
func TestOwnedResolverMute(t *testing.T) {
	t.Parallel()
	c := askingConfig()
	c.filters[0].cached = []string{"go.cdn.test"}
	o := ownedLab(t, ipc.RoleResolver, "mute", c)
	sent := time.Now()
	o.asker.sendWire(netip.AddrPortFrom(o.f.web(3), goPort), []byte("let me through"))
	o.resolves(t, o.f, "honest.example.com", typeOf(o.f), o.f.web(1))
	o.reaches(t, o.f.web(1))
	o.isShut(t, o.f.web(2))
	o.isRefused(t, o.f, "evil.test", typeOf(o.f))
	o.daemon.sees(t, eventTraffic, fields{"dst": o.f.web(3), "verdict": "drop", "reason": tookTooLong})
	if took := time.Since(sent); took < 2*time.Second || took > 2*time.Second+crowded {
		t.Errorf("dropped after %v", took)
	}
	o.daemon.sees(t, "no answer about a name of cachedHostnames", fields{"name": "go.cdn.test", "type": "A", "again_in": "1s"})
	if lines := o.daemon.granted(); len(lines) != 1 {
		t.Errorf("granted: %q", lines)
	}
	o.idle(t)
	if n := o.resolver.asked("go.cdn.test"); n > 0 {
		t.Errorf("it asked %d times", n)
	}
	o.stops()
}

const tookTooLong = "address not granted, and its reverse lookup took too long"

// The real resolver stopped: the same, and it does not delay the end.
func TestStoppedResolver(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := openedAsking(t, f)
	p := l.daemon.processes(t)
	l.daemon.mayLogErrors = true // it is ended after a while
	if err := unix.Kill(p.children[ipc.RoleResolver], unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if l.client.connects(t, netip.Addr{}, netip.AddrPortFrom(f.web(2), 80), shortly) {
		t.Error("an unknown address is open")
	}
	l.resolves(t, f, "more.example.com", typeOf(f), f.web(1))
	l.reaches(t, f.web(1))
	l.daemon.sees(t, eventTraffic, fields{"dst": f.web(2), "verdict": "drop", "reason": tookTooLong})
	l.idle(t)
	l.daemon.expectExit(0)
	if err := unix.Kill(p.parent, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if !l.daemon.wait(t, 3*endsWithin) {
		t.Fatal("the tree runs on")
	}
	p.goneWithin(t, patience)
}
