package ipc

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
)

// message is a pointer to a T that can check itself.
type message[T any] interface {
	*T
	Validate() error
}

// gobType is what both ends of an edge know of its one message type before
// the first message: gob's definition of it, and the number by which a value
// names it. gob numbers types in the order in which a process first uses
// them; the variables below fix that order, and all processes are one binary,
// so the definitions need never cross an edge. NB: nothing in this program
// may use gob before this package is initialised.
type gobType[T any] struct {
	definition []byte
	id         int64
}

var (
	requestFactType  = defineType[RequestFact]()
	responseFactType = defineType[ResponseFact]()
	grantsType       = defineType[Grants]()
	policyItemType   = defineType[PolicyItem]()
	lookupType       = defineType[Lookup]()
	unknownType      = defineType[Unknown]()
)

func defineType[T any]() gobType[T] {
	var buf bytes.Buffer
	enc := gob.NewEncoder(&buf)
	if err := enc.Encode(new(T)); err != nil {
		panic("bug: gob: " + err.Error())
	}
	definition := bytes.Clone(buf.Bytes())
	buf.Reset()
	if err := enc.Encode(new(T)); err != nil {
		panic("bug: gob: " + err.Error())
	}
	id, err := valueType(buf.Bytes())
	if err != nil {
		panic("bug: gob: " + err.Error())
	}
	return gobType[T]{definition: definition, id: id}
}

// Sender sends values of one type over one edge, a packet each.
type Sender[T any] struct {
	fd  int
	buf bytes.Buffer
	enc *gob.Encoder
}

// NewRequestSender is the request parser's end of its edge to the holder.
func NewRequestSender(fd int) *Sender[RequestFact] { return newSender(fd, requestFactType) }

// NewResponseSender is the response parser's end of its edge to the holder.
func NewResponseSender(fd int) *Sender[ResponseFact] { return newSender(fd, responseFactType) }

// NewGrantSender is the holder's end of its edge to the trafficworker.
func NewGrantSender(fd int) *Sender[Grants] { return newSender(fd, grantsType) }

// NewPolicySender is the parent's end of a child's control socket.
func NewPolicySender(fd int) *Sender[PolicyItem] { return newSender(fd, policyItemType) }

// NewLookupSender is the holder's end of its edge to the resolver.
func NewLookupSender(fd int) *Sender[Lookup] { return newSender(fd, lookupType) }

// NewUnknownSender is the trafficworker's end of its edge to the holder.
func NewUnknownSender(fd int) *Sender[Unknown] { return newSender(fd, unknownType) }

func newSender[T any](fd int, _ gobType[T]) *Sender[T] {
	s := &Sender[T]{fd: fd}
	s.enc = gob.NewEncoder(&s.buf)
	if err := s.enc.Encode(new(T)); err != nil { // writes the definition, which stays here
		panic("bug: gob: " + err.Error())
	}
	return s
}

// Send sends m. ErrWouldBlock means that nothing was sent.
func (s *Sender[T]) Send(m *T) error {
	packet, err := s.encode(m)
	if err != nil {
		return err
	}
	return SendPacket(s.fd, packet)
}

// SendWith sends m with a descriptor beside it.
func (s *Sender[T]) SendWith(m *T, descriptor int) error {
	packet, err := s.encode(m)
	if err != nil {
		return err
	}
	return SendDescriptor(s.fd, packet, descriptor)
}

func (s *Sender[T]) encode(m *T) ([]byte, error) {
	s.buf.Reset()
	if err := s.enc.Encode(m); err != nil {
		return nil, fmt.Errorf("bug: gob: %w", err)
	}
	if s.buf.Len() > MaxFrame {
		return nil, fmt.Errorf("bug: frame of %d octets", s.buf.Len())
	}
	return s.buf.Bytes(), nil
}

// Receiver receives values of one type over one edge.
//
// What a hostile peer can do to gob, and what stops it here: a length prefix
// of gigabytes and nested values (a frame is at most MaxFrame and its inner
// length must fill it exactly), type definitions that overflow the stack or
// grow the decoder without end (only the one known type's number is let
// through), values left over from an earlier message (each is decoded into a
// fresh one).
type Receiver[T any, M message[T]] struct {
	fd   int
	id   int64
	buf  []byte
	feed bytes.Reader
	dec  *gob.Decoder
}

