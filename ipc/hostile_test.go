package ipc

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// frame is one honest frame of an edge.
func frame[T any](t testing.TB, s *Sender[T], m T) []byte {
	t.Helper()
	packet, err := s.encode(&m)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(packet)
}

// hostileFrames are what a corrupted peer of the response edge may send, and
// what of the error names the offence.
func hostileFrames(t testing.TB) map[string]struct {
	frame []byte
	want  string
} {
	honest := frame(t, NewResponseSender(-1), sampleResponse())
	type f = struct {
		frame []byte
		want  string
	}
	frames := map[string]f{
		"another edge's request":   {frame(t, NewRequestSender(-1), sampleRequest()), "gob type"},
		"another edge's grants":    {frame(t, NewGrantSender(-1), sampleGrants()), "gob type"},
		"a policy":                 {frame(t, NewPolicySender(-1), samplePolicyItem()), "gob type"},
		"the type's definition":    {responseFactType.definition, "exactly one"},
		"an octet after":           {append(bytes.Clone(honest), 0), "exactly one"},
		"two messages":             {append(bytes.Clone(honest), honest...), "exactly one"},
		"half a message":           {honest[:len(honest)/2], "exactly one"},
		"all but one octet":        {honest[:len(honest)-1], "exactly one"},
		"one octet":                {[]byte{0}, "exactly one"},
		"a length and nothing":     {[]byte{5}, "exactly one"},
		"gigabytes to come":        {append([]byte{0xfc, 0x40, 0, 0, 0}, honest[2:]...), "exactly one"},
		"eight octets of length":   {append([]byte{0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, honest[2:]...), "exactly one"},
		"nine octets of length":    {append([]byte{0xf7}, bytes.Repeat([]byte{1}, 100)...), "exactly one"},
		"128 octets of length":     {append([]byte{0x80}, bytes.Repeat([]byte{1}, 200)...), "exactly one"},
		"zeros":                    {make([]byte, 1000), "exactly one"},
		"largest frame of zeros":   {make([]byte, MaxFrame), "exactly one"},
		"largest frame, fitting":   {fitting(responseFactType.id, make([]byte, MaxFrame-8)), ""},
		"a value that fails":       {frame(t, NewResponseSender(-1), ResponseFact{}), "handle 0"},
		"a value with a far index": {frame(t, NewResponseSender(-1), farIndex()), "outside the name table"},
	}
	for _, d := range definitions(t) {
		frames["a definition, "+d.what] = f{d.frame, "gob type"}
	}
	return frames
}

func farIndex() ResponseFact {
	f := sampleResponse()
	f.Links[0].Target = 2
	return f
}

// fitting is a frame whose length octets are right.
func fitting(id int64, rest []byte) []byte {
	var v []byte
	v = appendGobUint(v, uint64(id)<<1)
	v = append(v, rest...)
	return append(appendGobUint(nil, uint64(len(v))), v...)
}

func appendGobUint(b []byte, v uint64) []byte {
	if v < 128 {
		return append(b, byte(v))
	}
	octets := binary.BigEndian.AppendUint64(nil, v)
	octets = bytes.TrimLeft(octets, "\x00")
	return append(append(b, byte(-len(octets))), octets...)
}

type definition struct {
	what  string
	frame []byte
}

// definitions are frames that define types, as gob writes them: one known,
// one new.
func definitions(t testing.TB) []definition {
	t.Helper()
	var out []definition
	type Stranger struct{ A, B map[string][]int }
	for what, value := range map[string]any{"known": ResponseFact{}, "new": Stranger{}} {
		var buf bytes.Buffer
		if err := gob.NewEncoder(&buf).Encode(value); err != nil {
			t.Fatal(err)
		}
		length, rest, _ := gobUint(buf.Bytes())
		end := buf.Len() - len(rest) + int(length)
		out = append(out, definition{what, buf.Bytes()[:end]})
	}
	return out
}

func TestHostileFrames(t *testing.T) {
	for what, h := range hostileFrames(t) {
		t.Run(what, func(t *testing.T) {
			a, b := pair(t, false, false)
			r := NewResponseReceiver(b)
			if err := SendPacket(a, h.frame); err != nil {
				t.Fatal(err)
			}
			m, err := r.Recv()
			if err == nil || m != nil || errors.Is(err, io.EOF) || errors.Is(err, ErrWouldBlock) {
				t.Fatalf("%+v, %v", m, err)
			}
			if !strings.Contains(err.Error(), h.want) {
				t.Errorf("%v does not say %q", err, h.want)
			}
		})
	}
}

// TestFrameBounds: a frame of MaxFrame octets is read whole, one octet more is
// refused however the rest looks, and an empty packet is the peer's end.
func TestFrameBounds(t *testing.T) {
	a, b := pair(t, false, false)
	r := NewResponseReceiver(b)
	for _, size := range []int{MaxFrame + 1, MaxFrame + 2, 200_000} {
		if err := SendPacket(a, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Recv(); err == nil || !strings.Contains(err.Error(), "longer than 65536") {
			t.Errorf("%d octets: %v", size, err)
		}
	}
	if err := SendPacket(a, make([]byte, MaxFrame)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Recv(); err == nil || strings.Contains(err.Error(), "longer") {
		t.Errorf("%d octets: %v", MaxFrame, err)
	}
	if _, err := unix.SendmsgN(a, []byte{}, nil, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Recv(); err != io.EOF {
		t.Errorf("an empty packet: %v", err)
	}
}

// TestMemoryIsBounded: whatever counts a frame claims, decoding it takes a
// bounded amount of memory, also when it is repeated.
func TestMemoryIsBounded(t *testing.T) {
	const bound = 96 << 20
	claims := map[string][]byte{
		"questions": {1, 0xfc, 0x3f, 0xff, 0xff, 0xff}, // a delta to some slice field, and a count
	}
	for field := byte(1); field < 16; field++ {
		claims["field "+string('a'+field)] = append([]byte{field, 0xfc, 0x00, 0xff, 0xff, 0xff}, make([]byte, 1000)...)
		claims["field short "+string('a'+field)] = append([]byte{field, 0xfe, 0xff, 0xff}, make([]byte, 60000)...)
	}
	r := NewResponseReceiver(-1)
	for what, claim := range claims {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if m, err := r.decode(fitting(responseFactType.id, claim)); err == nil {
			t.Errorf("%s: %+v", what, m)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > bound {
			t.Errorf("%s: took %d octets", what, took)
		}
	}
	// A long-lived receiver does not grow with refused frames.
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 300 {
		for _, d := range definitions(t) {
			if _, err := r.decode(d.frame); err == nil {
				t.Fatal("a definition was taken")
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if after.HeapAlloc > before.HeapAlloc+4<<20 {
		t.Errorf("the heap grew from %d to %d", before.HeapAlloc, after.HeapAlloc)
	}
	runtime.KeepAlive(r)
}

// fuzzDecode feeds frames to one receiver, which lives through all of them,
// and requires that an honest message is still read afterwards.
func fuzzDecode[T any, M message[T]](f *testing.F, r *Receiver[T, M], s *Sender[T], honest T) {
	good := frame(f, s, honest)
	f.Add(good)
	for _, h := range hostileFrames(f) {
		f.Add(h.frame)
		if length, rest, ok := gobUint(h.frame); ok && length == uint64(len(rest)) {
			if _, body, ok := gobUint(rest); ok {
				f.Add(fitting(r.id, body))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, packet := range [][]byte{data, fitting(r.id, data)} {
			if len(packet) > MaxFrame {
				continue
			}
			m, err := r.decode(packet)
			if (m == nil) == (err == nil) {
				t.Fatalf("%v beside %v", m, err)
			}
			if err == nil {
				if err := m.Validate(); err != nil {
					t.Fatalf("taken, and not valid: %v", err)
				}
			}
		}
		if _, err := r.decode(good); err != nil {
			t.Fatalf("an honest message after it: %v", err)
		}
	})
}

func FuzzDecodeResponse(f *testing.F) {
	fuzzDecode(f, NewResponseReceiver(-1), NewResponseSender(-1), sampleResponse())
}

func FuzzDecodeRequest(f *testing.F) {
	fuzzDecode(f, NewRequestReceiver(-1), NewRequestSender(-1), sampleRequest())
}

func FuzzDecodeGrants(f *testing.F) {
	fuzzDecode(f, NewGrantReceiver(-1), NewGrantSender(-1), sampleGrants())
}
