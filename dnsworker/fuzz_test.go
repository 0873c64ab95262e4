package dnsworker

import (
	"reflect"
	"testing"

	"github.com/google/gopacket"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// seeds are whole packets, IPv4 and IPv6, that came to every end there is.
func seeds(f *testing.F) {
	for _, test := range requestTests {
		f.Add(packet4(f, test.msg))
		f.Add(packet6(f, test.msg))
	}
	for _, test := range responseTests {
		if len(test.msg) < 4096 {
			f.Add(packet4(f, test.msg))
			f.Add(packet6(f, test.msg))
		}
	}
	for _, test := range svcbTests {
		f.Add(packet4(f, svcbMessage(typeHTTPS, test.data)))
		f.Add(packet6(f, svcbMessage(typeSVCB, test.data)))
	}
	f.Add(extended6(f, 0, []byte{60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0}, query(f, "a.", typeA)))
	f.Add(answerPacket(f))
	for _, test := range pointerTests {
		f.Add(packet4(f, test.msg))
		f.Add(packet6(f, test.msg))
	}
	f.Add(packet4(f, fullTable()))
	f.Add([]byte{})
}

func answerPacket(t testing.TB) []byte {
	return packet4(t, answer(t, "www.example.com.", typeA,
		"www.example.com. 60 IN CNAME a.example.net.", "a.example.net. 60 IN A 192.0.2.7", "a.example.net. 60 IN AAAA 2001:db8::7",
		"example.net. 60 IN DNAME example.org.", "a.example.net. 60 IN SRV 1 2 3 srv.example.org.",
		"a.example.net. 60 IN MX 1 mx.example.org.", "a.example.net. 60 IN NS ns.example.org.", "a.example.net. 60 IN HTTPS 1 . alpn=h2",
		"a.example.net. 90 IN HTTPS 2 svc.example.net. mandatory=alpn alpn=h3,h2 port=443 ipv4hint=192.0.2.8,192.0.2.9 ipv6hint=2001:db8::8",
		"a.example.net. 90 IN SVCB 0 alias.example.net."))
}

// mended is packet with what follows its first headers in a datagram of the
// right lengths: a mutation that changes the size would never reach the
// message otherwise.
func mended(t testing.TB, packet []byte) []byte {
	const before4, before6 = 28, 48
	if len(packet) < before6 || len(packet) > 60000 {
		return packet4(t, gopacket.Payload(packet[:min(len(packet), 60000)]))
	}
	if packet[0]>>4 == 6 {
		return packet6(t, packet[before6:])
	}
	return packet4(t, packet[before4:])
}

func FuzzRequest(f *testing.F) {
	seeds(f)
	plain, full := NewParser(false), NewParser(true)
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, b := range [][]byte{packet, mended(t, packet)} {
			fact := plain.Request(testMeta, b)
			valid(t, &fact)
			agreeRequest(t, b, &fact)
			shown := full.Request(testMeta, b)
			valid(t, &shown)
			tame(t, shown.Dump)
			if fact.Drop == ipc.ReasonNone && shown.Dump == "" {
				t.Fatal("no dump")
			}
			if shown.Dump = ""; !reflect.DeepEqual(shown, fact) {
				t.Fatalf("%+v with a dump, %+v without", shown, fact)
			}
		}
	})
}

func FuzzResponse(f *testing.F) {
	seeds(f)
	plain, full := NewParser(false), NewParser(true)
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, b := range [][]byte{packet, mended(t, packet)} {
			fact := plain.Response(testMeta, b)
			valid(t, &fact)
			agreeResponse(t, b, &fact)
			shown := full.Response(testMeta, b)
			valid(t, &shown)
			tame(t, shown.Dump)
			if fact.Drop == ipc.ReasonNone && fact.AnswerDrop == ipc.ReasonNone && shown.Dump == "" {
				t.Fatal("no dump")
			}
			if shown.Dump = ""; !reflect.DeepEqual(shown, fact) {
				t.Fatalf("%+v with a dump, %+v without", shown, fact)
			}
		}
	})
}
