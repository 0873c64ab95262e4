package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Verdict is what shall become of a packet. It is this program's own number:
// the parent maps it to the kernel's, so that no kernel code, mark or flag
// ever comes from a child. Zero is invalid.
type Verdict uint8

// The verdicts.
const (
	Drop Verdict = iota + 1
	Accept
	verdictEnd
)

func (v Verdict) String() string {
	switch v {
	case Drop:
		return "drop"
	case Accept:
		return "accept"
	}
	return "invalid"
}

// VerdictRecord is one verdict on its way to the parent, which runs no
// decoder on what a child says: a batch is one packet of records of fixed
// size and nothing else.
type VerdictRecord struct {
	Handle  uint32 // the queue, by the number the parent gave it
	ID      uint32 // the packet, by the number the kernel gave it
	Verdict Verdict
}

// VerdictSize is a record's size in octets: handle and id little-endian, the
// verdict, three zero octets.
const VerdictSize = 12

// MaxVerdicts bounds the records of one packet.
const MaxVerdicts = 64

// AppendVerdict appends the record's octets to b.
func AppendVerdict(b []byte, r VerdictRecord) []byte {
	b = binary.LittleEndian.AppendUint32(b, r.Handle)
	b = binary.LittleEndian.AppendUint32(b, r.ID)
	return append(b, byte(r.Verdict), 0, 0, 0)
}

// ParseVerdicts appends the records of one packet to into. Nothing is
// returned of a packet that is not wholly valid.
func ParseVerdicts(packet []byte, into []VerdictRecord) ([]VerdictRecord, error) {
	if len(packet) == 0 || len(packet)%VerdictSize != 0 {
		return nil, fmt.Errorf("verdict packet of %d octets", len(packet))
	}
	if len(packet)/VerdictSize > MaxVerdicts {
		return nil, fmt.Errorf("%d verdicts in a packet", len(packet)/VerdictSize)
	}
	for b := packet; len(b) > 0; b = b[VerdictSize:] {
		r := VerdictRecord{
			Handle:  binary.LittleEndian.Uint32(b),
			ID:      binary.LittleEndian.Uint32(b[4:]),
			Verdict: Verdict(b[8]),
		}
		if r.Verdict == 0 || r.Verdict >= verdictEnd {
			return nil, fmt.Errorf("verdict %d", b[8])
		}
		if b[9]|b[10]|b[11] != 0 {
			return nil, errors.New("verdict record with stray octets")
		}
		into = append(into, r)
	}
	return into, nil
}

// VerdictSender collects the verdicts of a batch and sends them to the parent
// in one packet.
type VerdictSender struct {
	fd  int
	buf []byte
}

// NewVerdictSender sends on a child's end of its verdict socket.
func NewVerdictSender(fd int) *VerdictSender {
	return &VerdictSender{fd: fd, buf: make([]byte, 0, MaxVerdicts*VerdictSize)}
}

// Give adds a verdict, and sends what there is when a packet is full.
func (s *VerdictSender) Give(r VerdictRecord) error {
	s.buf = AppendVerdict(s.buf, r)
	if len(s.buf) == cap(s.buf) {
		return s.Flush()
	}
	return nil
}

// Flush sends what was given and not sent. It waits for the parent to take it.
func (s *VerdictSender) Flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	err := SendPacket(s.fd, s.buf)
	s.buf = s.buf[:0]
	if err != nil {
		return fmt.Errorf("verdicts: %w", err)
	}
	return nil
}
