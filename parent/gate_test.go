package parent

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// state is the kernel's line on a queue: packets that wait, and the last id.
func state(t *testing.T, number uint16) (waiting, last int) {
	t.Helper()
	text, err := os.ReadFile(queueStatistics)
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[0] == itoa(number) {
			return atoi(t, f[2]), atoi(t, f[7])
		}
	}
	t.Errorf("queue %d is not bound", number)
	return -1, -1
}

// testGate is a gate for traffic queues over a real socketpair, with a DNS
// queue and a traffic queue open, and three packets waiting in each.
func testGate(t *testing.T, f func(child int, g *gate, queues []*openQueue)) {
	t.Helper()
	inNamespace(t, func() {
		queues := open(t,
			ipc.Queue{Handle: 1, Number: 100, Kind: ipc.QueueRequests},
			ipc.Queue{Handle: 2, Number: 101, Kind: ipc.QueueTraffic})
		defer closeQueues(queues)
		for i, q := range queues {
			if err := q.open(); err != nil {
				t.Error(err)
			}
			sendNumbered(t, 5300+i, 3)
			if waiting, last := state(t, q.Number); waiting != 3 || last != 3 {
				t.Errorf("queue %d: %d waiting, last %d", q.Number, waiting, last)
			}
		}
		child, ours, err := ipc.Pair(false, false)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(child)
		defer unix.Close(ours)
		var shut atomic.Bool
		f(child, newGate(ours, judgeKinds[ipc.RoleTraffic], queues, &shut), queues)
	}, 100, 101)
}

// runGate serves one gate until it ends, and returns how.
func runGate(t *testing.T, g *gate) error {
	t.Helper()
	gs, err := newGates()
	if err != nil {
		t.Fatal(err)
	}
	var ended error
	gs.add(g, func(err error) { ended = errors.Join(err, gs.stop()) })
	gs.run()
	return ended
}

