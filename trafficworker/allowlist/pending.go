package allowlist

import (
	"container/list"
	"slices"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Bounds of the pending requests. The filters share the room, so that none
// can take that of another, and in a filter no source can take all of it.
const (
	// MaxPending is the room of all filters together. With more than 1,024
	// filters each still has minPending.
	MaxPending = 65_536
	// MaxPendingOfFilter bounds the pending requests of one filter.
	MaxPendingOfFilter = 16_384
	minPending         = 64
	// maxPendingOfKey bounds the requests that differ in nothing but their
	// questions and interfaces. Honest ones differ in port or id.
	maxPendingOfKey = 4
	// pendingFor is how long a request may wait for its response.
	pendingFor = time.Minute
	// maxPendingOfSelf bounds the daemon's own requests, which have a room of
	// their own and wait no longer than the resolver: else packets to addresses
	// whose reverse zone is silent could keep the daemon from asking for what
	// other filters cache. With ipc.MaxLookups under way and no server that
	// answers, the resolver has fewer than 2,000 waiting.
	maxPendingOfSelf = 4096
	pendingForSelf   = ipc.MaxLookupTime
)

// pendingKey is what a response must turn round exactly. Addresses are As16:
// no fact holds an IPv4 address in IPv6 clothes, so that is one to one.
type pendingKey struct {
	client, server         [16]byte
	clientPort, serverPort uint16
	txID                   uint16
	proto                  uint8
}

// record is one request that went out and was not answered yet.
type record struct {
	key         pendingKey
	filter      uint32
	inIf, outIf uint32
	until       ipc.Instant
	questions   []ipc.Question

	sibling *record       // the next one under the same key
	place   *list.Element // among its filter's
}

// pending holds the requests that wait for a response.
type pending struct {
	checkInterface bool
	len            int
	byKey          map[pendingKey]*record
	filters        []waiting // and after the last one the daemon's own
}

// waiting is one filter's pending requests in the order of their ends: all
// wait equally long, so that is the order they were last seen in.
type waiting struct {
	list.List    // of *record
	room         int
	roomOfSource int
	lasts        time.Duration
	sources      map[[16]byte]int
}

func newPending(filters int, checkInterface bool) *pending {
	room := max(minPending, min(MaxPendingOfFilter, MaxPending/filters))
	p := &pending{
		checkInterface: checkInterface,
		byKey:          make(map[pendingKey]*record),
		filters:        make([]waiting, filters+1),
	}
	for i := range filters {
		p.filters[i] = waiting{room: room, roomOfSource: max(minPending, room/4), lasts: pendingFor}
	}
	// The daemon is one source.
	p.filters[filters] = waiting{room: maxPendingOfSelf, roomOfSource: maxPendingOfSelf, lasts: pendingForSelf}
	for i := range p.filters {
		p.filters[i].sources = make(map[[16]byte]int)
	}
	return p
}

// add records a request, or says why it must not go out. The same request
// again only waits anew. NB: it must have been judged.
func (p *pending) add(now ipc.Instant, filter uint32, f *ipc.RequestFact) ipc.Reason {
	p.purge(now, filter)
	w := &p.filters[filter]
	key := keyOf(&f.Packet, f.TxID, f.Src, f.Dst, f.SrcPort, f.DstPort)
	same := 0
	for r, next := p.byKey[key], (*record)(nil); r != nil; r = next {
		next = r.sibling
		if r.until <= now {
			p.remove(r) // of another filter, which has been quiet since
			continue
		}
		same++
		if !slices.Equal(r.questions, f.Questions) {
			continue
		}
		if r.filter != filter {
			return ipc.ReasonPendingOther
		}
		if !p.checkInterface || r.inIf == f.InIf && r.outIf == f.OutIf {
			r.until = now.Add(w.lasts)
			w.MoveToBack(r.place)
			return ipc.ReasonNone
		}
	}
	if same >= maxPendingOfKey || w.Len() >= w.room || w.sources[key.client] >= w.roomOfSource {
		return ipc.ReasonPendingFull
	}
	r := &record{
		key: key, filter: filter, inIf: f.InIf, outIf: f.OutIf,
		until: now.Add(w.lasts), questions: f.Questions, sibling: p.byKey[key],
	}
	p.byKey[key] = r
	w.sources[key.client]++
	r.place = w.PushBack(r)
	p.len++
	return ipc.ReasonNone
}

// take finds the request that a response answers and uses it up. What does
// not match in everything, the interface included, leaves the records alone:
// else whoever guesses a port and an id could burn an honest request.
func (p *pending) take(now ipc.Instant, f *ipc.ResponseFact) (*record, ipc.Reason) {
	unasked := len(f.Questions) == 0
	if unasked && (f.RCode == 0 || !f.NoRecords) {
		return nil, ipc.ReasonNoQuestion
	}
	var match *record
	reason := ipc.ReasonNoRequest
	key := keyOf(&f.Packet, f.TxID, f.Dst, f.Src, f.DstPort, f.SrcPort)
	for r := p.byKey[key]; r != nil; r = r.sibling {
		if r.until <= now || !unasked && !slices.Equal(r.questions, f.Questions) {
			continue
		}
		if !p.interfacesFit(r.inIf, r.outIf, &f.Packet) {
			reason = ipc.ReasonInterface
			continue
		}
		if match == nil {
			match = r
		} else if unasked {
			return nil, ipc.ReasonNoRequest // which one it means cannot be told
		}
	}
	if match == nil {
		return nil, reason
	}
	p.remove(match)
	return match, ipc.ReasonNone
}

// interfacesFit reports whether a response came in where its request (which
// came by inIf and left by outIf) went out, and goes where that came from, as
// far as the kernel names both.
//
// A request that came in and has no way out was taken in by this host (hook
// INPUT): only what this host itself sends, which came in nowhere, answers
// it. Without that the asker could send itself "the host's" answer and have
// the host forward it.
func (p *pending) interfacesFit(inIf, outIf uint32, response *ipc.Packet) bool {
	if !p.checkInterface {
		return true
	}
	differ := func(a, b uint32) bool { return a != 0 && b != 0 && a != b }
	takenIn := inIf != 0 && outIf == 0
	return !(takenIn && response.InIf != 0) && !differ(outIf, response.InIf) && !differ(inIf, response.OutIf)
}

// purge takes back what a filter waited for in vain. Every record is taken
// back once, so that costs a request nothing in the long run.
func (p *pending) purge(now ipc.Instant, filter uint32) {
	w := &p.filters[filter]
	for {
		oldest := w.Front()
		if oldest == nil || oldest.Value.(*record).until > now {
			return
		}
		p.remove(oldest.Value.(*record))
	}
}

func (p *pending) remove(r *record) {
	if first := p.byKey[r.key]; first != r {
		for first.sibling != r {
			first = first.sibling
		}
		first.sibling = r.sibling
	} else if r.sibling != nil {
		p.byKey[r.key] = r.sibling
	} else {
		delete(p.byKey, r.key)
	}
	w := &p.filters[r.filter]
	if w.sources[r.key.client]--; w.sources[r.key.client] == 0 {
		delete(w.sources, r.key.client)
	}
	w.Remove(r.place)
	p.len--
}

// keyOf is a packet's key as seen from the client. NB: the packet has a flow.
func keyOf(p *ipc.Packet, txID uint16, client, server ipc.Address, clientPort, serverPort uint16) pendingKey {
	c, _ := client.Addr()
	s, _ := server.Addr()
	return pendingKey{c.As16(), s.As16(), clientPort, serverPort, txID, p.Proto}
}
