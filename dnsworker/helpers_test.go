package dnsworker

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/miekg/dns"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

var testMeta = Meta{Handle: 7, ID: 9, InIf: 2, OutIf: 3, UID: 1000, HasUID: true, State: ipc.ConnNew}

const (
	client4, server4 = "192.0.2.1", "198.51.100.53"
	client6, server6 = "2001:db8::1", "2001:db8:53::53"
)

// serialize lets gopacket's own layers make the packet: another reading of
// the RFCs than that under test.
func serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func header4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.ParseIP(client4), DstIP: net.ParseIP(server4)}
}

func header6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: net.ParseIP(client6), DstIP: net.ParseIP(server6)}
}

func datagram() *layers.UDP { return &layers.UDP{SrcPort: 40000, DstPort: 5353} }

func packet4(t testing.TB, msg []byte) []byte {
	t.Helper()
	return serialize(t, header4(layers.IPProtocolUDP), datagram(), gopacket.Payload(msg))
}

func packet6(t testing.TB, msg []byte) []byte {
	t.Helper()
	return serialize(t, header6(layers.IPProtocolUDP), datagram(), gopacket.Payload(msg))
}

// extended6 is an IPv6 packet with raw extension headers before the UDP header.
func extended6(t testing.TB, next uint8, extensions, msg []byte) []byte {
	t.Helper()
	udp := serialize(t, datagram(), gopacket.Payload(msg))
	return serialize(t, header6(layers.IPProtocol(next)), gopacket.Payload(append(extensions, udp...)))
}

func edit(b []byte, at int, octets ...byte) []byte {
	out := append([]byte(nil), b...)
	copy(out[at:], octets)
	return out
}

// query is a message from the independent library.
func query(t testing.TB, qname string, qtype uint16) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(qname, qtype)
	m.Id = 0x1234
	return pack(t, m)
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// answer is a response of the independent library to the question of qname,
// with records in master file form.
func answer(t testing.TB, qname string, qtype uint16, records ...string) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(qname, qtype)
	m.Id, m.Response, m.RecursionAvailable, m.Compress = 0x1234, true, true, true
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return pack(t, m)
}

// raw makes what no library would: any header and any octets after it.
func raw(flags uint16, qd, an, ns, ar int, parts ...[]byte) []byte {
	b := []byte{0x12, 0x34}
	for _, v := range []int{int(flags), qd, an, ns, ar} {
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// labels is an uncompressed name.
func labels(ls ...string) []byte {
	var b []byte
	for _, l := range ls {
		b = append(append(b, byte(len(l))), l...)
	}
	return append(b, 0)
}

func pointer(to int) []byte { return []byte{pointerBits | byte(to>>8), byte(to)} }

func question(qname []byte, typ, class uint16) []byte {
	b := binary.BigEndian.AppendUint16(append([]byte(nil), qname...), typ)
	return binary.BigEndian.AppendUint16(b, class)
}

func rr(owner []byte, typ, class uint16, ttl uint32, data ...byte) []byte {
	b := question(owner, typ, class)
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

// theQuestion asks for www.example.com A; its name is at offset 12.
var theQuestion = question(labels("www", "example", "com"), typeA, classIN)

func wireName(t testing.TB, text string) name.Name {
	t.Helper()
	buf := make([]byte, name.MaxWire+1)
	n, err := dns.PackDomainName(text, buf, 0, nil, false)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	wire, err := name.FromWire(buf[:n])
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return wire
}

func valid(t testing.TB, fact interface{ Validate() error }) {
	t.Helper()
	if err := fact.Validate(); err != nil {
		t.Fatalf("the fact is not valid: %v\n%+v", err, fact)
	}
}

func address(text string) ipc.Address { return ipc.AddressOf(netip.MustParseAddr(text)) }
