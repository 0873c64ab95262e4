package main

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// requestAttacks are those of an owned request parser on the allowlist.
var requestAttacks = framed(ipc.FDRequests, map[string]attack{
	// Claims that the packet asks for what is allowed.
	"lie":    altered(claim),
	"repeat": func(m *moment) error { claim(m.request); return repeat(m.request, 1000) },
	"borrow": borrow,
	"flood":  floodRequests,
	// Claims that a packet of the daemon's own queue asks what is being looked up.
	"self-lie": altered(func(f *ipc.RequestFact) {
		f.Drop, f.Extras = ipc.ReasonNone, false
		f.Questions = []ipc.Question{{Name: wire("held", "cdn", "test"), Type: ipc.TypeA, Class: 1}}
	}),
	"self-cached": altered(func(f *ipc.RequestFact) {
		f.Questions = []ipc.Question{{Name: wire("cdn", "test"), Type: ipc.TypeA, Class: 1}}
	}),
	"segment-self":     altered(func(f *ipc.RequestFact) { segment(f, ipc.PacketID{Handle: 3, ID: 1}) }),
	"segment-not-self": altered(func(f *ipc.RequestFact) { segment(f, ipc.PacketID{Handle: 5, ID: 1}) }),

	"handle-none":     altered(func(f *ipc.RequestFact) { f.Handle = 0 }),
	"handle-response": altered(func(f *ipc.RequestFact) { f.Handle = 1 }),
	"handle-traffic":  altered(func(f *ipc.RequestFact) { f.Handle = 5 }),
	"handle-never":    altered(func(f *ipc.RequestFact) { f.Handle = 1 << 20 }),

	"name-none":      altered(func(f *ipc.RequestFact) { f.Questions[0].Name = "" }),
	"name-label":     altered(func(f *ipc.RequestFact) { f.Questions[0].Name = wire(string(make([]byte, 64))) + allowed }),
	"name-long":      altered(func(f *ipc.RequestFact) { f.Questions[0].Name = longName() }),
	"name-upper":     altered(func(f *ipc.RequestFact) { f.Questions[0].Name = wire("EXAMPLE", "com") }),
	"name-cut":       altered(func(f *ipc.RequestFact) { f.Questions[0].Name = allowed[:len(allowed)-1] }),
	"name-after":     altered(func(f *ipc.RequestFact) { f.Questions[0].Name = allowed + allowed }),
	"name-dot":       altered(func(f *ipc.RequestFact) { f.Questions[0].Name = wire("example.com") }),
	"name-dots":      altered(func(f *ipc.RequestFact) { f.Questions[0].Name = wire("www.example", "com") }),
	"name-null":      altered(func(f *ipc.RequestFact) { f.Questions[0].Name = wire("example", "com\x00") }),
	"questions":      altered(func(f *ipc.RequestFact) { f.Questions = make([]ipc.Question, 5) }),
	"questions-0":    altered(func(f *ipc.RequestFact) { f.Questions = nil }),
	"dump-escape":    altered(func(f *ipc.RequestFact) { claim(f); f.Dump = "\x1b[2J" }),
	"dump-long":      altered(func(f *ipc.RequestFact) { claim(f); f.Dump = string(make([]byte, ipc.MaxDump+1)) }),
	"protocol":       altered(func(f *ipc.RequestFact) { claim(f); f.Proto = 47 }),
	"families":       altered(func(f *ipc.RequestFact) { claim(f); f.Dst = ipc.Address(make([]byte, 16)) }),
	"address":        altered(func(f *ipc.RequestFact) { claim(f); f.Src = "abc" }),
	"no-flow":        altered(func(f *ipc.RequestFact) { claim(f); f.Packet = ipc.Packet{Handle: f.Handle, ID: f.ID} }),
	"state":          altered(func(f *ipc.RequestFact) { claim(f); f.State = 9 }),
	"reason":         altered(func(f *ipc.RequestFact) { claim(f); f.Drop = 255 }),
	"segment-udp":    altered(func(f *ipc.RequestFact) { claim(f); f.Segment.Kind = ipc.SegmentMessage }),
	"segment-none":   altered(func(f *ipc.RequestFact) { claim(f); f.Proto = ipc.ProtoTCP }),
	"segment-kind":   altered(func(f *ipc.RequestFact) { segment(f); f.Segment.Kind = 200 }),
	"segment-invent": altered(func(f *ipc.RequestFact) { segment(f) }),
	"segment-twice": altered(func(f *ipc.RequestFact) {
		segment(f, ipc.PacketID{Handle: f.Handle, ID: 1 << 20}, ipc.PacketID{Handle: f.Handle, ID: 1 << 20})
	}),
	"segment-itself":   altered(func(f *ipc.RequestFact) { segment(f, ipc.PacketID{Handle: f.Handle, ID: f.ID}) }),
	"segment-response": altered(func(f *ipc.RequestFact) { segment(f, ipc.PacketID{Handle: 1, ID: 1}) }),
	"segment-traffic":  altered(func(f *ipc.RequestFact) { segment(f, ipc.PacketID{Handle: 5, ID: 1}) }),
	"segment-filter":   altered(func(f *ipc.RequestFact) { segment(f, ipc.PacketID{Handle: 7, ID: 1}) }),
	"segment-two": func(m *moment) error {
		segment(m.request)
		f := *m.request
		f.Segment.More = true
		m.request.ID++
		return errors.Join(toHolder.Send(&f), toHolder.Send(m.request))
	},
	"segment-endless": func(m *moment) error {
		segment(m.request)
		m.request.Segment.More = true
		return repeat(m.request, ipc.MaxPipelined+1)
	},
	"another-edge": func(m *moment) error {
		return ipc.NewGrantSender(ipc.FDRequests).Send(&ipc.Grants{Kind: ipc.GrantsOpen, Filter: 1})
	},
	"verdict-frame": func(m *moment) error { return raw(ipc.FDRequests, acceptRecord(m.queue.Handle, m.id)) },
})

