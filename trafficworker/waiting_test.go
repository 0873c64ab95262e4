package trafficworker

import (
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

// looking is a filter that has unknown addresses looked up.
var looking = ipc.Filter{Name: "looking", AllowAnswersFor: time.Minute, LookupUnknown: true}

const (
	unknown1 = "198.51.100.1"
	unknown2 = "198.51.100.2"
	unknown6 = "2001:db8::1"
)

type verdicts = map[uint32]ipc.Verdict

// TestPacketWaits: a packet to an unknown address waits for what the holder
// says of it, and others pass by; one line says what has become of each.
func TestPacketWaits(t *testing.T) {
	for what, c := range map[string]struct {
		then   func(l *lab)
		want   ipc.Verdict
		reason string
	}{
		"opened": {func(l *lab) { l.tell(about(ipc.GrantsOpen, 0, l.now.Add(time.Second), unknown1)) }, ipc.Accept, ""},
		"opened, and settled at once": {func(l *lab) {
			l.tell(about(ipc.GrantsOpen, 0, l.now.Add(time.Second), unknown1), about(ipc.GrantsSettled, 0, 0, unknown1))
		}, ipc.Accept, ""},
		"settled":               {func(l *lab) { l.tell(about(ipc.GrantsSettled, 0, l.now.Add(time.Second), unknown1)) }, ipc.Drop, ipc.ReasonLookedUp.String()},
		"settled, not for long": {func(l *lab) { l.tell(about(ipc.GrantsSettled, 0, l.now, unknown1)) }, ipc.Drop, ipc.ReasonLookedUp.String()},
		"no room":               {func(l *lab) { l.tell(about(ipc.GrantsSettled, 0, 0, unknown1)) }, ipc.Drop, ipc.ReasonTooManyLookups.String()},
		"too late": {func(l *lab) {
			l.now += ipc.Instant(waitFor)
			l.tick(ipc.Forever)
		}, ipc.Drop, ipc.ReasonLookupTime.String()},
		"at the last moment": {func(l *lab) {
			g := about(ipc.GrantsOpen, 0, l.now.Add(time.Minute), unknown1)
			if err := l.holder.Send(&g); err != nil {
				l.t.Fatal(err)
			}
			l.now += ipc.Instant(waitFor)
			l.tick(ipc.Forever)
		}, ipc.Accept, ""},
		"with another packet": {func(l *lab) {
			g := about(ipc.GrantsOpen, 0, l.now.Add(time.Minute), unknown1)
			if err := l.holder.Send(&g); err != nil {
				l.t.Fatal(err)
			}
			l.send(1)
		}, ipc.Accept, ""},
		"holder gone": {func(l *lab) {
			l.hangUp(ipc.FDGrants)
			l.hangUp(ipc.FDUnknown)
			l.now += ipc.Instant(waitFor)
			l.tick(ipc.Forever)
		}, ipc.Drop, ipc.ReasonLookupTime.String()},
	} {
		t.Run(what, func(t *testing.T) {
			plain := ipc.Filter{Name: "plain", AllowAnswersFor: time.Minute}
			l := newLab(t, looking, plain).timed()
			l.tell(about(ipc.GrantsOpen, 1, l.now.Add(time.Minute), unknown2))
			first := l.sendTo(0, unknown1)
			if q := l.questions(); len(q) != 1 || q[0] != (place{0, netip.MustParseAddr(unknown1)}) {
				t.Errorf("asked: %v", q)
			}
			second := l.sendTo(0, unknown1)
			l.now++
			others := l.send(1, packetTo(netip.MustParseAddr(unknown1), tcp443), packetTo(netip.MustParseAddr(unknown2), tcp443))
			l.want("before", verdicts{others: ipc.Drop, others + 1: ipc.Accept})
			l.tick(waitFor - 1)
			l.now--
			c.then(l)
			l.want("after", verdicts{first: c.want, second: c.want})
			if q := l.questions; c.reason != ipc.ReasonLookupTime.String() && len(q()) != 0 {
				t.Error("asked twice")
			}
			l.tick(ipc.Forever)
			lines := map[string]int{"drop: address not granted": 1, "accept: ": 1}
			if c.want == ipc.Accept {
				lines["accept: "] += 2
			} else {
				lines["drop: "+c.reason] = 1 // equal ones are counted
			}
			if got := l.lines(); !maps.Equal(got, lines) {
				t.Errorf("lines %v, want %v", got, lines)
			}
			if l.waited != 2 || l.lookedUp != 1 {
				t.Errorf("%d waited for %d lookups", l.waited, l.lookedUp)
			}
		})
	}
}

// tick requires how long the worker is content to wait.
func (l *lab) tick(want time.Duration) {
	l.t.Helper()
	if got, err := l.w.Tick(); got != want || err != nil {
		l.t.Errorf("a tick in %v, not %v: %v", got, want, err)
	}
}

// TestNothingWaits: then no clock is read.
func TestNothingWaits(t *testing.T) {
	l := newLab(t, looking)
	l.w.now = nil
	l.tick(ipc.Forever)
}

// TestNotLookedUp: what the holder is never asked about is denied as ever.
func TestNotLookedUp(t *testing.T) {
	l := newLab(t, looking, ipc.Filter{Name: "plain", AllowAnswersFor: time.Minute}).timed()
	want := verdicts{}
	for _, a := range []string{
		"10.0.0.1", "192.168.0.1", "100.64.0.1", "fd00::1", // private
		"169.254.169.254", "127.0.0.1", "224.0.0.1", "fe80::1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", // special, or carried
		"::ffff:198.51.100.1",
	} {
		want[l.sendTo(0, a)] = ipc.Drop
	}
	want[l.sendTo(1, unknown1)] = ipc.Drop
	// Nor can a packet of which the far address is not known.
	b := packetTo(netip.MustParseAddr(unknown1), tcp443)
	for _, hook := range []queue.Hook{queue.HookPrerouting, 9} {
		l.id++
		want[l.id] = ipc.Drop
		if err := l.w.batch(&l.w.queues[0], []queue.Packet{{ID: l.id, Hook: hook, Payload: b}}); err != nil {
			t.Fatal(err)
		}
	}
	want[l.send(0, with(ip4(131, 7, 4, 10, 0, 0, 1), 16, 198, 51, 100, 1))] = ipc.Drop
	l.want("denied", want)
	// Not even if headers.go did not refuse it.
	p := packet{queue: &l.w.queues[0], hook: queue.HookOutput, headers: headers{dst: netip.MustParseAddr("::ffff:198.51.100.1")}}
	if waits, why, err := l.w.wait(l.now, &p, ipc.ReasonNoPorts); waits || why != ipc.ReasonNoPorts || err != nil {
		t.Error("a mapped address waits", why, err)
	}
	if q := l.questions(); len(q) != 0 {
		t.Errorf("asked: %v", q)
	}
	lines := map[string]int{}
	for reason, n := range map[ipc.Reason]int{
		ipc.ReasonNoGrant: 11, ipc.ReasonMappedPacket: 1, ipc.ReasonPrerouting: 1, ipc.ReasonUnknownHook: 1, ipc.ReasonSourceRoute: 1,
	} {
		lines["drop: "+reason.String()] = n
	}
	if got := l.lines(); !maps.Equal(got, lines) {
		t.Errorf("lines %v, want %v", got, lines)
	}
}

// TestFarAddress: an arriving packet waits for where it comes from.
func TestFarAddress(t *testing.T) {
	l := newLab(t, looking).timed()
	l.id++
	b := with(packetTo(netip.MustParseAddr(unknown1), tcp443), 12, 198, 51, 100, 2)
	if err := l.w.batch(&l.w.queues[0], []queue.Packet{{ID: 1, Hook: queue.HookInput, Payload: b}}); err != nil {
		t.Fatal(err)
	}
	if q := l.questions(); len(q) != 1 || q[0].address != netip.MustParseAddr(unknown2) {
		t.Errorf("asked: %v", q)
	}
	l.tell(about(ipc.GrantsOpen, 0, l.now+1, unknown2))
	l.want("opened", verdicts{1: ipc.Accept})
}

// TestPortNotCovered: a grant for another port ends nothing, and neither does
// one for another filter or address.
func TestPortNotCovered(t *testing.T) {
	ports := looking
	ports.Ports = true
	l := newLab(t, ports, looking).timed()
	at := netip.MustParseAddr(unknown6)
	id := l.send(0, packetTo(at, tcp443), packetTo(at, udp123), with(packetTo(at, none), 6, ipc.ProtoTCP)[:41])
	open := func(filter uint32, port ipc.Port, address string) {
		g := about(ipc.GrantsOpen, filter, l.now.Add(time.Minute), address)
		g.Port = port
		l.tell(g)
	}
	open(0, udp443, unknown6)
	open(0, none, unknown1)
	open(1, none, unknown6)
	l.want("other grants", verdicts{})
	open(0, https, unknown6)
	l.want("one of three", verdicts{id: ipc.Accept})
	open(0, udp123, unknown6)
	l.want("another", verdicts{id + 1: ipc.Accept})
	if n := len(l.questions()); n != 1 {
		t.Errorf("asked %d times", n)
	}
	l.tell(about(ipc.GrantsSettled, 0, 0, unknown6))
	l.want("the last", verdicts{id + 2: ipc.Drop})
	// It has no port that could be read, and is told so where it cannot wait.
	private := packetTo(netip.MustParseAddr("fd00::1"), none)
	l.want("private", verdicts{l.send(0, with(private, 6, ipc.ProtoTCP)[:41]): ipc.Drop})
	lines := l.lines()
	if lines["drop: "+ipc.ReasonTooManyLookups.String()] != 1 || lines["drop: "+ipc.ReasonNoPorts.String()] != 1 {
		t.Errorf("lines %v", lines)
	}
}

// TestSettledMemory: what has been looked up in vain is not asked about again
// until then, and no longer, in this filter, and not after a change.
func TestSettledMemory(t *testing.T) {
	l := newLab(t, looking, looking).timed()
	settle := func(until ipc.Instant) {
		t.Helper()
		id := l.sendTo(0, unknown1)
		l.tell(about(ipc.GrantsSettled, 0, until, unknown1))
		l.want("settled", verdicts{id: ipc.Drop})
		l.questions()
	}
	asks := func(what string, filter int, address string, want bool) {
		t.Helper()
		id := l.sendTo(filter, address)
		if got := len(l.questions()) == 1; got != want {
			t.Errorf("%s: asked is %t", what, got)
		}
		if want {
			l.want(what, verdicts{})
			l.tell(about(ipc.GrantsSettled, uint32(filter), 0, address))
		}
		l.want(what, verdicts{id: ipc.Drop})
	}
	settle(0)
	asks("not remembered", 0, unknown1, true)
	settle(l.now)
	asks("until now", 0, unknown1, true)
	settle(l.now.Add(maxSettledFor))
	asks("remembered", 0, unknown1, false)
	asks("for another filter", 1, unknown1, true)
	asks("another address", 0, unknown2, true)
	l.now += ipc.Instant(maxSettledFor) - 1
	asks("until the end", 0, unknown1, false)
	// A grant counts all the same.
	l.tell(about(ipc.GrantsOpen, 0, l.now+1, unknown1))
	l.want("remembered, and open", verdicts{l.sendTo(0, unknown1): ipc.Accept})
	l.now++
	asks("later", 0, unknown1, true)
	// Of one that nobody waits for.
	l.tell(about(ipc.GrantsSettled, 0, l.now.Add(time.Second), unknown1))
	asks("not asked for", 0, unknown1, true)

	settle(l.now.Add(time.Minute))
	l.change([]ipc.Filter{looking, looking})
	asks("after a change", 0, unknown1, true)
	if lines := l.lines(); lines["drop: "+ipc.ReasonLookedUp.String()] == 0 || lines["drop: "+ipc.ReasonTooManyLookups.String()] != 3 || len(lines) != 3 {
		t.Errorf("lines %v", lines)
	}
}

// TestSettledMemoryIsBounded: a filter has so much of it and no more.
func TestSettledMemoryIsBounded(t *testing.T) {
	w := newWaiting(20)
	a := netip.MustParseAddr(unknown1)
	for i := range uint32(2 * maxSettled) {
		if a = a.Next(); i < maxSettledOfFilter+10 {
			w.settle(1, place{0, a}, 10+ipc.Instant(i))
			if n := w.settled.Len(); n > maxSettledOfFilter {
				t.Fatalf("%d of a filter", n)
			}
		} else {
			w.settle(1, place{i % 20, a}, 10+ipc.Instant(i))
		}
	}
	if n := w.settled.Len(); n != maxSettled {
		t.Errorf("%d in all", n)
	}
}

// change has a policy for the same queues announced and put in force.
func (l *lab) change(filters []ipc.Filter, before ...ipc.Grants) {
	l.t.Helper()
	if err := l.w.Change(l.policy(filters)); err != nil {
		l.t.Fatal(err)
	}
	l.tell(append(before, ipc.Grants{Kind: ipc.GrantsChange}, ipc.Grants{Kind: ipc.GrantsDone})...)
	if s := l.signals(); len(s) != 1 || s[0] != ipc.SignalInForce {
		l.t.Errorf("signals %v", s)
	}
}

// TestChangeJudgesWhatWaits: by the new policy.
func TestChangeJudgesWhatWaits(t *testing.T) {
	plain := ipc.Filter{Name: "plain", AllowAnswersFor: time.Minute}
	l := newLab(t, looking, looking, looking).timed()
	var id [3]uint32
	for i := range id {
		id[i] = l.sendTo(i, unknown1)
	}
	p := l.policy([]ipc.Filter{plain, looking, looking})
	p.Addresses = [][]ipc.AllowedAddress{{}, {network(unknown1 + "/32")}}
	if err := l.w.Change(p); err != nil {
		t.Fatal(err)
	}
	l.tell(ipc.Grants{Kind: ipc.GrantsChange})
	l.want("announced", verdicts{})
	l.tell(ipc.Grants{Kind: ipc.GrantsDone})
	l.want("in force", verdicts{id[0]: ipc.Drop, id[1]: ipc.Accept})
	l.tell(about(ipc.GrantsOpen, 2, l.now+1, unknown1))
	l.want("opened", verdicts{id[2]: ipc.Accept})
	want := map[string]int{"drop: address not granted": 1, "accept: ": 2}
	if lines := l.lines(); !maps.Equal(lines, want) {
		t.Errorf("lines %v", lines)
	}
}

// TestSettledRefused: what an honest holder never says.
func TestSettledRefused(t *testing.T) {
	minute := labNow.Add(time.Minute)
	plain := ipc.Filter{Name: "plain", AllowAnswersFor: time.Minute}
	for what, c := range map[string]struct {
		g     ipc.Grants
		taken bool
	}{
		"for a minute":              {about(ipc.GrantsSettled, 0, minute, unknown1), true},
		"unknown filter":            {about(ipc.GrantsSettled, 2, 0, unknown1), false},
		"filter that looks up none": {about(ipc.GrantsSettled, 1, 0, unknown1), false},
		"too long":                  {about(ipc.GrantsSettled, 0, minute+1, unknown1), false},
		"special":                   {about(ipc.GrantsSettled, 0, 0, "169.254.169.254"), false},
		"mapped":                    {about(ipc.GrantsSettled, 0, 0, "::ffff:198.51.100.1"), false},
		"with a port":               {ipc.Grants{Kind: ipc.GrantsSettled, V4: octets(unknown1), Port: https}, false},
		"no address":                {ipc.Grants{Kind: ipc.GrantsSettled}, false},
	} {
		l := newLab(t, looking, plain).timed()
		id := l.sendTo(0, unknown1)
		if err := l.holder.Send(&c.g); err != nil {
			t.Fatal(err)
		}
		if err := l.w.Ready(ipc.FDGrants); (err == nil) != c.taken {
			t.Errorf("%s: %v", what, err)
		}
		want := verdicts{}
		if c.taken {
			want[id] = ipc.Drop
		}
		l.want(what, want)
	}
}

// TestSettledWithinChange: between two policies either may have addresses
// looked up, until the holder tells what stays: then it settles nothing.
func TestSettledWithinChange(t *testing.T) {
	plain := ipc.Filter{Name: "plain", AllowAnswersFor: time.Minute}
	filters := []ipc.Filter{looking, plain, plain}
	tab, err := startedTable(filters, nil)
	if err != nil {
		t.Fatal(err)
	}
	settled := func(what string, want ...bool) {
		t.Helper()
		for filter, want := range want {
			g := about(ipc.GrantsSettled, uint32(filter), 0, unknown1)
			if _, err := tab.take(testNow, &g); (err == nil) != want {
				t.Errorf("%s: filter %d: %v", what, filter, err)
			}
		}
	}
	settled("before", true, false, false)
	if err := tab.announce([]ipc.Filter{plain, looking, plain}, nil); err != nil {
		t.Fatal(err)
	}
	settled("announced", true, true, false)
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsChange})
	settled("within", false, false, false)
	mustTake(t, tab, testNow, &ipc.Grants{Kind: ipc.GrantsDone})
	settled("after", false, true, false)
	if _, err := startedTable([]ipc.Filter{{Name: "all", AllowAll: true, LookupUnknown: true}}, nil); err == nil {
		t.Error("a filter that allows everything looks up")
	}
}

