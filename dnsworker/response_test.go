package dnsworker

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

type responseTest struct {
	what         string
	msg          []byte
	drop, answer ipc.Reason
	asks         int
	noRecords    bool
}

var responseTests = func() []responseTest {
	const none = ipc.ReasonNone
	q, at, root := theQuestion, pointer(12), []byte{0}
	a := rr(at, typeA, 1, 60, 192, 0, 2, 1)
	opt := rr(root, typeOPT, 1232, 0)
	one := func(rr []byte) []byte { return raw(flagQR, 1, 1, 0, 0, q, rr) }
	name16 := labels("mail", "example", "org")
	cname := func(to []byte) []byte { return rr(at, typeCNAME, 1, 60, to...) }
	soa := rr(at, typeSOA, 1, 60, append(append(labels("ns"), labels("first.last", "example")...), make([]byte, 20)...)...)
	return []responseTest{
		{"answer", one(a), none, none, 1, false},
		{"no records", raw(flagQR, 1, 0, 0, 0, q), none, none, 1, true},
		{"only OPT", raw(flagQR|3, 1, 0, 0, 1, q, opt), none, none, 1, true},
		{"two OPT", raw(flagQR, 1, 0, 0, 2, q, opt, opt), none, none, 1, false},
		{"only an authority", raw(flagQR|3, 1, 0, 1, 0, q, soa), none, none, 1, false},
		{"only an additional", raw(flagQR, 1, 0, 0, 1, q, a), none, none, 1, false},
		{"all sections", raw(flagQR, 1, 1, 1, 2, q, a, soa, a, opt), none, none, 1, false},
		{"PTR with a dot", one(rr(at, typePTR, 1, 60, labels("a.b")...)), none, none, 1, false},
		{"PTR with a NUL", one(rr(at, typePTR, 1, 60, labels("\x00", "a")...)), none, none, 1, false},
		{"SOA with a dot", one(soa), none, none, 1, false},
		{"dot in the authority", raw(flagQR, 1, 0, 1, 0, q, rr(labels("a.b"), typeNS, 1, 0, labels("c.d")...)), none, none, 1, false},
		{"dot in the additional", raw(flagQR, 1, 0, 0, 1, q, rr(labels("a.b"), typeA, 1, 0, 1, 2, 3, 4)), none, none, 1, false},
		{"CH in the authority", raw(flagQR, 1, 0, 1, 0, q, rr(at, typeA, 3, 0, 1)), none, none, 1, false},
		{"TSIG", raw(flagQR, 1, 0, 0, 1, q, tsigRecord(root, classANY, 0, 4)), none, none, 1, false},

		// Without a question there is no key, so what is wrong is Drop.
		{"FORMERR", raw(flagQR|1, 0, 0, 0, 0), none, none, 0, true},
		{"FORMERR with OPT", raw(flagQR|1, 0, 0, 0, 1, opt), none, none, 0, true},
		{"FORMERR truncated", raw(flagQR|flagTC|1, 0, 0, 0, 0), none, none, 0, true},
		{"no error, no question", raw(flagQR, 0, 0, 0, 0), ipc.ReasonNoQuestion, none, 0, false},
		{"FORMERR with an answer", raw(flagQR|1, 0, 1, 0, 0, rr(root, typeA, 1, 0, 1, 2, 3, 4)), ipc.ReasonNoQuestion, none, 0, false},
		{"FORMERR with an authority", raw(flagQR|1, 0, 0, 1, 0, rr(root, typeA, 1, 0, 1, 2, 3, 4)), ipc.ReasonNoQuestion, none, 0, false},
		{"FORMERR with another additional", raw(flagQR|1, 0, 0, 0, 1, rr(root, typeA, 1, 0, 1, 2, 3, 4)), ipc.ReasonNoQuestion, none, 0, false},
		{"FORMERR with two OPT", raw(flagQR|1, 0, 0, 0, 2, opt, opt), ipc.ReasonNoQuestion, none, 0, false},
		{"FORMERR with half an OPT", raw(flagQR|1, 0, 0, 0, 1, opt[:5]), ipc.ReasonBadMessage, none, 0, false},
		{"FORMERR with a trailing octet", raw(flagQR|1, 0, 0, 0, 0, root), ipc.ReasonTrailingBytes, none, 0, false},

		// Up to the question section: Drop.
		{"query", raw(0, 1, 0, 0, 0, q), ipc.ReasonNotResponse, none, 1, false},
		{"STATUS", raw(flagQR|2<<11, 1, 0, 0, 0, q), ipc.ReasonOpcode, none, 1, false},
		{"five questions", raw(flagQR, 5, 0, 0, 0, q, q, q, q, q), ipc.ReasonTooManyQuestions, none, 0, false},
		{"question cut", raw(flagQR, 1, 0, 0, 0, q[:5]), ipc.ReasonBadMessage, none, 0, false},
		{"question of class CH", raw(flagQR, 1, 0, 0, 0, question(labels("a"), 16, 3)), ipc.ReasonClass, none, 1, false},
		{"question with a dot", raw(flagQR, 1, 0, 0, 0, question(labels("a.b"), 1, 1)), ipc.ReasonBadLabel, none, 1, false},
		{"truncated question with a dot", raw(flagQR|flagTC, 1, 0, 0, 0, question(labels("a.b"), 1, 1)), ipc.ReasonBadLabel, none, 1, false},

		// After it: AnswerDrop.
		{"truncated", raw(flagQR|flagTC, 1, 1, 0, 0, q, a[:9]), none, none, 1, false},
		{"record missing", raw(flagQR, 1, 2, 0, 0, q, a), none, ipc.ReasonBadMessage, 1, false},
		{"record cut", one(a[:len(a)-1]), none, ipc.ReasonBadMessage, 1, false},
		{"record header cut", one(a[:11]), none, ipc.ReasonBadMessage, 1, false},
		{"authority missing", raw(flagQR, 1, 1, 1, 0, q, a), none, ipc.ReasonBadMessage, 1, false},
		{"additional missing", raw(flagQR, 1, 1, 0, 1, q, a), none, ipc.ReasonBadMessage, 1, false},
		{"owner points forwards", one(rr(pointer(60), typeA, 1, 0, 1, 2, 3, 4)), none, ipc.ReasonBadMessage, 1, false},
		// The pointer leads into the label before it, where "a" and another pointer hide.
		{"owner points into itself", one(rr(append([]byte{4, 1, 'a', 0xc0, 12}, pointer(headerSize+len(q)+1)...), 16, 1, 0, 1, 'x')), none, ipc.ReasonBadMessage, 1, false},
		{"pointer to a pointer forwards", raw(flagQR, 1, 2, 0, 0, q, rr(at, 16, 1, 0, append(pointer(headerSize+len(q)+14), labels("a")...)...),
			rr(pointer(headerSize+len(q)+12), 16, 1, 0, 1, 'x')), none, ipc.ReasonBadMessage, 1, false},
		{"label type 0x80", one(rr([]byte{0x80, 12}, typeA, 1, 0, 1, 2, 3, 4)), none, ipc.ReasonBadMessage, 1, false},
		{"label type 0x40", one(rr([]byte{0x40, 12}, typeA, 1, 0, 1, 2, 3, 4)), none, ipc.ReasonBadMessage, 1, false},
		{"target points to itself", one(cname(pointer(len(q) + 24))), none, ipc.ReasonBadMessage, 1, false},
		{"trailing octet", raw(flagQR, 1, 1, 0, 0, q, a, root), none, ipc.ReasonTrailingBytes, 1, false},
		{"trailing octet, no records", raw(flagQR, 1, 0, 0, 0, q, root), none, ipc.ReasonTrailingBytes, 1, false},
		{"answer of class CH", one(rr(at, typeA, 3, 0, 1, 2, 3, 4)), none, ipc.ReasonClass, 1, false},
		{"TXT of class CH", one(rr(at, 16, 3, 0, 1, 'x')), none, ipc.ReasonClass, 1, false},
		{"owner with a dot", one(rr(labels("a.b"), typeA, 1, 0, 1, 2, 3, 4)), none, ipc.ReasonBadLabel, 1, false},
		{"owner with a NUL", one(rr(labels("a\x00"), 16, 1, 0, 1, 'x')), none, ipc.ReasonBadLabel, 1, false},
		{"CNAME with a dot", one(cname(labels("a.b"))), none, ipc.ReasonBadLabel, 1, false},
		{"DNAME with a dot", one(rr(at, typeDNAME, 1, 0, labels("a.b")...)), none, ipc.ReasonBadLabel, 1, false},
		{"NS with a dot", one(rr(at, typeNS, 1, 0, labels("a.b")...)), none, ipc.ReasonBadLabel, 1, false},
		{"MX with a NUL", one(rr(at, typeMX, 1, 0, append([]byte{0, 1}, labels("\x00")...)...)), none, ipc.ReasonBadLabel, 1, false},
		{"SRV with a dot", one(rr(at, typeSRV, 1, 0, append(make([]byte, 6), labels("a.b")...)...)), none, ipc.ReasonBadLabel, 1, false},
		{"OPT as an answer", one(rr(root, typeOPT, 1, 0)), none, ipc.ReasonBadRecord, 1, false},
		{"TSIG as an answer", one(tsigRecord(root, classIN, 0, 4)), none, ipc.ReasonBadRecord, 1, false},
		{"OPT as an authority", raw(flagQR, 1, 0, 1, 0, q, opt), none, ipc.ReasonBadRecord, 1, false},
		{"OPT not of the root", raw(flagQR, 1, 0, 0, 1, q, rr(at, typeOPT, 1232, 0)), none, ipc.ReasonBadRecord, 1, false},
		{"OPT with half an option", raw(flagQR, 1, 0, 0, 1, q, rr(root, typeOPT, 1232, 0, 0)), none, ipc.ReasonBadRecord, 1, false},
		{"A of 3", one(rr(at, typeA, 1, 0, 1, 2, 3)), none, ipc.ReasonBadRecord, 1, false},
		{"A of 5", one(rr(at, typeA, 1, 0, 1, 2, 3, 4, 5)), none, ipc.ReasonBadRecord, 1, false},
		{"A of 0", one(rr(at, typeA, 1, 0)), none, ipc.ReasonBadRecord, 1, false},
		{"AAAA of 4", one(rr(at, typeAAAA, 1, 0, 1, 2, 3, 4)), none, ipc.ReasonBadRecord, 1, false},
		{"AAAA of 17", one(rr(at, typeAAAA, 1, 0, make([]byte, 17)...)), none, ipc.ReasonBadRecord, 1, false},
		{"CNAME of 0", one(cname(nil)), none, ipc.ReasonBadRecord, 1, false},
		{"CNAME and an octet", one(cname(append(name16, 0))), none, ipc.ReasonBadRecord, 1, false},
		{"CNAME over its end", raw(flagQR, 1, 1, 0, 0, q, cname([]byte{1}), []byte{'a', 0}), none, ipc.ReasonBadRecord, 1, false},
		{"MX without a name", one(rr(at, typeMX, 1, 0, 0, 1)), none, ipc.ReasonBadRecord, 1, false},
		{"MX of one octet", one(rr(at, typeMX, 1, 0, 0)), none, ipc.ReasonBadRecord, 1, false},
		{"SRV of 3", raw(flagQR, 1, 1, 0, 0, q, rr(at, typeSRV, 1, 0, 0, 0, 0), root, root, root, root), none, ipc.ReasonBadRecord, 1, false},
		{"PTR of two names", one(rr(at, typePTR, 1, 0, append(name16, name16...)...)), none, ipc.ReasonBadRecord, 1, false},
		{"PTR of 0", one(rr(at, typePTR, 1, 0)), none, ipc.ReasonBadRecord, 1, false},
		{"PTR and an octet", one(rr(at, typePTR, 1, 0, append(pointer(12), 0)...)), none, ipc.ReasonBadRecord, 1, false},
		{"PTR of no name", one(rr(at, typePTR, 1, 0, 0x40, 0)), none, ipc.ReasonBadMessage, 1, false},
		{"PTR of class CH", one(rr(at, typePTR, 3, 0, name16...)), none, ipc.ReasonClass, 1, false},
		{"bad A in the authority", raw(flagQR, 1, 0, 1, 0, q, rr(at, typeA, 1, 0, 1)), none, ipc.ReasonBadRecord, 1, false},
		{"bad NS in the additional", raw(flagQR, 1, 0, 0, 1, q, rr(at, typeNS, 1, 0)), none, ipc.ReasonBadRecord, 1, false},

		// HTTPS and SVCB: the form of their data is in svcb_test.go.
		{"HTTPS with a dot", one(rr(at, typeHTTPS, 1, 0, svcb(1, labels("a.b"))...)), none, ipc.ReasonBadLabel, 1, false},
		{"HTTPS of class CH", one(rr(at, typeHTTPS, 3, 0, svcb(1, root)...)), none, ipc.ReasonClass, 1, false},
		{"bad HTTPS in the authority", raw(flagQR, 1, 0, 1, 0, q, rr(at, typeHTTPS, 1, 0, 0, 1)), none, ipc.ReasonBadRecord, 1, false},
		{"bad SVCB in the additional", raw(flagQR, 1, 0, 0, 1, q, rr(at, typeSVCB, 1, 0, 0, 1)), none, ipc.ReasonBadRecord, 1, false},
		{"HTTPS of CH in the additional", raw(flagQR, 1, 0, 0, 1, q, rr(at, typeHTTPS, 3, 0, 0, 1)), none, none, 1, false},

		// What EDNS says is between client and server.
		{"OPT with options", raw(flagQR, 1, 1, 0, 1, q, a, rr(root, typeOPT, 1232, 0x8000, ednsOptions...)), none, none, 1, false},
		{"OPT of size 0", raw(flagQR, 1, 1, 0, 1, q, a, rr(root, typeOPT, 0, 0)), none, none, 1, false},
		{"OPT of size 65535", raw(flagQR, 1, 1, 0, 1, q, a, rr(root, typeOPT, 65535, 0)), none, none, 1, false},

		// Bounds.
		{"17 owners", owners(17), none, none, 1, false},
		{"18 owners", owners(18), none, ipc.ReasonTooManyOwners, 1, false},
		{"64 links", links(64, 3), none, none, 1, false},
		{"65 links", links(65, 3), none, ipc.ReasonTooManyRecords, 1, false},
		{"long links", links(60, 200), none, ipc.ReasonTooManyRecords, 1, false},
		{"4096 addresses", addresses(4096), none, none, 1, false},
		{"4097 addresses", addresses(4097), none, ipc.ReasonTooManyRecords, 1, false},
		{"4096 IPv4 hints", hints(keyIPv4Hint, 4, 4096), none, none, 1, false},
		{"4097 IPv4 hints", hints(keyIPv4Hint, 4, 4097), none, ipc.ReasonTooManyRecords, 1, false},
		{"2426 IPv6 hints", hints(keyIPv6Hint, 16, 2426), none, none, 1, false},
		{"2427 IPv6 hints", hints(keyIPv6Hint, 16, 2427), none, ipc.ReasonTooManyRecords, 1, false},
		{"too much work", bomb(), none, ipc.ReasonBadMessage, 1, false},
	}
}()

