package ipc

import (
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc/name"
)

func TestRequestFactValidate(t *testing.T) {
	good := sampleRequest()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(*RequestFact){
		"handle 0":              func(f *RequestFact) { f.Handle = 0 },
		"state 4":               func(f *RequestFact) { f.State = connStateEnd },
		"no protocol":           func(f *RequestFact) { f.Proto = 0 },
		"ICMP":                  func(f *RequestFact) { f.Proto = 1 },
		"two families":          func(f *RequestFact) { f.Dst = Address(strings.Repeat("\x20", 16)) },
		"no source":             func(f *RequestFact) { f.Src = "" },
		"mapped source":         func(f *RequestFact) { f.Src, f.Dst = mappedAddress, mappedAddress },
		"unknown reason":        func(f *RequestFact) { f.Drop = reasonEnd },
		"accepted, no flow":     func(f *RequestFact) { f.Drop, f.Packet = ReasonNone, Packet{Handle: 1} },
		"accepted, no question": func(f *RequestFact) { f.Drop, f.Questions = ReasonNone, nil },
		"five questions":        func(f *RequestFact) { f.Questions = make([]Question, MaxQuestions+1) },
		"text for a name":       func(f *RequestFact) { f.Questions = []Question{{Name: "a.example"}} },
		"no name":               func(f *RequestFact) { f.Questions = []Question{{}} },
		"long dump":             func(f *RequestFact) { f.Dump = strings.Repeat("d", MaxDump+1) },
		"escape in the dump":    func(f *RequestFact) { f.Dump = "a\x1b[2J" },
		"bidi in the dump":      func(f *RequestFact) { f.Dump = "a\u202e" },
		"carriage return":       func(f *RequestFact) { f.Dump = "a\r" },
	} {
		f := sampleRequest()
		spoil(&f)
		if err := f.Validate(); err == nil {
			t.Errorf("%s: valid", what)
		}
	}
	// Flow fields without a protocol, one at a time.
	for i, p := range []Packet{{Src: "abcd"}, {Dst: "abcd"}, {SrcPort: 1}, {DstPort: 1}} {
		p.Handle = 1
		if err := p.validate(); err == nil {
			t.Errorf("flow field %d without a protocol: valid", i)
		}
	}
}

const mappedAddress = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xffabcd"

func TestResponseFactValidate(t *testing.T) {
	good := sampleResponse()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	n := sampleName("a")
	for what, spoil := range map[string]func(*ResponseFact){
		"handle 0":                func(f *ResponseFact) { f.Handle = 0 },
		"unknown drop":            func(f *ResponseFact) { f.Drop = reasonEnd },
		"unknown answer drop":     func(f *ResponseFact) { f.AnswerDrop = 255 },
		"no flow":                 func(f *ResponseFact) { *f = ResponseFact{Packet: Packet{Handle: 1}} },
		"long dump":               func(f *ResponseFact) { f.Dump = strings.Repeat("d", MaxDump+1) },
		"delete in the dump":      func(f *ResponseFact) { f.Dump = "a\x7f" },
		"records, dropped":        func(f *ResponseFact) { f.Drop = ReasonNotIP },
		"records, answer dropped": func(f *ResponseFact) { f.AnswerDrop = ReasonBadRecord },
		"records, truncated":      func(f *ResponseFact) { f.Truncated = true },
		"records, and none":       func(f *ResponseFact) { f.NoRecords = true },
		"records, no question":    func(f *ResponseFact) { f.Questions = nil },
		"names alone, no question": func(f *ResponseFact) {
			*f = ResponseFact{Packet: f.Packet, Names: []name.Name{n}}
		},
		"not a name":           func(f *ResponseFact) { f.Names[1] = "b.example" },
		"129 names":            func(f *ResponseFact) { f.Names = append(f.Names, make([]name.Name, MaxNames)...) },
		"names too long":       func(f *ResponseFact) { f.Names = fill(MaxNameBytes/200+1, longName(200)) },
		"65 links":             func(f *ResponseFact) { f.Links = make([]Link, MaxLinks+1) },
		"129 targets":          func(f *ResponseFact) { f.Targets = make([]Target, MaxTargets+1) },
		"17 pointers":          func(f *ResponseFact) { f.Pointers = make([]Target, MaxPointers+1) },
		"pointer's owner far":  func(f *ResponseFact) { f.Pointers[0].Owner = 2 },
		"pointer's target far": func(f *ResponseFact) { f.Pointers[0].Target = 2 },
		"pointer alone, truncated": func(f *ResponseFact) {
			*f = bare(f)
			f.Truncated, f.Pointers = true, []Target{{}}
		},
		"18 other owners":       func(f *ResponseFact) { f.Others = make([]byte, MaxOwners+1) },
		"4097 addresses":        func(f *ResponseFact) { f.A = addresses(4, MaxAddresses) },
		"too many octets":       func(f *ResponseFact) { f.AAAA = addresses(16, MaxAddressBytes/18) },
		"A without TTL":         func(f *ResponseFact) { f.A.TTL = nil },
		"TTL without A":         func(f *ResponseFact) { f.A.TTL = append(f.A.TTL, 0) },
		"TTLs alone, truncated": func(f *ResponseFact) { *f = bare(f); f.Truncated, f.A.TTLs = true, []uint32{60} },
		"A's TTL far":           func(f *ResponseFact) { f.A.TTL[0] = 2 },
		"AAAA's TTL far":        func(f *ResponseFact) { f.AAAA.TTL[0] = 1 },
		"256 TTLs":              func(f *ResponseFact) { f.A.TTLs = make([]uint32, MaxTTLs+1) },
		"TTL with the top bit":  func(f *ResponseFact) { f.AAAA.TTLs[0] = 1 << 31 },
		"A cut short":           func(f *ResponseFact) { f.A.Octets = "abc" },
		"A without owner":       func(f *ResponseFact) { f.A.Owners = nil },
		"AAAA with A's length":  func(f *ResponseFact) { f.AAAA.Octets = "abcd" },
		"owner without AAAA":    func(f *ResponseFact) { f.AAAA.Octets = "" },
		"link's owner far":      func(f *ResponseFact) { f.Links[0].Owner = 2 },
		"link's target far":     func(f *ResponseFact) { f.Links[0].Target = 255 },
		"target's owner far":    func(f *ResponseFact) { f.Targets[0].Owner = 2 },
		"target's target far":   func(f *ResponseFact) { f.Targets[0].Target = 2 },
		"A's owner far":         func(f *ResponseFact) { f.A.Owners[0] = 2 },
		"AAAA's owner far":      func(f *ResponseFact) { f.AAAA.Owners[0] = 2 },
		"other's owner far":     func(f *ResponseFact) { f.Others[0] = 2 },
		"question without name": func(f *ResponseFact) { f.Questions[0].Name = "" },
	} {
		f := sampleResponse()
		spoil(&f)
		if err := f.Validate(); err == nil {
			t.Errorf("%s: valid", what)
		}
	}
}