// TestUnknownFlood: packets to ever other addresses cause no more messages
// than the bucket gives, and are dropped at once; other traffic flows.
func TestUnknownFlood(t *testing.T) {
	l := newLab(t, looking, looking).timed()
	l.tell(about(ipc.GrantsOpen, 0, l.now.Add(time.Minute), unknown2))
	flood, others := netip.MustParseAddr("203.0.113.0"), 0
	asked := 0
	for range 10_000/queue.Batch + 1 {
		var b [][]byte
		for range queue.Batch {
			b, flood = append(b, packetTo(flood, tcp443)), flood.Next()
		}
		first := l.send(0, b...)
		accepted := l.send(0, packetTo(netip.MustParseAddr(unknown2), tcp443))
		got := l.decided()
		if got[accepted] != ipc.Accept {
			t.Fatal("other traffic waits")
		}
		asked += len(l.questions())
		for id := first; id < accepted; id++ {
			if got[id] == ipc.Drop {
				others++
			}
		}
	}
	if asked != unknownPerSecond || others != l.sent()-unknownPerSecond {
		t.Errorf("asked %d times, %d of %d dropped", asked, others, l.sent())
	}
	if l.sendTo(1, unknown1); len(l.questions()) != 1 {
		t.Error("another filter's is not asked about")
	}
	l.now += ipc.Instant(time.Second)
	for range 100 {
		l.sendTo(0, flood.String())
		flood = flood.Next()
	}
	if asked := len(l.questions()); asked != unknownPerSecond {
		t.Errorf("asked %d times a second later", asked)
	}
	if lines := l.lines(); lines["drop: "+ipc.ReasonTooManyLookups.String()] == 0 || lines["accept: "] == 0 || len(lines) != 2 {
		t.Errorf("lines %v", lines)
	}
}