// owners is a response with records of n different owners.
func owners(n int) []byte {
	parts := [][]byte{theQuestion}
	for i := range n {
		parts = append(parts, rr(labels(fmt.Sprint(i), "test"), typeA, 1, 0, 1, 2, 3, byte(i)))
	}
	return raw(flagQR, 1, n, 0, 0, parts...)
}

// wide is a name of a little more than size octets.
func wide(i, size int) []byte {
	ls := []string{fmt.Sprintf("n%d", i)}
	for ; size > 60; size -= 60 {
		ls = append(ls, strings.Repeat("x", 59))
	}
	return labels(append(ls, strings.Repeat("y", size))...)
}

// links is a response with n CNAME records to different names of size octets.
func links(n, size int) []byte {
	parts := [][]byte{theQuestion}
	for i := range n {
		parts = append(parts, rr(pointer(12), typeCNAME, 1, 0, wide(i, size)...))
	}
	return raw(flagQR, 1, n, 0, 0, parts...)
}

// addresses is a response with n A records of the root, the shortest owner.
func addresses(n int) []byte {
	parts := [][]byte{question([]byte{0}, typeA, classIN)}
	for i := range n {
		parts = append(parts, rr([]byte{0}, typeA, 1, 0, 1, 2, byte(i>>8), byte(i)))
	}
	return raw(flagQR, 1, n, 0, 0, parts...)
}

