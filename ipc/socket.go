package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Socket is a connected socket to a DNS server, as the resolver asks the
// parent for one over its control socket: one packet of fixed size. Neither
// address nor port is the resolver's to say. It comes back in an item of kind
// PolicySocket, with the descriptor beside it.
type Socket struct {
	// Server is which one: the parent takes it modulo the number of those that
	// the configuration names.
	Server uint32
	Proto  uint8 // ProtoUDP or ProtoTCP
}

// SocketSize is the size of the packet in octets: server little-endian,
// protocol, three zero octets. It is no size of a Signal.
const SocketSize = 8

// AppendSocket appends the octets that ask for s to b.
func AppendSocket(b []byte, s Socket) []byte {
	return append(binary.LittleEndian.AppendUint32(b, s.Server), s.Proto, 0, 0, 0)
}

// ParseSocket reads one packet.
func ParseSocket(packet []byte) (Socket, error) {
	if len(packet) != SocketSize {
		return Socket{}, fmt.Errorf("control packet of %d octets", len(packet))
	}
	if packet[5]|packet[6]|packet[7] != 0 {
		return Socket{}, errors.New("socket request with stray octets")
	}
	s := Socket{binary.LittleEndian.Uint32(packet), packet[4]}
	return s, s.validate()
}

func (s Socket) validate() error {
	if s.Proto != ProtoUDP && s.Proto != ProtoTCP {
		return fmt.Errorf("socket of protocol %d", s.Proto)
	}
	return nil
}
