package main_test

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/miekg/dns"
)

// TestTCPUrgentBare: an urgent mark without data has the server's kernel take an
// octet (here the low one of the length) out of what comes after it, and a query
// hidden in an option of an allowed one would be read as the next one.
func TestTCPUrgentBare(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		server := l.tcpServer(f.resolver, tcpZone(t, f))
		l.start(allowing("example.com"))
		l.rules(tcpRules)
		g := l.forger(t, f)

		hidden := framed(t, question("secret.evil.test", typeOf(f)))
		m := wN(f, 1)
		opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}}
		opt.Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: hidden}}
		m.Extra = []dns.RR{opt}
		at := len(pack(t, m)) - len(hidden)
		m.Id = uint16(at-1)<<8 | 1
		wire := framed(t, m)
		t.Logf("an allowed query of %d octets, %x", len(wire), wire)

		tcp := &layers.TCP{SrcPort: layers.TCPPort(g.from.Port()), DstPort: layers.TCPPort(g.to.Port()), Seq: g.seq, Ack: g.ack, Window: 1000, ACK: true, URG: true, Urgent: 2}
		var ip ipLayer = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: g.from.Addr().AsSlice(), DstIP: g.to.Addr().AsSlice()}
		if g.to.Addr().Is6() {
			ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: g.from.Addr().AsSlice(), DstIP: g.to.Addr().AsSlice()}
		}
		if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp); err != nil {
			t.Fatal(err)
		}
		g.decided(f, func() { l.client.sendRaw(t, buf.Bytes()) })
		g.decided(f, func() { g.send(0, wire) })
		eventually(func() bool { return len(server.got(0)) >= len(wire)-1 || server.asked("secret.evil.test") > 0 })
		if server.asked("secret.evil.test") > 0 {
			t.Error("the server was asked for secret.evil.test")
		}
	})
}