func TestResponseReasons(t *testing.T) {
	p := NewParser(true)
	for _, test := range responseTests {
		t.Run(test.what, func(t *testing.T) {
			for _, packet := range [][]byte{packet4(t, test.msg), packet6(t, test.msg)} {
				f := p.Response(testMeta, packet)
				valid(t, &f)
				if f.Drop != test.drop || f.AnswerDrop != test.answer {
					t.Errorf("%v, %v; want %v, %v", f.Drop, f.AnswerDrop, test.drop, test.answer)
				}
				if len(f.Questions) != test.asks || f.NoRecords != test.noRecords || f.TxID != 0x1234 || !f.HasFlow() {
					t.Errorf("%d questions, no records %v, id %#x", len(f.Questions), f.NoRecords, f.TxID)
				}
				agreeResponse(t, packet, &f)
			}
		})
	}
}

func TestHeaderBits(t *testing.T) {
	f := NewParser(false).Response(testMeta, packet4(t, raw(flagQR|flagTC|flagAA|flagZ|5, 1, 0, 0, 0, theQuestion)))
	if f.Drop != ipc.ReasonNone || !f.Truncated || f.RCode != 5 || f.NoRecords {
		t.Errorf("%+v", f)
	}
	f = NewParser(false).Response(testMeta, packet4(t, raw(flagQR, 1, 0, 0, 0, theQuestion)))
	if f.Truncated || f.RCode != 0 {
		t.Errorf("%+v", f)
	}
}

