package ipc

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/name"
)

func roundTrip[T any, M message[T]](t *testing.T, values []T, newS func(int) *Sender[T], newR func(int) *Receiver[T, M]) {
	t.Helper()
	a, b := pair(t, false, false)
	s, r := newS(a), newR(b)
	for i := range values {
		if err := s.Send(&values[i]); err != nil {
			t.Fatal(err)
		}
		got, err := r.Recv()
		if err != nil {
			t.Fatalf("%+v: %v", values[i], err)
		}
		if !reflect.DeepEqual(*(*T)(got), values[i]) {
			t.Errorf("sent %+v\nreceived %+v", values[i], *(*T)(got))
		}
	}
	unix.Close(a)
	if _, err := r.Recv(); err != io.EOF {
		t.Errorf("after the peer's end: %v", err)
	}
}

// TestRoundTrip sends a full value, an almost empty one and the full one
// again over each edge: a field of the first that the second leaves out must
// not come back with it.
func TestRoundTrip(t *testing.T) {
	t.Run("requests", func(t *testing.T) {
		full := sampleRequest()
		roundTrip(t, []RequestFact{full, sampleSegment(), {Packet: Packet{Handle: 1}, Drop: ReasonNotIP}, full}, NewRequestSender, NewRequestReceiver)
	})
	t.Run("responses", func(t *testing.T) {
		full := sampleResponse()
		bare := ResponseFact{Packet: full.Packet, Questions: full.Questions}
		roundTrip(t, []ResponseFact{full, bare, {Packet: Packet{Handle: 1}, Drop: ReasonNotIP}, full}, NewResponseSender, NewResponseReceiver)
	})
	t.Run("grants", func(t *testing.T) {
		full := sampleGrants()
		roundTrip(t, []Grants{full, {Kind: GrantsOpen, Until: 1, V4: "abcd"}, {Kind: GrantsKeep, Until: 1, V6: full.V6, Port: Port{22, ProtoTCP}}, {Kind: GrantsChange}, {Kind: GrantsKeep, V4: "abcd", Port: Port{443, ProtoTCP}}, {Kind: GrantsDone}, {Kind: GrantsSettled, V4: "abcd"}, full}, NewGrantSender, NewGrantReceiver)
	})
	t.Run("policy", func(t *testing.T) {
		full := samplePolicyItem()
		roundTrip(t, []PolicyItem{full, {Kind: PolicyDone}, {Kind: PolicyBegin}, full}, NewPolicySender, NewPolicyReceiver)
	})
}

// TestRoundTripOfLookups is TestRoundTrip for what the daemon asks for itself.
func TestRoundTripOfLookups(t *testing.T) {
	look, unknown := sampleLookup(), sampleUnknown()
	roundTrip(t, []Lookup{look, {name.Root, TypePTR, 1}, look}, NewLookupSender, NewLookupReceiver)
	roundTrip(t, []Unknown{unknown, {Address: "abcd"}, unknown}, NewUnknownSender, NewUnknownReceiver)
}

