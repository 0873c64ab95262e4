package allowlist

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

func engineOf(b *testing.B, names int) *Engine {
	b.Helper()
	p := testPolicy()
	p.Hostnames[0] = ipc.Tree(wire("example.com"))
	for i := 1; i < names; i++ {
		p.Hostnames[0].Add(wire(fmt.Sprintf("host-%d.some-zone.net", i)), ipc.ScopeTree, nil)
	}
	return testEngine(b, p)
}

// The cost of a question must not depend on the length of the list: compare
// the two sizes.
func BenchmarkMatch(b *testing.B) {
	for _, names := range []int{10, 1_000_000} {
		for what, n := range map[string]name.Name{
			"allowed": wire("a.b.www.example.com"), "refused": wire("a.b.www.example.net"),
		} {
			b.Run(fmt.Sprintf("%s/%d", what, names), func(b *testing.B) {
				e := engineOf(b, names)
				b.ReportAllocs()
				for b.Loop() {
					e.rules[0].find(n)
				}
			})
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	for _, names := range []int{10, 1_000_000} {
		b.Run(fmt.Sprint(names), func(b *testing.B) {
			e := engineOf(b, names)
			q := query(handleWeb, "www.example.com")
			a := reply(q).cname("www.example.com", "cdn.net").addr("cdn.net", "192.0.2.1", "192.0.2.2", "2001:db8::1")
			now := start
			b.ReportAllocs()
			for b.Loop() {
				now++
				if o, _ := e.Request(now, q); o.Verdict != ipc.Accept {
					b.Fatal(o)
				}
				p, _ := e.Response(now, &a.ResponseFact)
				if p.Verdict != ipc.Accept {
					b.Fatal(p.Reason)
				}
				e.Commit(now, &p)
			}
		})
	}
}

// BenchmarkLargestResponse and BenchmarkWorstChain are what a hostile server
// can make one response cost.
func BenchmarkLargestResponse(b *testing.B) {
	e := engineOf(b, 10)
	q := query(handleWeb, "www.example.com")
	a := reply(q)
	for i := range ipc.MaxAddresses {
		a.addr("www.example.com", fmt.Sprintf("192.1.%d.%d", i>>8, i&255))
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Request(start, q)
		p, _ := e.Response(start, &a.ResponseFact)
		e.Commit(start, &p)
	}
}

func BenchmarkWorstChain(b *testing.B) {
	a := reply(query(handleWeb, "www.example.com", "example.com", "www.example.com", "example.com"))
	long := "example.com"
	for len(long) < 150 {
		long = "a." + long
	}
	for i := range ipc.MaxLinks - maxDNAMEs {
		a.cname("www.example.com", fmt.Sprintf("%d.%s", i, long))
	}
	for range maxDNAMEs {
		a.dname(long, "b."+long[2:])
	}
	if err := a.Validate(); err != nil {
		b.Fatal(err)
	}
	var c chain
	for b.Loop() {
		c.walk(&a.ResponseFact)
	}
}

// BenchmarkPendingMemory reports the octets of one pending request.
func BenchmarkPendingMemory(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		e := engineOf(b, 10)
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range MaxPendingOfFilter {
			e.Request(start, from(query(handleWeb, "www.example.com"), i/1000, i))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(e.Counts().Pending), "B/request")
		runtime.KeepAlive(e)
	}
}

// BenchmarkConnectionMemory reports the octets of one TCP connection, with a
// client of its own and without.
func BenchmarkConnectionMemory(b *testing.B) {
	for what, clients := range map[string]int{"of few clients": 4, "each of its own client": 1 << 15} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				e := engineOf(b, 10)
				runtime.GC()
				runtime.ReadMemStats(&before)
				w := &e.connections.filters[0]
				for i := range w.room {
					e.Requests(start, []*ipc.RequestFact{synOf(handleWeb, i%clients, i)})
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(w.n), "B/connection")
				runtime.KeepAlive(e)
			}
		})
	}
}

// BenchmarkFullFilter is what a SYN costs that a filter has no room for, and
// one for which another connection is forgotten.
func BenchmarkFullFilter(b *testing.B) {
	e := engineOf(b, 10)
	w := &e.connections.filters[0]
	for i := range w.room {
		syn := synOf(handleWeb, i%4, i)
		e.Requests(start, []*ipc.RequestFact{syn})
		p, _ := e.Response(start, &streamReply(syn, ipc.SegmentOpen).ResponseFact)
		e.Commit(start, &p)
	}
	for what, now := range map[string]ipc.Instant{"refused": start, "forgotten": start.Add(inUseFor)} {
		b.Run(what, func(b *testing.B) {
			i := 0
			for b.Loop() {
				i++
				e.Requests(now, []*ipc.RequestFact{synOf(handleWeb, 5+i&0xff, i)})
			}
		})
	}
}