// TestGates: when a gate has ended the other one is served as before, and
// nothing but stop ends all.
func TestGates(t *testing.T) {
	testGate(t, func(child int, g *gate, queues []*openQueue) {
		other, ours, err := ipc.Pair(false, false)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(ours)
		gs, err := newGates()
		if err != nil {
			t.Fatal(err)
		}
		ended, over := make(chan error, 2), make(chan struct{})
		gs.add(g, func(err error) { ended <- err })
		gs.add(newGate(ours, judgeKinds[ipc.RoleAllowlist], queues, g.shut), func(err error) { ended <- err })
		go func() { defer close(over); gs.run() }()
		for range 2 { // the second one is not looked at any more
			if err := ipc.SendPacket(child, []byte("?")); err != nil {
				t.Error(err)
			}
		}
		if err := <-ended; !errors.Is(err, errProtocol) {
			t.Errorf("ended with %v", err)
		}
		s := ipc.NewVerdictSender(other)
		for id := range uint32(3) {
			if err := s.Give(ipc.VerdictRecord{Handle: 1, ID: id + 1, Verdict: ipc.Drop}); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(s.Flush(), unix.Close(other)); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		if waiting, _ := state(t, 100); waiting != 0 {
			t.Errorf("%d packets wait", waiting)
		}
		select {
		case <-over:
			t.Error("it ended with its gates")
		default:
		}
		if err := gs.stop(); err != nil {
			t.Error(err)
		}
		<-over
	})
}

// TestGate: an accepted packet arrives, a dropped one does not, and a verdict
// for a packet that the kernel does not hold harms nobody.
func TestGate(t *testing.T) {
	testGate(t, func(child int, g *gate, _ []*openQueue) {
		conn := listener(t, 5301)
		defer conn.Close()
		s := ipc.NewVerdictSender(child)
		for _, r := range []ipc.VerdictRecord{
			{Handle: 2, ID: 0, Verdict: ipc.Accept},
			{Handle: 2, ID: 1 << 31, Verdict: ipc.Accept},
			{Handle: 2, ID: 1, Verdict: ipc.Drop},
			{Handle: 2, ID: 2, Verdict: ipc.Accept},
			{Handle: 2, ID: 1, Verdict: ipc.Accept}, // too late: it was dropped
			{Handle: 2, ID: 3, Verdict: ipc.Drop},
		} {
			if err := s.Give(r); err != nil {
				t.Error(err)
			}
		}
		if err := s.Flush(); err != nil {
			t.Error(err)
		}
		unix.Close(child)
		if err := runGate(t, g); err != nil {
			t.Errorf("the gate ended with %v", err)
		}
		if got := received(conn); string(got) != "\x02" {
			t.Errorf("arrived: %v", got)
		}
		if waiting, _ := state(t, 101); waiting != 0 {
			t.Errorf("%d packets wait", waiting)
		}
		if waiting, _ := state(t, 100); waiting != 3 {
			t.Errorf("%d packets wait in the other queue", waiting)
		}
	})
}

// TestHostileGate: of a packet with anything wrong nothing at all is carried,
// also not what stands before it.
func TestHostileGate(t *testing.T) {
	accept := func(handle, id uint32) []byte {
		return ipc.AppendVerdict(nil, ipc.VerdictRecord{Handle: handle, ID: id, Verdict: ipc.Accept})
	}
	own := append(append(accept(2, 1), accept(2, 2)...), accept(2, 3)...)
	join := func(b ...[]byte) (all []byte) {
		for _, p := range b {
			all = append(all, p...)
		}
		return all
	}
	spoilt := join(own)
	spoilt[len(spoilt)-1] = 1
	for what, packet := range map[string][]byte{
		"another edge's handle":     join(own, accept(1, 1)),
		"unknown handle":            join(own, accept(3, 1)),
		"handle 0":                  join(own, accept(0, 1)),
		"queue number for a handle": accept(101, 1),
		"cut short":                 own[:len(own)-1],
		"an octet more":             join(own, []byte{0}),
		"stray octets":              spoilt,
		"verdict 4 (NF_REPEAT)":     join(own[:24], []byte{2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0}),
		"65 records":                join(own, make([]byte, 62*ipc.VerdictSize)),
		"200 records":               make([]byte, 200*ipc.VerdictSize),
		"one octet":                 {1},
		"a megabyte's start":        make([]byte, 150_000),
	} {
		t.Run(what, func(t *testing.T) {
			testGate(t, func(child int, g *gate, _ []*openQueue) {
				if err := ipc.SendPacket(child, packet); err != nil {
					t.Error(err)
				}
				if err := ipc.SendPacket(child, own); err != nil { // comes too late
					t.Error(err)
				}
				if err := runGate(t, g); !errors.Is(err, errProtocol) {
					t.Errorf("the gate ended with %v", err)
				}
				for _, number := range []uint16{100, 101} {
					if waiting, _ := state(t, number); waiting != 3 {
						t.Errorf("queue %d: %d packets wait", number, waiting)
					}
				}
			})
		})
	}
}

// TestShutGate: after the filter has closed nothing is carried.
func TestShutGate(t *testing.T) {
	testGate(t, func(child int, g *gate, _ []*openQueue) {
		g.shut.Store(true)
		if err := ipc.SendPacket(child, ipc.AppendVerdict(nil, ipc.VerdictRecord{Handle: 2, ID: 1, Verdict: ipc.Accept})); err != nil {
			t.Error(err)
		}
		unix.Close(child)
		if err := runGate(t, g); err != nil {
			t.Error(err)
		}
		if waiting, _ := state(t, 101); waiting != 3 {
			t.Errorf("%d packets wait", waiting)
		}
	})
}

// TestGateKinds: each edge carries verdicts for the queues that it judges.
func TestGateKinds(t *testing.T) {
	var queues []*openQueue
	for i, kind := range []ipc.QueueKind{ipc.QueueRequests, ipc.QueueResponses, ipc.QueueTraffic} {
		queues = append(queues, &openQueue{Queue: ipc.Queue{Handle: uint32(i + 1), Kind: kind}})
	}
	for role, want := range map[ipc.Role][]uint32{
		ipc.RoleAllowlist: {1, 2}, ipc.RoleTraffic: {3}, ipc.RoleRequests: nil, ipc.RoleResponses: nil,
	} {
		g := newGate(-1, judgeKinds[role], queues, &atomic.Bool{})
		if len(g.queues) != len(want) {
			t.Errorf("%s: %d queues", role, len(g.queues))
		}
		for _, h := range want {
			if g.queues[h] == nil {
				t.Errorf("%s: handle %d is missing", role, h)
			}
		}
	}
}

// TestKernelVerdict: no number of a child becomes anything but drop or accept.
func TestKernelVerdict(t *testing.T) {
	for v := range 256 {
		want := uint32(0)
		if ipc.Verdict(v) == ipc.Accept {
			want = 1
		}
		if got := kernelVerdict(ipc.Verdict(v)); got != want {
			t.Errorf("verdict %d becomes %d", v, got)
		}
	}
}
