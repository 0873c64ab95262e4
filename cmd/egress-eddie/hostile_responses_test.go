package main_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// What an owned response parser must not tell the allowlist.
func TestOwnedResponsesDoomed(t *testing.T) {
	by := func(attack, says string) doom {
		return doom{attack, accused(ipc.RoleResponses, says)}
	}
	doomed(t, ipc.RoleResponses, []doom{
		by("handle-request", "allowlist: response on handle 3, which is no response queue"),
		by("handle-traffic", "allowlist: response on handle 5, which is no response queue"),
		by("handle-never", "allowlist: response on handle 1048576, which is no response queue"),
		by("addresses", "more addresses than a fact holds"),
		by("segment-also", "a response that decides other packets"),
		by("names", "more names or records than a fact holds"),
		by("names-bytes", "25500 octets of names"),
		by("owner", "owner or TTL outside its table"),
		by("other-owner", "owner outside the name table"),
		by("link", "link outside the name table"),
		by("target", "target outside the name table"),
		by("owners-few", "addresses, owners and TTLs that do not match"),
		by("octets-cut", "addresses, owners and TTLs that do not match"),
		by("ttl", "owner or TTL outside its table"),
		by("ttl-far", "TTL 2147483648"),
		by("ttls-many", "256 distinct TTLs"),
		by("name-upper", "invalid name"),
		by("truncated", "records told of a response that can have none"),
		by("dump-escape", "dump with the octet 0x1b"),
		by("frame-garbage", "frame is not exactly one gob message"),
		by("frame-half", "frame is not exactly one gob message"),
		by("frame-oversize", "packet longer than 65536 octets"),
		by("frame-type", "gob type "),
		by("frame-types", "gob type "),
		// No edge carries it: its own write fails, and it dies of that.
		{"million", noticed(ipc.RoleResponses, "a million addresses: message too long")},
	})
}

// Responses that belong to no pending request open nothing, and do not pass.
func TestOwnedResponsesRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ attack, shown, reason string }{
		{"invent", "go.example.com", "no pending request"},
		{"another", "example.com", "no pending request"},
		{"segment-invent", "go.example.com", "connection not known"},
		{"foreign", "go.example.com", "answer does not belong to the question"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleResponses, c.attack, ownedConfig())
			o.setOff()
			o.daemon.sees(t, eventResponse, fields{"name": c.shown, "verdict": "drop", "reason": c.reason, "granted": nil})
			o.asker.nothing()
			if lines := o.daemon.granted(); lines != nil {
				t.Errorf("granted: %q", lines)
			}
			o.isShut(t, o.f.web(8))
			o.idle(t)
		})
	}
}

// twoUsers are two filters with a user each, of which both allow names that
// are answered.
func twoUsers(lasts string) config {
	return config{resolvers: []any{families[0].resolver}, filters: []filter{
		{name: "A", allowed: []string{"example.com"}, lasts: lasts}, {name: "B", allowed: []string{"b.test"}, lasts: lasts}}}
}

// openTo requires that a web server is open to a user, or shut.
func (o *owned) openTo(user uint32, name string, web int, open bool) {
	o.t.Helper()
	seconds, verdict := shortly.Seconds(), "drop"
	if open {
		seconds, verdict = patience.Seconds(), "accept"
	}
	if got := o.client.curl(o.t, user, o.f.web(web), seconds); (got != "") != open {
		o.t.Errorf("user %d, web %d: %q", user, web, got)
	}
	o.daemon.sees(o.t, eventTraffic, fields{"filter": name, "dst": o.f.web(web), "verdict": verdict})
}

