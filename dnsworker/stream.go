package dnsworker

import (
	"bytes"
	"container/list"
	"encoding/binary"

	"github.com/capnspacehook/egress-eddie/ipc"
)

const (
	// lengthSize is what stands before every message of a stream, RFC 1035
	// section 4.2.2.
	lengthSize = 2
	// keepTold is how many octets that were decided are kept, to compare with
	// what comes again; the copy may grow by half before it is cut back. A receiver
	// whose window is wider and that lost what lies further back does not get it any
	// more, and its connection ends: nobody could say whether it is the same. That takes
	// so many octets of answers under way at once, and more for all would leave
	// room for fewer streams.
	keepTold = 64 << 10
	// maxStream bounds a stream: before its numbers come round, the server may
	// wait for one that the filter saw long ago (what it never got it does not
	// acknowledge).
	maxStream = 1 << 31
)

// stream is one direction of one connection: the octets that came in order,
// and how far they are decided. Places in it count from 0, the octet after the SYN.
//
// A stream only grows at its end. What comes again must be what came before,
// octet by octet: which of the two its receiver sees cannot be known.
type stream struct {
	key   streamKey
	used  ipc.Instant
	begin uint32 // sequence number of place 0

	octets []byte // those of [base, next)
	base   int64
	told   int64 // all messages before it are with the holder
	whole  int64 // all messages before it are complete
	next   int64

	held   []heldPacket // in the order of their ends
	halted bool         // nothing passes any more

	crowds  [2]*crowd // its group and its client
	places  [2]*list.Element
	counted struct{ octets, held int } // what they know of it
}

// heldPacket is a packet of which a part belongs to no complete message.
type heldPacket struct {
	packet   ipc.Packet
	from, to int64 // what it brought that was not here before
	at       ipc.Instant
}

// put adds a segment's data at its place. Fresh is the place from which on
// it was not known before, and the stream's end where nothing of it is new.
func (s *stream) put(seq uint32, data []byte) (fresh int64, reason ipc.Reason) {
	from := s.placeOf(seq)
	fresh = s.next
	if from > s.next || from < s.base || from+int64(len(data)) > maxStream {
		return fresh, ipc.ReasonOutOfOrder
	}
	known := min(int64(len(data)), s.next-from)
	if !bytes.Equal(data[:known], s.octets[from-s.base:][:known]) {
		return fresh, ipc.ReasonOverlap
	}
	s.octets = append(s.octets, data[known:]...)
	s.next += int64(len(data)) - known
	for s.next-s.whole >= lengthSize {
		end := s.whole + lengthSize + int64(binary.BigEndian.Uint16(s.octets[s.whole-s.base:]))
		if end > s.next {
			break
		}
		s.whole = end
	}
	return fresh, ipc.ReasonNone
}

// placeOf is where a sequence number lies. Sequence numbers are a circle (RFC
// 9293 section 3.4): of all its turns it is the one nearest to the stream's end.
func (s *stream) placeOf(seq uint32) int64 {
	return s.next + int64(int32(seq-s.begin-uint32(s.next)))
}

// reach is how many octets there are up to the end of a segment with data that
// was put. A FIN is one more, where it is the stream's next.
func (s *stream) reach(segment *tcp) uint32 {
	end := s.placeOf(segment.seq) + int64(len(segment.payload))
	if end < 0 {
		return 0
	}
	if segment.has(tcpFIN) && end == s.next {
		end++
	}
	return uint32(end)
}

// number is the sequence number before place 0.
func (s *stream) number() uint32 { return s.begin - 1 }

// message takes the next message that is complete and not told, without its length.
func (s *stream) message() (octets []byte, ok bool) {
	if s.told == s.whole {
		return nil, false
	}
	rest := s.octets[s.told-s.base:]
	length := int(binary.BigEndian.Uint16(rest))
	s.told += lengthSize + int64(length)
	return rest[lengthSize:][:length], true
}

// passable is the place up to which packets may leave once all complete
// messages are allowed. The length of a message says nothing and may go ahead
// of it: held, a client that writes it alone would lose the 200 ms for which
// its kernel waits for an acknowledgement (Nagle, RFC 9293 section 3.7.4).
func (s *stream) passable() int64 { return min(s.next, s.whole+lengthSize) }

// decided is the place before which all was told, or passed.
func (s *stream) decided() int64 {
	if len(s.held) > 0 {
		return max(s.told, s.held[0].from)
	}
	return s.next
}

// release takes the held packets that may leave with all complete messages.
func (s *stream) release() (packets []ipc.Packet) {
	n, limit := 0, s.passable()
	for n < len(s.held) && s.held[n].to <= limit {
		packets = append(packets, s.held[n].packet)
		n++
	}
	s.held = append(s.held[:0], s.held[n:]...)
	return packets
}

// drop takes all held packets, and forgets what they brought and nobody was
// told of: it may come again. What was told stays, to be compared: a packet
// that left may hold the beginning of a message whose end is in one that did not.
func (s *stream) drop() (packets []ipc.Packet) {
	s.next = s.decided()
	s.octets = s.octets[:s.next-s.base]
	s.whole = s.told
	for i := range s.held {
		packets = append(packets, s.held[i].packet)
	}
	s.held = nil
	return packets
}

// halt ends the stream for good.
func (s *stream) halt() (packets []ipc.Packet) {
	packets = s.drop()
	s.octets, s.base, s.halted = nil, s.next, true
	return packets
}

// trim forgets what was told long ago.
func (s *stream) trim() {
	if cut := s.told - keepTold - s.base; cut > keepTold/2 {
		// A new array: the old one may have grown with a long message.
		s.octets = bytes.Clone(s.octets[cut:])
		s.base += cut
	}
}