// Every kind of record, case and order mixed, from the independent library.
func TestGoldenResponse(t *testing.T) {
	msg := answer(t, "WWW.example.com.", typeA,
		"b.example.net. 60 IN A 192.0.2.7",
		"b.EXAMPLE.net. 61 IN A 192.0.2.8",
		"www.Example.com. 60 IN CNAME b.example.net.",
		"b.example.net. 60 IN AAAA 2001:db8::7",
		"b.example.net. 60 IN MX 10 MX.example.org.",
		"b.example.net. 60 IN SRV 1 2 443 srv.example.org.",
		"b.example.net. 60 IN NS ns.example.org.",
		"example.net. 60 IN DNAME example.org.",
		"b.example.net. 60 IN TXT hello",
		"b.example.net. 60 IN HTTPS 1 . alpn=h2",
	)
	f := NewParser(false).Response(testMeta, packet6(t, msg))
	valid(t, &f)
	var names []string
	for _, n := range f.Names {
		names = append(names, n.String())
	}
	want := []string{"www.example.com", "b.example.net", "example.net", "example.org", "mx.example.org", "srv.example.org", "ns.example.org"}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("names %q, want %q", names, want)
	}
	f.Names = nil
	wantFact := ipc.ResponseFact{
		Packet: f.Packet, TxID: 0x1234,
		Questions: []ipc.Question{{Name: wireName(t, "www.example.com."), Type: typeA, Class: classIN}},
		Links:     []ipc.Link{{Owner: 0, Target: 1}, {Owner: 2, Target: 3, DNAME: true}},
		Targets:   []ipc.Target{{Owner: 1, Target: 4}, {Owner: 1, Target: 5}, {Owner: 1, Target: 6}},
		A:         ipc.Addresses{Octets: "\xc0\x00\x02\x07\xc0\x00\x02\x08", Owners: []byte{1, 1}, TTLs: []uint32{60, 61}, TTL: []byte{0, 1}},
		AAAA: ipc.Addresses{Octets: "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07", Owners: []byte{1},
			TTLs: []uint32{60}, TTL: []byte{0}},
		Others: []byte{1},
	}
	if !reflect.DeepEqual(f, wantFact) {
		t.Errorf("got  %+v\nwant %+v", f, wantFact)
	}
}

