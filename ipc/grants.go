package ipc

import (
	"errors"
	"fmt"
	"net/netip"
)

// Bounds of the grants, in the holder and again in the trafficworker: at the
// bound of one filter that filter's oldest-expiring grant goes first, at the
// bound of all that of the filter which holds most.
const (
	MaxGrants         = 131_072
	MaxGrantsOfFilter = 65_536
)

// Grants is the message from the allowlist holder to the trafficworker:
// these addresses of one filter are open until an instant. It only extends:
// an address that is already open for longer stays so.
type Grants struct {
	Filter uint32  // index of the filter
	Until  Instant // when the grants end
	V4     string  // 4 octets an address
	V6     string  // 16 octets an address
}

// Validate checks everything that does not need the policy.
func (g *Grants) Validate() error {
	if g.Until <= 0 {
		return errors.New("grants without an end")
	}
	if len(g.V4)%4 != 0 || len(g.V6)%16 != 0 {
		return errors.New("addresses cut short")
	}
	if n := len(g.V4)/4 + len(g.V6)/16; n == 0 || n > MaxAddresses {
		return fmt.Errorf("%d addresses in a message", n)
	}
	return nil
}

// Each calls f for every address of the message.
func (g *Grants) Each(f func(netip.Addr)) {
	for b := []byte(g.V4); len(b) >= 4; b = b[4:] {
		f(netip.AddrFrom4([4]byte(b)))
	}
	for b := []byte(g.V6); len(b) >= 16; b = b[16:] {
		f(netip.AddrFrom16([16]byte(b)))
	}
}