// This is what owning the response parser gives: an address of its choice,
// opened to the filter whose request is pending, once a request, with a line in
// the log, until allowAnswersFor is over. Not to another filter.
func TestOwnedResponsesChoose(t *testing.T) {
	t.Parallel()
	const lasts = 4 * time.Second
	o := ownedLab(t, ipc.RoleResponses, "choose", twoUsers(lasts.String()))
	o.rules(userRules(true, true))
	o.asker = o.client.askerAs(t, userA, o.f.client)
	web8 := netip.AddrPortFrom(o.f.web(8), floodPort)
	listener := &asker{t: t, conn: o.server.listenUDP(t, web8)}
	a := o.client.askerAs(t, userA, o.f.client)
	asked := time.Now()
	o.setOff()
	o.answer()
	a.sendWire(web8, []byte("open"))
	listener.receive()
	o.daemon.sees(t, eventResponse, fields{"name": "go.example.com", "filter": "A", "verdict": "accept", "granted": o.f.web(8)})
	if lines := o.daemon.granted(); len(lines) != 1 {
		t.Errorf("granted: %q", lines)
	}
	o.openTo(userB, "B", 8, false)
	o.openTo(userA, "A", 9, false)
	shut := func() bool {
		a.sendWire(web8, []byte("still?")) // a new one each time: nobody answers
		return o.daemon.find(eventTraffic, fields{"filter": "A", "dst": o.f.web(8), "verdict": "drop", "reason": "address not granted"}) != nil
	}
	if !eventually(shut) {
		t.Error("web 8 stays open")
	}
	if open := time.Since(asked); open < lasts {
		t.Errorf("shut after %v", open)
	}
	o.idle(t)
}

// One request, one answer: the second told of it opens nothing.
func TestOwnedResponsesTwice(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleResponses, "twice", ownedConfig())
	o.setOff()
	o.daemon.sees(t, eventResponse, fields{"name": "go.example.com", "verdict": "accept", "granted": o.f.web(8)})
	o.daemon.sees(t, eventResponse, fields{"name": "go.example.com", "verdict": "drop", "reason": "no pending request", "granted": nil})
	if lines := o.daemon.granted(); len(lines) != 1 {
		t.Errorf("granted: %q", lines)
	}
	o.reaches(t, o.f.web(8))
	o.isShut(t, o.f.web(9))
	o.idle(t)
}

// A packet that answers filter A told as the answer to filter B's pending
// request opens for B, and for B only.
func TestOwnedResponsesSwap(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleResponses, "swap", twoUsers("10m"))
	o.rules(userRules(true, true))
	b := o.client.askerAs(t, userB, o.f.client)
	held := question("held.b.test", typeOf(o.f))
	b.send(o.f.dns(), held)
	o.daemon.sees(t, eventRequest, fields{"name": "held.b.test", "filter": "B", "verdict": "accept"})
	o.asker = o.client.askerAs(t, userA, o.f.client)
	o.ask(fmt.Sprintf("go.%d.%d.example.com", b.at.Port(), held.Id))
	o.answer()
	o.daemon.sees(t, eventResponse, fields{"name": "held.b.test", "filter": "B", "verdict": "accept", "granted": o.f.web(8)})
	if lines := o.daemon.granted(); len(lines) != 1 {
		t.Errorf("granted: %q", lines)
	}
	o.openTo(userB, "B", 8, true)
	o.openTo(userA, "A", 8, false)
	b.nothing()
	o.idle(t)
}

// Addresses that no answer may open stay shut whoever says so, and the good
// one beside them opens. The log names what was refused.
func TestOwnedResponsesSpecial(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleResponses, "special", ownedConfig())
	o.setOff()
	o.answer()
	line := o.daemon.sees(t, eventResponse, fields{"name": "go.example.com", "verdict": "accept", "granted": o.f.web(8)})
	want := []string{"169.254.169.254", "127.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "169.254.169.254"}
	if got := strings.Fields(line.text("refused")); !slices.Equal(got, want) {
		t.Errorf("refused: %q, not %q", got, want)
	}
	o.isShut(t, netip.MustParseAddr("169.254.169.254"))
	o.isShut(t, netip.MustParseAddr("127.0.0.1"))
	o.reaches(t, o.f.web(8))
	o.idle(t)
}
