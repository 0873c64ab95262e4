package resolver

import "encoding/binary"

// lengthSize is the length before every message over TCP, in octets (RFC 1035
// section 4.2.2). It is at most 65,535, and so is what is read.
const lengthSize = 2

// reply is the answer over TCP, as far as it has come. Only its beginning is
// kept.
type reply struct {
	head [lengthSize + maxQuery]byte
	got  int // octets that have come, the length's included
}

// take is given the next octets. A message is judged when it has come to its
// end. It must be the answer: nothing else was asked on this connection.
func (r *reply) take(query, b []byte) result {
	copy(r.head[min(r.got, len(r.head)):], b)
	if r.got += len(b); r.got < lengthSize {
		return nothing
	}
	length := int(binary.BigEndian.Uint16(r.head[:]))
	if r.got < lengthSize+length {
		return nothing
	}
	if judge(query, r.head[lengthSize:min(lengthSize+length, len(r.head))]) != answered {
		return failed
	}
	return answered
}
