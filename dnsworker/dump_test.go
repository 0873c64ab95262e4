package dnsworker

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// What is printed, the independent library reads as the same records.
func TestDumpRoundTrip(t *testing.T) {
	records := []string{
		"www.example.com. 60 IN CNAME b.example.net.",
		"b.example.net. 61 IN A 192.0.2.7",
		"b.example.net. 62 IN AAAA 2001:db8::7",
		"b.example.net. 63 IN AAAA ::ffff:192.0.2.1",
		"b.example.net. 64 IN MX 10 mx.example.org.",
		"b.example.net. 65 IN SRV 1 2 443 srv.example.org.",
		"b.example.net. 66 IN NS ns.example.org.",
		"example.net. 67 IN DNAME .",
		"b.example.net. 68 IN TXT \"he\\\"llo\" \"w\\001rld\"",
		"b.example.net. 69 IN PTR we\\.ird\\032\\200.example.",
		"b.example.net. 70 IN SOA ns.example.net. first\\.last.example.net. 1 2 3 4 4294967295",
		"b.example.net. 71 IN HTTPS 1 . alpn=h2",
		"b.example.net. 72 IN TYPE65280 \\# 3 010203",
		"b.example.net. 73 IN TYPE65281 \\# 0",
	}
	m := new(dns.Msg)
	if err := m.Unpack(answer(t, "www.example.com.", typeA, records...)); err != nil {
		t.Fatal(err)
	}
	m.Compress = true
	// Class CH does not pass in an answer; in the authority it does.
	m.Ns = []dns.RR{&dns.RFC3597{Hdr: dns.RR_Header{Name: "b.example.net.", Rrtype: 1, Class: 3, Ttl: 74}, Rdata: "01020304"}}
	m.SetEdns0(1232, true)
	f := NewParser(true).Response(testMeta, packet4(t, pack(t, m)))
	valid(t, &f)
	if f.AnswerDrop != ipc.ReasonNone {
		t.Fatal(f.AnswerDrop)
	}
	want := append(append([]dns.RR{}, m.Answer...), m.Ns...)
	var comments []string
	for line := range strings.Lines(f.Dump) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, ";") {
			comments = append(comments, line)
			continue
		}
		got, err := dns.NewRR(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if len(want) == 0 {
			t.Fatalf("%s: one too many", line)
		}
		if !bytes.Equal(recordWire(t, got), recordWire(t, want[0])) {
			t.Errorf("printed %s\nof      %v", line, want[0])
		}
		want = want[1:]
	}
	if len(want) != 0 {
		t.Errorf("not printed: %v", want)
	}
	wantComments := []string{
		";; response, id 4660, opcode 0, rcode 0, flags rd ra", ";www.example.com. IN A", ";; answer", ";; authority",
		";; additional", `;; EDNS version 0, udp 1232, extended rcode 0, flags 0x8000, options \# 0`,
	}
	if strings.Join(comments, "\n") != strings.Join(wantComments, "\n") {
		t.Errorf("comments\n%s\nwant\n%s", strings.Join(comments, "\n"), strings.Join(wantComments, "\n"))
	}
}

func recordWire(t *testing.T, rr dns.RR) []byte {
	t.Helper()
	buf := make([]byte, 1024)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.ToLower(buf[:n])
}

func TestDumpOfRequest(t *testing.T) {
	p := NewParser(true)
	f := p.Request(testMeta, packet4(t, query(t, "Www.Example.com.", typeAAAA)))
	if want := ";; query, id 4660, opcode 0, rcode 0, flags rd\n;www.example.com. IN AAAA\n"; f.Dump != want {
		t.Errorf("%q, want %q", f.Dump, want)
	}
}

// Only what parses to its end is shown, and nothing of it can reach a
// terminal or end a line.
func TestDumpIsTame(t *testing.T) {
	p := NewParser(true)
	for _, test := range responseTests {
		f := p.Response(testMeta, packet4(t, test.msg))
		tame(t, f.Dump)
		malformed := f.Drop == ipc.ReasonBadMessage || f.Drop == ipc.ReasonTrailingBytes || f.Drop == ipc.ReasonTooManyQuestions ||
			f.AnswerDrop == ipc.ReasonBadMessage || f.AnswerDrop == ipc.ReasonTrailingBytes
		if malformed && f.Dump != "" {
			t.Errorf("%s: shown although malformed:\n%s", test.what, f.Dump)
		}
		if f.Drop == ipc.ReasonNone && f.AnswerDrop == ipc.ReasonNone && len(f.Questions) > 0 && !strings.Contains(f.Dump, "IN") {
			t.Errorf("%s: not shown: %q", test.what, f.Dump)
		}
	}
	evil := labels("\x1b[2J\n;; answer", "\\", "\"'`$(x)", "\xff\x00.")
	f := p.Request(testMeta, packet4(t, raw(0, 1, 0, 0, 0, question(evil, 1, 1))))
	tame(t, f.Dump)
	if f.Drop != ipc.ReasonBadLabel || strings.Count(f.Dump, "\n") != 2 {
		t.Errorf("%v: %q", f.Drop, f.Dump)
	}
}

func TestDumpIsCut(t *testing.T) {
	p := NewParser(true)
	for what, msg := range map[string][]byte{
		"many records": addresses(4096),
		"one record":   raw(flagQR, 1, 1, 0, 0, theQuestion, rr(pointer(12), 16, 1, 0, make([]byte, 60000)...)),
	} {
		f := p.Response(testMeta, packet4(t, msg))
		if len(f.Dump) != ipc.MaxDump || !strings.HasSuffix(f.Dump, dumpCut) {
			t.Errorf("%s: %d octets, ends in %q", what, len(f.Dump), f.Dump[max(0, len(f.Dump)-10):])
		}
		tame(t, f.Dump)
	}
}

func tame(t testing.TB, dump string) {
	t.Helper()
	for _, c := range []byte(dump) {
		if (c < ' ' || c > '~') && c != '\n' {
			t.Fatalf("octet %#x in %q", c, dump)
		}
	}
}
