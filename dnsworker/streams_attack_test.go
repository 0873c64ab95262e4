package dnsworker

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
	"github.com/capnspacehook/egress-eddie/trafficworker/allowlist"
)

// fat is an allowed query of size octets in an EDNS option that is filled.
func fat(t *testing.T, size int, fill []byte) []byte {
	q := query(t, "a.good.test.", typeA)
	binary.BigEndian.PutUint16(q[10:], 1)
	room := size - len(q) - 11 - 4
	q = append(q, 0, 0, typeOPT, 4, 0xd0, 0, 0, 0, 0)
	q = binary.BigEndian.AppendUint16(q, uint16(room+4))
	q = binary.BigEndian.AppendUint16(q, 65001)
	q = binary.BigEndian.AppendUint16(q, uint16(room))
	data := make([]byte, room)
	copy(data, fill)
	return append(q, data...)
}

// TestVictimsOfTwoFilters: when streams of several filters have to go at once,
// no fact decides packets of two: the holder would take it for a breach.
func TestVictimsOfTwoFilters(t *testing.T) {
	first := ipc.Queue{Handle: 1, Kind: ipc.QueueRequests, Filter: 0}
	t.Run("filters", func(t *testing.T) { victims(t, first, ipc.Queue{Handle: 2, Kind: ipc.QueueRequests, Filter: 1}) })
	t.Run("the resolver", func(t *testing.T) { victims(t, first, ipc.Queue{Handle: 2, Kind: ipc.QueueSelf}) })
}

func victims(t *testing.T, queues ...ipc.Queue) {
	told, both := map[uint32]bool{}, false // the queues of what one packet made go, and whether they were ever both
	r := newRequestStreams(&ipc.Policy{Queues: queues}, NewParser(false), func(f *ipc.RequestFact) error {
		if err := f.Validate(); err != nil {
			t.Fatal(err)
		}
		for _, also := range f.Segment.Also {
			if also.Handle != f.Handle {
				t.Fatalf("a fact of queue %d decides a packet of queue %d: the holder ends", f.Handle, also.Handle)
			}
		}
		told[f.Handle] = told[f.Handle] || f.Drop == ipc.ReasonNoConnection
		return nil
	})
	r.table.room = 16 << 20
	id := uint32(0)
	now := testStart
	send := func(handle uint32, port uint16, seq uint32, flags uint8, data []byte) {
		id++
		now++
		p := tcpPacket(port, false, seq, 1, flags, data)
		p[14], p[15] = byte(port), byte(handle) // other clients
		if err := r.packet(now, Meta{Handle: handle, ID: id}, p); err != nil {
			t.Fatal(err)
		}
		both = both || told[1] && told[2]
		clear(told)
	}
	// The idlest streams of both hold a few octets each.
	const small = 100
	for port := range uint16(small) {
		for _, handle := range []uint32{1, 2} {
			send(handle, 1000+port, 0, tcpSYN, nil)
			send(handle, 1000+port, 1, tcpACK, []byte{0, 50, 1})
		}
	}
	big := inStream(fat(t, 60000, nil))
	for port := range uint16(202) {
		for _, handle := range []uint32{1, 2} {
			send(handle, 5000+port, 0, tcpSYN, nil)
			at := 1
			for range 3 {
				send(handle, 5000+port, uint32(at), tcpACK, big)
				at += len(big)
			}
		}
	}
	if !both {
		t.Error("nothing of both had to go at once")
	}
}

// TestSynAckAgain: a copy of a SYN-ACK that is late confirms nothing begun
// since, of which the server knows nothing.
func TestSynAckAgain(t *testing.T) {
	n, err := name.FromWire([]byte("\x04good\x04test\x00"))
	if err != nil {
		t.Fatal(err)
	}
	policy := &ipc.Policy{
		Queues:    []ipc.Queue{{Handle: 1, Number: 1, Kind: ipc.QueueRequests}, {Handle: 2, Number: 2, Kind: ipc.QueueResponses}},
		Filters:   []ipc.Filter{{Name: "f", AllowAnswersFor: time.Minute}},
		Hostnames: []ipc.Hostnames{ipc.Tree(n)},
	}
	e, err := allowlist.New(policy)
	if err != nil {
		t.Fatal(err)
	}
	now := testStart
	var batch []*ipc.RequestFact
	var last ipc.Reason
	requests := newRequestStreams(policy, NewParser(false), func(f *ipc.RequestFact) error {
		valid(t, f)
		if batch = append(batch, f); f.Segment.More {
			return nil
		}
		o, err := e.Requests(now, batch)
		if err != nil {
			t.Fatal(err)
		}
		batch, last = nil, o[0].Reason
		return nil
	})
	responses := newResponseStreams(NewParser(false), func(f *ipc.ResponseFact) error {
		valid(t, f)
		p, err := e.Response(now, f)
		if err != nil {
			t.Fatal(err)
		}
		e.Commit(now, &p)
		last = p.Reason
		return nil
	})
	id := uint32(0)
	client := func(port uint16, seq uint32, flags uint8, data []byte) {
		id, now = id+1, now.Add(time.Microsecond)
		ack := uint32(2)
		if port == 4000 {
			ack = 78
		}
		if err := requests.packet(now, Meta{Handle: 1, ID: id}, tcpPacket(port, false, seq, ack, flags, data)); err != nil {
			t.Fatal(err)
		}
	}
	server := func(port uint16, seq, ack uint32, flags uint8) {
		id, now = id+1, now.Add(time.Microsecond)
		if err := responses.packet(now, Meta{Handle: 2, ID: id}, tcpPacket(port, true, seq, ack, flags, nil)); err != nil {
			t.Fatal(err)
		}
	}
	const isn = 1000
	client(4000, isn, tcpSYN, nil)
	server(4000, 77, isn+1, tcpSYN|tcpACK)
	for port := range uint16(maxResponseStreams / shareOfClient) { // connections of the same client to the same server
		if port%100 == 99 { // not the idlest for the parser of requests: that counts what it drops
			client(4000, isn+999, tcpACK, []byte("x"))
			client(4000, isn+1, tcpACK, nil) // nor for the holder
		}
		client(5000+port, 1, tcpSYN, nil)
		server(5000+port, 1, 2, tcpSYN|tcpACK)
	}
	// The server sends its SYN-ACK again, a second later; it is on its way.
	// Meanwhile this goes to the server, which takes it:
	plain := inStream(fat(t, len(query(t, "a.good.test.", typeA))+15, nil))
	client(4000, isn+1, tcpACK, plain)
	if last != ipc.ReasonNone {
		t.Fatalf("an allowed query: %v", last)
	}
	// The server answers these with challenge ACKs.
	client(4000, isn+50_000_000, tcpSYN, nil)
	client(4000, isn, tcpSYN, nil)
	if client(4000, isn+1, tcpACK, plain); last == ipc.ReasonNone {
		t.Fatal("it passes before the SYN-ACK")
	}
	client(4000, isn+50_000_000, tcpSYN, nil)
	client(4000, isn, tcpSYN, nil)
	server(4000, 77, isn+1, tcpSYN|tcpACK) // arrives
	if last == ipc.ReasonNone {
		t.Error("a copy of the SYN-ACK confirms another connection")
	}
	// To the filter one allowed query, from the beginning; to the server, which
	// has its first len(plain) octets, what follows them is the next query.
	hidden := inStream(query(t, "secret.evil.test.", typeA))
	head := len(plain)
	client(4000, isn+1, tcpACK, inStream(fat(t, head-lengthSize+len(hidden), hidden)))
	if last == ipc.ReasonNone {
		t.Errorf("octets of %q left at place %d, where the server has other ones up to %d", hidden, head, len(plain))
	}
}

