package allowlist

import "github.com/capnspacehook/egress-eddie/ipc"

// holding is the connections of a filter, or of one of its clients, in the order
// of their last use. Those that a server has confirmed stand in a line of their
// own: they alone may not be forgotten just now, so that what makes room is found
// at the front of a line, however many are in use.
type holding struct {
	level level
	n     int
	lines [2]line // those that are not confirmed, and those that are
}

// level is which of a connection's two places is meant.
type level uint8

const (
	ofFilter level = iota
	ofClient
)

// line is connections by their last use, the least recent first.
type line struct{ first, last *connection }

// place is where a connection stands in a line.
type place struct{ before, after *connection }

func (h *holding) line(conn *connection) *line {
	if conn.confirmed {
		return &h.lines[1]
	}
	return &h.lines[0]
}

// add puts a connection behind all others of its line.
func (h *holding) add(conn *connection) {
	l := h.line(conn)
	conn.places[h.level] = place{before: l.last}
	if l.last == nil {
		l.first = conn
	} else {
		l.last.places[h.level].after = conn
	}
	l.last = conn
	h.n++
}

// remove takes a connection out. NB: confirmed must be as it was with add.
func (h *holding) remove(conn *connection) {
	l, p := h.line(conn), &conn.places[h.level]
	if p.before == nil {
		l.first = p.after
	} else {
		p.before.places[h.level].after = p.after
	}
	if p.after == nil {
		l.last = p.before
	} else {
		p.after.places[h.level].before = p.before
	}
	*p = place{}
	h.n--
}

// over is a connection that has ended by now, or nil.
func (h *holding) over(now ipc.Instant) *connection {
	for i := range h.lines {
		if conn := h.lines[i].first; conn != nil && conn.until <= now {
			return conn
		}
	}
	return nil
}

// makesRoom is the connection that was used least recently and may be
// forgotten, or nil.
func (h *holding) makesRoom(now ipc.Instant) *connection {
	begun, confirmed := h.lines[0].first, h.lines[1].first
	if confirmed != nil && confirmed.inUse(now) {
		return begun
	}
	if begun == nil || confirmed != nil && confirmed.until < begun.until {
		return confirmed
	}
	return begun
}
