package dnsworker

import "github.com/capnspacehook/egress-eddie/ipc"

// responseStreams tells the holder of the segments of response queues. Nothing
// is held: a client can do nothing with a part of a message, and the segment
// that completes one waits for the holder.
type responseStreams struct {
	parser *Parser
	tell   func(*ipc.ResponseFact) error
	table  *streams
}

func newResponseStreams(parser *Parser, tell func(*ipc.ResponseFact) error) *responseStreams {
	return &responseStreams{parser: parser, tell: tell, table: newStreams(maxResponseStreams)}
}

// packet tells one packet of a response queue.
func (r *responseStreams) packet(now ipc.Instant, m Meta, packet []byte) error {
	f := r.parser.Response(m, packet)
	segment := r.parser.segment
	if segment == nil {
		return r.tell(&f)
	}
	key := keyOf(string(f.Src+f.Dst), &f.Packet)
	s := r.table.byKey[key]
	switch {
	case segment.has(tcpSYN):
		return r.syn(now, key, s, segment, &f.Packet)
	case len(segment.payload) > 0 && s == nil:
		return r.drop(ipc.ReasonNoConnection, ipc.SegmentNone, &f.Packet)
	case len(segment.payload) > 0:
		return r.data(now, s, segment, &f.Packet)
	}
	if s != nil && segment.has(tcpRST) && s.placeOf(segment.seq) == s.next { // see requestStreams
		r.table.remove(s)
	}
	return r.pass(ipc.SegmentBare, &f.Packet)
}

// syn begins a stream, unless it merely comes again.
func (r *responseStreams) syn(now ipc.Instant, key streamKey, s *stream, segment *tcp, p *ipc.Packet) error {
	if !segment.has(tcpACK) { // a client's, and there is none on this side
		return r.drop(ipc.ReasonBadTCP, ipc.SegmentNone, p)
	}
	if s != nil && s.begin == segment.seq+1 {
		return r.pass(ipc.SegmentBare, p)
	}
	r.table.open(now, key, segment.seq)
	return r.tell(&ipc.ResponseFact{Packet: *p, Segment: ipc.Segment{Kind: ipc.SegmentOpen, Number: segment.ack - 1, Server: segment.seq}})
}

// data judges a segment with data of a stream that is known.
func (r *responseStreams) data(now ipc.Instant, s *stream, segment *tcp, p *ipc.Packet) error {
	s.used = now
	if s.halted {
		return r.drop(ipc.ReasonConnRefused, ipc.SegmentHalt, p)
	}
	before := cap(s.octets)
	_, reason := s.put(segment.seq, segment.payload)
	var err error
	switch {
	case reason == ipc.ReasonOverlap:
		s.halt()
		err = r.drop(reason, ipc.SegmentHalt, p)
	case reason != ipc.ReasonNone:
		err = r.drop(reason, ipc.SegmentData, p)
	case s.told < s.whole:
		err = r.messages(s, p)
	default:
		err = r.pass(ipc.SegmentData, p)
	}
	s.trim()
	r.table.changed(s, before)
	return err
}

// messages tells the messages that the packet completes, each in a fact of
// its own: the last decides, and the holder lets nothing pass after a message
// that did not.
func (r *responseStreams) messages(s *stream, p *ipc.Packet) error {
	for octets, ok := s.message(); ok; octets, ok = s.message() {
		f := ipc.ResponseFact{Packet: *p, Segment: ipc.Segment{Kind: ipc.SegmentMessage}}
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

func (r *responseStreams) pass(kind ipc.SegmentKind, p *ipc.Packet) error {
	return r.tell(&ipc.ResponseFact{Packet: *p, Segment: ipc.Segment{Kind: kind}})
}

func (r *responseStreams) drop(reason ipc.Reason, kind ipc.SegmentKind, p *ipc.Packet) error {
	return r.tell(&ipc.ResponseFact{Packet: *p, Drop: reason, Segment: ipc.Segment{Kind: kind}})
}
