package main_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// lateness bounds how late one packet in a hundred may get its verdict while a
// neighbour of the process that judges it is at its worst, on two processors.
// Unharmed it is about a millisecond. crowded is the same where other tests run
// beside.
const (
	lateness = 250 * time.Millisecond
	crowded  = time.Second
)

// often is how often a pulse beats.
const often = 2 * time.Millisecond

// pulse is a datagram every so often to an open address, each of which needs
// a verdict, since nobody answers.
type pulse struct {
	stop  chan struct{}
	ended sync.WaitGroup
	sent  int

	mu    sync.Mutex
	late  []time.Duration // of those that arrived
	epoch time.Time
}

func (o *owned) pulse(to netip.Addr, every time.Duration) *pulse {
	o.t.Helper()
	p := &pulse{stop: make(chan struct{}), epoch: time.Now()}
	server := o.server.listenUDP(o.t, netip.AddrPortFrom(to, floodPort))
	go func() {
		for b := make([]byte, 8); ; {
			if n, err := server.Read(b); err != nil || n != 8 {
				return
			}
			p.mu.Lock()
			p.late = append(p.late, time.Since(p.epoch)-time.Duration(binary.BigEndian.Uint64(b)))
			p.mu.Unlock()
		}
	}()
	a := o.client.asker(o.t, o.f.client)
	p.ended.Go(func() {
		for ; ; p.sent++ {
			select {
			case <-p.stop:
				return
			case <-time.After(every):
			}
			a.sendWire(netip.AddrPortFrom(to, floodPort), binary.BigEndian.AppendUint64(nil, uint64(time.Since(p.epoch))))
		}
	})
	o.t.Cleanup(func() { p.end() })
	return p
}

func (p *pulse) end() {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.ended.Wait()
}

// beats waits for so many more that arrived.
func (p *pulse) beats(t *testing.T, count int) {
	t.Helper()
	p.mu.Lock()
	before := len(p.late)
	p.mu.Unlock()
	if !eventually(func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.late) >= before+count }) {
		t.Fatalf("open, and %d datagrams do not arrive", count)
	}
}

// inTime ends the pulse and requires that every datagram arrived, and at most
// one in a hundred later than limit.
func (p *pulse) inTime(t *testing.T, limit time.Duration) {
	t.Helper()
	p.end()
	if !eventually(func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.late) == p.sent }) {
		t.Errorf("%d of %d arrived", len(p.late), p.sent)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	requireInTime(t, "traffic", p.late, limit)
}

func requireInTime(t *testing.T, what string, late []time.Duration, limit time.Duration) {
	t.Helper()
	slices.Sort(late)
	at := func(percent int) time.Duration { return late[(len(late)-1)*percent/100] }
	t.Logf("%s: %d, p50 %v, p99 %v, worst %v", what, len(late), at(50), at(99), late[len(late)-1])
	if at(99) > limit {
		t.Errorf("%s: one in a hundred was later than %v: %v", what, limit, at(99))
	}
}

// lookups asks one question after the other and says how long each took.
func (o *owned) lookups(count int) (took []time.Duration) {
	o.t.Helper()
	a := o.client.asker(o.t, o.f.client)
	for i := range count {
		began := time.Now()
		a.ask(o.f.dns(), fmt.Sprintf("n%d.example.com", i), typeOf(o.f))
		took = append(took, time.Since(began))
	}
	return took
}

// open has web server 1 granted by an honest question.
func (o *owned) open() {
	o.t.Helper()
	o.resolves(o.t, o.f, "honest.example.com", typeOf(o.f), o.f.web(1))
}

