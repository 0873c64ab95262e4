package main_test

import (
	"fmt"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// What an owned request parser must not tell the allowlist.
func TestOwnedRequestsDoomed(t *testing.T) {
	by := func(attack, says string) doom {
		return doom{attack, accused(ipc.RoleRequests, says)}
	}
	doomed(t, ipc.RoleRequests, []doom{
		by("handle-none", "handle 0"),
		by("handle-response", "allowlist: request on handle 1, which is no request queue"),
		by("handle-traffic", "allowlist: request on handle 5, which is no request queue"),
		by("handle-never", "allowlist: request on handle 1048576, which is no request queue"),
		by("name-none", "question with an invalid name"),
		by("name-label", "question with an invalid name"),
		by("name-long", "question with an invalid name"),
		by("name-upper", "question with an invalid name"),
		by("name-cut", "question with an invalid name"),
		by("name-after", "question with an invalid name"),
		by("questions", "5 questions"),
		by("questions-0", "an acceptable request without a flow or question"),
		by("dump-escape", "dump with the octet 0x1b"),
		by("dump-long", "dump of 4097 bytes"),
		by("protocol", "protocol 47"),
		by("families", "addresses that are none, or of two families"),
		by("address", "addresses that are none, or of two families"),
		by("no-flow", "an acceptable request without a flow or question"),
		by("state", "connection state 9"),
		by("reason", "reason 255"),
		by("segment-udp", "a segment without TCP"),
		by("segment-none", "TCP without a segment"),
		by("segment-kind", "segment of kind 200"),
		by("segment-twice", "packets that are none, or not each its own"),
		by("segment-itself", "packets that are none, or not each its own"),
		by("segment-response", "allowlist: a request decides a packet of handle 1, which is not of its filter"),
		by("segment-traffic", "allowlist: a request decides a packet of handle 5, which is not of its filter"),
		by("segment-filter", "allowlist: a request decides a packet of handle 7, which is not of its filter"),
		by("segment-two", "allowlist: messages of two packets, or of none"),
		by("segment-endless", "more than 1024 messages in a segment"),
		by("another-edge", "gob type "),
		by("verdict-frame", "frame is not exactly one gob message"),
		by("frame-garbage", "frame is not exactly one gob message"),
		by("frame-half", "frame is not exactly one gob message"),
		by("frame-oversize", "packet longer than 65536 octets"),
		by("frame-type", "gob type "),
		by("frame-types", "gob type "),
	})
}

// A query of a stream that nobody began does not pass, whatever it asks.
func TestOwnedRequestsInvent(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleRequests, "segment-invent", ownedConfig())
	o.setOff()
	o.daemon.sees(t, eventRequest, fields{"name": "example.com", "verdict": "drop", "reason": "connection not known"})
	o.outside("go.example.com")
	o.idle(t)
}

// A request that is told to be for an allowed name leaves the host, whatever
// it asks: each one, and nothing comes of it. The true answer is not to the
// question that was claimed, so it is dropped and opens nothing.
func TestOwnedRequestsLie(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleRequests, "lie", ownedConfig())
	for _, name := range []string{"go.evil.test", "go.secret.evil.test"} {
		o.ask(name)
		o.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "drop", "reason": "no pending request", "granted": nil})
		if o.resolver.asked(name) != 1 {
			t.Errorf("%s: the request did not leave", name)
		}
	}
	o.asker.nothing()
	o.daemon.sees(t, eventRequest, fields{"name": "example.com", "verdict": "accept"})
	if lines := o.daemon.granted(); lines != nil {
		t.Errorf("granted: %q", lines)
	}
	o.isShut(t, o.f.web(1))
	// What it tells truly is judged as ever.
	o.isRefused(t, o.f, "honest.evil.test", typeOf(o.f))
	o.resolves(t, o.f, "honest.example.com", typeOf(o.f), o.f.web(1))
	o.reaches(t, o.f.web(1))
	o.idle(t)
}

// Names that look allowed when their labels are joined are not.
func TestOwnedRequestsDottedNames(t *testing.T) {
	t.Parallel()
	for attack, shown := range map[string]string{
		"name-dot": `example\.com`, "name-dots": `www\.example.com`, "name-null": `example.com\000`,
	} {
		t.Run(attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleRequests, attack, ownedConfig())
			o.setOff()
			o.daemon.sees(t, eventRequest, fields{"name": shown, "verdict": "drop", "reason": "name not allowed"})
			o.outside("go.example.com")
			o.idle(t)
		})
	}
}

