package dnsworker

import (
	"encoding/binary"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// svcb is the data of an SVCB or HTTPS record.
func svcb(priority uint16, target []byte, params ...[]byte) []byte {
	b := append(binary.BigEndian.AppendUint16(nil, priority), target...)
	for _, p := range params {
		b = append(b, p...)
	}
	return b
}

func svcParam(key uint16, value ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, key)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// hints is a response with one HTTPS record that hints at n addresses.
func hints(key uint16, size, n int) []byte {
	data := svcb(1, []byte{0}, svcParam(key, make([]byte, size*n)...))
	return raw(flagQR, 1, 1, 0, 0, theQuestion, rr(pointer(12), typeHTTPS, 1, 60, data...))
}

var svcbTests = func() []struct {
	what string
	data []byte
	want ipc.Reason
} {
	const none, bad = ipc.ReasonNone, ipc.ReasonBadRecord
	root, other := []byte{0}, labels("svc", "example", "net")
	// In AliasMode too the form is checked.
	with := func(params ...[]byte) []byte { return svcb(1, root, params...) }
	return []struct {
		what string
		data []byte
		want ipc.Reason
	}{
		{"nothing but a target", with(), none},
		{"another target", svcb(65535, other), none},
		{"alias", svcb(0, other), none},
		{"alias of nothing", svcb(0, root), none},
		{"everything", svcb(1, other, svcParam(keyMandatory, 0, 1, 0, 4), svcParam(keyALPN, 2, 'h', '3', 2, 'h', '2'), svcParam(keyNoDefaultALPN),
			svcParam(keyPort, 1, 187), svcParam(keyIPv4Hint, 192, 0, 2, 1, 192, 0, 2, 2), svcParam(5, 1, 2, 3),
			svcParam(keyIPv6Hint, make([]byte, 32)...), svcParam(7, []byte("/dns-query{?dns}")...), svcParam(keyOHTTP)), none},
		{"keys of our own", with(svcParam(9), svcParam(65280, 1), svcParam(65534)), none},
		{"255-octet ALPN", with(svcParam(keyALPN, append([]byte{255}, make([]byte, 255)...)...)), none},
		{"mandatory key that is not there", with(svcParam(keyMandatory, 0, 3)), none},

		{"no data", nil, bad},
		{"half a priority", []byte{0}, bad},
		{"no target", []byte{0, 1}, bad},
		{"compressed target", svcb(1, pointer(12)), bad},
		{"compressed end of a target", svcb(1, append([]byte{1, 'a'}, pointer(16)...)), bad},
		{"compressed root", svcb(1, pointer(12+len(theQuestion)-5)), bad},
		{"target cut", svcb(1, []byte{3, 'a', 'b'}), ipc.ReasonBadMessage},
		{"pointer to itself", svcb(1, pointer(12+len(theQuestion)+14)), ipc.ReasonBadMessage},
		{"half a key", with([]byte{0}), bad},
		{"half a length", with([]byte{0, 1, 0}), bad},
		{"value cut", with(svcParam(9, 1, 2)[:5]), bad},
		{"an octet after the parameters", with(svcParam(9), root), bad},
		{"key twice", with(svcParam(9), svcParam(9)), bad},
		{"keys descending", with(svcParam(10), svcParam(9)), bad},
		{"mandatory after another", with(svcParam(keyALPN, 1, 'a'), svcParam(keyMandatory, 0, 1)), bad},
		{"invalid key", with(svcParam(keyInvalid)), bad},
		{"empty mandatory", with(svcParam(keyMandatory)), bad},
		{"odd mandatory", with(svcParam(keyMandatory, 0, 1, 0)), bad},
		{"mandatory mandatory", with(svcParam(keyMandatory, 0, 0)), bad},
		{"mandatory twice the same", with(svcParam(keyMandatory, 0, 1, 0, 1)), bad},
		{"mandatory descending", with(svcParam(keyMandatory, 0, 4, 0, 1)), bad},
		{"empty ALPN list", with(svcParam(keyALPN)), bad},
		{"empty ALPN", with(svcParam(keyALPN, 1, 'a', 0)), bad},
		{"ALPN over its end", with(svcParam(keyALPN, 2, 'h')), bad},
		{"no-default-alpn with a value", with(svcParam(keyNoDefaultALPN, 0)), bad},
		{"port of 1", with(svcParam(keyPort, 1)), bad},
		{"port of 3", with(svcParam(keyPort, 1, 2, 3)), bad},
		{"no port", with(svcParam(keyPort)), bad},
		{"no IPv4 hint", with(svcParam(keyIPv4Hint)), bad},
		{"IPv4 hint of 3", with(svcParam(keyIPv4Hint, 1, 2, 3)), bad},
		{"IPv4 hint of 6", with(svcParam(keyIPv4Hint, 1, 2, 3, 4, 5, 6)), bad},
		{"no IPv6 hint", with(svcParam(keyIPv6Hint)), bad},
		{"IPv6 hint of 4", with(svcParam(keyIPv6Hint, 1, 2, 3, 4)), bad},
		{"IPv6 hint of 24", with(svcParam(keyIPv6Hint, make([]byte, 24)...)), bad},
		{"ohttp with a value", with(svcParam(keyOHTTP, 1)), bad},
		{"alias with half a hint", svcb(0, other, svcParam(keyIPv4Hint, 1)), bad},
	}
}()

func svcbMessage(typ uint16, data []byte) []byte {
	return raw(flagQR, 1, 1, 0, 0, theQuestion, rr(pointer(12), typ, 1, 60, data...))
}

func TestSVCBForm(t *testing.T) {
	p := NewParser(true)
	for _, test := range svcbTests {
		t.Run(test.what, func(t *testing.T) {
			for _, typ := range []uint16{typeSVCB, typeHTTPS} {
				packet := packet4(t, svcbMessage(typ, test.data))
				f := p.Response(testMeta, packet)
				valid(t, &f)
				if f.Drop != ipc.ReasonNone || f.AnswerDrop != test.want {
					t.Errorf("type %d: %v, %v; want %v", typ, f.Drop, f.AnswerDrop, test.want)
				}
				agreeResponse(t, packet, &f)
			}
		})
	}
}

// A target that ends behind its record is no target, whatever stands there.
func TestSVCBTargetOverItsEnd(t *testing.T) {
	record := rr(pointer(12), typeHTTPS, 1, 60, svcb(1, []byte{1})...)
	f := NewParser(false).Response(testMeta, packet4(t, raw(flagQR, 1, 1, 0, 0, theQuestion, record, []byte{'a', 0})))
	if f.AnswerDrop != ipc.ReasonBadRecord {
		t.Error(f.AnswerDrop)
	}
}

// What records of the independent library's making give: hints in the order
// of the records, under their owners, and targets but the root.
func TestSVCBGives(t *testing.T) {
	msg := answer(t, "www.example.com.", typeHTTPS,
		"www.example.com. 300 IN HTTPS 1 . alpn=h3,h2 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1",
		"www.example.com. 60 IN HTTPS 2 svc.example.net. port=8443 ipv4hint=192.0.2.3",
		"www.example.com. 60 IN HTTPS 0 alias.example.net.",
		"www.example.com. 60 IN HTTPS 0 .",
		"www.example.com. 30 IN SVCB 1 svcb.example.net. ipv6hint=2001:db8::2",
		"www.example.com. 300 IN A 192.0.2.4",
	)
	packet := packet4(t, msg)
	f := NewParser(false).Response(testMeta, packet)
	valid(t, &f)
	agreeResponse(t, packet, &f)
	const www = "www.example.com"
	want := told{
		Questions: []string{www + " 65 1"},
		A:         []string{www + " 300 192.0.2.1", www + " 300 192.0.2.2", www + " 60 192.0.2.3", www + " 300 192.0.2.4"},
		AAAA:      []string{www + " 300 2001:db8::1", www + " 30 2001:db8::2"},
		Targets:   []string{www + " svc.example.net", www + " alias.example.net", www + " svcb.example.net"},
		Others:    []string{string(wireName(t, www+"."))},
	}
	if got := canon(&f); !got.equal(want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

// What stands in an alias's parameters must be ignored.
func TestAliasHintsNothing(t *testing.T) {
	data := svcb(0, labels("alias", "test"), svcParam(keyIPv4Hint, 192, 0, 2, 1), svcParam(keyIPv6Hint, make([]byte, 16)...))
	packet := packet4(t, svcbMessage(typeHTTPS, data))
	f := NewParser(false).Response(testMeta, packet)
	valid(t, &f)
	agreeResponse(t, packet, &f)
	if f.AnswerDrop != ipc.ReasonNone || len(f.A.Owners)+len(f.AAAA.Owners) != 0 || len(f.Targets) != 1 {
		t.Errorf("%v: %+v", f.AnswerDrop, f)
	}
}

// An IPv4-mapped hint is told like an AAAA record of the same octets.
func TestMappedHint(t *testing.T) {
	const mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01"
	f := NewParser(false).Response(testMeta, packet4(t, svcbMessage(typeHTTPS, svcb(1, []byte{0}, svcParam(keyIPv6Hint, []byte(mapped)...)))))
	valid(t, &f)
	if f.AnswerDrop != ipc.ReasonNone || f.AAAA.Octets != mapped {
		t.Errorf("%v: %+v", f.AnswerDrop, f.AAAA)
	}
}

// An HTTPS record of a foreign name must be told even if it gives nothing: the
// holder drops a response with such a record in it.
func TestSVCBOwnerIsTold(t *testing.T) {
	record := rr(labels("foreign"), typeHTTPS, 1, 60, svcb(1, []byte{0})...)
	f := NewParser(false).Response(testMeta, packet4(t, raw(flagQR, 1, 1, 0, 0, theQuestion, record)))
	if len(f.Others) != 1 || f.Names[f.Others[0]] != name.Name(labels("foreign")) {
		t.Errorf("%v: %+v", f.AnswerDrop, f)
	}
}
