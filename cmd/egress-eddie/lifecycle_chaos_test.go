package main_test

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// How long TestChaos goes on, and by which random numbers.
var (
	chaosFor  = flag.Duration("chaos", 20*time.Second, "how long TestChaos goes on")
	chaosSeed = flag.Uint64("chaos-seed", 1, "the seed of TestChaos")
)

// A process is killed or stopped every so often in TestChaos, each role fewer times
// than ten in a minute, which would end the tree.
const (
	blowEvery = 2 * time.Second
	maxBlows  = 8
)

// TestChaos kills and stops processes, and reloads, while honest clients ask and
// others flood. Of three names one is always allowed, one never, and one until a
// reload takes it away. Whatever happens when: nothing arrives that may not, what
// may arrives again, and at the end all works and nothing is left.
func TestChaos(t *testing.T) {
	f := families[0]
	random := rand.New(rand.NewPCG(*chaosSeed, 0))
	l := newLab(t)
	l.resolver(f.resolver, webZone(f))
	with, without := allowing("w1.example.com", "w3.example.com"), allowing("w1.example.com")
	file := l.startFrom(t, with)
	l.daemon.mayLogErrors = true
	l.rules(standardRules)
	l.resolves(t, f, "w1.example.com", typeOf(f), f.web(1))
	tr := l.flood(t, f, f.web(1), f.web(2)) // which is never allowed
	tr.flows(t)
	changing := l.flood(t, f, f.web(3), f.web(4)) // which is not, either
	client := l.honestClient(t, f, "w1.example.com")
	l.questions(t, f, "w3.example.com", "not.allowed.test")

	open, shut := true, time.Time{} // whether the changing name is allowed; since when not
	blows := map[ipc.Role][]time.Time{}
	var kills, stops, reloads int
	var worst time.Duration
	for end := time.Now().Add(*chaosFor); time.Now().Before(end); {
		began := time.Now()
		role := replaceable[random.IntN(3)] // there is no resolver
		pid := 0
		if p, err := l.daemon.tryProcesses(); err == nil {
			pid = p.children[role]
		}
		blows[role] = slices.DeleteFunc(blows[role], func(at time.Time) bool { return began.Sub(at) > 70*time.Second })
		if len(blows[role]) == maxBlows {
			pid = 0
		} else {
			blows[role] = append(blows[role], began)
		}
		after := time.Duration(random.IntN(50_000)) * time.Microsecond
		switch blow := random.IntN(6); {
		case pid == 0: // enough of this one, or the last has not come up yet
		case blow == 0:
			stops++
			time.AfterFunc(after, func() { unix.Kill(pid, unix.SIGSTOP) })
		default:
			kills++
			time.AfterFunc(after, func() { unix.Kill(pid, unix.SIGKILL) })
		}
		if !open {
			if sent := changing.after(shut); len(sent) > 0 {
				t.Errorf("after reload %d %d packets arrived at what it took away, the first sent %v after it", reloads, len(sent), sent[0].Sub(shut))
			}
		}
		to := with
		if open = !open; !open {
			to = without
		}
		l.reload(t, file, to.String(), "configuration reloaded")
		shut = time.Now()
		reloads++
		took := tr.flowsAfter(t, time.Now())
		worst = max(worst, took)
		time.Sleep(time.Until(began.Add(blowEvery)))
	}
	asked, answered := client.stop()
	t.Logf("%d kills, %d stops, %d reloads; %d of %d questions answered within a second; traffic again after %v at the worst",
		kills, stops, reloads, answered, asked, worst)
	if !eventually(func() bool { return l.daemon.count("died") == l.daemon.count("started again") }) {
		t.Fatal("not all were started again")
	}
	if got := l.daemon.count("died"); got < kills/2+stops/2 {
		t.Errorf("%d deaths for %d kills and %d stops", got, kills, stops)
	}
	for _, tr := range []*traffic{tr, changing} {
		if tr.end(); tr.denied > 0 {
			t.Errorf("%d denied packets arrived", tr.denied)
		}
	}
	l.asksUntilAnswered(t, f, "w1.example.com")
	l.reaches(t, f.web(1))
	// A stop holds what it stops up for two seconds, and a question is given one.
	if missed := asked - answered; missed > stops*30+kills*5 {
		t.Errorf("%d of %d questions were not answered", missed, asked)
	}
	l.idleButForOverflow(t) // of who was stopped for two seconds
	p := l.daemon.processes(t)
	l.daemon.expectExit(0)
	if err := unix.Kill(p.parent, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	l.daemon.stopped(t, p, 0)
}

// after is when those were sent that arrived and were sent after an instant.
func (tr *traffic) after(since time.Time) (sent []time.Time) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, at := range tr.granted {
		if at.After(since) {
			sent = append(sent, at)
		}
	}
	return sent
}

// honest is a client that asks again and again, each question three times at most.
type honest struct {
	asked, answered atomic.Int64
	quit            chan struct{}
	over            sync.WaitGroup
}

func (l *lab) honestClient(t *testing.T, f family, name string) *honest {
	t.Helper()
	h := &honest{quit: make(chan struct{})}
	a := l.client.asker(t, f.client)
	h.over.Go(func() {
		for id := uint16(1); ; id++ {
			select {
			case <-h.quit:
				return
			default:
			}
			m := question(name, typeOf(f))
			m.Id = id
			wire, err := m.Pack()
			if err != nil {
				return
			}
			h.asked.Add(1)
			if ask(a, f.dns(), id, wire) {
				h.answered.Add(1)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	t.Cleanup(func() { h.stop() })
	return h
}

// ask sends a question up to three times within a second, and waits for its answer.
func ask(a *asker, server netip.AddrPort, id uint16, wire []byte) bool {
	b := make([]byte, 512)
	for range 3 {
		a.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		a.conn.WriteToUDPAddrPort(wire, server)
		for deadline := time.Now().Add(333 * time.Millisecond); ; {
			a.conn.SetReadDeadline(deadline)
			n, err := a.conn.Read(b)
			if err != nil {
				break
			}
			var m dns.Msg
			if m.Unpack(b[:n]) == nil && m.Id == id {
				return true
			}
		}
	}
	return false
}

func (h *honest) stop() (asked, answered int) {
	select {
	case <-h.quit:
	default:
		close(h.quit)
	}
	h.over.Wait()
	return int(h.asked.Load()), int(h.answered.Load())
}
