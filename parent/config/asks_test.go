package config

import (
	"slices"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// asking is a filter with cached names and nothing that answers open otherwise.
const asking = `
[[filters]]
name = "c"
trafficQueue.ipv4 = 31
cachedHostnames = ["a"]
reCacheEvery = "1h"
`

// TestCachedFor: what is cached stays open for a minute more than until it is
// asked for again, within what a policy can say.
func TestCachedFor(t *testing.T) {
	for every, want := range map[string]time.Duration{
		`"1s"`:          61 * time.Second,
		`"4611685958s"`: 4611686018 * time.Second,
	} {
		f := mustParse(t, in+"\nselfDNSQueue.ipv4 = 2"+with(asking, `reCacheEvery = "1h"`, "reCacheEvery = "+every)).Filters[0]
		if got := f.CachedFor(); got != want || got > ipc.MaxDuration {
			t.Errorf("%s: %v", every, got)
		}
	}
	if got := mustParse(t, in+one).Filters[0].CachedFor(); got != 0 {
		t.Errorf("without cached names: %v", got)
	}
}

// TestLookupWarning: a filter whose reverse lookups can open nothing is warned of,
// and no other.
func TestLookupWarning(t *testing.T) {
	const head = "resolvers = [\"192.0.2.1\"]\n" + in + "\nselfDNSQueue.ipv4 = 2"
	const warning = ": lookupUnknownIPs: gains nothing without allowedHostnames, which must allow the name that an address leads to"
	for text, want := range map[string][]string{
		self:                                  {`f.toml:7: filter "s"` + warning},
		asking + "lookupUnknownIPs = true\n":  {`f.toml:9: filter "c"` + warning},
		one + "lookupUnknownIPs = true\n":     nil,
		asking + "lookupUnknownIPs = false\n": nil,
	} {
		if got := mustParse(t, head+text).Warnings; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestSelfMark: there is a mark exactly where there are questions to find.
func TestSelfMark(t *testing.T) {
	for text, want := range map[string]uint32{
		in + "\nselfDNSQueue.ipv4 = 2" + self:                             0x20000000,
		in + "\nselfMark = 0x1f\nselfDNSQueue.ipv4 = 2" + self:            0x1f,
		in + "\nSELFMARK = 4_294_967_295\nselfDNSQueue.ipv4 = 2" + asking: 1<<32 - 1,
		in + one: 0,
	} {
		c := mustParse(t, text)
		if c.SelfMark != want || c.AsksItself() != (want != 0) {
			t.Errorf("%s: %#x, asks itself: %t", text, c.SelfMark, c.AsksItself())
		}
	}
}
