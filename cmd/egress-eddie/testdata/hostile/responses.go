package main

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// Addresses that an attacker wants opened: web servers 8 and 9 of the tests.
const (
	web8 = "\xc6\x33\x64\x08"
	web9 = "\xc6\x33\x64\x09"
)

// responseAttacks are those of an owned response parser on the allowlist.
var responseAttacks = framed(ipc.FDResponses, map[string]attack{
	"choose":  answered(func(f *ipc.ResponseFact) {}),
	"invent":  answered(func(f *ipc.ResponseFact) { f.TxID++ }),
	"another": answered(func(f *ipc.ResponseFact) { f.Questions[0].Name = allowed; f.Names[0] = allowed }),
	"swap":    answered(swap),
	"twice": func(m *moment) error {
		answer(m.response, web8)
		if err := toHolder2.Send(m.response); err != nil {
			return err
		}
		answer(m.response, web9)
		return toHolder2.Send(m.response)
	},
	"foreign": answered(func(f *ipc.ResponseFact) {
		f.Names = append(f.Names, wire("evil", "test"))
		f.A.Owners[0] = 1
	}),
	"special": special,
	"flood":   floodResponses,

	"handle-request": answered(func(f *ipc.ResponseFact) { f.Handle = 3 }),
	"handle-traffic": answered(func(f *ipc.ResponseFact) { f.Handle = 5 }),
	"handle-never":   answered(func(f *ipc.ResponseFact) { f.Handle = 1 << 20 }),

	"addresses": answered(func(f *ipc.ResponseFact) {
		f.A = addresses(4, strings.Repeat(web8, ipc.MaxAddresses+1))
	}),
	"million": func(*moment) error {
		err := raw(ipc.FDResponses, []byte(strings.Repeat(web8, 1_000_000)))
		if err == unix.EMSGSIZE {
			return fmt.Errorf("a million addresses: %w", err)
		}
		return err
	},
	"names":          answered(func(f *ipc.ResponseFact) { f.Names = make([]name.Name, ipc.MaxNames+1) }),
	"names-bytes":    answered(func(f *ipc.ResponseFact) { f.Names = many(longestName(), 100) }),
	"owner":          answered(func(f *ipc.ResponseFact) { f.A.Owners[0] = 1 }),
	"other-owner":    answered(func(f *ipc.ResponseFact) { f.Others = []byte{255} }),
	"link":           answered(func(f *ipc.ResponseFact) { f.Links = []ipc.Link{{Owner: 0, Target: 200}} }),
	"target":         answered(func(f *ipc.ResponseFact) { f.Targets = []ipc.Target{{Owner: 0, Target: 1}} }),
	"owners-few":     answered(func(f *ipc.ResponseFact) { f.A.Owners = nil }),
	"ttl":            answered(func(f *ipc.ResponseFact) { f.A.TTL[0] = 1 }),
	"ttl-far":        answered(func(f *ipc.ResponseFact) { f.A.TTLs[0] = 1 << 31 }),
	"ttls-many":      answered(func(f *ipc.ResponseFact) { f.A.TTLs = make([]uint32, ipc.MaxTTLs+1) }),
	"octets-cut":     answered(func(f *ipc.ResponseFact) { f.A.Octets = f.A.Octets[:3] }),
	"name-upper":     answered(func(f *ipc.ResponseFact) { f.Names[0] = wire("EXAMPLE", "com") }),
	"segment-invent": answered(func(f *ipc.ResponseFact) { f.Proto, f.Segment.Kind = ipc.ProtoTCP, ipc.SegmentMessage }),
	"segment-also": answered(func(f *ipc.ResponseFact) {
		f.Proto, f.Segment = ipc.ProtoTCP, ipc.Segment{Kind: ipc.SegmentMessage, Also: []ipc.PacketID{{Handle: 1, ID: 1 << 20}}, AlsoAt: make([]ipc.Numbers, 1)}
	}),
	"truncated":   answered(func(f *ipc.ResponseFact) { f.Truncated = true }),
	"dump-escape": answered(func(f *ipc.ResponseFact) { f.Dump = "\x1b]0;owned\a" }),
})

// answer makes a response grant an address to whoever asked.
func answer(f *ipc.ResponseFact, octets string) {
	f.Drop, f.AnswerDrop, f.RCode, f.Truncated, f.NoRecords = 0, 0, 0, false, false
	f.Names = []name.Name{f.Questions[0].Name}
	f.Links, f.Targets, f.AAAA, f.Others = nil, nil, ipc.Addresses{}, nil
	f.A = addresses(4, octets)
}

// addresses are all of the first name, for a minute.
func addresses(size int, octets string) ipc.Addresses {
	n := len(octets) / size
	return ipc.Addresses{Octets: octets, Owners: make([]byte, n), TTLs: []uint32{60}, TTL: make([]byte, n)}
}

// answered sends such an answer with something else changed.
func answered(alter func(f *ipc.ResponseFact)) attack {
	return func(m *moment) error {
		answer(m.response, web8)
		alter(m.response)
		return toHolder2.Send(m.response)
	}
}

// swap makes the packet the answer to the pending request for held.b.test
// from the port and with the id of which the name that was asked for tells.
func swap(f *ipc.ResponseFact) {
	labels := strings.Split(f.Questions[0].Name.String(), ".")
	if _, err := fmt.Sscan(labels[1]+" "+labels[2], &f.DstPort, &f.TxID); err != nil {
		panic(err)
	}
	f.Questions[0].Name = wire("held", "b", "test")
	f.Names[0] = f.Questions[0].Name
}

// special grants what no answer may open, and one address that it may.
func special(m *moment) error {
	answer(m.response, web8+"\xa9\xfe\xa9\xfe"+"\x7f\x00\x00\x01"+"\x00\x00\x00\x00"+"\xff\xff\xff\xff")
	loopback := strings.Repeat("\x00", 15) + "\x01"
	mapped := strings.Repeat("\x00", 10) + "\xff\xff\xa9\xfe\xa9\xfe"
	m.response.AAAA = addresses(16, loopback+mapped)
	return toHolder2.Send(m.response)
}

// floodResponses tells of answers that nobody asked for, with as many
// addresses as fit, and then of the true one.
func floodResponses(m *moment) error {
	f := *m.response
	answer(&f, strings.Repeat(web8, 1000))
	for i := range uint32(20_000) {
		f.ID = 1<<20 + i
		f.TxID = m.response.TxID + 1 + uint16(i%1000)
		if err := toHolder2.Send(&f); err != nil {
			return err
		}
	}
	return m.honest()
}

func many[T any](v T, n int) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = v
	}
	return all
}

// longestName is as long as a name can be.
func longestName() name.Name {
	label := strings.Repeat("a", 63)
	return wire(label, label, label, label[:61])
}
