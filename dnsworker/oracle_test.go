package dnsworker

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/miekg/dns"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// told is what a message says, in a form that two parsers can be compared in.
type told struct {
	Questions      []string
	A, AAAA, Links []string
	Targets        []string
	Pointers       []string
	Others         []string // sorted
}

func (a told) equal(b told) bool { return reflect.DeepEqual(a, b) }

func canon(f *ipc.ResponseFact) told {
	out := told{Questions: canonQuestions(f.Questions)}
	of := func(i byte) name.Name { return f.Names[i] }
	out.A, out.AAAA = canonAddresses(f, &f.A, 4), canonAddresses(f, &f.AAAA, 16)
	for _, l := range f.Links {
		out.Links = append(out.Links, fmt.Sprintf("%s %v %s", of(l.Owner), l.DNAME, of(l.Target)))
	}
	for _, x := range f.Targets {
		out.Targets = append(out.Targets, fmt.Sprintf("%s %s", of(x.Owner), of(x.Target)))
	}
	for _, x := range f.Pointers {
		out.Pointers = append(out.Pointers, fmt.Sprintf("%s %s", of(x.Owner), of(x.Target)))
	}
	for _, o := range f.Others {
		out.Others = append(out.Others, string(of(o)))
	}
	slices.Sort(out.Others)
	return out
}

func canonAddresses(f *ipc.ResponseFact, a *ipc.Addresses, size int) (out []string) {
	for i, o := range a.Owners {
		out = append(out, addressLine(f.Names[o], ttlOf(a, i), a.Octets[size*i:size*i+size]))
	}
	return out
}

func addressLine(owner name.Name, ttl uint32, octets string) string {
	return fmt.Sprintf("%s %d %s", owner, ttl, addrText(octets))
}

// theirTTLs is what an Addresses can say of TTLs, told one after the other.
type theirTTLs map[uint32]bool

func (m theirTTLs) of(rr dns.RR) uint32 {
	ttl := rr.Header().Ttl
	if ttl >= 1<<31 || !m[ttl] && len(m) >= 254 {
		ttl = 0
	}
	m[ttl] = true
	return ttl
}

// theirHints are the addresses that the other library finds in a record.
func theirHints(rr *dns.SVCB) (v4, v6 []string) {
	if rr.Priority == 0 {
		return nil, nil
	}
	for _, p := range rr.Value {
		switch p := p.(type) {
		case *dns.SVCBIPv4Hint:
			for _, a := range p.Hint {
				v4 = append(v4, string(a.To4()))
			}
		case *dns.SVCBIPv6Hint:
			for _, a := range p.Hint {
				v6 = append(v6, string(a.To16()))
			}
		}
	}
	return v4, v6
}

// mappedHint is the one point in which the other library is stricter about
// SVCB records: it refuses an IPv4-mapped address in ipv6hint. Here it is
// what it is in an AAAA record, the IPv4 address. It is laxer about compressed
// targets, empty lists and empty strings in alpn, and what mandatory lists.
const mappedHint = "bad svcbipv6hint: expected ipv6, got ipv4"

func canonQuestions(qs []ipc.Question) (out []string) {
	for _, q := range qs {
		out = append(out, fmt.Sprintf("%s %d %d", q.Name, q.Type, q.Class))
	}
	return out
}

// theirQuestions reads the question section with the independent library. Its
// Msg.Unpack reads the data of every type, some stricter than need be, so the
// sections are walked with its names and records instead.
func theirQuestions(t testing.TB, msg []byte) (out []string, off int) {
	t.Helper()
	off = headerSize
	for range binary.BigEndian.Uint16(msg[4:]) {
		n, next, err := dns.UnpackDomainName(msg, off)
		if err != nil {
			t.Fatalf("accepted, but the other library says of the question: %v", err)
		}
		typ, class := binary.BigEndian.Uint16(msg[next:]), binary.BigEndian.Uint16(msg[next+2:])
		out = append(out, fmt.Sprintf("%s %d %d", wireName(t, n), typ, class))
		off = next + 4
	}
	return out, off
}

// theirTable is what a fact's name table has room for, told one after the other.
type theirTable map[name.Name]bool

func (m theirTable) fits(n name.Name) bool {
	if m[n] {
		return true
	}
	octets := len(n)
	for other := range m {
		octets += len(other)
	}
	if len(m) == ipc.MaxNames || octets > ipc.MaxNameBytes {
		return false
	}
	m[n] = true
	return true
}

// led is a record that leads from one name to another.
type led struct{ from, to name.Name }

// told is those of the first most records whose target fits.
func (m theirTable) told(records []led, most int) (out []string) {
	for _, r := range records[:min(len(records), most)] {
		if m.fits(r.to) {
			out = append(out, fmt.Sprintf("%s %s", r.from, r.to))
		}
	}
	return out
}

