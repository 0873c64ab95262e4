package allowlist

import (
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Bounds of the TCP connections that are known. The filters share the room, and
// in a filter no client can take all of it: none has more than a quarter, as of
// the pending requests, or of a small room half. At its bound a client forgets that
// of its connections which it used least recently, and with the filter's room taken
// the filter does. (Not that of the client with most: who sends SYNs from many
// addresses has one each, and would have the others' handshakes forgotten.) A SYN is
// refused where nothing may be forgotten: its client has all that it may have in
// use, or several have the filter's.
const (
	// MaxConnections is the room of all filters together. With more than 2,730
	// filters each still has minConnections. Each takes 240 octets at most, and 341
	// where it is its client's only one (BenchmarkConnectionMemory): 89 MB in all, and
	// 268 MB with as many filters as there can be. An honest client is refused when it
	// begins more than its room within inUseFor. That it has ended them since is no
	// reason to forget one: a copy of the SYN-ACK may be under way all the same.
	MaxConnections         = 262_144
	maxConnectionsOfFilter = 16_384
	minConnections         = 96
	minConnectionsOfClient = 64
	// connectionsOfSelf is the daemon's own room: more than the resolver has
	// sockets for, with what was closed a moment ago.
	connectionsOfSelf = 256
	// connectionFor is how long a connection may be idle: longer than resolvers
	// and clients let one, whose end could not pass then.
	connectionFor = time.Hour
	// inUseFor is how long after its last segment a confirmed connection is in use:
	// as long as a SYN of before and the SYN-ACK that answers it may be under way
	// together, or what the client sent. Until then it makes no room, and no other
	// begins in its place: what is late would confirm that one, of which a server that
	// took the first knows nothing.
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
	server    uint32 // the number that the server confirmed with

	// reach is how many octets of the server's stream have passed, and so may be
	// acknowledged; acked how many of the client's the server has acknowledged.
	reach, acked uint32
	asked        bool // some data of the client's has passed: before, nothing can have been acknowledged

	requestsRefused, responsesRefused bool // nothing of it passes any more

	places [2]place // among its filter's, and among its client's
}

// connections are all of them.
type connections struct {
	byKey   map[pendingKey]*connection
	filters []connected // and after the last one the daemon's own
}

// connected is one filter's connections.
type connected struct {
	holding
	room         int
	roomOfClient int
	clients      map[[16]byte]*holding
}

func newConnections(filters int) *connections {
	room := max(minConnections, min(maxConnectionsOfFilter, MaxConnections/filters))
	c := &connections{
		byKey:   make(map[pendingKey]*connection),
		filters: make([]connected, filters+1),
	}
	for i := range filters {
		c.filters[i].room, c.filters[i].roomOfClient = room, max(minConnectionsOfClient, room/4)
	}
	// The daemon is one client.
	c.filters[filters].room, c.filters[filters].roomOfClient = connectionsOfSelf, connectionsOfSelf
	for i := range c.filters {
		c.filters[i].clients = make(map[[16]byte]*holding)
	}
	return c
}

// open records that a client of a filter begins a connection. An older one
// with the same addresses and ports is forgotten, whoever's it was: no two can be
// open at once. While that is in use the SYN is refused: a server with SYN cookies
// answers every SYN until it has state, and with more than one number, so that the
// answer to an earlier one could come when the server has begun with another. An
// honest client has other ports, and sends a SYN again for longer than that.
func (c *connections) open(now ipc.Instant, filter uint32, f *ipc.RequestFact) ipc.Reason {
	key := requestKey(f)
	conn := &connection{key: key, filter: filter, inIf: f.InIf, outIf: f.OutIf, number: f.Segment.Number, until: now.Add(connectionFor)}
	old := c.byKey[key]
	if old != nil && old.inUse(now) {
		return ipc.ReasonInUse
	}
	// One of the same filter, and so of the same client, leaves room. NB: a SYN that
	// is refused leaves one of another filter as it was: what confirmed it, too.
	if (old == nil || old.filter != filter) && !c.makeRoom(now, filter, key.client) {
		return ipc.ReasonConnectionsFull
	}
	if old != nil {
		c.remove(old)
	}
	w := &c.filters[filter]
	if w.clients[key.client] == nil {
		w.clients[key.client] = &holding{level: ofClient}
	}
	c.byKey[key] = conn
	c.add(conn)
	return ipc.ReasonNone
}

// makeRoom reports whether a client of a filter may have one connection more,
// for which another one may have to go.
func (c *connections) makeRoom(now ipc.Instant, filter uint32, client [16]byte) bool {
	w := &c.filters[filter]
	for conn := w.over(now); conn != nil; conn = w.over(now) {
		c.remove(conn)
	}
	from := &w.holding
	if mine := w.clients[client]; mine != nil && mine.n >= w.roomOfClient {
		from = mine
	} else if w.n < w.room {
		return true
	}
	conn := from.makesRoom(now)
	if conn == nil {
		return false
	}
	c.remove(conn)
	return true
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
		if c.acked == 0 && n.Seq != c.number+1 {
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
	if acked := f.Ack - (c.number + 1); c.asked && f.Ack != 0 && acked < 1<<31 {
		c.acked = max(c.acked, acked)
	}
}

// isOf reports whether a segment of a filter is of this connection. What comes by
// another interface than the SYN is of another stream to the parser: somebody may
// have forged it.
func (c *connection) isOf(filter uint32, f *ipc.RequestFact) bool {
	return c.filter == filter && c.inIf == f.InIf
}

// inUse reports whether a connection may neither make room nor be replaced.
func (c *connection) inUse(now ipc.Instant) bool {
	return c.confirmed && now.Sub(c.until.Add(-connectionFor)) < inUseFor
}

// find is the connection with this key, or nil.
func (c *connections) find(now ipc.Instant, key pendingKey) *connection {
	conn := c.byKey[key]
	if conn != nil && conn.until <= now {
		c.remove(conn)
		return nil
	}
	return conn
}

// use has a connection wait anew.
func (c *connections) use(now ipc.Instant, conn *connection) {
	c.takeOut(conn)
	conn.until = now.Add(connectionFor)
	c.add(conn)
}

// confirm records the number that a server confirmed a connection with, which
// was used just now.
func (c *connections) confirm(conn *connection, server uint32) {
	c.takeOut(conn)
	conn.confirmed, conn.server = true, server
	c.add(conn)
}

func (c *connections) remove(conn *connection) {
	delete(c.byKey, conn.key)
	c.takeOut(conn)
	if w := &c.filters[conn.filter]; w.clients[conn.key.client].n == 0 {
		delete(w.clients, conn.key.client)
	}
}

// add puts a connection behind all others of its filter, and of its client.
func (c *connections) add(conn *connection) {
	w := &c.filters[conn.filter]
	w.add(conn)
	w.clients[conn.key.client].add(conn)
}

// takeOut undoes add.
func (c *connections) takeOut(conn *connection) {
	w := &c.filters[conn.filter]
	w.remove(conn)
	w.clients[conn.key.client].remove(conn)
}

// forgetStreams has nothing pass any more of any connection: one of the parsers
// has forgotten where its streams are. The records stay, for what is known of each
// that is over.
func (c *connections) forgetStreams() {
	for _, conn := range c.byKey {
		conn.requestsRefused, conn.responsesRefused = true, true
	}
}