// One packet told of a thousand times gets one verdict, and is one pending
// request: one answer to the true question would use it up.
func TestOwnedRequestsRepeat(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleRequests, "repeat", ownedConfig())
	o.ask("go.evil.test")
	o.daemon.sees(t, eventResponse, fields{"name": "go.evil.test", "verdict": "drop", "reason": "no pending request"})
	if n := o.resolver.asked("go.evil.test"); n != 1 {
		t.Errorf("%d requests left", n)
	}
	o.asker.nothing()
	o.isShut(t, o.f.web(1))
	o.idle(t)
}

// With a packet of filter 0 that asks what only filter 1 allows, it can have
// the answer let in, and what filter 1 would be granted for that question
// granted to filter 1: an address that an allowed name truly has, from a
// trusted resolver, which filter 1 could have by asking. Filter 0 gets
// nothing.
func TestOwnedRequestsBorrow(t *testing.T) {
	t.Parallel()
	c := config{resolvers: []any{families[0].resolver}, filters: []filter{{allowed: []string{"example.com"}}, {allowed: []string{"b.test"}}}}
	o := ownedLab(t, ipc.RoleRequests, "borrow", c)
	o.ask("go.b.test")
	sameData(t, o.answer(), o.f.web(1))
	o.daemon.sees(t, eventResponse, fields{"name": "go.b.test", "filter": "filter 1", "verdict": "accept", "granted": o.f.web(1)})
	o.isShut(t, o.f.web(1))
	o.idle(t)
}

// An empty packet reads like the end of the parser. With the next one the
// allowlist knows that it was none.
func TestOwnedRequestsEmptyPacket(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleRequests, "frame-nothing", ownedConfig())
	o.resolves(t, o.f, "honest.example.com", typeOf(o.f), o.f.web(1))
	o.setOff()
	o.ask("later.example.com")
	o.falls(accused(ipc.RoleRequests, "descriptor 5: an empty packet"))
	o.outside("go.example.com")
	o.outside("later.example.com")
}

// With a packet of the daemon's own queue it is no different: any question
// leaves that is told to be what is being looked up, and nothing comes of it.
// Nor is what is known already let out under its name.
func TestOwnedRequestsSelf(t *testing.T) {
	t.Parallel()
	for _, attack := range []string{"self-lie", "self-cached"} {
		t.Run(attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleRequests, attack, askingConfig())
			o.cachedAnswer(t, "cdn.test", o.f.web(1))
			if !eventually(func() bool { return o.resolver.asked("held.cdn.test") > 0 }) {
				t.Fatal("nothing is being looked up")
			}
			o.asker.mark()
			o.ask("go.evil.test")
			if attack == "self-cached" {
				o.daemon.sees(t, eventRequest, fields{"queue": selfQueue(o.f), "name": "cdn.test", "verdict": "drop", "reason": "lookup that is over"})
				o.outside("go.evil.test")
			} else {
				o.daemon.sees(t, eventRequest, fields{"queue": selfQueue(o.f), "name": "held.cdn.test", "dst": o.f.dns(), "src": o.asker.at, "verdict": "accept"})
				o.daemon.sees(t, eventResponse, fields{"name": "go.evil.test", "verdict": "drop", "reason": "no pending request", "granted": nil})
				if o.resolver.asked("go.evil.test") != 1 {
					t.Error("the request did not leave")
				}
			}
			o.cachedOnly()
			o.isShut(t, o.f.web(8))
			o.resolves(t, o.f, "honest.example.com", typeOf(o.f), o.f.web(1))
			o.idle(t)
		})
	}
}

// Packets of the daemon's own queue and of a filter's are not decided together.
func TestOwnedRequestsSelfSegments(t *testing.T) {
	t.Parallel()
	for attack, handle := range map[string]int{"segment-self": 3, "segment-not-self": 5} {
		t.Run(attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, ipc.RoleRequests, attack, askingConfig())
			if attack == "segment-not-self" {
				o.asker.mark()
			}
			o.setOff()
			o.falls(accused(ipc.RoleRequests, fmt.Sprintf("allowlist: a request decides a packet of handle %d, which is not of its filter", handle)))
			o.outside("go.example.com")
		})
	}
}
