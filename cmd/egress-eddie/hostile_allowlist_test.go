package main_test

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// What an owned allowlist must not grant: the trafficworker checks all of it
// again, and dies of it.
func TestOwnedAllowlistDoomed(t *testing.T) {
	by := func(attack, says string) doom {
		return doom{attack, noticed(ipc.RoleTraffic, "trafficworker: the allowlist broke the protocol: "+says)}
	}
	ownedAllowlist(t, []doom{
		by("grant-filter", "grants for the unknown filter 99"),
		by("grant-all", `grants for filter \"filter 1\", which grants nothing`),
		by("grant-long", `grants for filter \"filter 0\" that last too long`),
		by("grant-ever", `grants for filter \"filter 0\" that last too long`),
		by("grant-no-end", "grants without an end"),
		by("grant-past", "grants without an end"),
		by("grant-nothing", "0 addresses in a message"),
		by("grant-cut", "addresses cut short"),
		by("grant-many", "4097 addresses in a message"),
		by("grant-meta", `grants for filter \"filter 0\" with 1 special addresses`),
		by("grant-loopback", `grants for filter \"filter 0\" with 1 special addresses`),
		by("grant-v6", `grants for filter \"filter 0\" with 1 special addresses`),
		by("grant-mapped", `grants for filter \"filter 0\" with 1 special addresses`),
		by("grant-no-kind", "grants of kind 0"),
		by("grant-kind", "grants of kind 6"),
		by("grant-change", "a change of policy that nobody announced"),
		by("grant-keep", "grants that are kept without a change"),
		by("grant-port", "port 80 of protocol 1"),
		by("grant-done", "the end of a change of policy that has not begun"),
		by("another-edge", "gob type "),
		by("frame-garbage", "frame is not exactly one gob message"),
		by("frame-half", "frame is not exactly one gob message"),
		by("frame-oversize", "packet longer than 65536 octets"),
		by("frame-type", "gob type "),
	})
}

// What an owned allowlist must not tell the parent. While it does, the
// trafficworker is stopped, and a packet to an address that is shut waits for a
// verdict: the first one of queue handle 5.
func TestOwnedAllowlistDoomedByParent(t *testing.T) {
	ownedAllowlist(t, []doom{
		{"handle-traffic", broken(ipc.RoleAllowlist, "verdict for handle 5, which is not of this edge")},
		{"handle-never", broken(ipc.RoleAllowlist, "verdict for handle 1048576, which is not of this edge")},
		{"verdict-4", broken(ipc.RoleAllowlist, "verdict 4")},
		{"signal-loaded", broken(ipc.RoleAllowlist, "signal 2 out of turn")},
		{"signal-force", broken(ipc.RoleAllowlist, "signal 3 out of turn")},
		{"policy-up", end{ipc.RoleAllowlist, "control: protocol error: packet longer than 4 octets", ""}},
	})
}

func ownedAllowlist(t *testing.T, dooms []doom) {
	t.Helper()
	t.Parallel()
	for _, d := range dooms {
		t.Run(d.attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleAllowlist, d.attack, ownedConfig())
			o.stopChild(ipc.RoleTraffic)
			o.asker.sendWire(netip.AddrPortFrom(o.f.web(2), goPort), []byte("let me through"))
			o.held(t, trafficQueue(0, o.f), 1)
			o.setOff()
			if d.end.role == ipc.RoleTraffic {
				// Only when the grants are there may it look at the packet, and not
				// before the request has left, or the parser was not let speak.
				if err := unix.Kill(o.p.children[ipc.RoleTraffic], unix.SIGCONT); err != nil {
					t.Fatal(err)
				}
			}
			o.ends(d.end)
			o.target.nothing()
		})
	}
}

// This is what owning the allowlist gives: any address but a special one, for
// a filter that grants, and any verdict on DNS packets.
func TestOwnedAllowlistGrants(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleAllowlist, "grant", ownedConfig())
	o.ask("evil.test")
	o.answer()
	o.ask("go.evil.test")
	o.answer()
	o.reaches(t, o.f.web(8))
	o.isShut(t, o.f.web(1))
	o.idle(t)
}

// An empty packet reads like the end of the allowlist. With the next one the
// trafficworker knows that it was none, and takes nothing of it.
func TestOwnedAllowlistEmptyPacket(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleAllowlist, "grant-empty", ownedConfig())
	o.ask("go.example.com")
	o.answer()
	o.ask("go.again.example.com")
	o.ends(noticed(ipc.RoleTraffic, "trafficworker: descriptor 7: an empty packet"))
}
