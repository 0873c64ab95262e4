package dnsworker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// nth is the n-th connection of a client in a group.
func nth(group, client string, n int) streamKey {
	return streamKey{group: group, src: ipc.Address(client), dst: "server", srcPort: uint16(n)}
}

// checkCrowds requires that everything is counted as it is, and in order.
func checkCrowds(t *testing.T, table *streams) {
	t.Helper()
	all, octets := map[*crowd]int{}, 0
	for _, s := range table.byKey {
		octets += cap(s.octets)
		if s.crowds != [2]*crowd{table.groups[s.key.group], table.clients[table.clientOf(&s.key)]} {
			t.Fatal("a stream of others")
		}
	}
	for _, c := range table.groups {
		all[c] = table.bound
	}
	for _, c := range table.clients {
		all[c] = table.bound / shareOfClient
	}
	for c, bound := range all {
		octets, held, before := 0, 0, ipc.Instant(0)
		for e := c.Front(); e != nil; e = e.Next() {
			s := e.Value.(*stream)
			if table.byKey[s.key] != s || s.used < before {
				t.Fatal("a stream at the wrong place")
			}
			octets, held, before = octets+cap(s.octets), held+len(s.held), s.used
		}
		if c.Len() == 0 || c.Len() > bound || c.octets != octets || c.held != held {
			t.Fatalf("%d streams, %d octets counted as %d, %d packets counted as %d", c.Len(), octets, c.octets, held, c.held)
		}
	}
	if table.octets != octets || octets > table.room || len(table.byKey) > table.bound {
		t.Fatalf("%d octets counted as %d, %d streams", octets, table.octets, len(table.byKey))
	}
}

// obvious is what has to go, as what is written above the bounds says it: of a
// client, or of the group that takes most, the idlest of those that are kept.
func obvious(table *streams, client *clientKey) (idlest *stream) {
	costs := map[string]int{}
	first := map[string]ipc.Instant{}
	for _, s := range table.byKey {
		g := s.key.group
		costs[g] += streamCost + cap(s.octets)
		if first[g] == 0 || s.used < first[g] {
			first[g] = s.used
		}
	}
	most := ""
	for g, cost := range costs {
		if c := costs[most]; cost > c || cost == c && first[g] < first[most] {
			most = g
		}
	}
	for _, s := range table.byKey {
		if client != nil && table.clientOf(&s.key) != *client || client == nil && s.key.group != most {
			continue
		}
		if idlest == nil || s.used < idlest.used {
			idlest = s
		}
	}
	return idlest
}

// TestStreamsMakeRoom compares what goes with the obvious.
func TestStreamsMakeRoom(t *testing.T) {
	gone := map[string]int{}
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 0))
		table := newStreams(16, clientIsSrc)
		table.room = 4000
		now := testStart
		for range 1000 {
			now++
			key := nth(fmt.Sprint("group ", r.IntN(3)), fmt.Sprint("client ", min(r.IntN(4), r.IntN(4))), r.IntN(7))
			s := table.byKey[key]
			if s == nil {
				client, mine := clientIsSrc(&key), 0
				for k := range table.byKey {
					if clientIsSrc(&k) == client {
						mine++
					}
				}
				var goes *stream
				switch {
				case mine == table.bound/shareOfClient:
					goes = obvious(table, &client)
					gone["of a client"]++
				case len(table.byKey) == table.bound:
					goes = obvious(table, nil)
					gone["of a group"]++
				}
				before := len(table.byKey)
				table.open(now, key, 1)
				if goes != nil && (table.byKey[goes.key] != nil || len(table.byKey) != before) || goes == nil && len(table.byKey) != before+1 {
					t.Fatalf("seed %d: not %+v", seed, goes)
				}
				checkCrowds(t, table)
				continue
			}
			switch r.IntN(8) {
			case 0:
				table.remove(s)
			case 1:
				s.held = append(s.held, heldPacket{packet: ipc.Packet{ID: 77}})
				table.count(s)
			default:
				table.use(now, s)
				s.octets = make([]byte, r.IntN(900))
				client, all := clientIsSrc(&key), table.octets+cap(s.octets)-s.counted.octets
				mine := s.crowds[ofClient].octets + cap(s.octets) - s.counted.octets
				var goes *stream
				if mine > table.room/shareOfClient {
					goes = obvious(table, &client)
					gone["octets of a client"]++
				} else if all > table.room {
					goes = obvious(table, nil)
					gone["octets of a group"]++
				}
				var held int
				if goes != nil {
					held = len(goes.held)
				}
				before := len(table.byKey)
				dropped := table.changed(s)
				if goes != nil && table.byKey[goes.key] != nil || goes == nil && len(table.byKey) != before || len(dropped) < held {
					t.Fatalf("seed %d: not %+v, or without what it held", seed, goes)
				}
			}
			checkCrowds(t, table)
		}
	}
	if len(gone) != 4 {
		t.Errorf("what went: %v", gone)
	}
}

