package allowlist

import (
	"container/list"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Bounds of the TCP connections that are known. The filters share the room; at
// its bound a filter forgets the connection that it used least recently.
const (
	// MaxConnections is the room of all filters together. With more than 32
	// filters each still has minConnections.
	MaxConnections = 4096
	minConnections = 128
	// connectionsOfSelf is the daemon's own room: more than the resolver has
	// sockets for, with what was closed a moment ago.
	connectionsOfSelf = 256
	// connectionFor is how long a connection may be idle: longer than resolvers
	// and clients let one, whose end could not pass then.
	connectionFor = time.Hour
	// inUseFor is how long after its last segment a confirmed connection makes no
	// room: as long as a copy of the server's SYN-ACK may be under way. To forget it
	// then would be to forget that the copy confirms nothing.
	inUseFor = 5 * time.Second
)

// connection is a TCP connection of a client to a server, as its client's
// filter and the server have told of it.
type connection struct {
	key         pendingKey // with transaction id 0
	filter      uint32
	inIf, outIf uint32 // of the SYN
	until       ipc.Instant

	// number is the SYN's. Confirmed: the server began a stream after exactly
	// it. Before that no data passes: the parsers begin anew with every SYN, and
	// a server in the midst of an older connection would take what follows for
	// the rest of a message that it has half of.
	number    uint32
	confirmed bool
	// server is the number that the server confirmed with. Stale is that of the
	// connection which had these addresses and ports before: a copy of its
	// SYN-ACK confirms nothing.
	server, stale uint32
	hasStale      bool

	// reach is how many octets of the server's stream have passed, and so may be
	// acknowledged. Begun: the server has acknowledged some of the client's.
	reach uint32
	begun bool

	requestsRefused, responsesRefused bool // nothing of it passes any more

	place *list.Element // among its filter's
}

// connections are all of them.
type connections struct {
	room  int // of a filter
	byKey map[pendingKey]*connection
	// filters has each one's, and after the last one the daemon's own, in the
	// order of their last use, which is that of their ends.
	filters []list.List // of *connection
}

func newConnections(filters int) *connections {
	return &connections{
		room:    max(minConnections, MaxConnections/filters),
		byKey:   make(map[pendingKey]*connection),
		filters: make([]list.List, filters+1),
	}
}

func (c *connections) roomOf(filter uint32) int {
	if int(filter) == len(c.filters)-1 {
		return connectionsOfSelf
	}
	return c.room
}

// open records that a client of a filter begins a connection. An older one
// with the same addresses and ports is forgotten, whoever's it was: no two can be
// open at once.
func (c *connections) open(now ipc.Instant, filter uint32, f *ipc.RequestFact) ipc.Reason {
	key := keyOf(&f.Packet, 0, f.Src, f.Dst, f.SrcPort, f.DstPort)
	conn := &connection{key: key, filter: filter, inIf: f.InIf, outIf: f.OutIf, number: f.Segment.Number, until: now.Add(connectionFor)}
	if old := c.byKey[key]; old != nil {
		conn.stale, conn.hasStale = old.stale, old.hasStale
		if old.confirmed {
			conn.stale, conn.hasStale = old.server, true
		}
		c.remove(old)
	}
	w := &c.filters[filter]
	for w.Len() > 0 && w.Front().Value.(*connection).until <= now {
		c.remove(w.Front().Value.(*connection))
	}
	if w.Len() >= c.roomOf(filter) && !c.makeRoom(now, w) {
		return ipc.ReasonConnectionsFull
	}
	c.byKey[key] = conn
	conn.place = w.PushBack(conn)
	return ipc.ReasonNone
}

// makeRoom forgets the connection of a filter that was used least recently and
// may be forgotten.
func (c *connections) makeRoom(now ipc.Instant, w *list.List) bool {
	for e := w.Front(); e != nil; e = e.Next() {
		conn := e.Value.(*connection)
		if used := conn.until.Add(-connectionFor); !conn.confirmed || now.Sub(used) >= inUseFor {
			c.remove(conn)
			return true
		}
	}
	return false
}

// fit says whether segments of the client's acknowledge only what has passed, and
// stand where they may, or why not. NB: the connection is confirmed.
//
// Until the server has acknowledged something, that is where the stream begins. A
// server with SYN cookies (net/ipv4/syncookies.c of Linux) takes from the handshake's
// last segment where it does: with the cookie of another segment size, or of the
// minute before, at another place. Whether the server got what passed before is
// not to be seen: a checksum may be wrong, or a time to live too short.
func (c *connection) fit(all ...ipc.Numbers) ipc.Reason {
	reason := ipc.ReasonNone
	for _, n := range all {
		if n.Ack-(c.server+1) > c.reach {
			return ipc.ReasonNumbers
		}
		if !c.begun && n.Seq != c.number+1 {
			reason = ipc.ReasonEarly
		}
	}
	return reason
}

// passed takes note of a segment of the server's that was let through.
func (c *connection) passed(f *ipc.ResponseFact) {
	if s := &f.Segment; !c.confirmed || s.Server != c.server || s.Kind == ipc.SegmentBare && !s.Known {
		return
	}
	c.reach = max(c.reach, f.Segment.Reach)
	if acked := f.Ack - (c.number + 1); f.Ack != 0 && 0 < acked && acked < 1<<31 {
		c.begun = true
	}
	if f.Segment.Closes { // whoever sends after it sends to another connection
		c.requestsRefused = true
	}
}

// find is the connection with this key, which is in use now, or nil.
func (c *connections) find(now ipc.Instant, key pendingKey) *connection {
	conn := c.byKey[key]
	if conn == nil {
		return nil
	}
	if conn.until <= now {
		c.remove(conn)
		return nil
	}
	conn.until = now.Add(connectionFor)
	c.filters[conn.filter].MoveToBack(conn.place)
	return conn
}

func (c *connections) remove(conn *connection) {
	delete(c.byKey, conn.key)
	c.filters[conn.filter].Remove(conn.place)
}
