package dnsworker

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// reverse is the name of 192.0.2.7 in the tree of addresses; thePTR asks for it,
// and it is at offset 12.
var (
	reverse = labels("7", "2", "0", "192", "in-addr", "arpa")
	thePTR  = question(reverse, typePTR, classIN)
)

// ptr is a PTR record of the name asked for.
func ptr(to []byte) []byte { return rr(pointer(12), typePTR, classIN, 60, to...) }

// pointed is a response to thePTR.
func pointed(records ...[]byte) []byte {
	return raw(flagQR, 1, len(records), 0, 0, append([][]byte{thePTR}, records...)...)
}

func repeated(n int, record func(i int) []byte) (out [][]byte) {
	for i := range n {
		out = append(out, record(i))
	}
	return out
}

func host(i int) []byte { return ptr(labels(fmt.Sprintf("h%02d", i), "test")) }

var pointerTests = func() []struct {
	what   string
	msg    []byte
	owners []string // of PTR records in the answers
	want   []string
} {
	const asked, h = "7.2.0.192.in-addr.arpa", "7.2.0.192.in-addr.arpa host.test"
	at := pointer(12)
	good := ptr(labels("host", "test"))
	dot, nul := ptr(labels("a.b", "_ipp", "test")), ptr(labels("a\x00", "test"))
	sixteen := func(first int) (out []string) {
		for i := range ipc.MaxPointers {
			out = append(out, fmt.Sprintf("%s h%02d.test", asked, first+i))
		}
		return out
	}
	six := labels("1", "0", "ip6", "arpa")
	return []struct {
		what   string
		msg    []byte
		owners []string
		want   []string
	}{
		{"one", pointed(good), []string{asked}, []string{h}},
		{"upper case", pointed(ptr(labels("HOST", "Test"))), []string{asked}, []string{h}},
		{"compressed", pointed(ptr(append([]byte{1, 'a'}, pointer(12+10)...))), []string{asked}, []string{asked + " a.in-addr.arpa"}},
		{"two", pointed(host(2), host(1)), []string{asked}, []string{asked + " h02.test", asked + " h01.test"}},
		{"twice the same", pointed(good, good), []string{asked}, []string{h, h}},
		{"itself", pointed(ptr(at)), []string{asked}, []string{asked + " " + asked}},
		{"the root", pointed(ptr([]byte{0})), []string{asked}, []string{asked + " ."}},
		{"IPv6", raw(flagQR, 1, 1, 0, 0, question(six, typePTR, classIN), good), []string{"1.0.ip6.arpa"}, []string{"1.0.ip6.arpa host.test"}},
		{"asked for something else", raw(flagQR, 1, 1, 0, 0, theQuestion, good), []string{"www.example.com"}, []string{"www.example.com host.test"}},
		// RFC 2317: who has less than a zone of addresses.
		{"by a CNAME", pointed(rr(at, typeCNAME, 1, 60, labels("7", "part", "test")...), rr(labels("7", "part", "test"), typePTR, 1, 60, labels("host", "test")...)),
			[]string{"7.part.test"}, []string{"7.part.test host.test"}},
		{"another owner", pointed(good, rr(labels("other", "test"), typePTR, 1, 60, labels("host", "test")...)),
			[]string{asked, "other.test"}, []string{h, "other.test host.test"}},
		{"among others", pointed(rr(at, 16, 1, 60, 1, 'x'), good, rr(at, typeNS, 1, 60, labels("ns", "test")...)), []string{asked}, []string{h}},
		{"a dot", pointed(dot), []string{asked}, nil},
		{"a NUL", pointed(nul), []string{asked}, nil},
		{"a dot first", pointed(dot, good), []string{asked}, []string{h}},
		{"a dot last", pointed(good, dot), []string{asked}, []string{h}},
		{"16", pointed(repeated(16, host)...), []string{asked}, sixteen(0)},
		{"17", pointed(repeated(17, host)...), []string{asked}, sixteen(0)},
		{"16 behind a dot", pointed(append([][]byte{dot}, repeated(16, host)...)...), []string{asked}, sixteen(0)},
		{"100", pointed(repeated(100, host)...), []string{asked}, sixteen(0)},
		{"in the authority", raw(flagQR, 1, 0, 1, 0, thePTR, good), nil, nil},
		{"in the additional", raw(flagQR, 1, 0, 0, 1, thePTR, good), nil, nil},
		{"in all", raw(flagQR, 1, 1, 1, 1, thePTR, good, host(1), host(2)), []string{asked}, []string{h}},
		{"truncated", raw(flagQR|flagTC, 1, 1, 0, 0, thePTR, good), nil, nil},
	}
}()

