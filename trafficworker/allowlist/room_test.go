package allowlist

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// TestOneAnswerFits: the messages of one answer, as many as there can be, find
// room in an empty edge whose reader takes none of them meanwhile. One that does
// not fit would be refused each time that it comes.
func TestOneAnswerFits(t *testing.T) {
	for what, plan := range map[string]*Plan{"a cached name of many filters": cachedByMany(t), "ports and times": manyLots(t)} {
		if len(plan.Grants) != 4096 {
			t.Errorf("%s: %d messages", what, len(plan.Grants))
		}
		a, b, err := ipc.Pair(true, true)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(a)
		defer unix.Close(b)
		if err := unix.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, ipc.GrantBuffer); err != nil {
			t.Fatal(err)
		}
		s := ipc.NewGrantSender(a)
		for i := range plan.Grants {
			if err := s.Send(&plan.Grants[i]); err != nil {
				t.Errorf("%s: message %d of %d: %v", what, i, len(plan.Grants), err)
				break
			}
		}
	}
}

// cachedByMany is the answer about a name that as many filters cache as may.
func cachedByMany(t *testing.T) *Plan {
	e := testEngine(t, manyFilters(ipc.MaxCached+1)) // one of them caches nothing
	due(e, start)
	return exchange(t, e, start, own(lookup("cdn.net", ipc.TypeAAAA), 1), func(a *answer) {
		a.addr("cdn.net", "2001:db8::1", "2001:db8::2")
	})
}

// manyLots is an answer whose addresses have each a time of its own, and as many
// ports as an entry may.
func manyLots(t *testing.T) *Plan {
	var ports []ipc.Port
	for i := range ipc.MaxPorts {
		ports = append(ports, ipc.Port{Number: uint16(1000 + i)})
	}
	p := portPolicy(host{"example.com", ipc.ScopeTree, ports})
	p.Filters[0].RespectTTL, p.Filters[0].AllowAnswersFor = true, time.Hour
	e := testEngine(t, p)
	return exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) {
		for i := range ipc.MaxTTLs {
			a.addrFor(uint32(100+i), "example.com", fmt.Sprintf("203.0.113.%d", i))
		}
		a.addrFor(1000, "example.com", "2001:db8::1")
	})
}