// sent is how many packets of a flood there were: those sent but every one
// after a batch.
func (l *lab) sent() int { return int(l.id) - int(l.id)/(queue.Batch+1) }

// TestWaitingIsBounded: by packets to an address, packets of a filter,
// addresses of a filter, and packets in all.
func TestWaitingIsBounded(t *testing.T) {
	w := newWaiting(20)
	now := labNow
	// add tries, with the bucket full.
	add := func(filter uint32, a netip.Addr) bool {
		w.ofFilter[filter].asks = ipc.Bucket{PerSecond: unknownPerSecond, Burst: unknownPerSecond}
		at := place{filter, a}
		if !w.room(now, at) {
			return false
		}
		w.add(now, at, &packet{})
		return true
	}
	many := func(filter uint32, address string, distinct bool) (n int) {
		a := netip.MustParseAddr(address)
		for add(filter, a) {
			if n++; distinct {
				a = a.Next()
			}
		}
		return n
	}
	if n := many(0, unknown1, false); n != 16 {
		t.Errorf("%d of an address", n)
	}
	if n := many(0, "203.0.113.0", true); n != 63 {
		t.Errorf("%d more addresses of a filter", n)
	}
	for a := netip.MustParseAddr("203.0.113.0"); many(0, a.String(), false) > 0; a = a.Next() {
	}
	if n := w.ofFilter[0].packets; n != 256 || w.packets != 256 {
		t.Errorf("%d packets of a filter", n)
	}
	for filter := range uint32(20) {
		for a := netip.MustParseAddr("203.0.113.0"); many(filter, a.String(), false) > 0; a = a.Next() {
		}
	}
	if w.packets != 1024 || add(19, netip.MustParseAddr(unknown1)) {
		t.Errorf("%d packets in all", w.packets)
	}
	// All that goes makes room.
	for len(w.order) > 0 {
		w.keep(w.order[0], nil)
	}
	if n := many(0, unknown1, false); n != 16 || w.packets != 16 || w.ofFilter[0] != (share{16, 1, w.ofFilter[0].asks}) || len(w.unknown) != 1 {
		t.Errorf("%+v", w.ofFilter[0])
	}
}