// An owned request parser tells of 300,000 requests that were never made.
// Until the last, traffic that was opened before flows in time, and the answer
// to a question asked before is taken in its turn: the allowlist takes 64 facts
// from one parser, then looks at the other. Nothing is opened by the flood.
func TestOwnedRequestsFlood(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleRequests, "flood", ownedConfig())
	o.open()
	o.ask("held.example.com")
	o.daemon.sees(t, eventRequest, fields{"name": "held.example.com", "verdict": "accept"})
	if !eventually(func() bool { return o.resolver.asked("held.example.com") == 1 }) {
		t.Fatal("the request did not leave")
	}
	p := o.pulse(o.f.web(1), often)
	p.beats(t, 20)
	o.setOff()
	// From now until the true fact, which is told last, its packet waits.
	o.held(t, dnsQueue(0, o.f), 1)
	o.daemon.sees(t, eventRequest, fields{"name": "example.com", "verdict": "accept"})
	asked := time.Now()
	for _, q := range o.resolver.got() {
		if q.name() == "held.example.com." {
			o.reply(q)
		}
	}
	o.answer()
	t.Logf("an answer took %v in the flood", time.Since(asked))
	if took := time.Since(asked); took > 2*crowded {
		t.Errorf("an answer took %v", took)
	}
	if o.waiting(dnsQueue(0, o.f)) == 0 {
		t.Error("the flood was over before the answer came: it shows nothing")
	}
	o.idle(t)
	p.inTime(t, crowded)
	o.isShut(t, o.f.web(8))
	o.stops()
	all := o.daemon.sees(t, "decided in all", nil)
	if n := count(all, "requests") + count(all, "dropped: too many pending requests"); n < 300_000 {
		t.Errorf("the allowlist decided on %d requests: no flood", n)
	}
	if lines := o.daemon.granted(); len(lines) != 2 {
		t.Errorf("granted: %q", lines)
	}
}

func count(line logLine, key string) int {
	n, _ := line[key].(float64)
	return int(n)
}

// waiting is how many packets wait in a queue.
func (l *lab) waiting(number int) int {
	for _, q := range l.client.queues(l.t) {
		if q.number == number {
			return q.waiting
		}
	}
	return 0
}

// The same of answers that nobody asked for, with a thousand addresses each:
// questions go on leaving.
func TestOwnedResponsesFlood(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleResponses, "flood", ownedConfig())
	o.open()
	p := o.pulse(o.f.web(1), often)
	p.beats(t, 20)
	o.setOff()
	o.held(t, inboundQueue(o.f), 1)
	var took []time.Duration
	for i := 0; o.waiting(inboundQueue(o.f)) > 0; i++ {
		name := fmt.Sprintf("held.n%d.example.com", i)
		began := time.Now()
		o.ask(name)
		if !eventually(func() bool { return o.resolver.asked(name) == 1 }) {
			t.Fatal("a request did not leave")
		}
		took = append(took, time.Since(began))
	}
	if len(took) == 0 {
		t.Fatal("the flood was over before a question was asked: it shows nothing")
	}
	requireInTime(t, "requests", took, crowded)
	p.inTime(t, crowded)
	o.isShut(t, o.f.web(8))
	o.stops()
	all := o.daemon.sees(t, "decided in all", nil)
	if n := count(all, "dropped: no pending request"); n < 20_000 {
		t.Errorf("the allowlist decided on %d answers: no flood", n)
	}
}

// An owned trafficworker gives verdicts without end, for packets that were
// never queued: DNS goes on.
func TestOwnedTrafficFlood(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleTraffic, "flood", ownedConfig())
	o.setOff()
	o.held(t, trafficQueue(0, o.f), 1)
	requireInTime(t, "questions", o.lookups(100), crowded)
	o.isRefused(t, o.f, "evil.test", typeOf(o.f))
	o.stops()
	o.target.nothing()
}

// An owned allowlist fills the trafficworker's edge as fast as it is read. The
// trafficworker takes what the edge holds (4 MiB, a million addresses: two
// fifths of a second) and judges 32 packets in between. That makes them late
// (how late depends on who else wants the processors, so no figure is
// required), and opens nothing but what is granted.
func TestOwnedAllowlistFlood(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleAllowlist, "grant-flood", ownedConfig())
	o.setOff()
	o.answer()
	p := o.pulse(o.f.web(8), 100*time.Millisecond)
	p.beats(t, 2)
	o.setOff()
	o.held(t, dnsQueue(0, o.f), 1)
	p.beats(t, 10)
	p.inTime(t, patience)
	o.isShut(t, o.f.web(2))
	o.stops()
}

// A process that says nothing more: what waits for it is neither let through
// nor lost to the others, who go on with what does not need it.
func TestOwnedMute(t *testing.T) {
	t.Parallel()
	for _, role := range []ipc.Role{ipc.RoleRequests, ipc.RoleResponses, ipc.RoleAllowlist, ipc.RoleTraffic} {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, role, "mute", ownedConfig())
			if role != ipc.RoleAllowlist { // the stand-in grants nothing
				o.open()
			}
			o.setOff()
			queue := map[ipc.Role]int{ipc.RoleRequests: dnsQueue(0, o.f), ipc.RoleResponses: inboundQueue(o.f),
				ipc.RoleAllowlist: dnsQueue(0, o.f), ipc.RoleTraffic: trafficQueue(0, o.f)}[role]
			o.held(t, queue, 1)
			switch role {
			case ipc.RoleTraffic:
				o.resolves(t, o.f, "more.example.com", typeOf(o.f), o.f.web(1))
				o.isRefused(t, o.f, "evil.test", typeOf(o.f))
			case ipc.RoleAllowlist:
				o.isShut(t, o.f.web(1))
			default:
				o.reaches(t, o.f.web(1))
				o.isShut(t, o.f.web(2))
			}
			if o.waiting(queue) == 0 {
				t.Error("what waited for it is gone")
			}
			o.stops()
			if role == ipc.RoleResponses {
				o.asker.nothing()
				return
			}
			o.outside("go.example.com")
		})
	}
}

