package ipc

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// bigPolicy has everything, and 10,000 names in one filter.
func bigPolicy() *Policy {
	p := &Policy{
		Settings: Settings{Debug: true, InterfaceCheck: true},
		Queues:   []Queue{{Handle: 1, Slot: 0, Number: 10, Kind: QueueRequests, Filter: 1}, {Handle: 9, Slot: 1, Number: 11, Kind: QueueTraffic, Filter: 2}},
		Filters:  []Filter{{Index: 0, Name: "none", AllowAll: true}, {Index: 1, Name: "many", AllowAnswersFor: 5}, {Index: 2, Name: "one", AllowAnswersFor: 6}},
		Resolvers: []Address{
			AddressOf(netip.MustParseAddr("192.0.2.53")), AddressOf(netip.MustParseAddr("2001:db8::53")),
		},
		Servers: []Address{AddressOf(netip.MustParseAddr("2001:db8::53"))},
	}
	var many Hostnames
	for i := range 10_000 {
		var ports []Port
		if i%3 == 0 {
			ports = []Port{{Number: uint16(i + 1)}, {Number: 443, Proto: ProtoTCP}}
		}
		many.Add(sampleName(fmt.Sprintf("host-%d", i), strings.Repeat("x", 60), strings.Repeat("y", 60), "example"), Scope(1+i%3), ports)
	}
	p.Hostnames = []Hostnames{{}, many, Tree(sampleName("one", "example"))}
	p.Addresses = [][]AllowedAddress{nil, nil, {
		{Address: AddressOf(netip.MustParseAddr("10.0.0.0")), Bits: 8, Ports: []Port{{Number: 443}}},
		{Address: AddressOf(netip.MustParseAddr("2001:db8::")), Bits: 32},
	}}
	return p
}

