package ipc

import (
	"errors"
	"fmt"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// MaxLookups bounds the questions that the resolver asks at one time: it has a
// socket for each, from FDSockets on.
const MaxLookups = 128

// MaxLookupTime bounds how long the resolver tries to get one answer.
const MaxLookupTime = 10 * time.Second

// Lookup is the message from the allowlist holder to the resolver: a question
// to be asked. Nothing comes back: the holder is told of the question and its
// answer by the parsers, as of everybody's.
type Lookup struct {
	Name  name.Name
	Type  uint16  // TypeA, TypeAAAA or TypePTR
	Until Instant // when nobody waits for the answer any more
}

// Validate checks a lookup.
func (l *Lookup) Validate() error {
	if !l.Name.Valid() || l.Until <= 0 {
		return errors.New("lookup of no name, or without an end")
	}
	if l.Type != TypeA && l.Type != TypeAAAA && l.Type != TypePTR {
		return fmt.Errorf("lookup of type %d", l.Type)
	}
	return nil
}

// Unknown is the message from the trafficworker to the allowlist holder: a
// packet waits to go to an address that nothing opens, for a filter with
// lookupUnknownIPs. The holder answers each with GrantsSettled.
type Unknown struct {
	Filter  uint32 // index of the filter
	Address Address
}

// Validate checks everything that does not need the policy.
func (u *Unknown) Validate() error {
	if _, ok := u.Address.Addr(); !ok {
		return errors.New("unknown address that is none")
	}
	return nil
}