// A process that computes on every thread that it can have does not keep the
// others from their work, nor the tree from its end. What bounds it: nice 5,
// 32 threads (RLIMIT_NPROC), and a session of its own, by which the kernel
// groups processes where it does (sched_autogroup).
func TestOwnedSpin(t *testing.T) {
	for _, role := range []ipc.Role{ipc.RoleRequests, ipc.RoleTraffic, ipc.RoleResolver} {
		t.Run(string(role), func(t *testing.T) {
			o := ownedLab(t, role, "spin", configWith(role))
			if role != ipc.RoleTraffic {
				o.open()
			}
			o.setOff()
			threads := func() int { return len(o.spinning(role)) }
			if !eventually(func() bool { return threads() >= 24 }) {
				t.Fatalf("%d threads run", threads())
			}
			if role != ipc.RoleRequests {
				requireInTime(t, "questions", o.lookups(100), lateness)
			}
			if role != ipc.RoleTraffic {
				p := o.pulse(o.f.web(1), often)
				p.beats(t, 500)
				p.inTime(t, lateness)
			}
			o.stops()
		})
	}
}

// spinning are the threads of a child that run or could.
func (o *owned) spinning(role ipc.Role) (ids []string) {
	dir := fmt.Sprintf("/proc/%d/task", o.p.children[role])
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		text, _ := os.ReadFile(dir + "/" + e.Name() + "/stat")
		if _, rest, _ := strings.Cut(string(text), ") "); strings.HasPrefix(rest, "R") {
			ids = append(ids, e.Name())
		}
	}
	return ids
}

// A process that takes all descriptors that it can get finds the numbers that
// its role leaves free below its limit, and nobody else feels it: with four
// queue sockets 21, less ten that it holds.
func TestOwnedDescriptors(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleRequests, "descriptors", ownedConfig())
	o.ask("go.example.com")
	o.answer()
	o.resolves(t, o.f, "honest.example.com", typeOf(o.f), o.f.web(1))
	o.reaches(t, o.f.web(1))
	o.isShut(t, o.f.web(2))
	o.ask("go.again.example.com")
	o.falls(noticed(ipc.RoleRequests, "11 descriptors, then: too many open files"))
	o.outside("go.again.example.com")
}

// A resolver that has no number left for the socket that it is given dies of
// that: the kernel does not hand it over.
func TestOwnedResolverDescriptors(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleResolver, "descriptors", askingConfig())
	o.setOff()
	o.falls(noticed(ipc.RoleResolver, "control message cut: no room for a descriptor"))
	o.honestQuestions()
	o.cachedOnly()
}

// A process that takes all memory that it can get dies at its limit, alone;
// the tree says so.
func TestOwnedMemory(t *testing.T) {
	t.Parallel()
	for role, limit := range map[ipc.Role]int{ipc.RoleRequests: 512 << 10, ipc.RoleResolver: 256 << 10} { // KiB
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, role, "memory", configWith(role))
			o.setOff()
			most := 0
			for running(o.p.children[role]) {
				most = max(most, rss(o.p.children[role]))
				runtime.Gosched()
			}
			o.falls(end{role, "died: exit status 2", "out of memory", ""})
			if most < 64<<10 || most > limit+limit/5 {
				t.Errorf("it had %d KiB at most, with a limit of %d", most, limit)
			}
			o.outside("go.example.com")
		})
	}
}

// rss is what a process has in memory, in KiB.
func rss(pid int) (kib int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fmt.Sscan(rest, &kib)
	return kib
}

// A process that makes threads without end dies of its limit.
func TestOwnedThreads(t *testing.T) {
	t.Parallel()
	for _, role := range []ipc.Role{ipc.RoleResponses, ipc.RoleResolver} {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, role, "threads", configWith(role))
			o.setOff()
			o.falls(end{role, "died: exit status 2", "failed to create new OS thread", ""})
			o.asker.nothing()
		})
	}
}
