package dnsworker

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

func tsigRecord(owner []byte, class uint16, ttl uint32, macSize byte) []byte {
	data := labels("hmac-sha256")
	data = append(data, 0, 0, 1, 2, 3, 4, 1, 44)        // time, fudge
	data = append(data, 0, macSize, 'm', 'a', 'c', '!') // MAC of 4 octets
	data = append(data, 0x12, 0x34, 0, 0, 0, 0)         // id, error, no other data
	return rr(owner, typeTSIG, class, ttl, data...)
}

// ednsOptions are NSID (RFC 5001), a client subnet (RFC 7871), a cookie (RFC
// 7873), padding (RFC 7830) and one that nobody knows.
var ednsOptions = []byte{
	0, 3, 0, 0,
	0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2,
	0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
	0, 12, 0, 3, 0, 0, 0,
	0xfd, 0xe8, 0, 1, 9,
}

var requestTests = func() []struct {
	what string
	msg  []byte
	want ipc.Reason
	asks int
} {
	const rd = flagRD
	q := theQuestion
	root := []byte{0}
	opt := rr(root, typeOPT, 1232, 0)
	tsig := tsigRecord(labels("key"), classANY, 0, 4)
	long := []string{strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63)}
	return []struct {
		what string
		msg  []byte
		want ipc.Reason
		asks int
	}{
		{"plain", raw(rd, 1, 0, 0, 0, q), ipc.ReasonNone, 1},
		{"RD, AD and CD", raw(rd|flagAD|flagCD, 1, 0, 0, 0, q), ipc.ReasonNone, 1},
		{"no flags", raw(0, 1, 0, 0, 0, q), ipc.ReasonNone, 1},
		{"root", raw(rd, 1, 0, 0, 0, question(root, typeNS, classIN)), ipc.ReasonNone, 1},
		{"OPT", raw(rd, 1, 0, 0, 1, q, opt), ipc.ReasonNone, 1},
		{"OPT with an option", raw(rd, 1, 0, 0, 1, q, rr(root, typeOPT, 1232, 0x8000, 0, 10, 0, 2, 1, 2)), ipc.ReasonNone, 1},
		{"OPT with many options", raw(rd, 1, 0, 0, 1, q, rr(root, typeOPT, 1232, 0x8000, ednsOptions...)), ipc.ReasonNone, 1},
		{"OPT of size 0", raw(rd, 1, 0, 0, 1, q, rr(root, typeOPT, 0, 0)), ipc.ReasonNone, 1},
		{"OPT of size 65535", raw(rd, 1, 0, 0, 1, q, rr(root, typeOPT, 65535, 0)), ipc.ReasonNone, 1},
		{"TSIG", raw(rd, 1, 0, 0, 1, q, tsig), ipc.ReasonNone, 1},
		{"OPT and TSIG", raw(rd, 1, 0, 0, 2, q, opt, tsig), ipc.ReasonNone, 1},
		{"four questions", raw(rd, 4, 0, 0, 0, q, q, question(pointer(16), 28, 1), question(pointer(12), 65, 1)), ipc.ReasonNone, 4},
		{"255 octets", raw(rd, 1, 0, 0, 0, question(labels(append(long, strings.Repeat("d", 61))...), 1, 1)), ipc.ReasonNone, 1},

		{"response", raw(flagQR|rd, 1, 0, 0, 0, q), ipc.ReasonNotQuery, 1},
		{"NOTIFY", raw(4<<11, 1, 0, 0, 0, q), ipc.ReasonOpcode, 1},
		{"UPDATE", raw(5<<11, 1, 0, 0, 0, q), ipc.ReasonOpcode, 1},
		{"AA", raw(flagAA, 1, 0, 0, 0, q), ipc.ReasonBadMessage, 1},
		{"TC", raw(flagTC, 1, 0, 0, 0, q), ipc.ReasonBadMessage, 1},
		{"RA", raw(flagRA, 1, 0, 0, 0, q), ipc.ReasonBadMessage, 1},
		{"Z", raw(flagZ, 1, 0, 0, 0, q), ipc.ReasonBadMessage, 1},
		{"RCODE", raw(1, 1, 0, 0, 0, q), ipc.ReasonBadMessage, 1},
		{"no question", raw(rd, 0, 0, 0, 0), ipc.ReasonNoQuestion, 0},
		{"five questions", raw(rd, 5, 0, 0, 0, q, q, q, q, q), ipc.ReasonTooManyQuestions, 0},
		{"65535 questions", raw(rd, 65535, 0, 0, 0, q), ipc.ReasonTooManyQuestions, 0},
		{"answer", raw(rd, 1, 1, 0, 0, q, rr(pointer(12), typeA, 1, 0, 1, 2, 3, 4)), ipc.ReasonSections, 1},
		{"authority", raw(rd, 1, 0, 1, 0, q, rr(pointer(12), typeA, 1, 0, 1, 2, 3, 4)), ipc.ReasonSections, 1},
		{"additional A", raw(rd, 1, 0, 0, 1, q, rr(pointer(12), typeA, 1, 0, 1, 2, 3, 4)), ipc.ReasonSections, 1},
		{"two OPT", raw(rd, 1, 0, 0, 2, q, opt, opt), ipc.ReasonSections, 1},
		{"two TSIG", raw(rd, 1, 0, 0, 2, q, tsig, tsig), ipc.ReasonSections, 1},
		{"TSIG before OPT", raw(rd, 1, 0, 0, 2, q, tsig, opt), ipc.ReasonSections, 1},
		{"three additional", raw(rd, 1, 0, 0, 3, q, opt, opt, tsig), ipc.ReasonSections, 1},

		{"CH", raw(rd, 1, 0, 0, 0, question(labels("version", "bind"), 16, 3)), ipc.ReasonClass, 1},
		{"class ANY", raw(rd, 1, 0, 0, 0, question(labels("a"), 1, 255)), ipc.ReasonClass, 1},
		{"second question CH", raw(rd, 2, 0, 0, 0, q, question(labels("a"), 1, 3)), ipc.ReasonClass, 2},
		{"dot in a label", raw(rd, 1, 0, 0, 0, question(labels("evil.test", "example", "com"), 1, 1)), ipc.ReasonBadLabel, 1},
		{"NUL in a label", raw(rd, 1, 0, 0, 0, question(labels("a\x00b"), 1, 1)), ipc.ReasonBadLabel, 1},
		{"bad label, then CH", raw(rd, 2, 0, 0, 0, question(labels("a.b"), 1, 1), question(labels("a"), 1, 3)), ipc.ReasonBadLabel, 2},
		{"CH, then bad label", raw(rd, 2, 0, 0, 0, question(labels("a"), 1, 3), question(labels("a.b"), 1, 1)), ipc.ReasonBadLabel, 2},
		{"dot in the key's name", raw(rd, 1, 0, 0, 1, q, tsigRecord(labels("k.k"), classANY, 0, 4)), ipc.ReasonBadLabel, 1},
		{"dot in the algorithm", raw(rd, 1, 0, 0, 1, q, bytes.Replace(tsig, []byte("hmac-"), []byte("hmac."), 1)), ipc.ReasonBadLabel, 1},

		{"label of 64", raw(rd, 1, 0, 0, 0, question(labels(strings.Repeat("a", 64)), 1, 1)), ipc.ReasonBadMessage, 0},
		{"label type 0x80", raw(rd, 1, 0, 0, 0, question([]byte{0x80, 0}, 1, 1)), ipc.ReasonBadMessage, 0},
		{"256 octets", raw(rd, 1, 0, 0, 0, question(labels(append(long, strings.Repeat("d", 62))...), 1, 1)), ipc.ReasonBadMessage, 0},
		{"pointer to itself", raw(rd, 1, 0, 0, 0, question(pointer(12), 1, 1)), ipc.ReasonBadMessage, 0},
		{"pointer to its own name", raw(rd, 1, 0, 0, 0, question(append([]byte{1, 'a'}, pointer(12)...), 1, 1)), ipc.ReasonBadMessage, 0},
		{"pointer forwards", raw(rd, 1, 0, 0, 0, question(pointer(20), 1, 1), labels("a")), ipc.ReasonBadMessage, 0},
		{"pointer into the header", raw(rd, 1, 0, 0, 0, question(pointer(6), 1, 1)), ipc.ReasonBadMessage, 0},
		{"half a pointer", raw(rd, 1, 0, 0, 0, []byte{0xc0}), ipc.ReasonBadMessage, 0},
		{"name cut", raw(rd, 1, 0, 0, 0, []byte{3, 'w', 'w', 'w'}), ipc.ReasonBadMessage, 0},
		{"label cut", raw(rd, 1, 0, 0, 0, []byte{3, 'w', 'w'}), ipc.ReasonBadMessage, 0},
		{"question cut", raw(rd, 1, 0, 0, 0, q[:len(q)-1]), ipc.ReasonBadMessage, 0},
		{"second question missing", raw(rd, 2, 0, 0, 0, q), ipc.ReasonBadMessage, 0},
		{"OPT missing", raw(rd, 1, 0, 0, 1, q), ipc.ReasonBadMessage, 1},
		{"OPT cut", raw(rd, 1, 0, 0, 1, q, opt[:len(opt)-1]), ipc.ReasonBadMessage, 1},
		{"OPT data cut", raw(rd, 1, 0, 0, 1, q, edit(opt, len(opt)-1, 1)), ipc.ReasonBadMessage, 1},
		{"trailing octet", raw(rd, 1, 0, 0, 0, q, []byte{0}), ipc.ReasonTrailingBytes, 1},
		{"trailing octet after OPT", raw(rd, 1, 0, 0, 1, q, opt, []byte{0}), ipc.ReasonTrailingBytes, 1},

		{"OPT not of the root", raw(rd, 1, 0, 0, 1, q, rr(pointer(12), typeOPT, 1232, 0)), ipc.ReasonBadRecord, 1},
		{"OPT with extended RCODE", raw(rd, 1, 0, 0, 1, q, rr(root, typeOPT, 1232, 1<<24)), ipc.ReasonBadRecord, 1},
		{"OPT with half an option", raw(rd, 1, 0, 0, 1, q, rr(root, typeOPT, 1232, 0, 0, 10, 0)), ipc.ReasonBadRecord, 1},
		{"OPT with an option too long", raw(rd, 1, 0, 0, 1, q, rr(root, typeOPT, 1232, 0, 0, 10, 0, 1)), ipc.ReasonBadRecord, 1},
		{"TSIG of class IN", raw(rd, 1, 0, 0, 1, q, tsigRecord(labels("key"), classIN, 0, 4)), ipc.ReasonBadRecord, 1},
		{"TSIG with a TTL", raw(rd, 1, 0, 0, 1, q, tsigRecord(labels("key"), classANY, 1, 4)), ipc.ReasonBadRecord, 1},
		{"TSIG MAC too long", raw(rd, 1, 0, 0, 1, q, tsigRecord(labels("key"), classANY, 0, 200)), ipc.ReasonBadRecord, 1},
		{"TSIG MAC too short", raw(rd, 1, 0, 0, 1, q, tsigRecord(labels("key"), classANY, 0, 3)), ipc.ReasonBadRecord, 1},
		{"TSIG without data", raw(rd, 1, 0, 0, 1, q, rr(root, typeTSIG, classANY, 0)), ipc.ReasonBadMessage, 1},
		{"TSIG with a name only", raw(rd, 1, 0, 0, 1, q, rr(root, typeTSIG, classANY, 0, 0)), ipc.ReasonBadRecord, 1},
	}
}()

