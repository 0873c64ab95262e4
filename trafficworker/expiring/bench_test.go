package expiring

import (
	"runtime"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// BenchmarkMemory reports the octets an entry of a full table takes, map and
// slack included, with the key and value sizes of a grant (16 and 24 octets).
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{65_536, 1_000_000} {
		b.Run(map[int]string{65_536: "64Ki", 1_000_000: "1M"}[n], func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				table := New[[16]byte, [24]byte](n)
				fill(table, n)
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/entry")
				runtime.KeepAlive(table)
			}
		})
	}
}

func fill(table *Table[[16]byte, [24]byte], n int) {
	for i := range n {
		table.Put(1, key(i), [24]byte{}, ipc.Instant(1000+i))
	}
}

func key(i int) [16]byte {
	return [16]byte{byte(i), byte(i >> 8), byte(i >> 16), 15: 1}
}

func BenchmarkGet(b *testing.B) {
	table := New[[16]byte, [24]byte](65_536)
	fill(table, 65_536)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		table.Get(1, key(i&0xffff))
	}
}

// BenchmarkRenew extends entries of a full table, BenchmarkChurn replaces
// them at the bound.
func BenchmarkRenew(b *testing.B) {
	table := New[[16]byte, [24]byte](65_536)
	fill(table, 65_536)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		table.Put(1, key(i&0xffff), [24]byte{}, ipc.Instant(100_000+i))
	}
}

func BenchmarkChurn(b *testing.B) {
	table := New[[16]byte, [24]byte](65_536)
	fill(table, 65_536)
	b.ReportAllocs()
	i := 65_536
	for b.Loop() {
		i++
		table.Put(1, key(i), [24]byte{}, ipc.Instant(100_000+i))
	}
}