// TestRoomOfOthers: a flood takes nothing of another group, nor, by one client,
// of another client.
func TestRoomOfOthers(t *testing.T) {
	for what, flood := range map[string]func(n int) streamKey{
		"by one client":                      func(n int) streamKey { return nth("one", "c", n) },
		"of another group, by many":          func(n int) streamKey { return nth("two", fmt.Sprint(n), 0) },
		"of another group, by one":           func(n int) streamKey { return nth("two", "c", n) },
		"by one client, and the other group": func(n int) streamKey { return nth([]string{"one", "two"}[n%2], "c", n) },
	} {
		for _, bound := range []int{maxRequestStreams, maxResponseStreams} {
			table := newStreams(bound, clientIsSrc)
			table.open(testStart, nth("one", "a", 0), 1)
			table.open(testStart, nth("one", "b", 0), 1)
			for n := range 3 * bound {
				table.open(testStart+1+ipc.Instant(n), flood(n), 1)
			}
			if table.byKey[nth("one", "a", 0)] == nil || table.byKey[nth("one", "b", 0)] == nil {
				t.Errorf("a flood %s: another's stream is forgotten", what)
			}
			checkCrowds(t, table)
		}
	}
}

// TestRoomOfSegments is the same by segments, of requests and of answers.
func TestRoomOfSegments(t *testing.T) {
	var last ipc.Reason
	requests := newRequestStreams(&ipc.Policy{Queues: []ipc.Queue{{Handle: 1, Kind: ipc.QueueRequests}}}, NewParser(false),
		func(f *ipc.RequestFact) error { last = f.Drop; return nil })
	responses := newResponseStreams(NewParser(false), func(f *ipc.ResponseFact) error { last = f.Drop; return nil })
	for what, c := range map[string]struct {
		packet   func(ipc.Instant, Meta, []byte) error
		bound    int
		syn      uint8
		isServer bool
		data     []byte
	}{
		"requests": {requests.packet, maxRequestStreams, tcpSYN, false, inStream(query(t, "a.good.test.", typeA))},
		"answers":  {responses.packet, maxResponseStreams, tcpSYN | tcpACK, true, []byte("a part")},
	} {
		id := uint32(0)
		send := func(client byte, port uint16, seq uint32, flags uint8, data []byte) {
			id++
			p := tcpPacket(port, c.isServer, seq, 2, flags, data)
			p[map[bool]int{false: 15, true: 19}[c.isServer]] = client
			if err := c.packet(testStart+ipc.Instant(id), Meta{Handle: 1, ID: id, InIf: 1, OutIf: 2}, p); err != nil {
				t.Fatal(err)
			}
		}
		send(1, 4000, 1, c.syn, nil)
		for port := range uint16(2 * c.bound) {
			send(2, 5000+port, 1, c.syn, nil)
		}
		if send(1, 4000, 2, tcpACK, c.data); last != ipc.ReasonNone {
			t.Errorf("%s of the first client: %v", what, last)
		}
	}
}

// BenchmarkFullStreams is a SYN with no room: how long it takes, and how many times
// as long as that it would take to look at every stream.
func BenchmarkFullStreams(b *testing.B) {
	for _, bound := range []int{maxRequestStreams, maxResponseStreams} {
		for what, key := range map[string]func(n int) streamKey{
			"one client":   func(n int) streamKey { return nth("one", "c", n) },
			"many clients": func(n int) streamKey { return nth("one", fmt.Sprint(n/10), n) },
			"many groups":  func(n int) streamKey { return nth(fmt.Sprint(n%100), fmt.Sprint(n), n) },
		} {
			b.Run(fmt.Sprint(bound, "/", what), func(b *testing.B) {
				table := newStreams(bound, clientIsSrc)
				n := 0
				open := func(count int) {
					for range count {
						n++
						table.open(testStart+ipc.Instant(n), key(n), 1)
					}
				}
				open(2 * bound)
				for b.Loop() {
					open(1)
				}
				const times = 50
				begin := time.Now()
				open(times * 100)
				took := time.Since(begin) / 100
				begin = time.Now()
				for range times {
					obvious(table, nil)
				}
				b.ReportMetric(float64(time.Since(begin))/float64(took), "times")
			})
		}
	}
}

// TestVictimTakesNoLonger: with 32 times as many streams, what makes room is found
// as fast.
func TestVictimTakesNoLonger(t *testing.T) {
	least := func(bound int) time.Duration {
		table := newStreams(bound, clientIsSrc)
		var all []time.Duration
		n := 0
		for range 20 {
			begin := time.Now()
			for range bound {
				n++
				table.open(testStart+ipc.Instant(n), nth("one", fmt.Sprint(n%4096), n), 1)
			}
			all = append(all, time.Since(begin)/time.Duration(bound))
		}
		return slices.Min(all[2:])
	}
	if few, many := least(512), least(16_384); many > 8*few {
		t.Errorf("%v with 512 streams, %v with 16,384", few, many)
	}
}