// NewRequestReceiver is the holder's end of the request parser's edge.
func NewRequestReceiver(fd int) *Receiver[RequestFact, *RequestFact] {
	return newReceiver(fd, requestFactType)
}

// NewResponseReceiver is the holder's end of the response parser's edge.
func NewResponseReceiver(fd int) *Receiver[ResponseFact, *ResponseFact] {
	return newReceiver(fd, responseFactType)
}

// NewGrantReceiver is the trafficworker's end of the holder's edge.
func NewGrantReceiver(fd int) *Receiver[Grants, *Grants] { return newReceiver(fd, grantsType) }

// NewPolicyReceiver is a child's end of its control socket.
func NewPolicyReceiver(fd int) *Receiver[PolicyItem, *PolicyItem] {
	return newReceiver(fd, policyItemType)
}

// NewLookupReceiver is the resolver's end of the holder's edge.
func NewLookupReceiver(fd int) *Receiver[Lookup, *Lookup] { return newReceiver(fd, lookupType) }

// NewUnknownReceiver is the holder's end of the trafficworker's edge.
func NewUnknownReceiver(fd int) *Receiver[Unknown, *Unknown] { return newReceiver(fd, unknownType) }

func newReceiver[T any, M message[T]](fd int, t gobType[T]) *Receiver[T, M] {
	r := &Receiver[T, M]{fd: fd, id: t.id, buf: make([]byte, MaxFrame+1)}
	r.feed.Reset(t.definition)
	r.dec = gob.NewDecoder(&r.feed)
	if err := r.dec.Decode(new(T)); err != nil {
		panic("bug: gob: " + err.Error())
	}
	return r
}

// Recv receives one message that passed its Validate. io.EOF is the end of
// the peer, ErrWouldBlock that a non-blocking edge is empty; any other error
// means that the peer broke the protocol and must not be listened to again.
func (r *Receiver[T, M]) Recv() (M, error) {
	n, err := RecvPacket(r.fd, r.buf)
	if err != nil {
		return nil, err
	}
	return r.decode(r.buf[:n])
}

// RecvWith is Recv for an edge that passes descriptors. The descriptor is -1
// if none came, and the caller's to close even when err is not nil.
func (r *Receiver[T, M]) RecvWith() (M, int, error) {
	n, descriptor, err := recvWithDescriptor(r.fd, r.buf)
	if err != nil {
		return nil, descriptor, err
	}
	m, err := r.decode(r.buf[:n])
	return m, descriptor, err
}

func (r *Receiver[T, M]) decode(frame []byte) (m M, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("gob panicked: %v", p)
		}
	}()
	id, err := valueType(frame)
	if err != nil {
		return nil, err
	}
	if id != r.id {
		return nil, fmt.Errorf("gob type %d on an edge of type %d", id, r.id)
	}
	r.feed.Reset(frame)
	m = new(T)
	if err := r.dec.Decode(m); err != nil {
		return nil, err
	}
	if r.feed.Len() != 0 {
		return nil, fmt.Errorf("%d octets after the message", r.feed.Len())
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m, nil
}

var errGobFrame = errors.New("frame is not exactly one gob message")

// valueType reads the number of the type of the one message that frame must
// hold; a type definition has a negative one. The format is encoding/gob's
// documented one: length, then number, then the value.
func valueType(frame []byte) (int64, error) {
	length, rest, ok := gobUint(frame)
	if !ok || length != uint64(len(rest)) {
		return 0, errGobFrame
	}
	u, _, ok := gobUint(rest)
	if !ok {
		return 0, errGobFrame
	}
	if u&1 != 0 { // gob's signed integers keep the sign in the lowest bit
		return ^int64(u >> 1), nil
	}
	return int64(u >> 1), nil
}

// gobUint reads gob's unsigned integer: a value below 128 in one octet, else
// the negated count of the big-endian octets that follow.
func gobUint(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	if b[0] < 128 {
		return uint64(b[0]), b[1:], true
	}
	n := int(-int8(b[0]))
	if n > 8 || n < 1 || len(b) < 1+n {
		return 0, nil, false
	}
	for _, c := range b[1 : 1+n] {
		v = v<<8 | uint64(c)
	}
	return v, b[1+n:], true
}
