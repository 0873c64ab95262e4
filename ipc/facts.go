package ipc

import (
	"errors"
	"fmt"
	"slices"

	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// Bounds of a fact. With all of them reached at once it still fits one frame
// (MaxFrame, 65,536 octets). Of the 65,265 octets that gob then makes of it
// (TestWorstResponseFits), 46,248 are addresses with their TTLs, 12,514 names and
// 6,503 all the rest: the dump, questions, links, targets, pointers and the packet.
const (
	// MaxQuestions bounds the questions of one message. Real ones have one.
	MaxQuestions = 4
	// MaxAddresses bounds the addresses of one response, both families together.
	MaxAddresses = 4096
	// MaxAddressBytes bounds what they take in a fact: their octets, an owner
	// and a TTL each. It is what the most AAAA records take that a message can
	// hold (65,535 octets, 12 of header, 5 of the shortest question, 27 a
	// record), so no mix of A and AAAA records exceeds it; the hints of HTTPS
	// records, which stand side by side, can.
	MaxAddressBytes = (65535 - 12 - 5) / 27 * (16 + 2)
	// MaxTTLs bounds the distinct TTLs of a response's A or AAAA side.
	MaxTTLs = 255
	// MaxTTL is the greatest TTL, in seconds (RFC 2181 section 8).
	MaxTTL = 1<<31 - 1
	// MaxNames bounds the name table of one response.
	MaxNames = 128
	// MaxNameBytes bounds the octets of that table.
	MaxNameBytes = 12 << 10
	// MaxOwners bounds the distinct owners in an answer section: a question
	// and the 16 links of the longest chain that is followed.
	MaxOwners = 17
	// MaxLinks bounds the CNAME and DNAME records of one response.
	MaxLinks = 64
	// MaxTargets bounds the SRV, MX, NS, HTTPS and SVCB targets of one response.
	MaxTargets = 128
	// MaxPointers bounds the PTR records of one response that are told.
	MaxPointers = 16
	// MaxDump bounds the presentation text of a message for -f.
	MaxDump = 4 << 10
)

// ConnState is what conntrack said of a packet, where the kernel tells.
type ConnState uint8

// The connection states that matter here; zero is that the kernel did not say.
const (
	ConnUnknown ConnState = iota
	ConnNew
	ConnEstablished
	ConnOther
	connStateEnd
)

// Transport protocol numbers (IANA protocol numbers, as in the IP header).
const (
	ProtoTCP = 6
	ProtoUDP = 17
)

// Packet is what a dnsworker says of a queued packet besides its DNS message.
type Packet struct {
	Handle uint32 // the queue, by the number the parent gave it
	ID     uint32 // the packet, by the number the kernel gave it
	InIf   uint32 // interface index it arrived by, 0 when the kernel named none
	OutIf  uint32 // interface index it leaves by, 0 when the kernel named none
	UID    uint32 // the sender's uid, where HasUID
	HasUID bool
	State  ConnState

	// Flow: all zero when the packet did not parse as far as its ports.
	Proto            uint8
	Src, Dst         Address
	SrcPort, DstPort uint16
	Numbers          // of TCP
}

// Numbers are the sequence and acknowledgment number of a TCP segment (RFC 9293
// section 3.1).
type Numbers struct{ Seq, Ack uint32 }

// HasFlow reports whether the packet parsed as far as its ports.
func (p *Packet) HasFlow() bool { return p.Proto != 0 }

func (p *Packet) validate() error {
	if p.Handle == 0 {
		return errors.New("handle 0")
	}
	if p.State >= connStateEnd {
		return fmt.Errorf("connection state %d", p.State)
	}
	if p.Proto == 0 {
		if p.Src != "" || p.Dst != "" || p.SrcPort != 0 || p.DstPort != 0 {
			return errors.New("a flow without a protocol")
		}
		return nil
	}
	if p.Proto != ProtoUDP && p.Proto != ProtoTCP {
		return fmt.Errorf("protocol %d", p.Proto)
	}
	if p.Proto != ProtoTCP && p.Numbers != (Numbers{}) {
		return errors.New("numbers without TCP")
	}
	src, okSrc := p.Src.Addr()
	dst, okDst := p.Dst.Addr()
	if !okSrc || !okDst || src.Is4() != dst.Is4() {
		return errors.New("addresses that are none, or of two families")
	}
	return nil
}

// Question is one entry of a question section.
type Question struct {
	Name  name.Name
	Type  uint16
	Class uint16
}

func validateQuestions(qs []Question) error {
	if len(qs) > MaxQuestions {
		return fmt.Errorf("%d questions", len(qs))
	}
	for _, q := range qs {
		if !q.Name.Valid() {
			return errors.New("question with an invalid name")
		}
	}
	return nil
}

// validateDump: it is shown to people as it comes, and an owned parser could
// move their cursor.
func validateDump(dump string) error {
	if len(dump) > MaxDump {
		return fmt.Errorf("dump of %d bytes", len(dump))
	}
	for i := range len(dump) {
		if c := dump[i]; c != '\n' && (c < ' ' || c > '~') {
			return fmt.Errorf("dump with the octet %#x", c)
		}
	}
	return nil
}

// RequestFact is what the request parser says of one packet.
//
// With Drop set the packet is not an acceptable request, whatever the policy:
// Questions may then be empty, and Packet may have no flow.
type RequestFact struct {
	Packet
	Drop      Reason
	Segment   Segment // of TCP
	TxID      uint16
	Questions []Question
	Extras    bool   // it has additional records, an OPT or a TSIG
	Dump      string // the message as printable ASCII lines, only when the policy asks (-f)
}

// Validate checks everything that does not need the policy.
func (f *RequestFact) Validate() error {
	if err := f.Packet.validate(); err != nil {
		return err
	}
	if !f.Drop.Valid() {
		return fmt.Errorf("reason %d", f.Drop)
	}
	isMessage := f.Proto != ProtoTCP || f.Segment.Kind == SegmentMessage
	if f.Drop == ReasonNone && (!f.HasFlow() || isMessage && len(f.Questions) == 0) {
		return errors.New("an acceptable request without a flow or question")
	}
	if err := f.Segment.validate(&f.Packet, f.Drop, len(f.Questions)); err != nil {
		return err
	}
	if f.Segment.Server != 0 || f.Segment.Reach != 0 {
		return errors.New("a request with a server's numbers")
	}
	if err := validateDump(f.Dump); err != nil {
		return err
	}
	return validateQuestions(f.Questions)
}

// Link is one CNAME or DNAME record: indices into Names. For a DNAME
// (RFC 6672) everything below Owner is renamed to below Target.
type Link struct {
	Owner, Target uint8
	DNAME         bool
}

// Target is the name in one SRV, MX, NS, HTTPS or SVCB record: indices into
// Names.
type Target struct {
	Owner, Target uint8
}

// Addresses packs the addresses of one family in a response, those of its A or
// AAAA records and of the hints in its HTTPS and SVCB records: Owners[i] is the
// index in Names of the owner of the i-th address in Octets, and TTL[i] the
// index in TTLs of its record's time to live.
type Addresses struct {
	Octets string // 4 octets an address for A, 16 for AAAA
	Owners []byte
	TTLs   []uint32 // seconds, distinct
	TTL    []byte
}

// AddressesFit reports whether a fact holds so many addresses.
func AddressesFit(v4, v6 int) bool {
	return v4+v6 <= MaxAddresses && v4*(4+2)+v6*(16+2) <= MaxAddressBytes
}

// TTLOf is the time to live of the i-th address, in seconds.
func (a *Addresses) TTLOf(i int) uint32 { return a.TTLs[a.TTL[i]] }

func (a *Addresses) empty() bool {
	return len(a.Octets)+len(a.Owners)+len(a.TTLs)+len(a.TTL) == 0
}

// validate checks addresses of size octets whose owners are in a table of so
// many names.
func (a *Addresses) validate(size, names int) error {
	if len(a.Octets) != size*len(a.Owners) || len(a.TTL) != len(a.Owners) {
		return errors.New("addresses, owners and TTLs that do not match")
	}
	if len(a.TTLs) > MaxTTLs {
		return fmt.Errorf("%d distinct TTLs", len(a.TTLs))
	}
	for _, seconds := range a.TTLs {
		if seconds > MaxTTL {
			return fmt.Errorf("TTL %d", seconds)
		}
	}
	for i, owner := range a.Owners {
		if int(owner) >= names || int(a.TTL[i]) >= len(a.TTLs) {
			return errors.New("owner or TTL outside its table")
		}
	}
	return nil
}

// ResponseFact is what the response parser says of one packet.
//
// With Drop set the packet is no response that could be paired. Otherwise
// flow, TxID and Questions are the key; AnswerDrop says that the rest of the
// message cannot be acted on (the key may use up its request all the same).
// Only records of the answer section are told, in any order.
type ResponseFact struct {
	Packet
	Drop       Reason
	AnswerDrop Reason
	Segment    Segment // of TCP
	TxID       uint16
	RCode      uint8
	Truncated  bool // TC: passes when paired, grants nothing; records are not told
	Questions  []Question
	// NoRecords: all three record sections are empty but for an OPT. An error
	// without a question section can only pass so.
	NoRecords bool

	Names   []name.Name // every name that the fields below point into
	Links   []Link
	Targets []Target
	// Pointers are the PTR records, as far as they and their names fit. Their
	// owners are among Others too.
	Pointers []Target
	A, AAAA  Addresses
	Others   []byte // owners (indices into Names) of records of all other types, HTTPS and SVCB among them, once each
	LeftOut  uint32 // targets not told because Names was full
	Dump     string // the message as printable ASCII lines, only when the policy asks (-f)
}

// Validate checks everything that does not need the policy.
func (f *ResponseFact) Validate() error {
	if err := f.Packet.validate(); err != nil {
		return err
	}
	if !f.Drop.Valid() || !f.AnswerDrop.Valid() {
		return fmt.Errorf("reasons %d, %d", f.Drop, f.AnswerDrop)
	}
	if f.Drop == ReasonNone && !f.HasFlow() {
		return errors.New("a response without a flow")
	}
	if err := f.Segment.validate(&f.Packet, f.Drop, len(f.Questions)); err != nil {
		return err
	}
	if f.Segment.Number != 0 && f.Segment.Kind != SegmentOpen {
		return errors.New("a response with a client's number")
	}
	if len(f.Segment.Also) > 0 { // nothing of a response is held
		return errors.New("a response that decides other packets")
	}
	if err := validateDump(f.Dump); err != nil {
		return err
	}
	if err := validateQuestions(f.Questions); err != nil {
		return err
	}
	hasRecords := len(f.Names)+len(f.Links)+len(f.Targets)+len(f.Pointers)+len(f.Others) > 0 || !f.A.empty() || !f.AAAA.empty()
	if hasRecords && (f.Drop != ReasonNone || f.AnswerDrop != ReasonNone || f.Truncated || f.NoRecords || len(f.Questions) == 0) {
		return errors.New("records told of a response that can have none")
	}
	return f.validateRecords()
}

func (f *ResponseFact) validateRecords() error {
	if len(f.Names) > MaxNames || len(f.Links) > MaxLinks || len(f.Targets) > MaxTargets || len(f.Pointers) > MaxPointers || len(f.Others) > MaxOwners {
		return errors.New("more names or records than a fact holds")
	}
	octets := 0
	for _, n := range f.Names {
		if !n.Valid() {
			return errors.New("invalid name")
		}
		octets += len(n)
	}
	if octets > MaxNameBytes {
		return fmt.Errorf("%d octets of names", octets)
	}
	if !AddressesFit(len(f.A.Owners), len(f.AAAA.Owners)) {
		return errors.New("more addresses than a fact holds")
	}
	if err := f.A.validate(4, len(f.Names)); err != nil {
		return err
	}
	if err := f.AAAA.validate(16, len(f.Names)); err != nil {
		return err
	}
	for _, l := range f.Links {
		if int(l.Owner) >= len(f.Names) || int(l.Target) >= len(f.Names) {
			return errors.New("link outside the name table")
		}
	}
	for _, t := range slices.Concat(f.Targets, f.Pointers) {
		if int(t.Owner) >= len(f.Names) || int(t.Target) >= len(f.Names) {
			return errors.New("target outside the name table")
		}
	}
	for _, o := range f.Others {
		if int(o) >= len(f.Names) {
			return errors.New("owner outside the name table")
		}
	}
	return nil
}
