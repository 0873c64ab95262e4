package dnsworker

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/capnspacehook/egress-eddie/ipc"
)

const testStart = ipc.Instant(1_000_000_000_000)

// tcpPacket is an IPv4 packet with a TCP segment, from a client's port to a
// server or, with fromServer, back.
func tcpPacket(port uint16, fromServer bool, seq, ack uint32, flags uint8, data []byte) []byte {
	b := make([]byte, 40, 40+len(data))
	b[0], b[8], b[9] = 0x45, 64, ipc.ProtoTCP
	binary.BigEndian.PutUint16(b[2:], uint16(40+len(data)))
	copy(b[12:], "\x0a\x00\x00\x01\x0a\x00\x00\x35")
	binary.BigEndian.PutUint16(b[20:], port)
	binary.BigEndian.PutUint16(b[22:], 5353)
	if fromServer {
		copy(b[12:], "\x0a\x00\x00\x35\x0a\x00\x00\x01")
		binary.BigEndian.PutUint16(b[20:], 5353)
		binary.BigEndian.PutUint16(b[22:], port)
	}
	binary.BigEndian.PutUint32(b[24:], seq)
	binary.BigEndian.PutUint32(b[28:], ack)
	b[32], b[33] = 5<<4, flags
	return append(b, data...)
}

// inStream is messages as a stream carries them.
func inStream(messages ...[]byte) (b []byte) {
	for _, m := range messages {
		b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
		b = append(b, m...)
	}
	return b
}

// world is a client that sends, the streams under test, a holder that allows
// the names below good.test, and a server that takes what leaves.
type world struct {
	t       *testing.T
	now     ipc.Instant
	streams *requestStreams
	lastID  uint32

	sent    map[ipc.PacketID]sentSegment
	verdict map[ipc.PacketID]ipc.Verdict
	reasons []ipc.Reason
	batch   []*ipc.RequestFact
	known   bool     // the holder knows the connection
	refused bool     // and lets nothing of it pass
	allowed []string // names that left, in order
}

type sentSegment struct {
	at   int
	data []byte
}

const worldISN = 0xffffff00 // the numbers wrap round soon

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: testStart, sent: map[ipc.PacketID]sentSegment{}, verdict: map[ipc.PacketID]ipc.Verdict{}}
	policy := &ipc.Policy{Queues: []ipc.Queue{{Handle: 7, Kind: ipc.QueueRequests, Filter: 3}, {Handle: 8, Kind: ipc.QueueRequests, Filter: 3}}}
	w.streams = newRequestStreams(policy, NewParser(false), w.tell)
	w.raw(0, worldISN, tcpSYN, nil)
	return w
}

// raw sends a segment. Queues take turns, as with --queue-cpu-fanout.
func (w *world) raw(at int, seq uint32, flags uint8, data []byte) ipc.PacketID {
	w.t.Helper()
	w.lastID++
	id := ipc.PacketID{Handle: 7 + w.lastID%2, ID: w.lastID}
	w.sent[id] = sentSegment{at, data}
	if err := w.streams.packet(w.now, Meta{Handle: id.Handle, ID: id.ID}, tcpPacket(4000, false, seq, 1, flags, data)); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// send sends octets that stand at a place of the stream.
func (w *world) send(at int, data []byte) ipc.PacketID {
	w.t.Helper()
	return w.raw(at, worldISN+1+uint32(at), tcpACK, data)
}

func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.now = w.now.Add(d)
	if _, err := w.streams.expire(w.now); err != nil {
		w.t.Fatal(err)
	}
}