// bare is a response like f, without records.
func bare(f *ResponseFact) ResponseFact {
	return ResponseFact{Packet: f.Packet, Questions: f.Questions}
}

func fill(n int, one name.Name) []name.Name {
	out := make([]name.Name, n)
	for i := range out {
		out[i] = one
	}
	return out
}

func addresses(octets, n int) Addresses {
	return Addresses{strings.Repeat("x", octets*n), make([]byte, n), []uint32{60}, make([]byte, n)}
}

func TestGrantsValidate(t *testing.T) {
	for what, g := range map[string]Grants{
		"zero":            {},
		"no kind":         {Until: 1, V4: "abcd"},
		"unknown kind":    {Kind: grantsKindEnd, Until: 1, V4: "abcd"},
		"no end":          {Kind: GrantsOpen, V4: "abcd"},
		"negative end":    {Kind: GrantsOpen, Until: -1, V4: "abcd"},
		"no address":      {Kind: GrantsOpen, Until: 1},
		"V4 cut short":    {Kind: GrantsOpen, Until: 1, V4: "abcde"},
		"V6 cut short":    {Kind: GrantsOpen, Until: 1, V6: "abcd"},
		"too many":        {Kind: GrantsOpen, Until: 1, V4: strings.Repeat("abcd", MaxAddresses+1)},
		"too many in all": {Kind: GrantsOpen, Until: 1, V4: strings.Repeat("abcd", MaxAddresses), V6: strings.Repeat("x", 16)},
		"kept, no one":    {Kind: GrantsKeep},
		"kept, then":      {Kind: GrantsKeep, Until: -1, V4: "abcd"},
		"kept, port 0":    {Kind: GrantsKeep, V4: "abcd", Port: Port{Proto: ProtoTCP}},
		"port of ICMP":    {Kind: GrantsOpen, Until: 1, V4: "abcd", Port: Port{Number: 1, Proto: 1}},
		"change with one": {Kind: GrantsChange, V4: "abcd"},
		"done with one":   {Kind: GrantsDone, V4: "abcd"},
		"settled, no one": {Kind: GrantsSettled},
		"settled, then":   {Kind: GrantsSettled, Until: -1, V4: "abcd"},
		"settled, port":   {Kind: GrantsSettled, V4: "abcd", Port: Port{Number: 443}},
		"done of filter":  {Kind: GrantsDone, Filter: 1},
	} {
		if err := g.Validate(); err == nil {
			t.Errorf("%s: valid", what)
		}
	}
}
