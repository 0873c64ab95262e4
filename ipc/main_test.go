package ipc

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// sendAll is the argument that makes the test binary a process of its own
// which sends one value of every type, each on an edge that it inherited.
const sendAll = "send-one-of-each"

// The inherited descriptors of such a process, in order.
const (
	childRequests = iota + 3
	childResponses
	childGrants
	childPolicy
	childLookups
	childUnknown
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sendAll {
		if err := sendOneOfEach(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func sendOneOfEach() error {
	r, s, g, p := sampleRequest(), sampleResponse(), sampleGrants(), samplePolicyItem()
	l, u := sampleLookup(), sampleUnknown()
	// Backwards, so that an order of first use would show.
	if err := NewUnknownSender(childUnknown).Send(&u); err != nil {
		return err
	}
	if err := NewLookupSender(childLookups).Send(&l); err != nil {
		return err
	}
	if err := NewPolicySender(childPolicy).Send(&p); err != nil {
		return err
	}
	if err := NewGrantSender(childGrants).Send(&g); err != nil {
		return err
	}
	if err := NewResponseSender(childResponses).Send(&s); err != nil {
		return err
	}
	return NewRequestSender(childRequests).Send(&r)
}

// Values with every field set, so that a field lost on the way shows.

func samplePacket() Packet {
	return Packet{
		Handle: 7, ID: 1<<32 - 1, InIf: 3, OutIf: 4, UID: 1000, HasUID: true, State: ConnEstablished,
		Proto: ProtoUDP, Src: AddressOf(netip.MustParseAddr("192.0.2.1")), Dst: AddressOf(netip.MustParseAddr("198.51.100.2")),
		SrcPort: 40000, DstPort: 53,
	}
}

func sampleName(labels ...string) name.Name {
	n, err := name.Parse(strings.Join(labels, "."))
	if err != nil {
		panic(err)
	}
	return n
}

func sampleRequest() RequestFact {
	return RequestFact{
		Packet: samplePacket(), Drop: ReasonOpcode, TxID: 0xbeef,
		Questions: []Question{{sampleName("a", "example"), 28, 1}, {name.Root, 65535, 255}}, Extras: true, Dump: "text\nmore",
	}
}

func sampleResponse() ResponseFact {
	return ResponseFact{
		Packet: samplePacket(), TxID: 0xbeef, RCode: 3,
		Questions: []Question{{sampleName("a", "example"), 1, 1}},
		Names:     []name.Name{sampleName("a", "example"), sampleName("b", "example")},
		Links:     []Link{{0, 1, true}}, Targets: []Target{{1, 0}}, Pointers: []Target{{0, 1}},
		A:      Addresses{"\xc0\x00\x02\x01", []byte{1}, []uint32{60, MaxTTL}, []byte{1}},
		AAAA:   Addresses{strings.Repeat("\x20", 16), []byte{1}, []uint32{300}, []byte{0}},
		Others: []byte{1, 0}, LeftOut: 9, Dump: "text\nmore",
	}
}

func sampleGrants() Grants {
	return Grants{Kind: GrantsOpen, Filter: 3, Until: 1 << 60, V4: "\xc0\x00\x02\x01", V6: strings.Repeat("\x20", 16), Port: Port{443, ProtoUDP}}
}

func samplePolicyItem() PolicyItem {
	return PolicyItem{
		Kind: PolicyNames, Settings: Settings{true, true, true, true, true, true, true},
		Queue:  Queue{1, 2, 3, QueueTraffic, 4},
		Filter: Filter{1, "f", true, 1 << 62, 4, 5, true, true, 1, 2, 3, true, []uint16{1, 28}, true},
		Of:     1, Names: []name.Name{sampleName("a", "example")}, Scopes: []byte{byte(ScopeBelow)},
		Ports:    []PortsAt{{0, []Port{{443, ProtoTCP}}}},
		Resolver: AddressOf(netip.MustParseAddr("2001:db8::1")),
		Server:   AddressOf(netip.MustParseAddr("2001:db8::2")),
		Address:  AllowedAddress{AddressOf(netip.MustParseAddr("10.0.0.0")), 8, []Port{{53, 0}}},
		Socket:   Socket{7, ProtoTCP},
	}
}

func sampleLookup() Lookup { return Lookup{sampleName("a", "example"), TypeAAAA, 1 << 60} }

func sampleUnknown() Unknown {
	return Unknown{3, AddressOf(netip.MustParseAddr("2001:db8::1"))}
}

// pair is one edge whose ends are closed with the test.
func pair(t testing.TB, nonblockA, nonblockB bool) (a, b int) {
	t.Helper()
	a, b, err := Pair(nonblockA, nonblockB)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(a); unix.Close(b) })
	return a, b
}

// openFiles counts this process's descriptors, by number.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
