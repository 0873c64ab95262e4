package dnsworker

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Every way in which the packet around a good message can be wrong.
func TestPacketReasons(t *testing.T) {
	msg := query(t, "www.example.com.", typeA)
	good4, good6 := packet4(t, msg), packet6(t, msg)
	with4 := func(options ...byte) []byte {
		opts := []layers.IPv4Option{}
		for len(options) > 0 {
			n := 1
			if options[0] > 1 {
				n = int(options[1])
			}
			o := layers.IPv4Option{OptionType: options[0], OptionLength: uint8(n)}
			if n > 1 {
				o.OptionData = options[2:n]
			}
			opts, options = append(opts, o), options[n:]
		}
		h := header4(layers.IPProtocolUDP)
		h.Options = opts
		return serialize(t, h, datagram(), gopacket.Payload(msg))
	}
	skipped := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} } // PadN

	mappedSource := edit(good6, 8, make([]byte, 10)...)
	mappedSource = edit(mappedSource, 18, 0xff, 0xff)
	mappedTarget := edit(good6, 24, make([]byte, 10)...)
	mappedTarget = edit(mappedTarget, 34, 0xff, 0xff)

	for _, test := range []struct {
		what   string
		packet []byte
		want   ipc.Reason
		flow   bool
	}{
		{"IPv4", good4, ipc.ReasonNone, true},
		{"IPv6", good6, ipc.ReasonNone, true},
		{"empty", nil, ipc.ReasonNotIP, false},
		{"version 5", edit(good4, 0, 0x55), ipc.ReasonNotIP, false},
		{"IPv4 of one octet", []byte{0x45}, ipc.ReasonCutShort, false},
		{"IPv6 of one octet", []byte{0x60}, ipc.ReasonCutShort, false},
		{"IPv4 of 19 octets", good4[:19], ipc.ReasonCutShort, false},
		{"IPv4 header of 16 octets", edit(good4, 0, 0x44), ipc.ReasonNotIP, false},
		{"IPv4 header over total length", edit(good4, 2, 0, 19), ipc.ReasonNotIP, false},
		{"IPv4 header over the packet", edit(good4[:40], 0, 0x4f, 0, 0, 40), ipc.ReasonNotIP, false},
		{"IPv4 one octet missing", good4[:len(good4)-1], ipc.ReasonCutShort, false},
		{"IPv4 one octet more", append(good4[:len(good4):len(good4)], 0), ipc.ReasonNotIP, false},
		{"IPv4 more fragments", edit(good4, 6, 0x20, 0), ipc.ReasonFragment, false},
		{"IPv4 last fragment", edit(good4, 6, 0, 1), ipc.ReasonFragment, false},
		{"IPv4 don't fragment", edit(good4, 6, 0x40, 0), ipc.ReasonNone, true},
		{"IPv4 router alert", with4(148, 4, 0, 0), ipc.ReasonNone, true},
		{"IPv4 no-operations", with4(1, 1, 1, 1), ipc.ReasonNone, true},
		{"IPv4 loose source route", with4(1, 131, 7, 4, 9, 9, 9, 9), ipc.ReasonSourceRoute, false},
		{"IPv4 strict source route", with4(137, 7, 4, 9, 9, 9, 9, 0), ipc.ReasonSourceRoute, false},
		{"IPv4 option of length 1", edit(with4(148, 4, 0, 0), 21, 1), ipc.ReasonNotIP, false},
		{"IPv4 option over the header", edit(with4(148, 4, 0, 0), 21, 5), ipc.ReasonNotIP, false},
		{"IPv4 option without length", edit(with4(1, 1, 1, 1), 23, 148), ipc.ReasonNotIP, false},
		{"IPv6 of 39 octets", good6[:39], ipc.ReasonCutShort, false},
		{"IPv6 one octet missing", good6[:len(good6)-1], ipc.ReasonCutShort, false},
		{"IPv6 one octet more", append(good6[:len(good6):len(good6)], 0), ipc.ReasonNotIP, false},
		{"IPv6 jumbogram", edit(good6, 4, 0, 0), ipc.ReasonNotIP, false},
		{"IPv6 from a mapped address", mappedSource, ipc.ReasonMappedPacket, false},
		{"IPv6 to a mapped address", mappedTarget, ipc.ReasonMappedPacket, false},
		{"IPv6 hop-by-hop options", extended6(t, 0, skipped(17), msg), ipc.ReasonNone, true},
		{"IPv6 three headers", extended6(t, 0, append(append(skipped(60), skipped(60)...), skipped(17)...), msg), ipc.ReasonNone, true},
		{"IPv6 four headers", extended6(t, 0, append(append(append(skipped(60), skipped(60)...), skipped(60)...), skipped(17)...), msg), ipc.ReasonExtensionHeader, false},
		{"IPv6 late hop-by-hop options", extended6(t, 60, append(skipped(0), skipped(17)...), msg), ipc.ReasonExtensionHeader, false},
		{"IPv6 routing header", extended6(t, 43, []byte{17, 0, 4, 0, 0, 0, 0, 0}, msg), ipc.ReasonExtensionHeader, false},
		{"IPv6 fragment", extended6(t, 44, []byte{17, 0, 0, 1, 0, 0, 0, 1}, msg), ipc.ReasonFragment, false},
		{"IPv6 atomic fragment", extended6(t, 44, []byte{17, 0, 0, 0, 0, 0, 0, 1}, msg), ipc.ReasonFragment, false},
		{"IPv6 fragment behind options", extended6(t, 60, append(skipped(44), 17, 0, 0, 0, 0, 0, 0, 1), msg), ipc.ReasonFragment, false},
		{"IPv6 header over the packet", extended6(t, 60, []byte{17, 255, 1, 4, 0, 0, 0, 0}, msg), ipc.ReasonExtensionHeader, false},
		{"IPv6 header cut", serialize(t, header6(60), gopacket.Payload{17, 0, 1}), ipc.ReasonExtensionHeader, false},
		{"IPv6 header of one octet", serialize(t, header6(60), gopacket.Payload{17}), ipc.ReasonExtensionHeader, false},
		{"IPv6 header missing", serialize(t, header6(0)), ipc.ReasonExtensionHeader, false},
		{"IPv6 no next header", serialize(t, header6(59), gopacket.Payload(msg)), ipc.ReasonNotUDP, false},
		{"IPv6 authentication header", serialize(t, header6(51), gopacket.Payload(msg)), ipc.ReasonNotUDP, false},
		{"ICMP", edit(good4, 9, 1), ipc.ReasonNotUDP, false},
		{"TCP", serialize(t, header4(6), &layers.TCP{SrcPort: 40000, DstPort: 5353, SYN: true}), ipc.ReasonNoConnection, true},
		{"TCP with data", serialize(t, header6(6), &layers.TCP{SrcPort: 40000, DstPort: 5353, ACK: true}, gopacket.Payload(msg)), ipc.ReasonNoConnection, true},
		{"TCP with data that acknowledges nothing", serialize(t, header6(6), &layers.TCP{SrcPort: 40000, DstPort: 5353, PSH: true}, gopacket.Payload(msg)), ipc.ReasonBadTCP, true},
		{"TCP that says nothing", serialize(t, header4(6), &layers.TCP{SrcPort: 40000, DstPort: 5353}), ipc.ReasonBadTCP, true},
		{"TCP header of 16 octets", edit(serialize(t, header4(6), &layers.TCP{SrcPort: 40000, DstPort: 5353}), 32, 4<<4), ipc.ReasonBadTCP, true},
		{"TCP header beyond the packet", edit(serialize(t, header4(6), &layers.TCP{SrcPort: 40000, DstPort: 5353}), 32, 6<<4), ipc.ReasonBadTCP, true},
		{"TCP cut", serialize(t, header4(6), gopacket.Payload(make([]byte, 19))), ipc.ReasonBadTCP, false},
		{"nothing behind the IPv4 header", serialize(t, header4(17)), ipc.ReasonBadUDP, false},
		{"7 octets of UDP", serialize(t, header4(17), gopacket.Payload(make([]byte, 7))), ipc.ReasonBadUDP, false},
		{"UDP length one less", edit(good4, 24, 0, byte(8+len(msg)-1)), ipc.ReasonBadUDP, true},
		{"UDP length one more", edit(good6, 44, 0, byte(8+len(msg)+1)), ipc.ReasonBadUDP, true},
		{"UDP length 0", edit(good6, 44, 0, 0), ipc.ReasonBadUDP, true},
		{"UDP without data", packet4(t, nil), ipc.ReasonBadMessage, true},
		{"11 octets of DNS", packet6(t, msg[:11]), ipc.ReasonBadMessage, true},
	} {
		t.Run(test.what, func(t *testing.T) {
			p := NewParser(false)
			f := p.Request(testMeta, test.packet)
			valid(t, &f)
			if f.Drop != test.want {
				t.Errorf("request: %v, want %v", f.Drop, test.want)
			}
			if f.HasFlow() != test.flow {
				t.Errorf("flow: %v, want %v", f.HasFlow(), test.flow)
			}
			if test.flow && (f.SrcPort != 40000 || f.DstPort != 5353) {
				t.Errorf("ports %d, %d", f.SrcPort, f.DstPort)
			}
			// The other role sees the same packet, and no query as a response.
			r := p.Response(testMeta, test.packet)
			valid(t, &r)
			want := test.want
			if want == ipc.ReasonNone {
				want = ipc.ReasonNotResponse
			}
			if r.Drop != want || r.Packet != f.Packet {
				t.Errorf("response: %v, %+v; want %v, %+v", r.Drop, r.Packet, want, f.Packet)
			}
		})
	}
}

