package ipc

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func records(n int) []VerdictRecord {
	var out []VerdictRecord
	for i := range n {
		out = append(out, VerdictRecord{Handle: uint32(i)*0x01010101 + 1, ID: ^uint32(i), Verdict: Verdict(i%2) + Drop})
	}
	return out
}

func packetOf(rs []VerdictRecord) (b []byte) {
	for _, r := range rs {
		b = AppendVerdict(b, r)
	}
	return b
}

func TestVerdicts(t *testing.T) {
	for _, n := range []int{1, 2, 63, MaxVerdicts} {
		want := records(n)
		got, err := ParseVerdicts(packetOf(want), nil)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%d records: %v, %v", n, got, err)
		}
	}
	b := AppendVerdict(nil, VerdictRecord{Handle: 0x04030201, ID: 0x08070605, Verdict: Accept})
	if want := []byte{1, 2, 3, 4, 5, 6, 7, 8, 2, 0, 0, 0}; !bytes.Equal(b, want) || len(b) != VerdictSize {
		t.Errorf("the octets are %v", b)
	}
}

func TestHostileVerdicts(t *testing.T) {
	good := packetOf(records(3))
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	for what, packet := range map[string][]byte{
		"nothing":              {},
		"one octet":            {1},
		"a record cut short":   good[:VerdictSize-1],
		"an octet more":        append(bytes.Clone(good), 0),
		"65 records":           packetOf(records(MaxVerdicts + 1)),
		"verdict 0":            change(8, 0),
		"verdict 3":            change(8, 3),
		"verdict 255":          change(8+2*VerdictSize, 255),
		"NF_QUEUE, NF_REPEAT":  change(8, 4),
		"a mark's first octet": change(9, 1),
		"and second":           change(10, 1),
		"and last":             change(11+2*VerdictSize, 0x80),
	} {
		if got, err := ParseVerdicts(packet, make([]VerdictRecord, 0, MaxVerdicts)); err == nil || got != nil {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	var r VerdictRecord
	if _, err := ParseVerdicts(AppendVerdict(nil, r), nil); err == nil {
		t.Error("the zero value is a verdict")
	}
}

func FuzzVerdicts(f *testing.F) {
	f.Add(packetOf(records(2)))
	f.Add(packetOf(records(65)))
	f.Add(make([]byte, VerdictSize))
	f.Fuzz(func(t *testing.T, packet []byte) {
		got, err := ParseVerdicts(packet, nil)
		if err != nil {
			return
		}
		for _, r := range got {
			if r.Verdict != Drop && r.Verdict != Accept {
				t.Fatalf("%+v", r)
			}
		}
		if !bytes.Equal(packetOf(got), packet) {
			t.Fatalf("%v is taken for %v", packet, got)
		}
	})
}

// TestVerdictSender: a full packet leaves by itself, the rest at Flush, all of
// it once and in order.
func TestVerdictSender(t *testing.T) {
	a, b := pair(t, false, true)
	s := NewVerdictSender(a)
	want := records(MaxVerdicts + 5)
	for _, r := range want[:MaxVerdicts-1] {
		if err := s.Give(r); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, MaxVerdicts*VerdictSize+1)
	if n, err := RecvPacket(b, buf); !errors.Is(err, ErrWouldBlock) {
		t.Fatalf("before the packet was full: %d, %v", n, err)
	}
	for _, r := range want[MaxVerdicts-1:] {
		if err := s.Give(r); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second has nothing to send
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	var got []VerdictRecord
	for _, size := range []int{MaxVerdicts, 5} {
		n, err := RecvPacket(b, buf)
		if err != nil || n != size*VerdictSize {
			t.Fatalf("a packet of %d octets, %v", n, err)
		}
		if got, err = ParseVerdicts(buf[:n], got); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("the records changed on the way")
	}
	if n, err := RecvPacket(b, buf); !errors.Is(err, ErrWouldBlock) {
		t.Errorf("a third packet: %d, %v", n, err)
	}
	unix.Close(b)
	if err := s.Give(want[0]); err != nil {
		t.Error(err)
	}
	if err := s.Flush(); !errors.Is(err, unix.EPIPE) {
		t.Errorf("with the parent gone: %v", err)
	}
}

func TestSignals(t *testing.T) {
	for _, s := range []Signal{SignalReady, SignalLoaded, SignalInForce, SignalAlive, SignalBrokeRequests, SignalBrokeResponses, SignalBrokeTraffic} {
		if got, err := ParseSignal(AppendSignal(nil, s)); err != nil || got != s {
			t.Errorf("%d: %d, %v", s, got, err)
		}
	}
	for _, packet := range [][]byte{nil, {1}, {1, 0, 0}, {1, 0, 0, 0, 0}, {0, 0, 0, 0}, {8, 0, 0, 0}, {1, 0, 0, 1}, {0, 0, 0, 1}, {255, 255, 255, 255}} {
		if s, err := ParseSignal(packet); err == nil || s != 0 {
			t.Errorf("%v: %d, %v", packet, s, err)
		}
	}
}

// TestSockets: a request for a socket is told from a signal, and says no more
// than which server and which of two protocols.
func TestSockets(t *testing.T) {
	for _, s := range []Socket{{0, ProtoUDP}, {1<<32 - 1, ProtoTCP}} {
		packet := AppendSocket(nil, s)
		if got, err := ParseSocket(packet); err != nil || got != s {
			t.Errorf("%+v: %+v, %v", s, got, err)
		}
		if _, err := ParseSignal(packet); err == nil {
			t.Errorf("%+v is a signal too", s)
		}
	}
	for _, packet := range [][]byte{nil, {1, 0, 0, 0}, {0, 0, 0, 0, 17, 0, 0}, {0, 0, 0, 0, 17, 0, 0, 0, 0},
		{0, 0, 0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 1, 0, 0, 0}, {0, 0, 0, 0, 17, 1, 0, 0}, {0, 0, 0, 0, 6, 0, 1, 0}, {0, 0, 0, 0, 6, 0, 0, 1}} {
		if s, err := ParseSocket(packet); err == nil {
			t.Errorf("%v: %+v", packet, s)
		}
	}
}

func TestReasons(t *testing.T) {
	seen := map[string]Reason{}
	for r := range reasonEnd {
		text := r.String()
		if text == "" || text == "invalid reason" {
			t.Errorf("reason %d has no text", r)
		}
		if other, twice := seen[text]; twice {
			t.Errorf("reasons %d and %d are both %q", other, r, text)
		}
		seen[text] = r
	}
	for _, r := range []Reason{reasonEnd, 255} {
		if r.Valid() || r.String() != "invalid reason" {
			t.Errorf("reason %d: valid %t, %q", r, r.Valid(), r)
		}
	}
}

// TestClock: the clock is the kernel's boot time, and rises.
func TestClock(t *testing.T) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	now := Now()
	if d := now.Sub(Instant(ts.Nano())); d < 0 || d > time.Minute {
		t.Errorf("now is %v after CLOCK_BOOTTIME", d)
	}
	if now.Add(time.Second).Sub(now) != time.Second {
		t.Error("Add and Sub disagree")
	}
}

// TestPair: an edge is not inherited, and polled only at the end that asked.
func TestPair(t *testing.T) {
	a, b := pair(t, true, false)
	for fd, nonblock := range map[int]bool{a: true, b: false} {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %#x, %v: the end would be inherited", flags, err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || (flags&unix.O_NONBLOCK != 0) != nonblock {
			t.Errorf("status %#x, %v: non-blocking should be %t", flags, err, nonblock)
		}
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
			t.Errorf("socket type %d, %v", kind, err)
		}
	}
	if _, err := RecvPacket(a, make([]byte, 1)); !errors.Is(err, ErrWouldBlock) {
		t.Error(err)
	}
	if err := unix.Shutdown(b, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if _, err := RecvPacket(a, make([]byte, 1)); err != io.EOF {
		t.Errorf("after shutdown: %v", err)
	}
}
