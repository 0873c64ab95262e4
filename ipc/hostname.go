package ipc

import (
	"fmt"

	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// Scope says which names a configured host name allows. Zero is invalid.
type Scope uint8

// The scopes.
const (
	ScopeTree   Scope = iota + 1 // example.com: it and everything below it
	ScopeExact                   // =example.com: only it
	ScopeBelow                   // *.example.com: only what is below it
	ScopeCached                  // of cachedHostnames: allows no question of anybody's, and is looked up
	scopeEnd
)

// Valid reports whether s is one of the scopes.
func (s Scope) Valid() bool { return s > 0 && s < scopeEnd }

// Port is a port that a configured host name or address opens. The zero one,
// of every protocol, stands for all ports; it is never one of several.
type Port struct {
	Number uint16
	Proto  uint8 // ProtoTCP, ProtoUDP, or 0 for both
}

// MaxPorts bounds the ports of one configured host name or address.
const MaxPorts = 16

// Validate checks a port that stands in a list.
func (p Port) Validate() error {
	if p.Number == 0 || p.Proto != 0 && p.Proto != ProtoTCP && p.Proto != ProtoUDP {
		return fmt.Errorf("port %d of protocol %d", p.Number, p.Proto)
	}
	return nil
}

// And is what two ports have in common, of which each may be the zero one, for
// all, and false if that is nothing.
func (p Port) And(q Port) (Port, bool) {
	switch {
	case p == q || q == (Port{}):
		return p, true
	case p == (Port{}):
		return q, true
	case p.Number != q.Number || p.Proto != 0 && q.Proto != 0:
		return Port{}, false
	}
	return Port{p.Number, p.Proto | q.Proto}, true // one of them is 0, for both
}

func (p Port) String() string {
	switch {
	case p == Port{}:
		return "all"
	case p.Proto == ProtoTCP:
		return fmt.Sprintf("%d/tcp", p.Number)
	case p.Proto == ProtoUDP:
		return fmt.Sprintf("%d/udp", p.Number)
	}
	return fmt.Sprint(p.Number)
}

// Hostnames are the allowed names of one filter, in the file's order. A name
// may stand there once for each scope.
type Hostnames struct {
	Names  []name.Name
	Scopes []byte            // the Scope of each
	Ports  map[uint32][]Port // by place, of those that do not open all
}

// Tree makes Hostnames that allow all that is below the names, too.
func Tree(names ...name.Name) Hostnames {
	h := Hostnames{Names: names, Scopes: make([]byte, len(names))}
	for i := range h.Scopes {
		h.Scopes[i] = byte(ScopeTree)
	}
	return h
}

// Add adds a name. NB: no ports are all of them.
func (h *Hostnames) Add(n name.Name, s Scope, ports []Port) {
	if len(ports) > 0 {
		if h.Ports == nil {
			h.Ports = map[uint32][]Port{}
		}
		h.Ports[uint32(len(h.Names))] = ports
	}
	h.Names, h.Scopes = append(h.Names, n), append(h.Scopes, byte(s))
}

// Of are the ports of the name at a place, nil for all.
func (h *Hostnames) Of(at uint32) []Port { return h.Ports[at] }

// add takes a validated item.
func (h *Hostnames) add(item *PolicyItem) {
	at := uint32(len(h.Names))
	h.Names, h.Scopes = append(h.Names, item.Names...), append(h.Scopes, item.Scopes...)
	for _, p := range item.Ports {
		if h.Ports == nil {
			h.Ports = map[uint32][]Port{}
		}
		h.Ports[at+p.At] = p.Ports
	}
}

// items carry them.
func (h *Hostnames) items(filter uint32) (items []PolicyItem) {
	for from := 0; from < len(h.Names); from += namesPerItem {
		to := min(from+namesPerItem, len(h.Names))
		item := PolicyItem{Kind: PolicyNames, Of: filter, Names: h.Names[from:to], Scopes: h.Scopes[from:to]}
		for at := from; at < to && len(h.Ports) > 0; at++ {
			if ports := h.Ports[uint32(at)]; ports != nil {
				item.Ports = append(item.Ports, PortsAt{uint32(at - from), ports})
			}
		}
		items = append(items, item)
	}
	return items
}
