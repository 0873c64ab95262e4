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

// GrantsKind is what a message of grants does. Zero is invalid.
type GrantsKind uint8

// The kinds. An answer only ever opens. Change, Keep and Done are for a policy
// that has changed, and come in this order.
const (
	// GrantsOpen opens the addresses until an instant. It only extends: an
	// address that is already open for longer stays so.
	GrantsOpen GrantsKind = iota + 1
	// GrantsChange says that from here to GrantsDone all is told that the
	// policy gives which the parent has announced to both.
	GrantsChange
	// GrantsKeep says at which port addresses stay open, as far as they are, and
	// until when at the latest. It opens nothing.
	GrantsKeep
	// GrantsDone puts that policy in force: what was not kept since
	// GrantsChange is closed.
	GrantsDone
	// GrantsSettled answers an Unknown: the addresses have been looked up, and
	// what they lead to was opened before this. Until is until when nobody need
	// ask again, 0 if there was no room to look all of it up.
	GrantsSettled
	// GrantsAll comes once, after what was open already when the trafficworker
	// started: from here on it may judge.
	GrantsAll
	grantsKindEnd
)

// Grants is the message from the allowlist holder to the trafficworker about
// addresses of one filter.
type Grants struct {
	Kind   GrantsKind
	Filter uint32  // index of the filter
	Until  Instant // when the grants end; with GrantsKeep 0 if they end as they would, and otherwise no use puts it off; see GrantsSettled
	Port   Port    // the one that is opened or stays, or the zero one for all
	V4     string  // 4 octets an address
	V6     string  // 16 octets an address
}

// Validate checks everything that does not need the policy.
func (g *Grants) Validate() error {
	switch g.Kind {
	case GrantsOpen:
		if g.Until <= 0 {
			return errors.New("grants without an end")
		}
	case GrantsKeep:
		if g.Until < 0 {
			return errors.New("grants that ended before they are kept")
		}
	case GrantsSettled:
		if g.Until < 0 || g.Port != (Port{}) {
			return errors.New("settled addresses with a port, or settled before the boot")
		}
	case GrantsChange, GrantsDone, GrantsAll:
		if *g != (Grants{Kind: g.Kind}) {
			return errors.New("a beginning or an end, with grants")
		}
		return nil
	default:
		return fmt.Errorf("grants of kind %d", g.Kind)
	}
	if g.Port != (Port{}) {
		if err := g.Port.Validate(); err != nil {
			return err
		}
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