func altered(alter func(f *ipc.RequestFact)) attack {
	return func(m *moment) error { alter(m.request); return toHolder.Send(m.request) }
}

func claim(f *ipc.RequestFact) {
	f.Drop = ipc.ReasonNone
	f.Questions[0].Name = allowed
}

// segment claims that the packet completes an allowed query of a stream, and
// decides others.
func segment(f *ipc.RequestFact, also ...ipc.PacketID) {
	claim(f)
	f.Proto, f.Segment = ipc.ProtoTCP, ipc.Segment{Kind: ipc.SegmentMessage, Also: also, AlsoAt: make([]ipc.Numbers, len(also))}
}

func repeat(f *ipc.RequestFact, times int) error {
	for range times {
		if err := toHolder.Send(f); err != nil {
			return err
		}
	}
	return nil
}

// borrow claims for filter 1, which allows it, what a packet of filter 0 really
// asks, and has the packet go out under a name of its own.
func borrow(m *moment) error {
	f := *m.request
	f.ID += 1 << 20
	f.Questions = slices.Clone(f.Questions)
	for _, q := range m.policy.Queues {
		if q.Filter == 1 {
			f.Handle = q.Handle
			break
		}
	}
	if err := toHolder.Send(&f); err != nil { // first: the answer may be fast
		return err
	}
	claim(m.request)
	return toHolder.Send(m.request)
}

// floodRequests claims requests of packets that were never queued, each from
// another client, and tells of the true one last.
func floodRequests(m *moment) error {
	f := *m.request
	f.Questions = []ipc.Question{{Name: allowed, Type: 1, Class: 1}}
	for i := range uint32(300_000) {
		f.ID = 1<<20 + i
		f.Src = ipc.Address(binary.BigEndian.AppendUint32(nil, 10<<24+i))
		f.TxID = uint16(i)
		if err := toHolder.Send(&f); err != nil {
			return err
		}
	}
	return m.honest()
}

func longName() name.Name {
	label := string(make([]byte, 63))
	return wire(label, label, label, label)
}