// TestOptions: options that are not whole, and Multipath TCP, which gives the
// octets of a stream another order, are refused.
func TestOptions(t *testing.T) {
	for what, c := range map[string]struct {
		options string
		ok      bool
	}{
		"none":         {"", true},
		"usual":        {"\x02\x04\x05\xb4\x04\x02\x08\x0a\x00\x00\x00\x01\x00\x00\x00\x00\x01\x03\x03\x07", true},
		"end, padding": {"\x01\x01\x01\x00\x1e\xff\xff\xff", true},
		"MPTCP":        {"\x1e\x04\x01\x01", false},
		"MPTCP behind": {"\x01\x02\x04\x05\xb4\x01\x01\x1e\x04\x01\x01\x00", false},
		"no length":    {"\x01\x01\x01\x08", false},
		"length 0":     {"\x08\x00\x01\x01", false},
		"length 1":     {"\x08\x01\x01\x01", false},
		"cut":          {"\x01\x01\x08\x03", false},
	} {
		for _, flags := range []uint8{tcpSYN, tcpACK} {
			b := make([]byte, tcpHeader, tcpHeader+len(c.options))
			b[12], b[13] = byte(tcpHeader+len(c.options))/4<<4, flags
			l := tcp{}
			if err := l.DecodeFromBytes(append(b, c.options...), nil); (err == nil) != c.ok {
				t.Errorf("%s, flags %#x: %v", what, flags, err)
			}
		}
	}
}

// TestHeldOfFilter: what is held stands in the kernel's queue, and leaves room
// there for the filter's other clients.
func TestHeldOfFilter(t *testing.T) {
	policy := &ipc.Policy{Queues: []ipc.Queue{{Handle: 1, Kind: ipc.QueueRequests}, {Handle: 2, Kind: ipc.QueueRequests, Filter: 1}, {Handle: 3, Kind: ipc.QueueRequests},
		{Handle: 4, Kind: ipc.QueueSelf}}}
	waits := map[uint32]int{}
	r := newRequestStreams(policy, NewParser(false), func(f *ipc.RequestFact) error {
		valid(t, f)
		waits[f.Handle] -= 1 + len(f.Segment.Also)
		return nil
	})
	id := uint32(0)
	send := func(handle uint32, port uint16, seq uint32, flags uint8, data []byte) {
		id++
		waits[handle]++
		p := tcpPacket(port, false, seq, 1, flags, data)
		p[15] = byte(handle)
		if err := r.packet(testStart+ipc.Instant(id), Meta{Handle: handle, ID: id}, p); err != nil {
			t.Fatal(err)
		}
	}
	hold := func(handle uint32, port uint16, segments int) {
		send(handle, port, 0, tcpSYN, nil)
		send(handle, port, 1, tcpACK, []byte{9, 9})
		for i := range uint32(segments) {
			send(handle, port, 3+i, tcpACK, []byte{9})
		}
	}
	for port := range uint16(5) {
		hold(2, port, 200)
		hold(4, port, 200)
	}
	hold(3, 1, 3) // another client of the first filter
	for port := range uint16(20) {
		hold(1, port, 200)
		if waits[1] > maxHeldOfFilter {
			t.Fatalf("%d packets of a filter wait", waits[1])
		}
	}
	if waits[1] < maxHeldOfFilter-ipc.MaxHeld || waits[2] != 1000 || waits[3] != 3 || waits[4] != 1000 {
		t.Errorf("%d packets wait of the client that holds most, %d of another filter, %d of another client, %d of the resolver",
			waits[1], waits[2], waits[3], waits[4])
	}
}