// tell is the holder: one verdict for all that a packet's facts decide.
func (w *world) tell(f *ipc.RequestFact) error {
	valid(w.t, f)
	w.batch = append(w.batch, f)
	if f.Segment.More {
		return nil
	}
	verdict, names := ipc.Accept, []string(nil)
	if f.Segment.Kind == ipc.SegmentOpen || f.Segment.Kind == ipc.SegmentAgain && !w.known {
		w.known, w.refused = true, false
	}
	for _, f := range w.batch {
		isData := f.Segment.Kind == ipc.SegmentData || f.Segment.Kind == ipc.SegmentMessage
		if f.Drop != ipc.ReasonNone || isData && (w.refused || !w.known) {
			verdict = ipc.Drop
		}
		for _, q := range f.Questions {
			names = append(names, q.Name.String())
			if !strings.HasSuffix(q.Name.String(), ".good.test") {
				verdict = ipc.Drop
			}
		}
	}
	if f.Segment.Kind == ipc.SegmentMessage || f.Segment.Kind == ipc.SegmentHalt {
		w.refused = w.refused || w.known && verdict == ipc.Drop
	}
	w.batch = nil
	if verdict == ipc.Accept {
		w.allowed = append(w.allowed, names...)
	}
	w.reasons = append(w.reasons, f.Drop)
	for _, id := range append(slices.Clone(f.Segment.Also), ipc.PacketID{Handle: f.Handle, ID: f.ID}) {
		if _, twice := w.verdict[id]; twice {
			w.t.Fatalf("packet %v was decided twice", id)
		}
		w.verdict[id] = verdict
	}
	return nil
}

// left is what the server has of the stream, by place.
func (w *world) left() map[int]byte {
	octets := map[int]byte{}
	for id, verdict := range w.verdict {
		for i, b := range w.sent[id].data {
			if verdict == ipc.Accept {
				octets[w.sent[id].at+i] = b
			}
		}
	}
	return octets
}

// wants requires that exactly the first n octets left.
func (w *world) wants(what string, octets []byte, n int) {
	w.t.Helper()
	left := w.left()
	for i := range octets {
		if b, ok := left[i]; ok != (i < n) || ok && b != octets[i] {
			w.t.Errorf("%s: octet %d of %d left: %v", what, i, len(octets), ok)
			return
		}
	}
}

// all requires that every packet has its verdict.
func (w *world) all() {
	w.t.Helper()
	for id, s := range w.sent {
		if w.verdict[id] == 0 {
			w.t.Fatalf("packet %v with %d octets at %d has no verdict", id, len(s.data), s.at)
		}
	}
}

func (w *world) last() ipc.Reason { return w.reasons[len(w.reasons)-1] }

// twins are two streams that differ in nothing but the names asked for: those
// of the first are allowed, and no mixture of both is.
func twins(t testing.TB, count int) (good, evil []byte, names []string) {
	for i := range count {
		padding := strings.Repeat("p", i*7%40+1)
		g, e := fmt.Sprintf("%s%d.good.test", padding, i), fmt.Sprintf("%s%d.evil.tesx", padding, i)
		names = append(names, g)
		good = append(good, inStream(query(t, dns.Fqdn(g), typeA))...)
		evil = append(evil, inStream(query(t, dns.Fqdn(e), typeA))...)
	}
	return good, evil, names
}

func TestStreamPasses(t *testing.T) {
	good, _, names := twins(t, 3)
	first := int(binary.BigEndian.Uint16(good)) + lengthSize

	w := newWorld(t)
	w.send(0, good[:1])
	w.wants("half a length", good, 1)
	w.send(1, good[1:2])
	w.wants("a length", good, 2)
	w.send(2, good[2:3])
	w.wants("an octet of the message", good, 2)
	w.send(3, good[3:first-1])
	w.wants("all but one", good, 2)
	w.send(first-1, good[first-1:first+2]) // and the length of the next
	w.wants("the rest", good, first+2)
	w.send(first+2, good[first+2:len(good)-1]) // the end of one, the beginning of the next
	w.wants("the end of one and the beginning of the next", good, first+2)
	w.send(len(good)-1, good[len(good)-1:])
	w.wants("everything", good, len(good))
	w.send(5, good[5:20])
	w.send(0, good)
	if w.last() != ipc.ReasonNone || !slices.Equal(w.allowed, names) {
		t.Errorf("after a retransmission %v, %v", w.last(), w.allowed)
	}
	w.all()
}

