package main_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

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
		by("grant-kind", "grants of kind 7"),
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
		{"policy-up", end{ipc.RoleAllowlist, "control: protocol error: packet longer than 4 octets", "", ""}},
	})
}

// What an owned allowlist must not say of lookups to the trafficworker.
func TestOwnedAllowlistSettled(t *testing.T) {
	t.Parallel()
	by := func(attack, says string) doom {
		return doom{attack, noticed(ipc.RoleTraffic, "trafficworker: the allowlist broke the protocol: "+says)}
	}
	for _, d := range []doom{
		by("settled-plain", `addresses looked up for filter \"filter 0\", which has none looked up`),
		by("settled-filter", "grants for the unknown filter 99"),
		by("settled-long", `addresses settled for filter \"filter 1\" for too long`),
		by("settled-past", "settled addresses with a port, or settled before the boot"),
		by("settled-port", "settled addresses with a port, or settled before the boot"),
		by("settled-meta", `grants for filter \"filter 1\" with 1 special addresses`),
		by("settled-change", "a change of policy that nobody announced"),
	} {
		t.Run(d.attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleAllowlist, d.attack, askingConfig())
			o.waitingTraffic()
			o.setOff()
			o.falls(d.end)
			o.target.nothing()
		})
	}
}

// waitingTraffic is a packet that waits for the lookup of its address.
func (o *owned) waitingTraffic() {
	o.t.Helper()
	o.asker.sendWire(netip.AddrPortFrom(o.f.web(2), goPort), []byte("let me through"))
	o.held(o.t, trafficQueue(1, o.f), 1)
}

// Nor within a change of policy, which is announced here.
func TestOwnedAllowlistSettledInChange(t *testing.T) {
	t.Parallel()
	c := askingConfig()
	file := configFile(t, c.String())
	o := ownedLab(t, ipc.RoleAllowlist, "settled-change", c, "-c", file)
	o.waitingTraffic()
	replace(t, file, strings.ReplaceAll(c.String(), "10m", "9m"))
	if err := o.daemon.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	o.daemon.sees(t, "reloading: the trafficworker has the new policy, the holder is next", nil)
	o.setOff()
	o.falls(noticed(ipc.RoleTraffic, "trafficworker: the allowlist broke the protocol: grants that are kept without a change, or opened or settled within one"))
	o.target.nothing()
}

// What an owned allowlist must not tell the resolver.
func TestOwnedAllowlistLookups(t *testing.T) {
	t.Parallel()
	by := func(attack, says string) doom {
		return doom{attack, noticed(ipc.RoleResolver, "resolver: the allowlist broke the protocol: "+says)}
	}
	for _, d := range []doom{
		by("lookup-no-name", "lookup of no name, or without an end"),
		by("lookup-upper", "lookup of no name, or without an end"),
		by("lookup-cut", "lookup of no name, or without an end"),
		by("lookup-no-end", "lookup of no name, or without an end"),
		by("lookup-TXT", "lookup of type 16"),
		by("lookup-edge", "gob type "),
		by("lookup-garbage", "frame is not exactly one gob message"),
		by("lookup-half", "frame is not exactly one gob message"),
		by("lookup-oversize", "packet longer than 65536 octets"),
		by("lookup-type", "gob type "),
		by("lookup-types", "gob type "),
	} {
		t.Run(d.attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleAllowlist, d.attack, askingConfig())
			o.setOff()
			o.falls(d.end)
			o.target.nothing()
			for _, q := range o.resolver.got() {
				if q.name() != "go.example.com." {
					t.Errorf("a question left the host: %x", q.wire)
				}
			}
		})
	}
}

// An empty packet on that edge, as on the others.
func TestOwnedAllowlistEmptyLookup(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleAllowlist, "lookup-nothing", askingConfig())
	o.setOff()
	o.ask("go.again.example.com")
	o.falls(noticed(ipc.RoleResolver, "resolver: descriptor 11: an empty packet"))
}

// This is what owning the allowlist gives beside it where there is a resolver:
// questions of any name, at configured servers.
func TestOwnedAllowlistAsks(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleAllowlist, "lookup-any", askingConfig())
	elsewhere := o.lab.resolver(o.f.other, func(*query) {})
	o.setOff()
	for _, name := range []string{"secret.evil.test", "other.test", reverse(o.f.web(7))} {
		if !eventually(func() bool { return o.resolver.asked(name) > 0 }) {
			t.Errorf("%s is not asked for", name)
		}
	}
	if got := elsewhere.got(); len(got) > 0 {
		t.Errorf("another server is asked %d times", len(got))
	}
	o.stops()
	o.target.nothing()
}

// An owned allowlist that tells the resolver of lookups without end has few of
// them asked, if any: each that comes takes the room of another. There are no
// more than the parent has sockets for, and traffic flows in time.
func TestOwnedAllowlistLookupFlood(t *testing.T) {
	t.Parallel()
	const perSecond, atOnce = 500, 128 // parent/sockets.go
	o := ownedLab(t, ipc.RoleAllowlist, "lookup-flood", askingConfig())
	began := time.Now()
	o.setOff()
	o.answer()
	if !eventually(func() bool { return len(o.spinning(ipc.RoleResolver)) > 0 }) {
		t.Fatal("the resolver is idle: no flood")
	}
	p := o.pulse(o.f.web(8), often)
	p.beats(t, 200)
	count := 0
	for _, q := range o.resolver.got() {
		if strings.HasSuffix(q.name(), ".evil.test.") {
			count++
		}
	}
	most := atOnce + int(perSecond*time.Since(began).Seconds())
	t.Logf("%d questions in %v", count, time.Since(began))
	if count > most {
		t.Errorf("%d questions in %v, more than %d", count, time.Since(began), most)
	}
	p.inTime(t, crowded)
	o.stops()
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
			o.falls(d.end)
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
	o.falls(noticed(ipc.RoleTraffic, "trafficworker: descriptor 7: an empty packet"))
}