// TestPolicyRoundTrip sends a whole policy over a real edge, as the parent
// does, while a child takes it in.
func TestPolicyRoundTrip(t *testing.T) {
	a, b := pair(t, false, false)
	want := bigPolicy()
	sent := make(chan error, 1)
	go func() {
		s := NewPolicySender(a)
		for _, item := range want.Items() {
			if err := s.Send(&item); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	got, r := &Policy{}, NewPolicyReceiver(b)
	for {
		item, err := r.Recv()
		if err != nil {
			t.Fatal(err)
		}
		complete, err := got.Add(item)
		if err != nil {
			t.Fatal(err)
		}
		if complete {
			break
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Hostnames, want.Hostnames) || !reflect.DeepEqual(got.Addresses, want.Addresses) || !reflect.DeepEqual(got.Queues, want.Queues) ||
		!reflect.DeepEqual(got.Filters, want.Filters) || !reflect.DeepEqual(got.Resolvers, want.Resolvers) || !reflect.DeepEqual(got.Servers, want.Servers) || got.Settings != want.Settings {
		t.Error("the policy changed on the way")
	}
}

// TestPolicyOrder: after each prefix of a policy, what may not come next is
// refused.
func TestPolicyOrder(t *testing.T) {
	queue := PolicyItem{Kind: PolicyQueue, Queue: Queue{Handle: 1, Kind: QueueRequests}}
	filter := func(i uint32) PolicyItem {
		return PolicyItem{Kind: PolicyFilter, Filter: Filter{Index: i, Name: "f"}}
	}
	names := func(of uint32) PolicyItem {
		return PolicyItem{Kind: PolicyNames, Of: of, Names: []name.Name{sampleName("a")}, Scopes: []byte{1}}
	}
	begin, done := PolicyItem{Kind: PolicyBegin}, PolicyItem{Kind: PolicyDone}
	far := PolicyItem{Kind: PolicyQueue, Queue: Queue{Handle: 2, Kind: QueueTraffic, Filter: 1}}
	for _, test := range []struct {
		what  string
		items []PolicyItem // the last one is refused
	}{
		{"done first", []PolicyItem{done}},
		{"queue first", []PolicyItem{queue}},
		{"filter first", []PolicyItem{filter(0)}},
		{"names first", []PolicyItem{names(0)}},
		{"resolver first", []PolicyItem{{Kind: PolicyResolver}}},
		{"server first", []PolicyItem{{Kind: PolicyServer}}},
		{"log first", []PolicyItem{{Kind: PolicyLog}}},
		{"begin twice", []PolicyItem{begin, begin}},
		{"log within", []PolicyItem{begin, {Kind: PolicyLog}}},
		{"kind 0", []PolicyItem{begin, {}}},
		{"kind 9", []PolicyItem{begin, {Kind: policyKindEnd}}},
		{"names before any filter", []PolicyItem{begin, names(0)}},
		{"names of a later filter", []PolicyItem{begin, filter(0), names(1)}},
		{"names of filter 2^32-1", []PolicyItem{begin, filter(0), names(1<<32 - 1)}},
		{"address before any filter", []PolicyItem{begin, {Kind: PolicyAddress}}},
		{"address of a later filter", []PolicyItem{begin, filter(0), {Kind: PolicyAddress, Of: 1}}},
		{"filter 1 first", []PolicyItem{begin, filter(1)}},
		{"filter 0 twice", []PolicyItem{begin, filter(0), filter(0)}},
		{"filter left out", []PolicyItem{begin, filter(0), filter(2)}},
		{"handle twice", []PolicyItem{begin, queue, queue}},
		{"queue of an unknown filter", []PolicyItem{begin, far, filter(0), done}},
		{"anything after done", []PolicyItem{begin, done, queue}},
		{"done twice", []PolicyItem{begin, done, done}},
		{"begin after done", []PolicyItem{begin, done, begin}},
	} {
		p := &Policy{}
		for i, item := range test.items {
			complete, err := p.Add(&item)
			last := i == len(test.items)-1
			if last && err == nil {
				t.Errorf("%s: taken", test.what)
			}
			if !last && (err != nil || complete != (item.Kind == PolicyDone)) {
				t.Errorf("%s: item %d: %t, %v", test.what, i, complete, err)
			}
		}
	}
}

func TestPolicyBounds(t *testing.T) {
	begun := func() *Policy {
		p := &Policy{}
		if _, err := p.Add(&PolicyItem{Kind: PolicyBegin}); err != nil {
			t.Fatal(err)
		}
		return p
	}
	// fill adds items until one is refused and says how many were taken.
	fill := func(p *Policy, item func(i int) PolicyItem) int {
		for i := 0; ; i++ {
			one := item(i)
			if _, err := p.Add(&one); err != nil {
				return i
			}
		}
	}
	if n := fill(begun(), func(i int) PolicyItem {
		return PolicyItem{Kind: PolicyQueue, Queue: Queue{Handle: uint32(i + 1), Kind: QueueTraffic}}
	}); n != MaxQueues {
		t.Errorf("%d queues", n)
	}
	if n := fill(begun(), func(i int) PolicyItem {
		return PolicyItem{Kind: PolicyFilter, Filter: Filter{Index: uint32(i), Name: "f"}}
	}); n != MaxFilters {
		t.Errorf("%d filters", n)
	}
	if n := fill(begun(), func(int) PolicyItem { return PolicyItem{Kind: PolicyResolver} }); n != MaxResolvers {
		t.Errorf("%d resolvers", n)
	}
	if n := fill(begun(), func(int) PolicyItem { return PolicyItem{Kind: PolicyServer} }); n != MaxResolvers {
		t.Errorf("%d servers", n)
	}
	p := begun()
	if _, err := p.Add(&PolicyItem{Kind: PolicyFilter, Filter: Filter{Name: "f"}}); err != nil {
		t.Fatal(err)
	}
	names := PolicyItem{Kind: PolicyNames, Names: make([]name.Name, namesPerItem), Scopes: make([]byte, namesPerItem)}
	if n := fill(p, func(int) PolicyItem { return names }); n*namesPerItem != MaxHostnames {
		t.Errorf("%d host names", n*namesPerItem)
	}
	p = begun()
	if _, err := p.Add(&PolicyItem{Kind: PolicyFilter, Filter: Filter{Name: "f"}}); err != nil {
		t.Fatal(err)
	}
	cached := PolicyItem{Kind: PolicyNames, Names: names.Names, Scopes: bytes.Repeat([]byte{byte(ScopeCached)}, namesPerItem)}
	if n := fill(p, func(int) PolicyItem { return cached }); n*namesPerItem != MaxCached {
		t.Errorf("%d host names to look up", n*namesPerItem)
	}
	if n := fill(p, func(int) PolicyItem { return PolicyItem{Kind: PolicyAddress} }); n != MaxAllowedAddresses {
		t.Errorf("%d addresses", n)
	}
}

func TestPolicyItemValidate(t *testing.T) {
	long := []name.Name{}
	for range namesPerItem + 1 {
		long = append(long, "\x01a\x00")
	}
	ports := func(at uint32, ports ...Port) PolicyItem {
		return PolicyItem{Kind: PolicyNames, Names: long[:1], Scopes: []byte{1}, Ports: []PortsAt{{at, ports}}}
	}
	address := func(a string, bits uint8, ports ...Port) PolicyItem {
		return PolicyItem{Kind: PolicyAddress, Address: AllowedAddress{Address(a), bits, ports}}
	}
	for what, item := range map[string]PolicyItem{
		"zero":                  {},
		"unknown kind":          {Kind: policyKindEnd},
		"queue without handle":  {Kind: PolicyQueue, Queue: Queue{Kind: QueueTraffic}},
		"queue without kind":    {Kind: PolicyQueue, Queue: Queue{Handle: 1}},
		"queue of unknown kind": {Kind: PolicyQueue, Queue: Queue{Handle: 1, Kind: queueKindEnd}},
		"queue in slot 16384":   {Kind: PolicyQueue, Queue: Queue{Handle: 1, Kind: QueueTraffic, Slot: MaxQueues}},
		"filter without name":   {Kind: PolicyFilter},
		"filter with long name": {Kind: PolicyFilter, Filter: Filter{Name: strings.Repeat("n", MaxFilterName+1)}},
		"negative duration":     {Kind: PolicyFilter, Filter: Filter{Name: "f", AllowAnswersFor: -1}},
		"no names":              {Kind: PolicyNames},
		"too many names":        {Kind: PolicyNames, Names: long, Scopes: make([]byte, len(long))},
		"not a name":            {Kind: PolicyNames, Names: []name.Name{"a.b"}, Scopes: []byte{1}},
		"no scope":              {Kind: PolicyNames, Names: long[:1]},
		"scope 0":               {Kind: PolicyNames, Names: long[:1], Scopes: []byte{0}},
		"unknown scope":         {Kind: PolicyNames, Names: long[:1], Scopes: []byte{byte(scopeEnd)}},
		"socket of nothing":     {Kind: PolicySocket},
		"socket of ICMP":        {Kind: PolicySocket, Socket: Socket{Proto: 1}},
		"negative cache":        {Kind: PolicyFilter, Filter: Filter{Name: "f", CachedFor: -1}},
		"cached each 0 s less":  {Kind: PolicyFilter, Filter: Filter{Name: "f", ReCacheEvery: -1}},
		"a scope too many":      {Kind: PolicyNames, Names: long[:1], Scopes: []byte{1, 1}},
		"ports of no name":      ports(1, Port{Number: 1}),
		"no ports":              ports(0),
		"port 0":                ports(0, Port{Proto: ProtoTCP}),
		"all ports in a list":   ports(0, Port{Number: 1}, Port{}),
		"port of protocol 1":    ports(0, Port{Number: 1, Proto: 1}),
		"too many ports":        ports(0, make([]Port, MaxPorts+1)...),
		"no address":            address("", 0),
		"address of 5 octets":   address("abcde", 8),
		"33 bits":               address("\x0a\x00\x00\x00", 33),
		"bits behind":           address("\x0a\x00\x00\x01", 8),
		"address of port 0":     address("\x0a\x00\x00\x00", 8, Port{}),
		"grace for ever":        {Kind: PolicyFilter, Filter: Filter{Name: "f", TTLGrace: MaxDuration + 1}},
		"negative minimum":      {Kind: PolicyFilter, Filter: Filter{Name: "f", MinTTL: -1}},
		"negative use":          {Kind: PolicyFilter, Filter: Filter{Name: "f", MaxInUse: -1}},
		"resolver of 5 octets":  {Kind: PolicyResolver, Resolver: "abcde"},
		"no resolver":           {Kind: PolicyResolver},
		"server of 5 octets":    {Kind: PolicyServer, Server: "abcde"},
		"no server":             {Kind: PolicyServer, Resolver: "abcd"},
	} {
		if err := item.Validate(); err == nil {
			t.Errorf("%s: valid", what)
		}
	}
}