// Owners and links come first, targets take what is left and are counted.
func TestLeftOut(t *testing.T) {
	var parts [][]byte
	add := func(n, size int, at []byte) {
		for i := range n {
			parts = append(parts, rr(at, typeNS, 1, 0, wide(i, size)...))
		}
	}
	for _, test := range []struct {
		what           string
		n, size        int
		targets, names int
		leftOut        uint32
	}{
		{"short", 100, 3, 100, 102, 0},
		{"names full", 128, 3, 126, 128, 2},
		{"targets full", 140, 3, 126, 128, 14},
		{"octets full", 100, 230, 52, 54, 48},
	} {
		t.Run(test.what, func(t *testing.T) {
			parts = [][]byte{theQuestion}
			add(test.n, test.size, pointer(12))
			parts = append(parts, rr(labels("late"), typeA, 1, 0, 1, 2, 3, 4)) // an owner after all the targets
			f := NewParser(false).Response(testMeta, packet4(t, raw(flagQR, 1, test.n+1, 0, 0, parts...)))
			valid(t, &f)
			if f.AnswerDrop != ipc.ReasonNone || len(f.Targets) != test.targets || len(f.Names) != test.names || f.LeftOut != test.leftOut {
				t.Errorf("%v: %d targets, %d names, %d left out; want %d, %d, %d", f.AnswerDrop,
					len(f.Targets), len(f.Names), f.LeftOut, test.targets, test.names, test.leftOut)
			}
			if len(f.A.Owners) != 1 || f.Names[f.A.Owners[0]] != name.Name(labels("late")) {
				t.Errorf("the late owner is not told: %+v", f.A)
			}
		})
	}
}

