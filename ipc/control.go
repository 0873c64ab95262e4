package ipc

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Signal is what a child tells the parent over its control socket: one
// packet of fixed size. Zero is invalid.
type Signal uint32

// The signals.
const (
	// SignalReady: the cell is complete; the first thing a child ever says.
	SignalReady Signal = iota + 1
	// SignalLoaded: the policy has been taken. The first one is in force; a
	// later one is in force in the holder, and in the trafficworker when the
	// holder has told it what is open under it.
	SignalLoaded
	// SignalInForce: the later one is in force in the trafficworker too.
	SignalInForce
	// SignalAlive: it still takes its turns, said every AliveEvery.
	SignalAlive
	// SignalBrokeRequests, SignalBrokeResponses and SignalBrokeTraffic are the
	// allowlist's: what that neighbour said breaks the protocol. It is not listened
	// to any more, and the parent has another take its place.
	SignalBrokeRequests
	SignalBrokeResponses
	SignalBrokeTraffic
	signalEnd
)

// AliveEvery is how often a child that has its policy says that it is alive.
const AliveEvery = 500 * time.Millisecond

// SignalSize is the size of a signal's packet in octets.
const SignalSize = 4

// AppendSignal appends the signal's octets to b.
func AppendSignal(b []byte, s Signal) []byte {
	return binary.LittleEndian.AppendUint32(b, uint32(s))
}

// ParseSignal reads one packet.
func ParseSignal(packet []byte) (Signal, error) {
	if len(packet) != SignalSize {
		return 0, fmt.Errorf("control packet of %d octets", len(packet))
	}
	s := Signal(binary.LittleEndian.Uint32(packet))
	if s == 0 || s >= signalEnd {
		return 0, fmt.Errorf("signal %d", uint32(s))
	}
	return s, nil
}
