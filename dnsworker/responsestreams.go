package dnsworker

import (
	"encoding/binary"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// responseStreams tells the holder of the segments of response queues. Nothing
// is held: a client can do nothing with a part of a message, and the segment
// that completes one waits for the holder.
type responseStreams struct {
	parser *Parser
	tell   func(*ipc.ResponseFact) error
	table  *streams
}

func newResponseStreams(parser *Parser, tell func(*ipc.ResponseFact) error) *responseStreams {
	return &responseStreams{parser: parser, tell: tell, table: newStreams(maxResponseStreams, clientIsDst)}
}

// packet tells one packet of a response queue.
func (r *responseStreams) packet(now ipc.Instant, m Meta, packet []byte) error {
	f := r.parser.Response(m, packet)
	segment := r.parser.segment
	if segment == nil {
		f.Segment.Closes = f.Proto == ipc.ProtoTCP && closes(&r.parser.layers.tcp)
		return r.tell(&f)
	}
	key := keyOf(responseGroup(&f.Packet), &f.Packet)
	s := r.table.byKey[key]
	switch {
	case segment.has(tcpSYN):
		return r.syn(now, key, s, segment, &f.Packet)
	case len(segment.payload) > 0 && s == nil:
		return r.drop(ipc.ReasonNoConnection, ipc.SegmentNone, segment, &f.Packet)
	case len(segment.payload) > 0:
		return r.data(now, s, segment, &f.Packet)
	}
	return r.bare(s, segment, &f.Packet)
}

// responseGroup is a streamKey's group.
func responseGroup(p *ipc.Packet) string {
	return string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, p.InIf), p.OutIf))
}

// closes reports whether a server ends the connection with a segment: for it, it
// does, whatever becomes of the segment here.
func closes(segment *tcp) bool { return segment.has(tcpFIN | tcpRST) }

// bare tells a segment without data. Its FIN counts only where it is the next
// octet: until then the client does not acknowledge it.
func (r *responseStreams) bare(s *stream, segment *tcp, p *ipc.Packet) error {
	f := ipc.ResponseFact{Packet: *p, Segment: ipc.Segment{Kind: ipc.SegmentBare, Closes: closes(segment)}}
	if s == nil {
		return r.tell(&f)
	}
	// A FIN before what is lost: the client would acknowledge it with that.
	if segment.has(tcpFIN) && s.placeOf(segment.seq) > s.next {
		return r.drop(ipc.ReasonOutOfOrder, ipc.SegmentNone, segment, p)
	}
	// One that stands elsewhere may be of another connection, which the server had
	// with these ports before: what it acknowledges says nothing of this one.
	if s.placeOf(segment.seq) != s.next && !closes(segment) {
		return r.tell(&f)
	}
	f.Segment.Known, f.Segment.Server = true, s.number()
	if segment.has(tcpFIN) && s.placeOf(segment.seq) == s.next {
		f.Segment.Reach = uint32(s.next) + 1
	}
	if segment.has(tcpRST) && s.placeOf(segment.seq) == s.next { // as its receiver judges it, RFC 5961 section 3.2
		r.table.remove(s)
	}
	return r.tell(&f)
}

// syn begins a stream, unless it merely comes again.
func (r *responseStreams) syn(now ipc.Instant, key streamKey, s *stream, segment *tcp, p *ipc.Packet) error {
	if !segment.has(tcpACK) { // a client's, and there is none on this side
		return r.drop(ipc.ReasonBadTCP, ipc.SegmentNone, segment, p)
	}
	if s != nil && s.begin == segment.seq+1 {
		return r.tell(&ipc.ResponseFact{Packet: *p, Segment: ipc.Segment{Kind: ipc.SegmentAgain, Server: segment.seq}})
	}
	r.table.open(now, key, segment.seq)
	return r.tell(&ipc.ResponseFact{Packet: *p, Segment: ipc.Segment{Kind: ipc.SegmentOpen, Number: segment.ack - 1, Server: segment.seq}})
}

// data judges a segment with data of a stream that is known.
func (r *responseStreams) data(now ipc.Instant, s *stream, segment *tcp, p *ipc.Packet) error {
	r.table.use(now, s)
	if s.halted {
		return r.halt(ipc.ReasonConnRefused, s, segment, p)
	}
	_, reason := s.put(segment.seq, segment.payload)
	of := ipc.Segment{Kind: ipc.SegmentData, Server: s.number(), Reach: s.reach(segment), Closes: closes(segment)}
	var err error
	switch {
	case reason == ipc.ReasonOverlap:
		s.halt()
		err = r.halt(reason, s, segment, p)
	case reason != ipc.ReasonNone:
		err = r.drop(reason, ipc.SegmentData, segment, p)
	case s.told < s.whole:
		err = r.messages(s, of, p)
	default:
		err = r.tell(&ipc.ResponseFact{Packet: *p, Segment: of})
	}
	s.trim()
	r.table.changed(s)
	return err
}

// messages tells the messages that the packet completes, each in a fact of
// its own: the last decides, and the holder lets nothing pass after a message
// that did not.
func (r *responseStreams) messages(s *stream, of ipc.Segment, p *ipc.Packet) error {
	of.Kind = ipc.SegmentMessage
	for octets, ok := s.message(); ok; octets, ok = s.message() {
		f := ipc.ResponseFact{Packet: *p, Segment: of}
		if f.Drop = r.parser.message(octets); f.Drop == ipc.ReasonNone {
			r.parser.response(&f)
		}
		if f.Drop != ipc.ReasonNone {
			s.halt()
		}
		f.Segment.More = s.told < s.whole
		if err := r.tell(&f); err != nil {
			return err
		}
	}
	return nil
}

// halt drops a packet, and all that comes after it in its stream.
func (r *responseStreams) halt(reason ipc.Reason, s *stream, segment *tcp, p *ipc.Packet) error {
	return r.tell(&ipc.ResponseFact{Packet: *p, Drop: reason, Segment: ipc.Segment{Kind: ipc.SegmentHalt, Server: s.number(), Closes: closes(segment)}})
}

func (r *responseStreams) drop(reason ipc.Reason, kind ipc.SegmentKind, segment *tcp, p *ipc.Packet) error {
	return r.tell(&ipc.ResponseFact{Packet: *p, Drop: reason, Segment: ipc.Segment{Kind: kind, Closes: closes(segment)}})
}
