package dnsworker

import (
	"reflect"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

func ttlOf(a *ipc.Addresses, i int) uint32 { return a.TTLs[a.TTL[i]] }

func TestTTLs(t *testing.T) {
	p := NewParser(false)
	for _, test := range []struct {
		what      string
		ttls      []uint32
		want      []uint32 // of each address
		wantTable int
	}{
		{"none", nil, nil, 0},
		{"some alike", []uint32{60, 300, 60, 0, 300}, []uint32{60, 300, 60, 0, 300}, 3},
		{"edges", []uint32{ipc.MaxTTL, 1 << 31, 1<<32 - 1, 1}, []uint32{ipc.MaxTTL, 0, 0, 1}, 3},
		{"254", counting(1, 254), counting(1, 254), 254},
		{"254 and 0", append(counting(1, 254), 0, 5), append(counting(1, 254), 0, 5), 255},
		{"255 with 0", counting(0, 255), append(counting(0, 254), 0), 254},
		{"256", append(counting(1, 256), 7, 0), append(counting(1, 254), 0, 0, 7, 0), 255},
	} {
		t.Run(test.what, func(t *testing.T) {
			for _, typ := range []uint16{typeA, typeAAAA} {
				parts := [][]byte{theQuestion}
				for _, ttl := range test.ttls {
					parts = append(parts, rr(pointer(12), typ, 1, ttl, make([]byte, map[uint16]int{typeA: 4, typeAAAA: 16}[typ])...))
				}
				packet := packet4(t, raw(flagQR, 1, len(test.ttls), 0, 0, parts...))
				f := p.Response(testMeta, packet)
				valid(t, &f)
				agreeResponse(t, packet, &f)
				a := &f.A
				if typ == typeAAAA {
					a = &f.AAAA
				}
				var got []uint32
				for i := range a.Owners {
					got = append(got, ttlOf(a, i))
				}
				if !reflect.DeepEqual(got, test.want) || len(a.TTLs) != test.wantTable {
					t.Errorf("type %d: %d in the table, %v; want %d, %v", typ, len(a.TTLs), got, test.wantTable, test.want)
				}
			}
		})
	}
}

func counting(from, n int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = uint32(from + i)
	}
	return out
}
