package ipc

import "fmt"

// Scope says which names a configured host name allows. Zero is invalid.
type Scope uint8

// The scopes.
const (
	ScopeTree  Scope = iota + 1 // example.com: it and everything below it
	ScopeExact                  // =example.com: only it
	ScopeBelow                  // *.example.com: only what is below it
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
