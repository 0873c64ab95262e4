package main_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// What an owned trafficworker must not tell the parent. While it does, the
// allowlist is stopped, and a question that is not allowed waits for a verdict:
// the first packet of queue handle 3, which several of these accept.
func TestOwnedTrafficDoomed(t *testing.T) {
	t.Parallel()
	by := func(attack, what string) doom { return doom{attack, broken(ipc.RoleTraffic, what)} }
	for _, d := range []doom{
		by("handle-none", "verdict for handle 0, which is not of this edge"),
		by("handle-response", "verdict for handle 1, which is not of this edge"),
		by("handle-request", "verdict for handle 3, which is not of this edge"),
		by("handle-last", "verdict for handle 3, which is not of this edge"),
		by("handle-never", "verdict for handle 1048576, which is not of this edge"),
		by("verdict-0", "verdict 0"),
		by("verdict-3", "verdict 3"),
		by("verdict-4", "verdict 4"),
		by("verdict-255", "verdict 255"),
		by("stray", "verdict record with stray octets"),
		by("odd", "verdict packet of 13 octets"),
		by("cut", "verdict packet of 11 octets"),
		by("65", "packet longer than 768 octets"),
		by("large", "packet longer than 768 octets"),
		by("nothing", "it closed its verdict socket"),
		by("signal-ready", "signal 1 out of turn"),
		by("signal-loaded", "signal 2 out of turn"),
		by("signal-million", "signal 2 out of turn"),
		{"signal-0", end{ipc.RoleTraffic, "control: protocol error: signal 0", "", ""}},
		{"signal-long", end{ipc.RoleTraffic, "control: protocol error: packet longer than 4 octets", "", ""}},
		{"signal-short", end{ipc.RoleTraffic, "control: protocol error: control packet of 1 octets", "", ""}},
		by("signal-nothing", "it closed its control socket"),
		by("stderr-flood", "more than 1048576 octets on stderr"),
	} {
		t.Run(d.attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleTraffic, d.attack, ownedConfig())
			o.stopChild(ipc.RoleAllowlist)
			o.ask("waiting.evil.test")
			o.held(t, dnsQueue(0, o.f), 1)
			o.setOff()
			o.falls(d.end)
			o.outside("waiting.evil.test")
		})
	}
}

// What an owned trafficworker must not tell the allowlist about unknown
// addresses.
func TestOwnedTrafficUnknown(t *testing.T) {
	t.Parallel()
	by := func(attack, says string) doom {
		return doom{attack, accused(ipc.RoleTraffic, says)}
	}
	for _, d := range []doom{
		by("unknown-filter", "allowlist: an address of the unknown filter 99"),
		by("unknown-special", "allowlist: 169.254.169.254 is not to be looked up"),
		by("unknown-private", "allowlist: 10.1.2.3 is not to be looked up"),
		by("unknown-none", "unknown address that is none"),
		by("unknown-mapped", "unknown address that is none"),
		by("unknown-edge", "gob type "),
		by("frame-garbage", "frame is not exactly one gob message"),
		by("frame-half", "frame is not exactly one gob message"),
		by("frame-oversize", "packet longer than 65536 octets"),
		by("frame-type", "gob type "),
		by("frame-types", "gob type "),
	} {
		t.Run(d.attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleTraffic, d.attack, askingConfig())
			o.setOff()
			o.falls(d.end)
			o.honestQuestions()
			o.cachedOnly()
		})
	}
}

// An address of a filter that looks nothing up is ignored.
func TestOwnedTrafficUnknownPlain(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleTraffic, "unknown-plain", askingConfig())
	o.cachedAnswer(t, "cdn.test", o.f.web(1))
	o.setOff()
	o.idle(t)
	o.resolves(t, o.f, "honest.example.com", typeOf(o.f), o.f.web(1))
	o.isRefused(t, o.f, "evil.test", typeOf(o.f))
	if n := o.resolver.asked(reverse(o.f.web(8))); n > 0 {
		t.Errorf("it was looked up %d times", n)
	}
	o.target.nothing()
}

// An empty packet reads like the end of the trafficworker. With the next one
// the allowlist knows that it was none.
func TestOwnedTrafficEmptyPacket(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleTraffic, "frame-nothing", askingConfig())
	o.setOff()
	o.resolves(t, o.f, "honest.example.com", typeOf(o.f), o.f.web(1))
	o.setOff()
	o.falls(accused(ipc.RoleTraffic, "descriptor 10: an empty packet"))
	o.target.nothing()
}