// TestHolderDoesNotListen: with the edge full, or its other end gone, a packet
// is dropped at once, and its address is forgotten.
func TestHolderDoesNotListen(t *testing.T) {
	l := newLab(t, looking).timed()
	a, full := netip.MustParseAddr("203.0.113.0"), 0
	for ; full == 0; a = a.Next() { // a bucketful a second
		if l.now = l.now.Add(time.Second / unknownPerSecond); l.now > labNow.Add(10*time.Minute) {
			t.Fatal("the edge has room for ever")
		}
		if _, err := l.w.Tick(); err != nil {
			t.Fatal(err)
		}
		id := l.sendTo(0, a.String())
		if l.decided()[id] == ipc.Drop {
			full++
		}
	}
	asked := l.questions()
	l.now = l.now.Add(time.Second)
	if id := l.sendTo(0, asked[0].address.String()); l.decided()[id] != 0 || len(l.questions()) != 1 {
		t.Error("not asked again when there is room")
	}
	if id := l.sendTo(0, a.Prev().String()); l.decided()[id] != 0 || len(l.questions()) != 1 {
		t.Error("what was not asked is taken for asked")
	}
	l.hangUp(ipc.FDUnknown)
	for range 2 {
		l.want("gone", verdicts{l.sendTo(0, a.String()): ipc.Drop})
	}
	if lines := l.lines(); lines["drop: "+ipc.ReasonTooManyLookups.String()] < 2 || len(lines) != 2 {
		t.Errorf("lines %v", lines)
	}
}

// TestOpenedWithoutEnd: an owned holder that opens the wrong port of an address
// again and again has what waits for it judged once a message, not each time.
func TestOpenedWithoutEnd(t *testing.T) {
	ports := looking
	ports.Ports = true
	l := newLab(t, ports).timed()
	if err := unix.SetsockoptInt(l.ends[ipc.FDGrants], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*ipc.GrantBuffer); err != nil {
		t.Fatal(err)
	}
	flood := make([]ipc.Grants, 64)
	for i := range flood {
		flood[i] = ipc.Grants{Kind: ipc.GrantsOpen, Until: l.now.Add(time.Minute), Port: udp123, V4: strings.Repeat(octets(unknown1), ipc.MaxAddresses)}
	}
	took := func() time.Duration {
		start := time.Now()
		l.tell(flood...)
		return time.Since(start)
	}
	nobody := min(took(), took(), took())
	for range maxWaitingOfAddress {
		l.sendTo(0, unknown1)
	}
	if some := min(took(), took(), took()); some > 4*nobody {
		t.Errorf("%v, and %v while nobody waits", some, nobody)
	}
	l.want("not opened", verdicts{})
}
