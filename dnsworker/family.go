package dnsworker

import (
	"slices"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// family gathers the addresses of one family; see ipc.Addresses.
type family struct {
	octets, owners, ttl []byte
	ttls                []uint32
}

func (f *family) reset() family {
	return family{f.octets[:0], f.owners[:0], f.ttl[:0], f.ttls[:0]}
}

// add adds the addresses of one record, size octets each.
func (f *family) add(octets []byte, size int, owner uint8, seconds uint32) {
	f.octets = append(f.octets, octets...)
	at := f.ttlIndex(seconds)
	for range len(octets) / size {
		f.owners, f.ttl = append(f.owners, owner), append(f.ttl, at)
	}
}

// ttlIndex is the place of a TTL in the table. The last place is kept for 0,
// which is what all that find no other get: an honest response has a few, and a
// hostile one gains only that its addresses are open for less long.
func (f *family) ttlIndex(seconds uint32) byte {
	i := slices.Index(f.ttls, seconds)
	if i < 0 && len(f.ttls) >= ipc.MaxTTLs-1 {
		seconds = 0
		i = slices.Index(f.ttls, seconds)
	}
	if i < 0 {
		i = len(f.ttls)
		f.ttls = append(f.ttls, seconds)
	}
	return byte(i)
}

// tell is a copy that a fact may keep.
func (f *family) tell() ipc.Addresses {
	return ipc.Addresses{Octets: string(f.octets), Owners: own(f.owners), TTLs: own(f.ttls), TTL: own(f.ttl)}
}