// TestStreamTellsTheSame: a stream's messages are told as datagrams would be.
func TestStreamTellsTheSame(t *testing.T) {
	var stream []byte
	var want []ipc.RequestFact
	parser := NewParser(true)
	for _, test := range requestTests {
		if test.want == ipc.ReasonNone {
			f := parser.Request(testMeta, packet4(t, test.msg))
			f.Packet = ipc.Packet{}
			stream, want = append(stream, inStream(test.msg)...), append(want, f)
		}
	}
	for _, size := range []int{len(stream), 7} {
		var got []ipc.RequestFact
		r := newRequestStreams(&ipc.Policy{}, NewParser(true), func(f *ipc.RequestFact) error {
			valid(t, f)
			if f.Segment.Kind == ipc.SegmentMessage {
				told := *f
				told.Packet, told.Segment = ipc.Packet{}, ipc.Segment{}
				got = append(got, told)
			}
			return nil
		})
		send := func(seq int, flags uint8, data []byte) {
			if err := r.packet(testStart, Meta{Handle: 7, ID: uint32(seq + 1)}, tcpPacket(4000, false, uint32(seq), 0, flags, data)); err != nil {
				t.Fatal(err)
			}
		}
		send(0, tcpSYN, nil)
		for at := 0; at < len(stream); at += size {
			send(1+at, tcpACK, stream[at:min(at+size, len(stream))])
		}
		if len(want) < 10 || !reflect.DeepEqual(got, want) {
			t.Errorf("in segments of %d octets\n%+v, as datagrams\n%+v", size, got, want)
		}
	}
}

// TestStreamEndInAHeldSegment: the end of an allowed message waits in a
// segment that also begins another, and is dropped with it. Its beginning has
// left; nothing else may come to stand where it was.
func TestStreamEndInAHeldSegment(t *testing.T) {
	good, evil, _ := twins(t, 2)
	first := int(binary.BigEndian.Uint16(good)) + lengthSize
	w := newWorld(t)
	w.send(0, good[:first-8])
	w.send(first-8, good[first-8:first+10])
	w.wants("the beginning", good, first-8)
	w.pass(holdFor)
	w.all()
	if w.last() != ipc.ReasonHeldTooLong {
		t.Errorf("dropped for %v", w.last())
	}
	w.send(first-8, good[first-8:first-2]) // a part of what was told
	w.wants("a part of the end", good, first-2)
	w.send(first-8, good[first-8:])
	w.wants("everything", good, len(good))

	w = newWorld(t)
	w.send(0, good[:14])
	w.send(14, good[14:first+10])
	w.pass(holdFor)
	w.send(14, evil[14:])
	if w.last() != ipc.ReasonOverlap || !w.refused {
		t.Errorf("another end: %v", w.last())
	}
	w.wants("with another end", good, 14)
	w.all()
}