// goodLabels reports whether no label of a name holds a dot or a NUL.
func goodLabels(n name.Name) bool {
	for ; n[0] > 0; n = n[1+n[0]:] {
		if strings.ContainsAny(string(n[1:1+n[0]]), ".\x00") {
			return false
		}
	}
	return true
}

// theirAnswers reads the answer section so, and counts the targets that a fact
// has no room for. It reports false if the other library refuses a record that
// is accepted here on purpose. Of the questions only their place in the table is
// believed.
func theirAnswers(t testing.TB, msg []byte, questions []ipc.Question) (out told, leftOut int, ok bool) {
	t.Helper()
	ttls4, ttls6 := theirTTLs{}, theirTTLs{}
	table := theirTable{}
	for _, q := range questions {
		table.fits(q.Name)
	}
	must := func(n name.Name) {
		if !table.fits(n) {
			t.Fatalf("accepted, and there is no room for %s", n)
		}
	}
	var targets, pointers []led
	var off int
	out.Questions, off = theirQuestions(t, msg)
	for range binary.BigEndian.Uint16(msg[6:]) {
		owner, next, err := dns.UnpackDomainName(msg, off)
		if err != nil {
			t.Fatalf("accepted, but the other library says of an owner: %v", err)
		}
		typ, size := binary.BigEndian.Uint16(msg[next:]), int(binary.BigEndian.Uint16(msg[next+8:]))
		of := wireName(t, owner)
		must(of)
		if !slices.Contains([]uint16{typeA, typeAAAA, typeNS, typeCNAME, typeDNAME, typeMX, typeSRV}, typ) && !slices.Contains(out.Others, string(of)) {
			out.Others = append(out.Others, string(of))
		}
		if !slices.Contains([]uint16{typeA, typeAAAA, typeNS, typeCNAME, typeDNAME, typeMX, typeSRV, typePTR, typeSVCB, typeHTTPS}, typ) {
			off = next + 10 + size
			continue
		}
		rr, end, err := dns.UnpackRR(msg, off)
		if err != nil && strings.HasSuffix(err.Error(), mappedHint) {
			return told{}, 0, false
		}
		if err != nil || end != next+10+size {
			t.Fatalf("accepted, but the other library says of a record: %v, end %d of %d", err, end, next+10+size)
		}
		if rr.Header().Class != classIN {
			t.Fatalf("accepted in class %d", rr.Header().Class)
		}
		link := func(dname bool, to string) {
			must(wireName(t, to))
			out.Links = append(out.Links, fmt.Sprintf("%s %v %s", of, dname, wireName(t, to)))
		}
		target := func(to string) { targets = append(targets, led{of, wireName(t, to)}) }
		service := func(rr *dns.SVCB) {
			if rr.Target != "." {
				target(rr.Target)
			}
			v4, v6 := theirHints(rr)
			for _, a := range v4 {
				out.A = append(out.A, addressLine(of, ttls4.of(rr), a))
			}
			for _, a := range v6 {
				out.AAAA = append(out.AAAA, addressLine(of, ttls6.of(rr), a))
			}
		}
		switch rr := rr.(type) {
		case *dns.SVCB:
			service(rr)
		case *dns.HTTPS:
			service(&rr.SVCB)
		case *dns.A:
			out.A = append(out.A, addressLine(of, ttls4.of(rr), string(rr.A.To4())))
		case *dns.AAAA:
			out.AAAA = append(out.AAAA, addressLine(of, ttls6.of(rr), string(rr.AAAA.To16())))
		case *dns.CNAME:
			link(false, rr.Target)
		case *dns.DNAME:
			link(true, rr.Target)
		case *dns.NS:
			target(rr.Ns)
		case *dns.MX:
			target(rr.Mx)
		case *dns.SRV:
			target(rr.Target)
		case *dns.PTR:
			if to := wireName(t, rr.Ptr); goodLabels(to) {
				pointers = append(pointers, led{of, to})
			}
		}
		off = end
	}
	slices.Sort(out.Others)
	out.Targets = table.told(targets, ipc.MaxTargets)
	out.Pointers = table.told(pointers, ipc.MaxPointers)
	return out, len(targets) - len(out.Targets), true
}