func TestRequestReasons(t *testing.T) {
	p := NewParser(true)
	for _, test := range requestTests {
		t.Run(test.what, func(t *testing.T) {
			for _, packet := range [][]byte{packet4(t, test.msg), packet6(t, test.msg)} {
				f := p.Request(testMeta, packet)
				valid(t, &f)
				if f.Drop != test.want {
					t.Errorf("%v, want %v", f.Drop, test.want)
				}
				if len(f.Questions) != test.asks {
					t.Errorf("%d questions told, want %d", len(f.Questions), test.asks)
				}
				if f.TxID != 0x1234 || !f.HasFlow() {
					t.Errorf("id %#x, flow %v", f.TxID, f.HasFlow())
				}
				agreeRequest(t, packet, &f)
			}
		})
	}
}

// Whatever stands in the additional section, it is told that something does.
func TestExtras(t *testing.T) {
	q, opt, tsig := theQuestion, rr([]byte{0}, typeOPT, 1232, 0), tsigRecord(labels("key"), classANY, 0, 4)
	for what, c := range map[string]struct {
		msg  []byte
		want bool
	}{
		"none":          {raw(flagRD, 1, 0, 0, 0, q), false},
		"two questions": {raw(flagRD, 2, 0, 0, 0, q, q), false},
		"OPT":           {raw(flagRD, 1, 0, 0, 1, q, opt), true},
		"TSIG":          {raw(flagRD, 1, 0, 0, 1, q, tsig), true},
		"OPT and TSIG":  {raw(flagRD, 1, 0, 0, 2, q, opt, tsig), true},
	} {
		for _, packet := range [][]byte{packet4(t, c.msg), packet6(t, c.msg)} {
			f := NewParser(false).Request(testMeta, packet)
			if f.Drop != ipc.ReasonNone || f.Extras != c.want {
				t.Errorf("%s: %v, additional records %v", what, f.Drop, f.Extras)
			}
		}
	}
}

