package trafficworker

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// TestPolicyRefused: a policy in which a queue is not a traffic queue of a
// filter that filters traffic, or not where its socket is.
func TestPolicyRefused(t *testing.T) {
	filters := []ipc.Filter{{Name: "web", AllowAnswersFor: time.Minute}, {Index: 1, Name: "all", AllowAll: true}}
	for what, queues := range map[string][]ipc.Queue{
		"request queue":     {{Handle: 1, Kind: ipc.QueueRequests}},
		"response queue":    {{Handle: 1, Kind: ipc.QueueResponses}},
		"no kind":           {{Handle: 1}},
		"wrong slot":        {{Handle: 1, Kind: ipc.QueueTraffic, Slot: 1}},
		"one slot twice":    {{Handle: 1, Kind: ipc.QueueTraffic}, {Handle: 2, Kind: ipc.QueueTraffic}},
		"unknown filter":    {{Handle: 1, Kind: ipc.QueueTraffic, Filter: 2}},
		"unfiltered filter": {{Handle: 1, Kind: ipc.QueueTraffic, Filter: 1}},
	} {
		if _, err := newWorker(&ipc.Policy{Filters: filters, Queues: queues}); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

// drainer is a worker with one filter, which grants for a minute.
func drainer(t *testing.T) *lab {
	t.Helper()
	return newLab(t, ipc.Filter{Name: "web", AllowAnswersFor: time.Minute})
}

// TestDrain: one drain takes everything that the socket can hold, and then
// the end of the holder, for good.
func TestDrain(t *testing.T) {
	l := drainer(t)
	w, s := l.w, l.holder
	sent := 0
	for ; ; sent++ {
		g := ipc.Grants{Kind: ipc.GrantsOpen, Until: ipc.Now().Add(time.Second * 30), V4: string([]byte{10, 0, byte(sent >> 8), byte(sent)})}
		if err := s.Send(&g); errors.Is(err, ipc.ErrWouldBlock) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.drain(); err != nil {
		t.Fatal(err)
	}
	if n := w.table.grants.Len(); n != sent || sent == 0 {
		t.Errorf("%d grants of %d were taken", n, sent)
	}
	l.hangUp(ipc.FDGrants)
	for range 2 {
		if err := w.drain(); err != io.EOF {
			t.Errorf("after the holder's end: %v", err)
		}
	}
}

// TestDrainEnds: of the longest messages no more is taken at once than the
// edge holds, however much there is. Otherwise a holder that writes as fast as
// it is read, which this larger buffer stands for, would keep packets waiting.
func TestDrainEnds(t *testing.T) {
	l := drainer(t)
	w, s := l.w, l.holder
	if err := unix.SetsockoptInt(l.ends[ipc.FDGrants], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8*ipc.GrantBuffer); err != nil {
		t.Fatal(err)
	}
	g := ipc.Grants{Kind: ipc.GrantsOpen, Until: ipc.Now().Add(time.Second * 30), V4: strings.Repeat("\x0a\x00\x00\x01", ipc.MaxAddresses)}
	sent := 0
	for ; s.Send(&g) == nil; sent++ {
	}
	if err := w.drain(); err != nil {
		t.Fatal(err)
	}
	left := 0
	for ; ; left++ {
		if _, err := w.grants.Recv(); errors.Is(err, ipc.ErrWouldBlock) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if taken, want := sent-left, 2*ipc.GrantBuffer/len(g.V4); taken != want || left == 0 {
		t.Errorf("%d messages of %d were taken, not %d", taken, sent, want)
	}
}

// TestHostileHolder: what the holder's edge may not carry ends the process.
func TestHostileHolder(t *testing.T) {
	for what, send := range map[string]func(fd int) error{
		"garbage": func(fd int) error { return ipc.SendPacket(fd, []byte("garbage")) },
		"another edge's type": func(fd int) error {
			return ipc.NewPolicySender(fd).Send(&ipc.PolicyItem{Kind: ipc.PolicyDone})
		},
		"no address": func(fd int) error { return ipc.NewGrantSender(fd).Send(&ipc.Grants{Kind: ipc.GrantsOpen, Until: 1}) },
		"special address": func(fd int) error {
			return ipc.NewGrantSender(fd).Send(&ipc.Grants{Kind: ipc.GrantsOpen, Until: ipc.Now() + 1e9, V4: octets("127.0.0.1")})
		},
	} {
		l := drainer(t)
		w := l.w
		if err := send(l.ends[ipc.FDGrants]); err != nil {
			t.Fatal(err)
		}
		if err := w.drain(); err == nil || !strings.Contains(err.Error(), "the allowlist broke the protocol") {
			t.Errorf("%s: %v", what, err)
		}
		if n := w.table.grants.Len(); n != 0 {
			t.Errorf("%s: %d grants", what, n)
		}
	}
}
