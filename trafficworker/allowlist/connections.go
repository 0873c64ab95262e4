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
	// connectionFor is how long a connection may be idle: longer than resolvers
	// and clients let one, whose end could not pass then.
	connectionFor = time.Hour
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

	requestsRefused, responsesRefused bool // nothing of it passes any more

	place *list.Element // among its filter's
}

// connections are all of them.
type connections struct {
	room  int // of a filter
	byKey map[pendingKey]*connection
	// filters has each one's in the order of their last use, which is that of
	// their ends.
	filters []list.List // of *connection
}

func newConnections(filters int) *connections {
	return &connections{
		room:    max(minConnections, MaxConnections/filters),
		byKey:   make(map[pendingKey]*connection),
		filters: make([]list.List, filters),
	}
}

// open records that a client of a filter begins a connection. An older one
// with the same addresses and ports is forgotten, whoever's it was: no two can be
// open at once.
func (c *connections) open(now ipc.Instant, filter uint32, f *ipc.RequestFact) {
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
	for w.Len() > 0 {
		oldest := w.Front().Value.(*connection)
		if oldest.until > now && w.Len() < c.room {
			break
		}
		c.remove(oldest)
	}
	c.byKey[key] = conn
	conn.place = w.PushBack(conn)
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
