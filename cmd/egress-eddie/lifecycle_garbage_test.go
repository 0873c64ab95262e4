package main_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// garbageLengths are every length up to an Ethernet packet's, and some that
// come in fragments.
func garbageLengths() []int {
	lengths := []int{2000, 4096, 9000, 16384, 32768, 65507}
	for n := range 1501 {
		lengths = append(lengths, n)
	}
	return lengths
}

// garbage is a payload of so many octets: noise, zeros, ones, or a message
// that was honest before a few of its octets changed.
func garbage(random *rand.Rand, honest []byte, n int) []byte {
	b := make([]byte, n)
	switch random.IntN(4) {
	case 0:
	case 1:
		for i := range b {
			b[i] = 0xff
		}
	case 2:
		for i := range b {
			b[i] = byte(random.Uint32())
		}
	default:
		copy(b, honest)
		for range 3 {
			if n > 0 {
				b[random.IntN(n)] = byte(random.Uint32())
			}
		}
	}
	return b
}

// 10,000 packets of garbage of every length to queues of all three kinds in
// both families: none stays, none gets through, no process dies, and honest
// traffic flows.
func TestGarbage(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, f := range families {
		l.resolver(f.resolver, zone(map[string][]string{
			"example.com.": {fmt.Sprintf("example.com. 60 IN %s %v", f.record(), f.web(1))},
		}))
	}
	l.start(allowing("example.com"))
	l.rules(standardRules)
	total := 0
	for _, f := range families {
		total += l.garbageTo(t, f)
	}
	if total < 10_000 {
		t.Errorf("only %d packets", total)
	}
	l.idleButForOverflow(t)
	for _, f := range families {
		l.resolves(t, f, "example.com", typeOf(f), f.web(1))
		l.reaches(t, f.web(1))
		l.isRefused(t, f, "denied.test", typeOf(f))
		l.isShut(t, f.web(3))
	}
	l.daemon.processes(t)
}

func (l *lab) garbageTo(t *testing.T, f family) (sent int) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(f.bits)))
	request := question("example.com", typeOf(f))
	response := new(dns.Msg).SetReply(request)
	response.Answer = rrs(t, fmt.Sprintf("example.com. 60 IN %s %v", f.record(), f.web(9)))
	client, victim := l.client.asker(t, f.client), l.client.asker(t, f.client)
	forger := l.server.listenUDP(t, netip.AddrPortFrom(f.other, 53))
	unheard := l.server.listenUDP(t, netip.AddrPortFrom(f.web(2), floodPort))
	for i, n := range garbageLengths() {
		// Request queue, traffic queue (an address nobody was granted), response
		// queue (nobody asked).
		client.sendWire(f.dns(), garbage(random, pack(t, request), n))
		client.sendWire(netip.AddrPortFrom(f.web(2), floodPort), garbage(random, nil, n))
		writeTo(t, forger, garbage(random, pack(t, response), n), victim.at)
		sent += 3
		if i%2 == 0 && n <= 1400 {
			// Not even UDP: any protocol, any content.
			l.client.sendRaw(t, rawGarbage(random, f, n))
			sent++
		}
		if i%50 == 0 {
			l.idleButForOverflow(t)
		}
	}
	l.idleButForOverflow(t)
	victim.nothing()
	(&asker{t: t, conn: unheard}).nothing()
	return sent
}

// rawGarbage is an IP packet of any protocol but TCP's and UDP's, whose noise
// would be a matter of the ports' rules, to an address nobody was granted.
func rawGarbage(random *rand.Rand, f family, n int) []byte {
	payload := garbage(random, nil, n)
	protocol := byte(100 + random.IntN(100))
	if f.v6 {
		b := append([]byte{6 << 4, 0, 0, 0, byte(n >> 8), byte(n), protocol, 64}, f.client.AsSlice()...)
		return append(append(b, f.web(2).AsSlice()...), payload...)
	}
	b := append([]byte{4<<4 | 5, 0, byte((20 + n) >> 8), byte(20 + n), 0, 0, 0, 0, 64, protocol, 0, 0}, f.client.AsSlice()...)
	return append(append(b, f.web(2).AsSlice()...), payload...)
}

// idleButForOverflow requires that nothing waits; a queue that was full for a
// moment is no fault.
func (l *lab) idleButForOverflow(t *testing.T) {
	t.Helper()
	var queues []queueState
	if !eventually(func() bool {
		waiting := 0
		queues = l.client.queues(t)
		for _, q := range queues {
			waiting += q.waiting
		}
		return waiting == 0
	}) {
		t.Fatalf("packets wait: %+v", queues)
	}
	if len(queues) == 0 {
		t.Fatal("no queues: the daemon is gone")
	}
}