func TestStreamDrops(t *testing.T) {
	good, evil, _ := twins(t, 2)
	far := make([]byte, 2*keepTold)
	for what, c := range map[string]struct {
		do   func(w *world)
		want ipc.Reason
		left int
	}{
		"a gap":                 {func(w *world) { w.send(1, good[1:]) }, ipc.ReasonOutOfOrder, 0},
		"before the beginning":  {func(w *world) { w.send(-1, good) }, ipc.ReasonOutOfOrder, 0},
		"half the circle":       {func(w *world) { w.send(1<<31, good) }, ipc.ReasonOutOfOrder, 0},
		"held, again":           {func(w *world) { w.send(0, good[:20]); w.send(0, good[:20]) }, ipc.ReasonRepeated, 0},
		"held, other octets":    {func(w *world) { w.send(0, good[:30]); w.send(0, evil) }, ipc.ReasonOverlap, 0},
		"decided, other octets": {func(w *world) { w.send(0, good); w.send(0, evil) }, ipc.ReasonOverlap, len(good)},
		"one other octet":       {func(w *world) { w.send(0, good[:2]); w.send(1, []byte{good[1] ^ 1, 0}) }, ipc.ReasonOverlap, 2},
		"no message":            {func(w *world) { w.send(0, []byte{0, 3, 1, 2, 3}) }, ipc.ReasonBadMessage, 0},
		"an empty message":      {func(w *world) { w.send(0, []byte{0, 0}) }, ipc.ReasonBadMessage, 0},
		"octets after it": {func(w *world) { w.send(0, inStream(append(query(t, "a.good.test.", typeA), 0))) },
			ipc.ReasonTrailingBytes, 0},
		"after what was refused": {func(w *world) { w.send(0, []byte{0, 0}); w.send(2, good) }, ipc.ReasonConnRefused, 0},
		"SYN and ACK":            {func(w *world) { w.raw(0, 5, tcpSYN|tcpACK, nil) }, ipc.ReasonBadTCP, 0},
		"SYN with data":          {func(w *world) { w.raw(0, worldISN, tcpSYN, good) }, ipc.ReasonSynData, 0},
		"urgent data":            {func(w *world) { w.raw(0, worldISN+1, tcpURG|tcpACK, good) }, ipc.ReasonBadTCP, 0},
		"urgent without data":    {func(w *world) { w.raw(0, worldISN+1, tcpURG|tcpACK, nil) }, ipc.ReasonBadTCP, 0},
		"RST with data":          {func(w *world) { w.raw(0, worldISN+1, tcpRST, good) }, ipc.ReasonBadTCP, 0},
		"SYN and FIN":            {func(w *world) { w.raw(0, 5, tcpSYN|tcpFIN, nil) }, ipc.ReasonBadTCP, 0},
		"after RST": {func(w *world) { w.raw(0, worldISN+1, tcpRST, nil); w.send(0, good) },
			ipc.ReasonNoConnection, 0},
		"after another SYN": {func(w *world) { w.send(0, good[:20]); w.raw(0, 77, tcpSYN, nil); w.send(0, good) },
			ipc.ReasonOutOfOrder, 0},
		"a RST elsewhere": {func(w *world) {
			w.raw(0, worldISN+2, tcpRST, nil)
			w.send(0, good)
		}, ipc.ReasonNone, len(good)},
		"the SYN again": {func(w *world) {
			w.send(0, good[:20])
			w.raw(0, worldISN, tcpSYN, nil)
			w.send(20, good[20:])
		}, ipc.ReasonNone, len(good)},
		"FIN with data": {func(w *world) { w.raw(0, worldISN+1, tcpACK|tcpFIN, good) }, ipc.ReasonNone, len(good)},
		"the end of no message, held": {func(w *world) {
			bad := inStream(make([]byte, 40))
			w.send(0, bad[:20])
			w.send(20, append(bad[20:], good[:10]...))
		}, ipc.ReasonNoQuestion, 0},
		"after other octets": {func(w *world) { w.send(0, good[:20]); w.send(0, evil[:30]); w.send(0, good) },
			ipc.ReasonConnRefused, 0},
		"257 segments": {func(w *world) {
			w.send(0, []byte{0xff, 0xff})
			for i := range ipc.MaxHeld + 1 {
				w.send(2+i, []byte{9})
			}
		}, ipc.ReasonTooManySegments, 2},
		"1025 messages": {func(w *world) {
			m := inStream(query(w.t, "good.test.", typeA))
			w.send(0, slices.Repeat(m, ipc.MaxPipelined+1))
		}, ipc.ReasonTooManySegments, 0},
		"older than is kept": {func(w *world) {
			m := inStream(query(w.t, "a.good.test.", typeA))
			at := 0
			for ; at < len(far); at += len(m) {
				w.send(at, m)
			}
			w.send(0, m)
		}, ipc.ReasonOutOfOrder, -1},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			c.do(w)
			if w.last() != c.want {
				t.Errorf("the last fact is a drop for %v, want %v", w.last(), c.want)
			}
			if c.left >= 0 && len(w.left()) != c.left {
				t.Errorf("%d octets left, want %d", len(w.left()), c.left)
			}
			w.pass(holdFor)
			w.all()
		})
	}
}

