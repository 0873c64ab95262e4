package trafficworker

import (
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// again puts a new table in the old one's place, which is told what is open.
func (g *together) again(now ipc.Instant, p *ipc.Policy) {
	g.t.Helper()
	table, err := newTable(p.Filters, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	g.table = table
	g.tell(now, append(g.engine.Open(now, func() {}), ipc.Grants{Kind: ipc.GrantsAll}))
}

// openStep is to what ends are rounded down for a new trafficworker.
const openStep = 100 * time.Millisecond

// TestAgain: a new trafficworker has open what the old one had, as long, to a
// tenth of a second, and all that comes after as ever.
func TestAgain(t *testing.T) {
	pool := []entry{
		tree("com"), tree("com", https), tree("example.com", ipc.Port{Number: 80, Proto: ipc.ProtoTCP}), tree("www.example.com", https), tree("org", tcp443),
	}
	probes := []ipc.Port{{Number: 80, Proto: ipc.ProtoTCP}, tcp443, udp443}
	random := rand.New(rand.NewPCG(7, 7))
	for range 500 {
		now := testNow
		p := policyOf(ipc.Filter{AllowAnswersFor: 3 * minutes}, pool[random.IntN(2)], pool[2+random.IntN(3)])
		g := newTogether(t, p)
		asks := func() {
			for range 1 + random.IntN(4) {
				g.ask(now, 300, []string{"example.com", "www.example.com", "other.com", "example.org"}[random.IntN(4)], "192.0.2.1")
				now = now.Add(time.Duration(random.IntN(120_000)) * time.Millisecond)
			}
		}
		asks()
		old := g.table
		g.again(now, p)
		table := g.table
		for later := now; later < now.Add(4*minutes); later = later.Add(700 * time.Millisecond) {
			var was, is [3]bool
			for i, port := range probes {
				g.table = old
				was[i] = g.open(later, port)
				g.table = table
				is[i] = g.open(later, port)
			}
			g.table = old
			for i, port := range probes {
				if stays := g.open(later.Add(openStep), port); is[i] && !was[i] || !is[i] && stays {
					t.Fatalf("%v later, %v: open is %t, was %t", later.Sub(now), port, is[i], was[i])
				}
			}
			g.table = table
		}
		now = now.Add(4 * minutes)
		if g.ask(now, 300, "example.com", "192.0.2.1") && !g.open(now, tcp443) && gives(p, tcp443) && !g.open(now, probes[0]) {
			t.Fatal("an answer opens nothing any more")
		}
	}
}

// TestAgainAfterReloads: after whatever has been, what a new trafficworker has
// open is given by the policy in force, and no longer than that lets it.
func TestAgainAfterReloads(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 9))
	pool := []entry{tree("com"), tree("com", https), tree("example.com", tcp443), tree("other.com", udp443), tree("org")}
	for range 500 {
		pick := func() *ipc.Policy {
			f := ipc.Filter{AllowAnswersFor: time.Duration(1+random.IntN(5)) * minutes}
			if random.IntN(2) == 0 {
				f.MaxInUse = 10 * f.AllowAnswersFor
			}
			return policyOf(f, pool[random.IntN(2)], pool[2+random.IntN(3)])
		}
		now, p := testNow, pick()
		g := newTogether(t, p)
		asked := now
		for range 3 {
			if g.ask(now, 300, []string{"example.com", "other.com", "example.org"}[random.IntN(3)], "192.0.2.1") {
				asked = now
			}
			now = now.Add(time.Duration(random.IntN(90)) * time.Second)
			p = pick()
			g.reload(now, p)
			g.again(now, p)
			for _, port := range []ipc.Port{tcp443, udp443} {
				if g.open(now, port) && !gives(p, port) {
					t.Fatalf("%v is open, by %+v", port, p.Hostnames[0])
				}
			}
		}
		if end := max(asked.Add(5*minutes), now.Add(p.Filters[0].AllowAnswersFor)); g.open(end, tcp443) || g.open(end, udp443) {
			t.Fatal("open for longer than any answer opened it")
		}
	}
}

// TestAgainInUse: a new trafficworker does not know when a grant was answered, so
// that use does not put off its end; the next answer makes it one that it does.
func TestAgainInUse(t *testing.T) {
	p := policyOf(ipc.Filter{AllowAnswersFor: 10 * minutes, MaxInUse: 60 * minutes}, tree("a.com"))
	g := newTogether(t, p)
	g.ask(at(0), 300, "a.com", "192.0.2.1")
	g.again(at(5), p)
	for m := 5; m < 10; m++ {
		g.want("told", m, tcp443, true)
	}
	g.want("told, and used", 10, tcp443, false)

	const long = 10_000 // minutes after the boot
	g.ask(at(long), 300, "a.com", "192.0.2.1")
	g.again(at(long+5), p)
	g.reload(at(long+6), p)
	g.want("told, and reloaded", long+9, tcp443, true)
	g.want("told, and reloaded", long+10, tcp443, false)

	g = newTogether(t, p)
	g.ask(at(11), 300, "a.com", "192.0.2.1")
	for m := 11; m < 71; m++ {
		g.want("asked again", m, tcp443, true)
	}
	g.want("maxInUse", 71, tcp443, false)
}

// TestAllOnce: that all has been told is said once, and nothing follows that is
// for a change alone.
func TestAllOnce(t *testing.T) {
	tab, err := newTable([]ipc.Filter{{Name: "f", AllowAnswersFor: time.Minute}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if _, err := tab.take(testNow, &ipc.Grants{Kind: ipc.GrantsAll}); (err == nil) != want {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestJudgesWhenTold: no packet is read before all is told that was open, or two
// seconds have passed; then by what is known.
func TestJudgesWhenTold(t *testing.T) {
	for _, told := range []bool{true, false} {
		l := newLab(t, ipc.Filter{Name: "f", AllowAnswersFor: time.Minute}).timed()
		poller, err := ipc.NewPoller()
		if err != nil {
			t.Fatal(err)
		}
		l.edge(ipc.FDQueues, true, false)
		l.w.judges, l.w.table.told, l.w.begun = false, false, l.now
		if got := l.w.Descriptors(); len(got) != 1 || got[0] != ipc.FDGrants {
			t.Errorf("it begins with %v", got)
		}
		l.tell(about(ipc.GrantsOpen, 0, l.now.Add(time.Second), "192.0.2.1"))
		judges := func() bool {
			left, err := l.w.Tick()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(l.ends[ipc.FDQueues], []byte{0}); err != nil {
				t.Fatal(err)
			}
			ready, err := poller.Wait(0)
			if err != nil {
				t.Fatal(err)
			}
			if l.w.judges == (left == l.w.begun.Add(toldFor).Sub(l.now)) {
				t.Errorf("it looks again in %v", left)
			}
			return len(ready) == 1 && ready[0].FD == ipc.FDQueues
		}
		l.now = l.now.Add(toldFor - 1)
		if judges() {
			t.Error("it reads packets before it knows")
		}
		if told {
			l.tell(ipc.Grants{Kind: ipc.GrantsAll})
		} else {
			l.now++
		}
		if !judges() {
			t.Errorf("told %t: it does not read packets", told)
		}
		l.tell(about(ipc.GrantsOpen, 0, l.now.Add(time.Second), "192.0.2.2"))
		if !told {
			l.tell(ipc.Grants{Kind: ipc.GrantsAll}) // late, and no fault
		}
	}
}
