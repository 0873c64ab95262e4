package dnsworker

import "github.com/capnspacehook/egress-eddie/ipc"

// Bounds of the streams of one worker. The group that takes most has to make room,
// and in a group no client can take all of it: none has more than a quarter of what
// there is. Of a group's streams, or of a client's at its bound, the one that was idle
// longest is forgotten, what it held is dropped, and later data of it belongs to no
// stream that is known. (Not that of the client with most: who sends from many
// addresses has one each, and would have the others' forgotten.)
const (
	maxRequestStreams = 2048
	// maxResponseStreams is more, since there what an ended connection leaves is
	// forgotten only where there is no room.
	maxResponseStreams = 16_384
	// maxOctets bounds what all streams keep together.
	maxOctets = 64 << 20
	// shareOfClient is the part of each that a client may have.
	shareOfClient = 4
	// streamCost is what a stream counts besides its octets.
	streamCost = 1 << 10
)

// streamKey is a connection as its packets in this direction say it, and by where
// they come: what somebody forges by another interface is no part of the stream,
// and must not move it. Group is who shares a bound: a filter for requests, or the
// resolver; and for responses, which belong to none, everything by the same two
// interfaces. Of them there are few, whatever is sent.
type streamKey struct {
	group            string
	inIf             uint32
	src, dst         ipc.Address
	srcPort, dstPort uint16
}

func keyOf(group string, p *ipc.Packet) streamKey {
	return streamKey{group, p.InIf, p.Src, p.Dst, p.SrcPort, p.DstPort}
}

// clientKey is a client in its group.
type clientKey struct {
	group   string
	address ipc.Address
}

func clientIsSrc(k *streamKey) clientKey { return clientKey{k.group, k.src} }
func clientIsDst(k *streamKey) clientKey { return clientKey{k.group, k.dst} }

// streams are the connections of one worker, one direction of each.
type streams struct {
	bound, room int // how many, and how many octets
	clientOf    func(*streamKey) clientKey

	byKey   map[streamKey]*stream
	groups  map[string]*crowd
	clients map[clientKey]*crowd
	octets  int // that all keep, as the capacity of their buffers
}

func newStreams(bound int, clientOf func(*streamKey) clientKey) *streams {
	return &streams{
		bound: bound, room: maxOctets, clientOf: clientOf,
		byKey: make(map[streamKey]*stream), groups: make(map[string]*crowd), clients: make(map[clientKey]*crowd),
	}
}

// open begins a stream, in place of an older one with the same addresses and
// ports. It returns the packets that were held by what had to go, if any.
func (t *streams) open(now ipc.Instant, key streamKey, seq uint32) (dropped []ipc.Packet) {
	client := t.clientOf(&key)
	if old := t.byKey[key]; old != nil {
		dropped = t.remove(old)
	} else if mine := t.clients[client]; mine != nil && mine.Len() >= t.bound/shareOfClient {
		dropped = t.remove(mine.idlest())
	} else if len(t.byKey) >= t.bound {
		dropped = t.remove(t.victim())
	}
	s := &stream{key: key, used: now, begin: seq + 1}
	t.byKey[key] = s
	s.join(ofGroup, crowdOf(t.groups, key.group))
	s.join(ofClient, crowdOf(t.clients, client))
	return dropped
}

func (t *streams) remove(s *stream) []ipc.Packet {
	dropped := s.drop()
	s.octets = nil
	t.count(s)
	for i, c := range s.crowds {
		c.Remove(s.places[i])
	}
	if s.crowds[ofGroup].Len() == 0 {
		delete(t.groups, s.key.group)
	}
	if s.crowds[ofClient].Len() == 0 {
		delete(t.clients, t.clientOf(&s.key))
	}
	delete(t.byKey, s.key)
	return dropped
}

// use notes that something of a stream came.
func (t *streams) use(now ipc.Instant, s *stream) {
	s.used = now
	for i, c := range s.crowds {
		c.MoveToBack(s.places[i])
	}
}

// victim is the stream that has to make room: the idlest of the group that
// takes most.
func (t *streams) victim() *stream {
	var most *crowd
	for _, c := range t.groups {
		if most == nil || c.cost() > most.cost() || c.cost() == most.cost() && c.idlest().used < most.idlest().used {
			most = c
		}
	}
	return most.idlest()
}

// count brings what is kept and held together up to date with a stream.
func (t *streams) count(s *stream) {
	octets, held := cap(s.octets)-s.counted.octets, len(s.held)-s.counted.held
	s.counted.octets, s.counted.held = cap(s.octets), len(s.held)
	t.octets += octets
	for _, c := range s.crowds {
		c.octets += octets
		c.held += held
	}
}

// changed is count, and makes room. It returns what was held by those that had
// to go, when all keep too much, or all of a client.
func (t *streams) changed(s *stream) (dropped []ipc.Packet) {
	t.count(s)
	for mine := s.crowds[ofClient]; mine.octets > t.room/shareOfClient; {
		dropped = append(dropped, t.remove(mine.idlest())...)
	}
	for t.octets > t.room {
		dropped = append(dropped, t.remove(t.victim())...)
	}
	return dropped
}
