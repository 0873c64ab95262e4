package main_test

import (
	"net/netip"
	"testing"

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
		{"signal-0", end{ipc.RoleTraffic, "control: protocol error: signal 0", ""}},
		{"signal-long", end{ipc.RoleTraffic, "control: protocol error: packet longer than 4 octets", ""}},
		{"signal-short", end{ipc.RoleTraffic, "control: protocol error: control packet of 1 octets", ""}},
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
			o.ends(d.end)
			o.outside("waiting.evil.test")
		})
	}
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
	o.ends(killed(ipc.RoleTraffic, "write", unix.SYS_WRITE))
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
