package dnsworker

import (
	"runtime"
	"testing"

	"github.com/miekg/dns"

	"github.com/capnspacehook/egress-eddie/ipc"
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

// BenchmarkSegment is a query by TCP in one segment, BenchmarkSegmentBare an
// acknowledgement.
func BenchmarkSegment(b *testing.B) {
	m := new(dns.Msg).SetQuestion("www.example.com.", typeA)
	m.SetEdns0(1232, false)
	stream := inStream(pack(b, m))
	r := newRequestStreams(&ipc.Policy{}, NewParser(false), func(*ipc.RequestFact) error { return nil })
	send(b, r.packet, tcpPacket(4000, false, 0, 0, tcpSYN, nil))
	seq := uint32(1)
	b.ReportAllocs()
	for b.Loop() {
		send(b, r.packet, tcpPacket(4000, false, seq, 0, tcpACK, stream))
		seq += uint32(len(stream))
	}
}

func BenchmarkSegmentBare(b *testing.B) {
	r := newRequestStreams(&ipc.Policy{}, NewParser(false), func(*ipc.RequestFact) error { return nil })
	packet := tcpPacket(4000, false, 1, 0, tcpACK, nil)
	b.ReportAllocs()
	for b.Loop() {
		send(b, r.packet, packet)
	}
}

// BenchmarkEviction is a SYN with all streams in use.
func BenchmarkEviction(b *testing.B) {
	r := newRequestStreams(&ipc.Policy{}, NewParser(false), func(*ipc.RequestFact) error { return nil })
	port := uint16(0)
	b.ReportAllocs()
	for b.Loop() {
		port++
		send(b, r.packet, tcpPacket(port, false, 0, 0, tcpSYN, nil))
	}
}

// BenchmarkStreamMemory reports what 2,048 streams of one client take: of one query
// each, and when they keep as much as they may.
func BenchmarkStreamMemory(b *testing.B) {
	message := inStream(answer(b, "www.example.com.", typeA, "www.example.com. 60 IN A 192.0.2.1"))
	for name, rounds := range map[string]int{"one": 1, "full": 3 * keepTold / len(message)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				r := newResponseStreams(NewParser(false), func(*ipc.ResponseFact) error { return nil })
				for port := range uint16(maxRequestStreams) {
					send(b, r.packet, tcpPacket(port, true, 0, 0, tcpSYN|tcpACK, nil))
				}
				for i := range rounds {
					for port := range uint16(maxRequestStreams) {
						send(b, r.packet, tcpPacket(port, true, uint32(1+i*len(message)), 0, tcpACK, message))
					}
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1024, "KiB")
				runtime.KeepAlive(r)
			}
		})
	}
}

func send(b *testing.B, packet func(ipc.Instant, Meta, []byte) error, p []byte) {
	b.Helper()
	if err := packet(testStart, Meta{Handle: 7}, p); err != nil {
		b.Fatal(err)
	}
}
