package resolver

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

func nameOf(t testing.TB, wire []byte) name.Name {
	t.Helper()
	n, err := name.FromWire(wire)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sampleQueries are what is asked, with an id.
func sampleQueries(t testing.TB) (queries [][]byte) {
	for i, wire := range []string{"\x03www\x07example\x03com\x00", "\x017\x012\x010\x03192\x07in-addr\x04arpa\x00", "\x05\x40[.\\z\x00"} {
		q := newQuery(&ipc.Lookup{Name: nameOf(t, []byte(wire)), Type: []uint16{ipc.TypeA, ipc.TypePTR, ipc.TypeAAAA}[i]})
		binary.BigEndian.PutUint16(q, 0x1234)
		queries = append(queries, q)
	}
	return queries
}

func TestJudge(t *testing.T) {
	for _, q := range sampleQueries(t) {
		for what, b := range wrong(t, q) {
			if r := judge(q, b); r != nothing {
				t.Errorf("%s: %d", what, r)
			}
		}
		for code := range 16 {
			want := failed
			if code == dns.RcodeSuccess || code == dns.RcodeNameError {
				want = answered
			}
			if r := judge(q, replyTo(t, q, rcode(code))); r != want {
				t.Errorf("response code %d: %d", code, r)
			}
		}
		for _, b := range [][]byte{
			answerTo(t, q), answerTo(t, q)[:len(q)], append(answerTo(t, q), "rubbish"...),
			replyTo(t, q, func(m *dns.Msg) { m.Question[0].Name = strings.ToUpper(m.Question[0].Name) }),
			replyTo(t, q, func(m *dns.Msg) { m.RecursionDesired, m.AuthenticatedData, m.Zero = false, true, true }),
		} {
			if r := judge(q, b); r != answered {
				t.Errorf("%x: %d", b, r)
			}
		}
		if r := judge(q, replyTo(t, q, tooLong)); r != truncated {
			t.Errorf("truncated: %d", r)
		}
	}
}

// theirs is what the independent library makes of an answer, by the same
// rules.
func theirs(t *testing.T, query, message []byte) result {
	if len(message) < len(query) || binary.BigEndian.Uint16(message[4:]) != 1 {
		return nothing
	}
	cut := slices.Clone(message[:len(query)]) // without the records, which nobody reads
	clear(cut[6:headerSize])
	var asked, m dns.Msg
	if err := asked.Unpack(query); err != nil {
		t.Fatalf("the query: %v", err)
	}
	if m.Unpack(cut) != nil || len(m.Question) != 1 {
		return nothing
	}
	got, want := m.Question[0], asked.Question[0]
	// A question of another form of the same name is not as long.
	if _, end, err := dns.UnpackDomainName(cut, headerSize); err != nil || end+typeAndClass != len(query) {
		return nothing
	}
	switch {
	case m.Id != asked.Id, !m.Response, m.Opcode != dns.OpcodeQuery, got.Qtype != want.Qtype, got.Qclass != want.Qclass,
		!strings.EqualFold(got.Name, want.Name):
		return nothing
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return failed
	case m.Truncated:
		return truncated
	}
	return answered
}

// FuzzAnswer: any octets are judged as the independent library reads them, and
// over TCP, in two parts, the same.
func FuzzAnswer(f *testing.F) {
	queries := sampleQueries(f)
	for i, q := range queries {
		for _, b := range wrong(f, q) {
			f.Add(byte(i), b)
		}
		for code := range 16 {
			f.Add(byte(i), replyTo(f, q, rcode(code)))
		}
		f.Add(byte(i), answerTo(f, q))
		f.Add(byte(i), replyTo(f, q, tooLong))
	}
	f.Fuzz(func(t *testing.T, which byte, message []byte) {
		query := queries[int(which)%len(queries)]
		got := judge(query, message)
		if want := theirs(t, query, message); got != want {
			t.Fatalf("%x: %d, the other library says %d", message, got, want)
		}
		if len(message) > 0xffff {
			return
		}
		var r reply
		whole := framed(message)
		first := r.take(query, whole[:1+int(which)%len(whole[1:])])
		last := r.take(query, whole[1+int(which)%len(whole[1:]):])
		if (last == answered) != (got == answered) || last == nothing || first != nothing {
			t.Fatalf("%x: %d, and over TCP %d and then %d", message, got, first, last)
		}
	})
}