// agreeFlow compares the flow of a packet whose DNS header was reached with
// gopacket/layers' reading, and returns the message.
func agreeFlow(t testing.TB, packet []byte, p *ipc.Packet) []byte {
	t.Helper()
	first := layers.LayerTypeIPv4
	if packet[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	decoded := gopacket.NewPacket(packet, first, gopacket.NoCopy)
	udp, _ := decoded.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if udp == nil {
		// It gives up on options inside extension headers that we skip.
		if first == layers.LayerTypeIPv6 && packet[6] != ipc.ProtoUDP {
			return nil
		}
		t.Fatalf("accepted, but gopacket/layers finds no UDP: %v", decoded.ErrorLayer())
	}
	src, dst := decoded.NetworkLayer().NetworkFlow().Endpoints()
	s, _ := netip.AddrFromSlice(src.Raw())
	d, _ := netip.AddrFromSlice(dst.Raw())
	if p.Src != ipc.AddressOf(s) || p.Dst != ipc.AddressOf(d) || p.Proto != ipc.ProtoUDP ||
		p.SrcPort != uint16(udp.SrcPort) || p.DstPort != uint16(udp.DstPort) {
		t.Fatalf("flow %+v, gopacket/layers says %v %v", p, decoded.NetworkLayer().NetworkFlow(), udp)
	}
	return udp.Payload
}

func agreeRequest(t testing.TB, packet []byte, f *ipc.RequestFact) {
	t.Helper()
	if f.Drop != ipc.ReasonNone {
		return
	}
	msg := agreeFlow(t, packet, &f.Packet)
	if msg == nil {
		return
	}
	want, off := theirQuestions(t, msg)
	if got := canonQuestions(f.Questions); !slices.Equal(got, want) || f.TxID != binary.BigEndian.Uint16(msg) {
		t.Fatalf("questions %q, the other library says %q", got, want)
	}
	extras := false
	for range binary.BigEndian.Uint16(msg[10:]) {
		extras = true
		_, next, err := dns.UnpackDomainName(msg, off)
		if err != nil {
			t.Fatalf("accepted, but the other library says of an additional owner: %v", err)
		}
		off = next + 10 + int(binary.BigEndian.Uint16(msg[next+8:]))
	}
	if off != len(msg) {
		t.Fatalf("accepted %d octets, the other library ends at %d", len(msg), off)
	}
	if f.Extras != extras {
		t.Fatalf("additional records: %v, the other library says %v", f.Extras, extras)
	}
}

func agreeResponse(t testing.TB, packet []byte, f *ipc.ResponseFact) {
	t.Helper()
	if f.Drop != ipc.ReasonNone {
		return
	}
	msg := agreeFlow(t, packet, &f.Packet)
	if msg == nil {
		return
	}
	if questions, _ := theirQuestions(t, msg); !slices.Equal(canonQuestions(f.Questions), questions) {
		t.Fatalf("questions %q, the other library says %q", canonQuestions(f.Questions), questions)
	}
	if f.AnswerDrop != ipc.ReasonNone || f.Truncated {
		return
	}
	got := canon(f)
	want, leftOut, ok := theirAnswers(t, msg, f.Questions)
	if !ok {
		return
	}
	if !got.equal(want) || int(f.LeftOut) != leftOut {
		t.Fatalf("got, %d left out,\n%+v, the other library says, %d left out,\n%+v", f.LeftOut, got, leftOut, want)
	}
	roundTrip(t, f)
}

// roundTrip prints what a fact tells as an uncompressed message and parses that.
func roundTrip(t testing.TB, f *ipc.ResponseFact) {
	t.Helper()
	var body []byte
	count := 0
	for _, q := range f.Questions {
		body = append(body, question([]byte(q.Name), q.Type, q.Class)...)
	}
	last := func(owner byte, typ uint16, ttl uint32, data ...byte) {
		body = append(body, rr([]byte(f.Names[owner]), typ, classIN, ttl, data...)...)
		count++
	}
	add := func(owner byte, typ uint16, data ...byte) { last(owner, typ, 60, data...) }
	for i, o := range f.A.Owners {
		last(o, typeA, ttlOf(&f.A, i), []byte(f.A.Octets[4*i:4*i+4])...)
	}
	for i, o := range f.AAAA.Owners {
		last(o, typeAAAA, ttlOf(&f.AAAA, i), []byte(f.AAAA.Octets[16*i:16*i+16])...)
	}
	for _, l := range f.Links {
		typ := uint16(typeCNAME)
		if l.DNAME {
			typ = typeDNAME
		}
		add(l.Owner, typ, []byte(f.Names[l.Target])...)
	}
	for _, x := range f.Targets {
		add(x.Owner, typeMX, append([]byte{0, 1}, f.Names[x.Target]...)...)
	}
	for _, x := range f.Pointers {
		add(x.Owner, typePTR, []byte(f.Names[x.Target])...)
	}
	for _, o := range f.Others {
		add(o, 16, 1, 'x')
	}
	if len(body) > 65000 {
		return // does not fit a datagram without compression
	}
	msg := raw(flagQR|uint16(f.RCode), len(f.Questions), count, 0, 0, body)
	again := NewParser(false).Response(testMeta, packet4(t, msg))
	if again.Drop != f.Drop || again.AnswerDrop != ipc.ReasonNone || !canon(&again).equal(canon(f)) {
		t.Fatalf("printed and parsed again: %v, %v\n%+v, was\n%+v", again.Drop, again.AnswerDrop, canon(&again), canon(f))
	}
}

// addrText tells ::ffff:192.0.2.1 from 192.0.2.1.
func addrText(octets string) string {
	a, _ := netip.AddrFromSlice([]byte(octets))
	return a.String()
}