// What resolvers' clients really send, from the independent library.
func TestGoldenRequest(t *testing.T) {
	m := new(dns.Msg)
	m.SetQuestion("WwW.eXample.COM.", dns.TypeHTTPS)
	m.AuthenticatedData = true
	m.SetEdns0(1232, true)
	m.SetTsig("key.example.", dns.HmacSHA256, 300, 1700000000)
	b, _, err := dns.TsigGenerate(m, "c2VjcmV0", "", false)
	if err != nil {
		t.Fatal(err)
	}
	f := NewParser(false).Request(testMeta, packet6(t, b))
	valid(t, &f)
	want := ipc.Question{Name: wireName(t, "www.example.com."), Type: dns.TypeHTTPS, Class: classIN}
	if f.Drop != ipc.ReasonNone || len(f.Questions) != 1 || f.Questions[0] != want || f.TxID != m.Id || f.Dump != "" || !f.Extras {
		t.Errorf("%+v", f)
	}
}

// Exactly the 26 ASCII letters are folded, whatever octets a label holds.
func TestFold(t *testing.T) {
	p := NewParser(false)
	for c := range 256 {
		qname := labels("x"+string([]byte{byte(c)})+"Y", "Zz")
		want, err := name.FromWire(qname)
		if err != nil {
			t.Fatal(err)
		}
		f := p.Request(testMeta, packet4(t, raw(flagRD, 1, 0, 0, 0, question(qname, 1, 1))))
		bad := c == 0 || c == '.'
		if len(f.Questions) != 1 || f.Questions[0].Name != want || (f.Drop == ipc.ReasonBadLabel) != bad || (f.Drop == ipc.ReasonNone) == bad {
			t.Errorf("octet %#x: %v, %+v", c, f.Drop, f.Questions)
		}
	}
}