func TestMeta(t *testing.T) {
	good := packet4(t, query(t, "www.example.com.", typeA))
	p := NewParser(false)

	f := p.Request(testMeta, good)
	want := ipc.Packet{
		Handle: 7, ID: 9, InIf: 2, OutIf: 3, UID: 1000, HasUID: true, State: ipc.ConnNew,
		Proto: ipc.ProtoUDP, Src: address(client4), Dst: address(server4), SrcPort: 40000, DstPort: 5353,
	}
	if f.Packet != want {
		t.Errorf("got  %+v\nwant %+v", f.Packet, want)
	}

	m := testMeta
	m.CapLen = len(good)
	if f := p.Request(m, good); f.Drop != ipc.ReasonNone {
		t.Errorf("CapLen of the whole: %v", f.Drop)
	}
	m.CapLen++
	if f := p.Request(m, good); f.Drop != ipc.ReasonCutShort {
		t.Errorf("CapLen one over: %v", f.Drop)
	}
	for protocol, want := range map[uint16]ipc.Reason{0x0800: ipc.ReasonNone, 0x86dd: ipc.ReasonNotIP, 0x0806: ipc.ReasonNotIP} {
		m = testMeta
		m.Protocol = protocol
		if f := p.Request(m, good); f.Drop != want {
			t.Errorf("IPv4 as ethertype %#x: %v", protocol, f.Drop)
		}
	}
	m = testMeta
	m.GSO = true
	f = p.Request(m, good)
	valid(t, &f)
	if f.Drop != ipc.ReasonSuperPacket || !f.HasFlow() || len(f.Questions) != 0 {
		t.Errorf("GSO: %+v", f)
	}
	f = p.Request(m, serialize(t, header4(6), &layers.TCP{SrcPort: 40000, DstPort: 5353, ACK: true}, gopacket.Payload(query(t, "a.", typeA))))
	if f.Drop != ipc.ReasonNoConnection || p.segment == nil {
		t.Errorf("a stream's octets in one segment instead of several: %+v", f)
	}
}

