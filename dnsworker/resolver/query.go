package resolver

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// The header of RFC 1035 section 4.1.1: six fields of two octets.
const (
	headerSize = 12

	flagQR     = 1 << 15
	maskOpcode = 0xf << 11 // QUERY is 0
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	maskRCode  = 0xf
)

const (
	classIN = 1
	// typeAndClass is what follows a question's name, in octets.
	typeAndClass = 4
	// maxQuery is the longest query, in octets.
	maxQuery = headerSize + name.MaxWire + typeAndClass
)

// newQuery is the message that asks l: recursion desired, one question, no
// additional records. It has no transaction id yet.
func newQuery(l *ipc.Lookup) []byte {
	q := make([]byte, 0, headerSize+len(l.Name)+typeAndClass)
	for _, field := range [headerSize / 2]uint16{1: flagRD, 2: 1} {
		q = binary.BigEndian.AppendUint16(q, field)
	}
	q = append(q, l.Name...)
	q = binary.BigEndian.AppendUint16(q, l.Type)
	return binary.BigEndian.AppendUint16(q, classIN)
}

// renew gives a query another transaction id, for another socket. The numbers
// are the runtime's ChaCha8, which an answer's forger cannot foresee: the kernel
// seeded it at the exec (AT_RANDOM), so that it needs no getrandom.
func renew(query []byte) { binary.BigEndian.PutUint16(query, uint16(rand.Uint32())) }