// TestStreamIsLong: numbers go over the top, and never round.
func TestStreamIsLong(t *testing.T) {
	const at = maxStream - 3
	const begin = 3 << 30
	s := &stream{begin: begin, base: at, told: at, whole: at, next: at}
	seq := uint32((begin + at) & 0xffffffff)
	if fresh, reason := s.put(seq, []byte("ab")); fresh != at || reason != ipc.ReasonNone {
		t.Errorf("at its end: %d, %v", fresh, reason)
	}
	if fresh, reason := s.put(seq+1, []byte("bc")); fresh != at+2 || reason != ipc.ReasonNone || s.next != at+3 {
		t.Errorf("over its end: %d, %v", fresh, reason)
	}
	if _, reason := s.put(seq-1, []byte("x")); reason != ipc.ReasonOutOfOrder {
		t.Errorf("before it: %v", reason)
	}
	for _, seq := range []uint32{seq + 3, begin} {
		if _, reason := s.put(seq, []byte("d")); reason != ipc.ReasonOutOfOrder {
			t.Errorf("beyond the longest stream, number %d: %v", seq, reason)
		}
	}
}

// TestStreamsWaitTheirTime: each stream's packets wait for two seconds, whatever the
// others do, and the worker wakes for the next.
func TestStreamsWaitTheirTime(t *testing.T) {
	good, _, _ := twins(t, 1)
	w := newWorld(t)
	first := w.send(0, good[:20])
	w.now = w.now.Add(holdFor / 2)
	packet := Meta{Handle: 7, ID: 1000}
	for _, segment := range [][]byte{tcpPacket(4001, false, 0, 0, tcpSYN, nil), tcpPacket(4001, false, 1, 0, tcpACK, good[:20])} {
		packet.ID++
		if err := w.streams.packet(w.now, packet, segment); err != nil {
			t.Fatal(err)
		}
	}
	second := ipc.PacketID{Handle: 7, ID: packet.ID}
	for i, want := range []struct {
		next          time.Duration
		first, second ipc.Verdict
	}{{holdFor / 2, 0, 0}, {holdFor / 2, ipc.Drop, 0}, {ipc.Forever, ipc.Drop, ipc.Drop}} {
		next, err := w.streams.expire(w.now)
		if err != nil || next != want.next || w.verdict[first] != want.first || w.verdict[second] != want.second {
			t.Errorf("%d: %v until the next, %v, %v", i, next, w.verdict[first], w.verdict[second])
		}
		w.now = w.now.Add(holdFor / 2)
	}
	if next, err := w.streams.tick(); next != ipc.Forever || err != nil {
		t.Errorf("with nothing held: %v, %v", next, err)
	}
}

// play drives a world by octets: any cutting, order, overlap, repetition and
// pause of two streams of which one must not leave, with everything decided in
// the end, and a holder that forgets the connection at any time. It reports whether
// it never did and the evil one was never sent.
func play(w *world, good, evil, script []byte) (pure bool) {
	front := 0
	pure = true
	for i := 0; i+2 < len(script); i += 3 {
		op, where, length := script[i], int(script[i+1]), int(script[i+2])
		at, from := front, good
		switch op % 16 {
		case 0:
			at = where * len(good) / 256
		case 1:
			at = max(0, front-where)
		case 2:
			at = front + where%8
		case 3:
			from = evil
			at = max(0, front-where%64)
		case 4:
			w.pass(time.Duration(where) * holdFor / 128)
		case 5:
			w.raw(0, worldISN, tcpSYN, nil)
		case 6:
			w.raw(0, worldISN+1+uint32(front+1+where), tcpRST, nil)
		case 7:
			length %= 4
		case 9:
			w.known, pure = false, false
		}
		at = min(at, len(good)-1)
		end := min(at+1+length, len(good))
		pure = pure && string(from[at:end]) == string(good[at:end])
		w.send(at, from[at:end])
		if at <= front {
			front = max(front, end)
		}
	}
	return pure
}