// TestTypeNumbers: another process of the same binary names its types by the
// same numbers.
func TestTypeNumbers(t *testing.T) {
	var ours [6]int
	cmd := exec.Command(os.Args[0], sendAll)
	cmd.Stderr = os.Stderr
	for i := range ours {
		a, b, err := Pair(false, false)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(a)
		ours[i] = a
		f := os.NewFile(uintptr(b), "edge")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if r, err := NewRequestReceiver(ours[0]).Recv(); err != nil || !reflect.DeepEqual(*r, sampleRequest()) {
		t.Errorf("request: %+v, %v", r, err)
	}
	if r, err := NewResponseReceiver(ours[1]).Recv(); err != nil || !reflect.DeepEqual(*r, sampleResponse()) {
		t.Errorf("response: %+v, %v", r, err)
	}
	if r, err := NewGrantReceiver(ours[2]).Recv(); err != nil || !reflect.DeepEqual(*r, sampleGrants()) {
		t.Errorf("grants: %+v, %v", r, err)
	}
	if r, err := NewPolicyReceiver(ours[3]).Recv(); err != nil || !reflect.DeepEqual(*r, samplePolicyItem()) {
		t.Errorf("policy item: %+v, %v", r, err)
	}
	if r, err := NewLookupReceiver(ours[4]).Recv(); err != nil || *r != sampleLookup() {
		t.Errorf("lookup: %+v, %v", r, err)
	}
	if r, err := NewUnknownReceiver(ours[5]).Recv(); err != nil || *r != sampleUnknown() {
		t.Errorf("unknown address: %+v, %v", r, err)
	}
}

// worstResponse is a fact with everything at its bound. Its addresses are the
// dearest mix that MaxAddressBytes lets through, with the most TTLs.
func worstResponse() ResponseFact {
	f := ResponseFact{Packet: samplePacket(), RCode: 255, TxID: 65535, LeftOut: 1<<32 - 1, Dump: strings.Repeat("d", MaxDump)}
	f.State, f.InIf, f.OutIf, f.UID, f.Handle = ConnOther, 1<<32-1, 1<<32-1, 1<<32-1, 1<<32-1
	f.Src, f.Dst = Address(strings.Repeat("\xff", 16)), Address(strings.Repeat("\xff", 16))
	f.SrcPort, f.DstPort = 65535, 65535
	f.Proto, f.Segment = ProtoTCP, Segment{Kind: SegmentMessage, More: true, Server: 1<<32 - 1, Reach: 1<<32 - 1, Closes: true}
	f.Numbers = Numbers{1<<32 - 1, 1<<32 - 1}
	for range MaxQuestions {
		f.Questions = append(f.Questions, Question{longName(name.MaxWire), 65535, 65535})
	}
	// A length of 128 takes gob two octets: as many such names as the bound and
	// the others' least leave room for.
	const short = 3
	const long = (MaxNameBytes - short*MaxNames) / (128 - short)
	for i := range MaxNames {
		switch {
		case i < long:
			f.Names = append(f.Names, longName(128))
		case i == long:
			f.Names = append(f.Names, longName(MaxNameBytes-128*long-short*(MaxNames-long-1)))
		default:
			f.Names = append(f.Names, longName(short))
		}
	}
	for range MaxLinks {
		f.Links = append(f.Links, Link{MaxNames - 1, MaxNames - 1, true})
	}
	for range MaxTargets {
		f.Targets = append(f.Targets, Target{MaxNames - 1, MaxNames - 1})
	}
	for range MaxPointers {
		f.Pointers = append(f.Pointers, Target{MaxNames - 1, MaxNames - 1})
	}
	f.Others = []byte(strings.Repeat("\x7f", MaxOwners))
	const v4 = 300 // enough for gob's longer lengths
	const v6 = (MaxAddressBytes - 6*v4) / 18
	f.A, f.AAAA = worstAddresses(4, v4), worstAddresses(16, v6)
	return f
}

func worstAddresses(size, n int) Addresses {
	a := Addresses{strings.Repeat("\xff", size*n), []byte(strings.Repeat("\x7f", n)), nil, []byte(strings.Repeat("\xfe", n))}
	for i := range uint32(MaxTTLs) {
		a.TTLs = append(a.TTLs, MaxTTL-i)
	}
	return a
}

// longName is a name of exactly so many octets of wire form.
func longName(octets int) name.Name {
	var b []byte
	for left := octets - 1; left > 0; {
		l := min(left-1, 63)
		if left-1-l == 1 { // nothing of one octet but the root is left
			l--
		}
		b = append(append(b, byte(l)), strings.Repeat("\xff", l)...)
		left -= 1 + l
	}
	n, err := name.FromWire(append(b, 0))
	if err != nil || len(n) != octets {
		panic("bug: no name of that length")
	}
	return n
}

// TestWorstFilterFits: a policy that is valid can be sent.
func TestWorstFilterFits(t *testing.T) {
	a, b := pair(t, false, false)
	item := PolicyItem{Kind: PolicyFilter, Filter: Filter{
		Index: 1<<32 - 1, Name: strings.Repeat("n", MaxFilterName), Ports: true, RespectTTL: true, DenyPrivate: true,
		LookupUnknown: true, ReCacheEvery: MaxDuration, CachedFor: MaxDuration,
		AllowAnswersFor: MaxDuration, TTLGrace: MaxDuration, MinTTL: MaxDuration, MaxInUse: MaxDuration,
	}}
	for i := range uint16(MaxQueryTypes) {
		item.Filter.QueryTypes = append(item.Filter.QueryTypes, 65535-i)
	}
	if err := item.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := NewPolicySender(a).Send(&item); err != nil {
		t.Fatal(err)
	}
	if got, err := NewPolicyReceiver(b).Recv(); err != nil || !reflect.DeepEqual(*got, item) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWorstResponseFits(t *testing.T) {
	a, b := pair(t, false, false)
	f := worstResponse()
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	s := NewResponseSender(a)
	if err := s.Send(&f); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d octets of %d", s.buf.Len(), MaxFrame)
	got, err := NewResponseReceiver(b).Recv()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, f) {
		t.Error("the largest response changed on the way")
	}
}

// TestOversizeIsNotSent: what no frame holds is an error of the sender and
// never reaches the peer, in part or whole.
func TestOversizeIsNotSent(t *testing.T) {
	a, b := pair(t, false, true)
	f := worstResponse()
	f.AAAA = worstAddresses(16, MaxAddresses)
	s := NewResponseSender(a)
	if err := s.Send(&f); err == nil || !strings.Contains(err.Error(), "bug: frame of") {
		t.Errorf("sending: %v", err)
	}
	r := NewResponseReceiver(b)
	if _, err := r.Recv(); !errors.Is(err, ErrWouldBlock) {
		t.Errorf("receiving: %v", err)
	}
	f = sampleResponse()
	if err := s.Send(&f); err != nil {
		t.Error(err)
	}
	if _, err := r.Recv(); err != nil {
		t.Errorf("the next message: %v", err)
	}
}

// TestWouldBlock: a send that is refused for want of room sent nothing, and
// what was sent before arrives in order and whole.
func TestWouldBlock(t *testing.T) {
	a, b := pair(t, true, true)
	s, r := NewGrantSender(a), NewGrantReceiver(b)
	if _, err := r.Recv(); !errors.Is(err, ErrWouldBlock) {
		t.Fatalf("an empty edge: %v", err)
	}
	sent := 0
	for ; ; sent++ {
		g := Grants{Kind: GrantsOpen, Filter: uint32(sent), Until: 1, V4: strings.Repeat("abcd", 1000)}
		err := s.Send(&g)
		if errors.Is(err, ErrWouldBlock) {
			break
		}
		if err != nil || sent > 100_000 {
			t.Fatalf("message %d: %v", sent, err)
		}
	}
	if sent == 0 {
		t.Fatal("no room for a single message")
	}
	for i := range sent {
		g, err := r.Recv()
		if err != nil || g.Filter != uint32(i) || len(g.V4) != 4000 {
			t.Fatalf("message %d: %+v, %v", i, g, err)
		}
	}
	if g, err := r.Recv(); !errors.Is(err, ErrWouldBlock) {
		t.Errorf("a refused message arrived: %+v, %v", g, err)
	}
	last := sampleGrants()
	if err := s.Send(&last); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if g, err := r.Recv(); err != nil || !reflect.DeepEqual(*g, last) {
		t.Errorf("with room again: %+v, %v", g, err)
	}
}

// TestGrantsThatFit: as many of the smallest grants as the socket holds are
// fewer than the trafficworker takes in one go (MaxWaiting).
func TestGrantsThatFit(t *testing.T) {
	a, _ := pair(t, true, true)
	s, sent := NewGrantSender(a), 0
	g := Grants{Kind: GrantsOpen, Until: 1, V4: "abcd"}
	for s.Send(&g) == nil {
		sent++
	}
	if sent == 0 || sent >= 512 {
		t.Errorf("the socket holds %d messages", sent)
	}
}

// TestPeerDiesWithUnread: a peer that died with something unread makes the
// kernel say ECONNRESET, which is its end and nothing else: what it sent
// before still arrives, then io.EOF; a send is EPIPE.
func TestPeerDiesWithUnread(t *testing.T) {
	t.Run("receiving", func(t *testing.T) {
		a, b := pair(t, false, false)
		if err := SendPacket(a, []byte("unread")); err != nil {
			t.Fatal(err)
		}
		if err := SendPacket(b, []byte("last words")); err != nil {
			t.Fatal(err)
		}
		unix.Close(b)
		buf := make([]byte, 100)
		if n, err := RecvPacket(a, buf); err != nil || string(buf[:n]) != "last words" {
			t.Errorf("%q, %v", buf[:n], err)
		}
		if _, err := RecvPacket(a, buf); err != io.EOF {
			t.Errorf("after it: %v", err)
		}
	})
	t.Run("with a descriptor", func(t *testing.T) {
		a, b := pair(t, false, false)
		if err := SendPacket(a, []byte("unread")); err != nil {
			t.Fatal(err)
		}
		unix.Close(b)
		if _, _, err := recvWithDescriptor(a, make([]byte, 100)); err != io.EOF {
			t.Error(err)
		}
	})
	t.Run("sending", func(t *testing.T) {
		a, b := pair(t, false, false)
		if err := SendPacket(a, []byte("unread")); err != nil {
			t.Fatal(err)
		}
		unix.Close(b)
		if err := SendPacket(a, []byte("more")); err != unix.EPIPE {
			t.Error(err)
		}
	})
}