// A fact must not change when the packet's buffer or the Parser is used again.
func TestNothingShows(t *testing.T) {
	p := NewParser(true)
	first := packet6(t, answer(t, "www.example.com.", typeA,
		"www.example.com. 60 IN CNAME a.example.net.", "a.example.net. 60 IN A 192.0.2.7", "a.example.net. 60 IN AAAA 2001:db8::7",
		"a.example.net. 60 IN TXT hello", "a.example.net. 60 IN MX 1 m.example.org.", "a.example.net. 60 IN PTR p.example.org."))
	f := p.Response(testMeta, first)
	before := canon(&f)
	packetBefore := f.Packet
	for i := range first {
		first[i] = 0xee
	}
	second := packet4(t, answer(t, "b.test.", typeA, "b.test. 60 IN A 203.0.113.9",
		"test. 60 IN DNAME b.test.", "b.test. 60 IN TXT hello", "b.test. 60 IN AAAA 2001:db8::9", "b.test. 60 IN NS ns.test.",
		"b.test. 60 IN PTR q.test."))
	g := p.Response(testMeta, second)
	p.Response(testMeta, nil)
	if after := canon(&f); !before.equal(after) || f.Packet != packetBefore {
		t.Errorf("the first fact became\n%+v, was\n%+v", after, before)
	}
	if h := NewParser(true).Response(testMeta, second); !canon(&g).equal(canon(&h)) || g.Packet != h.Packet {
		t.Errorf("the second fact is\n%+v, of a new parser\n%+v", g, h)
	}
}

// gopacket/layers costs every process 8 MiB before main begins.
func TestNoHeavyImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for pkg := range strings.Lines(string(out)) {
		pkg = strings.TrimSpace(pkg)
		if strings.HasPrefix(pkg, "github.com/google/gopacket/") || strings.Contains(pkg, "miekg") {
			t.Errorf("imports %s", pkg)
		}
	}
	if !strings.Contains(string(out), "github.com/google/gopacket\n") {
		t.Errorf("go list did not say what is imported:\n%s", out)
	}
}