func checkPlay(t *testing.T, script []byte) {
	good, evil, names := twins(t, 12)
	w := newWorld(t)
	pure := play(w, good, evil, script)
	w.pass(holdFor)
	w.all()
	for at, b := range w.left() {
		if b != good[at] {
			t.Fatalf("octet %d of what is not allowed left", at)
		}
	}
	if !slices.Equal(w.allowed, names[:len(w.allowed)]) {
		t.Fatalf("the holder allowed %q", w.allowed)
	}
	// No octet but of a length has left before its message was allowed.
	limit := 0
	for range w.allowed {
		limit += lengthSize + int(binary.BigEndian.Uint16(good[limit:]))
	}
	for at := range w.left() {
		if at >= limit+lengthSize {
			t.Fatalf("octet %d left, and the messages up to %d were allowed", at, limit)
		}
	}
	if !pure {
		return
	}
	// An honest client sends until all is there.
	if w.refused {
		t.Fatal("an honest stream was refused")
	}
	for at := 0; at < len(good); at += 100 {
		w.send(at, good[at:min(at+100, len(good))])
	}
	w.wants("an honest stream", good, len(good))
	if !slices.Equal(w.allowed, names) {
		t.Fatalf("the holder was asked for %q", w.allowed)
	}
}

func TestStreamsAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		script := make([]byte, 3*rnd.IntN(60))
		for i := range script {
			script[i] = byte(rnd.Uint32())
			if i%3 == 0 && rnd.IntN(3) > 0 {
				script[i] = 8 // in order
			}
		}
		checkPlay(t, script)
	}
}

func FuzzStreams(f *testing.F) {
	f.Add([]byte("\x08\x00\xff\x08\x00\x10\x01\x20\x50"))
	f.Add([]byte("\x07\x00\x01\x08\x00\x20\x04\xff\x00\x00\x00\xff"))
	f.Add([]byte("\x08\x00\x10\x03\x10\xff\x05\x00\x00\x06\x00\x00\x02\x03\x04"))
	f.Fuzz(func(t *testing.T, script []byte) { checkPlay(t, script[:min(len(script), 600)]) })
}

// TestResponseStreams: the messages told are those of the stream, whatever the
// segments, and every packet is decided once.
func TestResponseStreams(t *testing.T) {
	var whole []byte
	var names []string
	for i := range 20 {
		name := fmt.Sprintf("%s%d.good.test", strings.Repeat("r", i*7%40+1), i)
		names = append(names, name)
		whole = append(whole, inStream(answer(t, dns.Fqdn(name), typeA, dns.Fqdn(name)+" 60 IN A 192.0.2.1"))...)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		var told []string
		decided := map[uint32]int{}
		complete := 0 // octets of told messages
		var drop ipc.Reason
		r := newResponseStreams(NewParser(false), func(f *ipc.ResponseFact) error {
			valid(t, f)
			if !f.Segment.More {
				decided[f.ID]++
			}
			drop = f.Drop
			for _, q := range f.Questions {
				told = append(told, q.Name.String())
				complete += lengthSize + int(binary.BigEndian.Uint16(whole[complete:]))
			}
			return nil
		})
		id := uint32(0)
		send := func(seq uint32, flags uint8, data []byte) {
			id++
			if err := r.packet(testStart, Meta{Handle: 9, ID: id}, tcpPacket(4000, true, seq, 1, flags, data)); err != nil {
				t.Fatal(err)
			}
		}
		send(worldISN, tcpSYN|tcpACK, nil)
		for at := 0; at < len(whole); {
			end := min(at+1+rnd.IntN(300), len(whole))
			switch rnd.IntN(4) {
			case 0:
				send(worldISN+1+uint32(end)+7, tcpACK, []byte("a gap before it"))
				if drop != ipc.ReasonOutOfOrder {
					t.Fatalf("after a gap: %v", drop)
				}
			case 1:
				back := rnd.IntN(at + 1)
				send(worldISN+1+uint32(back), tcpACK, whole[back:at])
			}
			send(worldISN+1+uint32(at), tcpACK, whole[at:end])
			if at = end; drop != ipc.ReasonNone {
				t.Fatalf("in order: %v", drop)
			}
			if complete > at || !slices.Equal(told, names[:len(told)]) {
				t.Fatalf("told %q with %d octets of %d", told, at, complete)
			}
		}
		if !slices.Equal(told, names) {
			t.Fatalf("told %q", told)
		}
		for i := range id {
			if decided[i+1] != 1 {
				t.Fatalf("packet %d was decided %d times", i+1, decided[i+1])
			}
		}
	}
}
