package dnsworker

import "github.com/capnspacehook/egress-eddie/ipc"

// Bounds of the streams of one worker. Whoever takes most has to make room:
// of his streams the one that was idle longest is forgotten, what it held is
// dropped, and later data of it belongs to no stream that is known.
const (
	maxRequestStreams = 512
	// maxResponseStreams is more, since all filters' answers come through one worker.
	// It is less than the holder's bound on connections: there an ended one is to be
	// remembered for a while, here it may go, and what makes room is looked for among
	// all.
	maxResponseStreams = 4096
	// maxOctets bounds what all streams keep together.
	maxOctets = 16 << 20
	// streamCost is what a stream counts besides its octets.
	streamCost = 1 << 10
)

// streamKey is a connection as its packets in this direction say it, and by where
// they come: what somebody forges by another interface is no part of the stream,
// and must not move it. Group is who shares a bound: a filter for requests, or the
// resolver; and for responses, which belong to none, everything from one server's
// address to one client's by the same interfaces.
type streamKey struct {
	group            string
	inIf             uint32
	src, dst         ipc.Address
	srcPort, dstPort uint16
}

func keyOf(group string, p *ipc.Packet) streamKey {
	return streamKey{group, p.InIf, p.Src, p.Dst, p.SrcPort, p.DstPort}
}

// streams are the connections of one worker, one direction of each.
type streams struct {
	bound  int
	byKey  map[streamKey]*stream
	octets int // that all keep, as the capacity of their buffers
}

func newStreams(bound int) *streams {
	return &streams{bound: bound, byKey: make(map[streamKey]*stream)}
}

// open begins a stream, in place of an older one with the same addresses and
// ports. It returns the packets that were held by what had to go, if any.
func (t *streams) open(now ipc.Instant, key streamKey, seq uint32) (dropped []ipc.Packet) {
	if old := t.byKey[key]; old != nil {
		dropped = t.remove(old)
	} else if len(t.byKey) >= t.bound {
		dropped = t.remove(t.victim())
	}
	t.byKey[key] = &stream{key: key, used: now, begin: seq + 1}
	return dropped
}

func (t *streams) remove(s *stream) []ipc.Packet {
	t.octets -= cap(s.octets)
	delete(t.byKey, s.key)
	return s.drop()
}

// victim is the stream that has to make room: the idlest of the group that
// takes most. It looks at every stream; that is paid only at a bound.
func (t *streams) victim() (idlest *stream) {
	costs := make(map[string]int)
	most := ""
	for _, s := range t.byKey {
		costs[s.key.group] += streamCost + cap(s.octets)
	}
	for group, cost := range costs {
		if c := costs[most]; cost > c || cost == c && group < most {
			most = group
		}
	}
	for _, s := range t.byKey {
		if s.key.group == most && (idlest == nil || s.used < idlest.used) {
			idlest = s
		}
	}
	return idlest
}

// mostHeld is the stream of a group that holds most packets, and how many all
// of the group hold.
func (t *streams) mostHeld(group string) (most *stream, all int) {
	for _, s := range t.byKey {
		if s.key.group != group {
			continue
		}
		all += len(s.held)
		if most == nil || len(s.held) > len(most.held) {
			most = s
		}
	}
	return most, all
}

// changed counts what a stream keeps now, of whose octets before had room.
// When all keep too much it returns what was held by the one that had to go.
func (t *streams) changed(s *stream, before int) (dropped []ipc.Packet) {
	t.octets += cap(s.octets) - before
	for t.octets > maxOctets {
		dropped = append(dropped, t.remove(t.victim())...)
	}
	return dropped
}
