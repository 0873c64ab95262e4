package dnsworker

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// holdFor is how long a packet is held for the rest of its message. Its sender
// sends it again, and a resolver waits longer.
const holdFor = 2 * time.Second

// maxHeldOfFilter bounds the packets of a filter that are held at once. They
// stand in the kernel's queue, which has room for 4,096 and which the filter's
// other clients need.
const maxHeldOfFilter = 1024

// requestStreams tells the holder what to do with the segments of request
// queues. No octet of a query leaves before the holder has allowed all of its
// questions: what completes no message is held in the kernel's queue.
type requestStreams struct {
	parser *Parser
	tell   func(*ipc.RequestFact) error
	groups map[uint32]string // see groupOf; by handle
	table  *streams
	due    ipc.Instant // not before it is anything held too long; 0: nothing is held
}

func newRequestStreams(p *ipc.Policy, parser *Parser, tell func(*ipc.RequestFact) error) *requestStreams {
	r := &requestStreams{parser: parser, tell: tell, groups: make(map[uint32]string), table: newStreams(maxRequestStreams, clientIsSrc)}
	for _, q := range p.Queues {
		r.groups[q.Handle] = groupOf(&q)
	}
	return r
}

// groupOf is who shares the bounds of a queue, and whose packets a fact may
// decide together: its filter, or the resolver, which belongs to none.
func groupOf(q *ipc.Queue) string {
	if q.Kind == ipc.QueueSelf {
		return "self"
	}
	return strconv.Itoa(int(q.Filter))
}

// packet tells one packet of a request queue, or holds it.
func (r *requestStreams) packet(now ipc.Instant, m Meta, packet []byte) error {
	f := r.parser.Request(m, packet)
	segment := r.parser.segment
	if segment == nil {
		return r.tell(&f)
	}
	key := keyOf(r.groups[m.Handle], &f.Packet)
	s := r.table.byKey[key]
	switch {
	case segment.has(tcpSYN):
		return r.syn(now, key, s, segment, &f.Packet)
	case len(segment.payload) > 0 && s == nil:
		return r.drop(ipc.ReasonNoConnection, ipc.SegmentNone, f.Packet)
	case len(segment.payload) > 0:
		return r.data(now, s, segment, f.Packet)
	}
	return r.bare(s, segment, &f.Packet)
}

// bare tells a segment without data. To the holder every RST ends a connection;
// here only one as its receiver judges it (RFC 5961 section 3.2), or whoever does
// not know the place could have what is held forgotten.
func (r *requestStreams) bare(s *stream, segment *tcp, p *ipc.Packet) error {
	f := ipc.RequestFact{Packet: *p, Segment: ipc.Segment{Kind: ipc.SegmentBare, Closes: segment.has(tcpRST), Fin: segment.has(tcpFIN)}}
	if s == nil {
		return r.tell(&f)
	}
	f.Segment.Known, f.Segment.Number = true, s.number()
	if segment.has(tcpRST) && s.placeOf(segment.seq) == s.next {
		if err := r.drop(ipc.ReasonNoConnection, ipc.SegmentData, r.table.remove(s)...); err != nil {
			return err
		}
	}
	return r.tell(&f)
}

// syn begins a stream, unless it merely comes again.
func (r *requestStreams) syn(now ipc.Instant, key streamKey, s *stream, segment *tcp, p *ipc.Packet) error {
	if segment.has(tcpACK) { // a server's, and there is none on this side
		return r.drop(ipc.ReasonBadTCP, ipc.SegmentNone, *p)
	}
	if s != nil && s.begin == segment.seq+1 {
		// What is decided here would pass in a connection that the holder begins with
		// it: it may have forgotten the one in which it refused that, or never had one.
		// Who has sent data has the server's SYN-ACK.
		if s.next > 0 || s.halted {
			return r.drop(ipc.ReasonRepeated, ipc.SegmentNone, *p)
		}
		return r.tell(&ipc.RequestFact{Packet: *p, Segment: ipc.Segment{Kind: ipc.SegmentAgain, Number: segment.seq}})
	}
	if err := r.drop(ipc.ReasonNoConnection, ipc.SegmentData, r.table.open(now, key, segment.seq)...); err != nil {
		return err
	}
	return r.tell(&ipc.RequestFact{Packet: *p, Segment: ipc.Segment{Kind: ipc.SegmentOpen, Number: segment.seq}})
}

// data judges a segment with data of a stream that is known.
func (r *requestStreams) data(now ipc.Instant, s *stream, segment *tcp, p ipc.Packet) error {
	r.table.use(now, s)
	if s.halted {
		return r.halt(ipc.ReasonConnRefused, s, p)
	}
	fresh, reason := s.put(segment.seq, segment.payload)
	err := r.judge(now, s, segment, p, fresh, reason)
	s.trim()
	if dropped := r.table.changed(s); err == nil {
		err = r.drop(ipc.ReasonNoConnection, ipc.SegmentData, dropped...)
	}
	return err
}

func (r *requestStreams) judge(now ipc.Instant, s *stream, segment *tcp, p ipc.Packet, fresh int64, reason ipc.Reason) error {
	switch {
	case reason == ipc.ReasonOverlap:
		return r.halt(reason, s, append(s.halt(), p)...)
	case reason != ipc.ReasonNone:
		return r.drop(reason, ipc.SegmentData, p)
	case fresh < s.next:
		return r.fresh(now, s, p, fresh)
	case s.placeOf(segment.seq)+int64(len(segment.payload)) <= s.decided():
		return r.tell(&ipc.RequestFact{Packet: p, Segment: ipc.Segment{Kind: ipc.SegmentData, Number: s.number()}})
	}
	return r.drop(ipc.ReasonRepeated, ipc.SegmentData, p)
}