// An owned trafficworker has addresses looked up without end: no more are than
// 20 a second and 20 at once, for the filter that it names; somebody else's
// questions are answered in time, and cached names are asked for as before.
func TestOwnedTrafficUnknownFlood(t *testing.T) {
	t.Parallel()
	const perSecond, atOnce = 20, 20 // trafficworker/allowlist/unknown.go
	c := askingConfig()
	c.filters[0].every = "1s"
	o := ownedLab(t, ipc.RoleTraffic, "unknown-flood", c)
	o.cachedAnswer(t, "cdn.test", o.f.web(1))
	lookedUp := func() (count int) {
		for _, q := range o.resolver.got() {
			if strings.HasSuffix(q.name(), ".11.in-addr.arpa.") {
				count++
			}
		}
		return count
	}
	began := time.Now()
	o.setOff()
	if !eventually(func() bool { return lookedUp() >= atOnce }) {
		t.Fatalf("%d were looked up: no flood", lookedUp())
	}
	before := o.resolver.asked("cdn.test")
	requireInTime(t, "questions", o.lookups(300), crowded)
	if !eventually(func() bool { return o.resolver.asked("cdn.test") >= before+4 && lookedUp() >= atOnce+perSecond }) {
		t.Error("cached names are not asked for any more, or unknown addresses are not")
	}
	count, most := lookedUp(), atOnce+1+int(perSecond*time.Since(began).Seconds())
	t.Logf("%d looked up in %v", count, time.Since(began))
	if count > most {
		t.Errorf("%d were looked up in %v, more than %d", count, time.Since(began), most)
	}
	o.isRefused(t, o.f, "evil.test", typeOf(o.f))
	o.stops()
	o.target.nothing()
	for _, line := range o.daemon.granted() {
		if strings.HasPrefix(line, "filter 1: ") && line != fmt.Sprint("filter 1: ", o.f.web(1)) {
			t.Errorf("granted: %q", line)
		}
	}
}

// One that takes no grants beside that has the answers dropped that would give
// it some, as soon as its edge is full: they open nothing. Questions go on
// leaving, and who needs no grants is answered.
func TestOwnedTrafficDeaf(t *testing.T) {
	t.Parallel()
	c := askingConfig()
	c.filters = append(c.filters, filter{name: "all"})
	o := ownedLab(t, ipc.RoleTraffic, "unknown-deaf", c)
	o.cachedAnswer(t, "cdn.test", o.f.web(1))
	all := o.client.askerAs(t, userA, o.f.client)
	o.rules(func(f family) []string {
		return append([]string{fmt.Sprintf("-A OUTPUT -p udp --dport 53 -m owner --uid-owner %d -j NFQUEUE --queue-num %d", userA, dnsQueue(2, f))}, ownedAskingRules(f)...)
	})
	o.setOff()
	refused := func() bool {
		for range 20 { // what it asks about itself alone would take a minute and a half to fill it
			o.ask("honest.example.com")
		}
		return o.daemon.find(eventResponse, fields{"name": "honest.example.com", "verdict": "drop", "reason": "grant could not be handed over", "granted": nil}) != nil
	}
	if !eventually(refused) {
		t.Fatal("its edge is never full")
	}
	for i := range 100 {
		all.ask(o.f.dns(), fmt.Sprintf("n%d.any.test", i), typeOf(o.f))
	}
	o.isRefused(t, o.f, "evil.test", typeOf(o.f))
	o.stops()
	o.target.nothing()
}

// stopChild keeps a neighbour from doing anything.
func (o *owned) stopChild(role ipc.Role) {
	o.t.Helper()
	if err := unix.Kill(o.p.children[role], unix.SIGSTOP); err != nil {
		o.t.Fatal(err)
	}
}

// The edge of the grants goes one way: a trafficworker that writes to it is
// killed by the kernel.
func TestOwnedTrafficGrantsBack(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleTraffic, "grants-back", ownedConfig())
	o.setOff()
	o.falls(killed(ipc.RoleTraffic, "write", unix.SYS_WRITE))
	o.outside("")
}

// This is what owning the trafficworker gives: packets of its queues pass as
// it likes.
func TestOwnedTrafficAccepts(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleTraffic, "accept", ownedConfig())
	o.setOff()
	if wire, _ := o.target.receive(); string(wire) != "go" {
		t.Errorf("%q arrived", wire)
	}
	o.isRefused(t, o.f, "evil.test", typeOf(o.f))
	o.resolves(t, o.f, "honest.example.com", typeOf(o.f), o.f.web(1))
	o.idle(t)
}

// A verdict for a packet that was never queued, or has had one, is ignored by
// the kernel: the second for this packet would have accepted it, and those for
// the next thousand came before them.
func TestOwnedTrafficIds(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleTraffic, "ids", ownedConfig())
	o.setOff()
	o.resolves(t, o.f, "honest.example.com", typeOf(o.f), o.f.web(1))
	o.isRefused(t, o.f, "evil.test", typeOf(o.f))
	o.idle(t)
	o.outside("evil.test")
	next := netip.AddrPortFrom(o.f.web(2), floodPort)
	listener := &asker{t: t, conn: o.server.listenUDP(t, next)}
	o.asker.sendWire(next, []byte("next"))
	o.idle(t)
	listener.nothing()
}
