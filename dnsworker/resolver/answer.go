package resolver

import "encoding/binary"

// result is what a message, or a socket, says of a question.
type result uint8

const (
	nothing   result = iota // no answer to it: another may come
	answered                // there is such a name, or there is not
	truncated               // the answer is too long for a datagram
	failed                  // this server does not know
)

// The response codes that answer a question (RFC 1035 section 4.1.1). All
// others are a server's trouble, or its refusal.
const (
	rcodeNoError  = 0
	rcodeNXDomain = 3
)

// judge says what a message from a server is to a query, of which it must hold
// id and question as they were sent; the case of ASCII letters does not count
// (RFC 4343), and a question that is compressed is none. What follows the
// question is not looked at, and may be missing.
func judge(query, message []byte) result {
	if len(message) < len(query) {
		return nothing
	}
	field := func(i int) uint16 { return binary.BigEndian.Uint16(message[2*i:]) }
	id, flags, questions := field(0), field(1), field(2)
	if id != binary.BigEndian.Uint16(query) || flags&flagQR == 0 || flags&maskOpcode != 0 || questions != 1 {
		return nothing
	}
	if !sameQuestion(query[headerSize:], message[headerSize:len(query)]) {
		return nothing
	}
	switch rcode := flags & maskRCode; {
	case rcode != rcodeNoError && rcode != rcodeNXDomain:
		return failed
	case flags&flagTC != 0:
		return truncated
	}
	return answered
}

// sameQuestion compares two questions of the same length, of which the first
// has its letters in lower case. Folding makes nothing equal but letters: of what
// is asked for, no length, type or class has an octet as high as a letter.
func sameQuestion(asked, got []byte) bool {
	for i, c := range got {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != asked[i] {
			return false
		}
	}
	return true
}