func TestPointers(t *testing.T) {
	p := NewParser(false)
	for _, test := range pointerTests {
		t.Run(test.what, func(t *testing.T) {
			for _, packet := range [][]byte{packet4(t, test.msg), packet6(t, test.msg)} {
				f := p.Response(testMeta, packet)
				valid(t, &f)
				if f.Drop != ipc.ReasonNone || f.AnswerDrop != ipc.ReasonNone || f.LeftOut != 0 {
					t.Errorf("%v, %v, %d left out", f.Drop, f.AnswerDrop, f.LeftOut)
				}
				if got := canon(&f).Pointers; !slices.Equal(got, test.want) {
					t.Errorf("pointers %q, want %q", got, test.want)
				}
				var others []string
				for _, o := range f.Others {
					others = append(others, f.Names[o].String())
				}
				if !slices.Equal(others, test.owners) {
					t.Errorf("other owners %q, want %q", others, test.owners)
				}
				agreeResponse(t, packet, &f)
			}
		})
	}
}

// An answer in a stream tells the same.
func TestPointersOfAStream(t *testing.T) {
	msg := pointed(host(1), host(2))
	var got *ipc.ResponseFact
	r := newResponseStreams(NewParser(false), func(f *ipc.ResponseFact) error { valid(t, f); got = f; return nil })
	for _, packet := range [][]byte{tcpPacket(4000, true, 0, 1, tcpSYN|tcpACK, nil), tcpPacket(4000, true, 1, 1, tcpACK, inStream(msg))} {
		if err := r.packet(testStart, Meta{Handle: 9}, packet); err != nil {
			t.Fatal(err)
		}
	}
	want := NewParser(false).Response(testMeta, packet4(t, msg))
	if !canon(got).equal(canon(&want)) || len(got.Pointers) != 2 {
		t.Errorf("got\n%+v, as a datagram\n%+v", got, want)
	}
}

// Pointers take what room all else leaves, wherever they stand, and all else is
// told as if they were records that lead nowhere.
func TestPointersComeLast(t *testing.T) {
	ns := func(size int) func(int) []byte {
		return func(i int) []byte { return rr(pointer(12), typeNS, 1, 0, wide(i, size)...) }
	}
	// The octets of the question, 24, of 10 names of 235 octets, 41 of 236 and one of
	// 138: 100 are left.
	full := append(repeated(51, ns(230)), ns(132)(51))
	for _, test := range []struct {
		what  string
		rest  [][]byte
		names []int // sizes of the names that PTR records lead to
		want  []int // the places of those told
	}{
		{"room for all", repeated(110, ns(3)), []int{200, 200, 200}, []int{0, 1, 2}},
		{"room for two names", repeated(125, ns(3)), []int{3, 3, 3}, []int{0, 1}},
		{"no room", repeated(127, ns(3)), []int{3, 3, 3}, nil},
		{"targets left out", repeated(140, ns(3)), []int{3, 3, 3}, nil},
		{"room for short ones", full, []int{230, 60, 70, 3}, []int{1, 3}},
	} {
		t.Run(test.what, func(t *testing.T) {
			var pointers, opaque [][]byte
			for i, size := range test.names {
				pointers = append(pointers, ptr(wide(1000+i, size)))
				opaque = append(opaque, rr(pointer(12), 16, classIN, 60, 1, 'x'))
			}
			plain := NewParser(false).Response(testMeta, packet4(t, pointed(append(opaque, test.rest...)...)))
			for _, msg := range [][]byte{pointed(append(pointers, test.rest...)...), pointed(slices.Concat(test.rest, pointers)...)} {
				packet := packet4(t, msg)
				f := NewParser(false).Response(testMeta, packet)
				valid(t, &f)
				agreeResponse(t, packet, &f)
				var want []ipc.Target
				names := slices.Clone(plain.Names)
				for i, place := range test.want {
					want = append(want, ipc.Target{Owner: 0, Target: uint8(len(plain.Names) + i)})
					names = append(names, name.Name(wide(1000+place, test.names[place])))
				}
				if !slices.Equal(f.Pointers, want) || !slices.Equal(f.Names, names) {
					t.Errorf("pointers %v, want %v; %d names, %d without PTR records", f.Pointers, want, len(f.Names), len(plain.Names))
				}
				f.Pointers, f.Names = nil, plain.Names
				if !reflect.DeepEqual(f, plain) {
					t.Errorf("got\n%+v, without PTR records\n%+v", f, plain)
				}
			}
		})
	}
}

// fullTable is a response of which the targets fill the name table. Its PTR records
// lead to one of them, to a name of its own and to the name asked for.
func fullTable() []byte {
	return pointed(append([][]byte{ptr(wide(5, 3)), host(1), ptr(pointer(12))}, repeated(200, func(i int) []byte {
		return rr(pointer(12), typeNS, 1, 0, wide(i, 3)...)
	})...)...)
}

// A name that is in a full table anyway takes no room.
func TestPointerToAKnownName(t *testing.T) {
	packet := packet4(t, fullTable())
	f := NewParser(false).Response(testMeta, packet)
	valid(t, &f)
	agreeResponse(t, packet, &f)
	if len(f.Names) != ipc.MaxNames || !slices.Equal(f.Pointers, []ipc.Target{{Owner: 0, Target: 6}, {Owner: 0, Target: 0}}) {
		t.Errorf("%d names, pointers %v", len(f.Names), f.Pointers)
	}
}