// The question's names count too, each once.
func TestQuestionNames(t *testing.T) {
	var parts [][]byte
	for i := range ipc.MaxQuestions {
		parts = append(parts, question(wide(i%3, 240), typeA, classIN))
	}
	const n = 60
	for i := range n {
		parts = append(parts, rr(pointer(12), typeNS, 1, 0, wide(10+i, 230)...))
	}
	f := NewParser(false).Response(testMeta, packet4(t, raw(flagQR, ipc.MaxQuestions, n, 0, 0, parts...)))
	valid(t, &f)
	if f.AnswerDrop != ipc.ReasonNone || len(f.Names) != 3+len(f.Targets) || len(f.Targets)+int(f.LeftOut) != n || f.LeftOut == 0 {
		t.Errorf("%v: %d names, %d targets, %d left out", f.AnswerDrop, len(f.Names), len(f.Targets), f.LeftOut)
	}
}

// No two parsers may disagree about the longest legal names and chains.
func TestPointerChain(t *testing.T) {
	chain := func(hops int) []byte {
		// A TXT record holds pointers, each to the one before.
		data, at := []byte{}, headerSize+len(theQuestion)+12
		for i := range hops {
			to := at + 2*(i-1)
			if i == 0 {
				to = 12
			}
			data = append(data, pointer(to)...)
		}
		return raw(flagQR, 1, 2, 0, 0, theQuestion, rr(pointer(12), 16, 1, 0, data...),
			rr(pointer(at+2*(hops-1)), typeA, 1, 0, 1, 2, 3, 4))
	}
	// The owner's own pointer is one more.
	for hops, want := range map[int]ipc.Reason{1: ipc.ReasonNone, maxHops - 1: ipc.ReasonNone, maxHops: ipc.ReasonBadMessage} {
		msg := chain(hops)
		f := NewParser(false).Response(testMeta, packet4(t, msg))
		if f.AnswerDrop != want {
			t.Errorf("%d hops: %v, want %v", hops, f.AnswerDrop, want)
		}
		agreeResponse(t, packet4(t, msg), &f)
	}
}
