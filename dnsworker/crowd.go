package dnsworker

import "container/list"

// crowd is streams that share a bound: those of a group, or of a client in it.
type crowd struct {
	list.List     // of *stream, in the order of their last use
	octets    int // that they keep, as the capacity of their buffers
	held      int // packets that they hold
}

// The crowds of a stream.
const (
	ofGroup = iota
	ofClient
)

// crowdOf is the one with this key, which there is from now on.
func crowdOf[K comparable](all map[K]*crowd, key K) *crowd {
	c := all[key]
	if c == nil {
		c = &crowd{}
		all[key] = c
	}
	return c
}

// join has a stream that is used just now belong to a crowd.
func (s *stream) join(which int, c *crowd) { s.crowds[which], s.places[which] = c, c.PushBack(s) }

func (c *crowd) cost() int { return c.Len()*streamCost + c.octets }

// idlest is the stream that was used least recently. NB: there is one.
func (c *crowd) idlest() *stream { return c.Front().Value.(*stream) }

// mostHeld is the stream that holds most packets.
func (c *crowd) mostHeld() *stream {
	most := c.idlest()
	for e := c.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*stream); len(s.held) > len(most.held) {
			most = s
		}
	}
	return most
}
