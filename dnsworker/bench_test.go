package dnsworker

import (
	"testing"

	"github.com/miekg/dns"
)

func BenchmarkRequest(b *testing.B) {
	m := new(dns.Msg)
	m.SetQuestion("www.example.com.", typeA)
	m.SetEdns0(1232, false)
	packet, p := packet4(b, pack(b, m)), NewParser(false)
	b.ReportAllocs()
	for b.Loop() {
		p.Request(testMeta, packet)
	}
}

func BenchmarkResponse(b *testing.B) {
	packet := packet4(b, answer(b, "www.example.com.", typeA,
		"www.example.com. 60 IN CNAME a.example.net.", "a.example.net. 60 IN A 192.0.2.7", "a.example.net. 60 IN A 192.0.2.8"))
	p := NewParser(false)
	b.ReportAllocs()
	for b.Loop() {
		p.Response(testMeta, packet)
	}
}

func BenchmarkBomb(b *testing.B) {
	packet, p := packet4(b, bomb()), NewParser(false)
	b.ReportAllocs()
	for b.Loop() {
		p.Response(testMeta, packet)
	}
}