// fresh judges a packet that brought something new: it and those before it
// leave together, or it is held.
func (r *requestStreams) fresh(now ipc.Instant, s *stream, p ipc.Packet, from int64) error {
	s.held = append(s.held, heldPacket{p, from, s.next, now})
	packets := s.release()
	switch {
	case len(packets) > 0 && s.told == s.whole: // a length and nothing else
		return r.tell(decision(ipc.RequestFact{Segment: ipc.Segment{Kind: ipc.SegmentData, Number: s.number()}}, packets))
	case len(packets) > 0:
		return r.messages(s, packets)
	case len(s.held) > ipc.MaxHeld:
		return r.halt(ipc.ReasonTooManySegments, s, s.halt()...)
	}
	r.table.count(s)
	if group := s.crowds[ofGroup]; group.held > maxHeldOfFilter {
		most := group.mostHeld()
		packets := most.drop()
		r.table.count(most)
		return r.drop(ipc.ReasonTooManySegments, ipc.SegmentData, packets...)
	}
	if end := now.Add(holdFor); r.due == 0 || end < r.due {
		r.due = end
	}
	return nil
}

// messages tells the messages that are complete. All packets share the fate of
// the worst of them, and those that are held go with a message that cannot pass.
func (r *requestStreams) messages(s *stream, packets []ipc.Packet) error {
	var facts []ipc.RequestFact
	for octets, ok := s.message(); ok; octets, ok = s.message() {
		f := ipc.RequestFact{Segment: ipc.Segment{Kind: ipc.SegmentMessage, Number: s.number(), More: true}}
		if f.Drop = r.parser.message(octets); f.Drop == ipc.ReasonNone {
			r.parser.request(&f)
		}
		if len(facts) == ipc.MaxPipelined-1 && s.told < s.whole {
			f.Drop = ipc.ReasonTooManySegments
		}
		facts = append(facts, f)
		if f.Drop != ipc.ReasonNone {
			packets = append(packets, s.halt()...)
			break
		}
	}
	for i := range facts {
		f := &facts[i]
		if i == len(facts)-1 {
			f.Segment.More = false
			f = decision(*f, packets)
		} else {
			f.Packet = packets[len(packets)-1]
		}
		if err := r.tell(f); err != nil {
			return err
		}
	}
	return nil
}

// tick drops what was held too long. It is asked for the clock only while
// something is held.
func (r *requestStreams) tick() (time.Duration, error) {
	if r.due == 0 {
		return ipc.Forever, nil
	}
	return r.expire(ipc.Now())
}

func (r *requestStreams) expire(now ipc.Instant) (time.Duration, error) {
	if now < r.due {
		return r.due.Sub(now), nil
	}
	r.due = 0
	for _, s := range r.table.byKey {
		if len(s.held) == 0 {
			continue
		}
		if end := s.held[0].at.Add(holdFor); end <= now {
			packets := s.drop()
			r.table.count(s)
			if err := r.drop(ipc.ReasonHeldTooLong, ipc.SegmentData, packets...); err != nil {
				return 0, err
			}
		} else if r.due == 0 || end < r.due {
			r.due = end
		}
	}
	if r.due == 0 {
		return ipc.Forever, nil
	}
	return r.due.Sub(now), nil
}

// halt is drop, with all that comes after it in the stream.
func (r *requestStreams) halt(reason ipc.Reason, s *stream, packets ...ipc.Packet) error {
	return r.dropped(reason, ipc.Segment{Kind: ipc.SegmentHalt, Number: s.number()}, packets)
}

// drop tells that packets are to be dropped.
func (r *requestStreams) drop(reason ipc.Reason, kind ipc.SegmentKind, packets ...ipc.Packet) error {
	return r.dropped(reason, ipc.Segment{Kind: kind}, packets)
}

// dropped tells of packets in as many facts as they need.
func (r *requestStreams) dropped(reason ipc.Reason, of ipc.Segment, packets []ipc.Packet) error {
	for len(packets) > 0 {
		n := 1 // of one group: streams of several may have to go at once
		for n < min(len(packets), ipc.MaxHeld) && r.groups[packets[n].Handle] == r.groups[packets[0].Handle] {
			n++
		}
		if err := r.tell(decision(ipc.RequestFact{Drop: reason, Segment: of}, packets[:n])); err != nil {
			return err
		}
		packets = packets[n:]
	}
	return nil
}

// decision is f as the fact that decides packets, of which the last is the
// one that the log shows.
func decision(f ipc.RequestFact, packets []ipc.Packet) *ipc.RequestFact {
	last := len(packets) - 1
	f.Packet = packets[last]
	others := slices.SortedFunc(slices.Values(packets[:last]), func(a, b ipc.Packet) int {
		return cmp.Or(cmp.Compare(a.Handle, b.Handle), cmp.Compare(a.ID, b.ID))
	})
	for i := range others {
		f.Segment.Also = append(f.Segment.Also, ipc.PacketID{Handle: others[i].Handle, ID: others[i].ID})
		f.Segment.AlsoAt = append(f.Segment.AlsoAt, others[i].Numbers)
	}
	return &f
}
