package allowlist

import (
	"net/netip"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

func TestGrantsAreWhatTheAnswerHolds(t *testing.T) {
	e := testEngine(t, testPolicy())
	p := exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) {
		a.addr("example.com", "192.0.2.1", "192.0.2.2", "2001:db8::1", "::ffff:192.0.2.3")
	})
	want := ipc.Grants{Kind: ipc.GrantsOpen, Filter: 0, Until: start.Add(webLasts),
		V4: "\xc0\x00\x02\x01\xc0\x00\x02\x02\xc0\x00\x02\x03", V6: string(ip("2001:db8::1").AsSlice())}
	if len(p.Grants) != 1 || p.Grants[0] != want {
		t.Errorf("grants %+v, want %+v", p.Grants, want)
	}
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"} {
		if got := granted(e, start, 0, a); got != want.Until {
			t.Errorf("%s until %d, want %d", a, got, want.Until)
		}
		if granted(e, start, 1, a) != 0 {
			t.Errorf("%s granted to another filter", a)
		}
	}
}

func TestSpecialAddressesAreNeverGranted(t *testing.T) {
	special := []string{
		"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1",
		"::", "::1", "fe80::1", "ff02::1", "fd00:ec2::254",
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:7f00:1::",
	}
	e := testEngine(t, testPolicy())
	p := exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) {
		a.addr("example.com", special...).addr("example.com", "192.0.2.1")
	})
	if len(p.Special) != len(special) || e.grants.Len() != 1 || p.Grants[0].V6 != "" || len(p.Grants[0].V4) != 4 {
		t.Errorf("%d special of %d, %d granted, %+v", len(p.Special), len(special), e.grants.Len(), p.Grants)
	}
	if e.Counts().Special != uint64(len(special)) {
		t.Errorf("%d counted", e.Counts().Special)
	}
	p = exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.addr("example.com", special...) })
	if len(p.Grants) != 0 {
		t.Errorf("grants %+v of special addresses only", p.Grants)
	}
}

func TestGrantsExtendAndNeverShorten(t *testing.T) {
	e := testEngine(t, testPolicy())
	build := func(q string) func(*answer) { return func(a *answer) { a.addr(q, "192.0.2.1") } }
	exchange(t, e, start, query(handleWeb, "example.com"), build("example.com"))
	later := start.Add(time.Minute)
	exchange(t, e, later, query(handleWeb, "other.org"), build("other.org"))
	if got, want := granted(e, later, 0, "192.0.2.1"), later.Add(webLasts); got != want {
		t.Errorf("until %d, want %d", got, want)
	}
	ends := later.Add(webLasts)
	e.rules[0].AllowAnswersFor = time.Second // as a policy with a shorter period would
	exchange(t, e, later, query(handleWeb, "other.org"), build("other.org"))
	if got := granted(e, later, 0, "192.0.2.1"); got != ends {
		t.Errorf("shortened to %d, want %d", got, ends)
	}
	if granted(e, ends-1, 0, "192.0.2.1") == 0 || granted(e, ends, 0, "192.0.2.1") != 0 {
		t.Error("does not end exactly at its instant")
	}
}

func TestEachFilterHasItsOwnPeriod(t *testing.T) {
	e := testEngine(t, testPolicy())
	build := func(a *answer) { a.addr("example.com", "192.0.2.1").cname("example.com", "cdn.net") }
	exchange(t, e, start, query(handleWeb, "example.com"), build)
	p := exchange(t, e, start, query(handleApt, "example.com"), build)
	if p.Filter != 1 || p.Grants[0].Filter != 1 || p.Grants[0].Until != start.Add(aptLasts) {
		t.Errorf("filter %d, grants %+v", p.Filter, p.Grants)
	}
	at := start.Add(aptLasts)
	if granted(e, at, 1, "192.0.2.1") != 0 || knows(e, at, 1, "cdn.net") != 0 {
		t.Error("lasts longer than its filter allows")
	}
	if granted(e, at, 0, "192.0.2.1") == 0 || knows(e, at, 0, "cdn.net") == 0 {
		t.Error("ended with another filter's period")
	}
}

// fill grants n addresses of a numbered /16 or more to a filter.
func fill(t *testing.T, e *Engine, now ipc.Instant, handle uint32, q string, net byte, n int) {
	t.Helper()
	for done := 0; done < n; {
		exchange(t, e, now.Add(time.Duration(done)), query(handle, q), func(a *answer) {
			for ; done < n && len(a.A.Owners) < 4000; done++ {
				a.addr(q, netip.AddrFrom4([4]byte{net, byte(done >> 16), byte(done >> 8), byte(done)}).String())
			}
		})
	}
}

func TestGrantBounds(t *testing.T) {
	p := testPolicy()
	p.Queues[2].Filter = 2
	p.Filters[2] = ipc.Filter{Index: 2, Name: "third", AllowAnswersFor: time.Hour}
	p.Hostnames[2] = p.Hostnames[0]
	e := testEngine(t, p)
	fill(t, e, start, handleApt, "example.com", 11, 100) // few, and they end first
	fill(t, e, start, handleWeb, "example.com", 12, ipc.MaxGrantsOfFilter+100)
	if e.grants.Len() != ipc.MaxGrantsOfFilter+100 || granted(e, start, 0, "12.0.0.1") != 0 {
		t.Errorf("%d grants after a filter's bound", e.grants.Len())
	}
	fill(t, e, start, handleAll, "example.com", 13, ipc.MaxGrantsOfFilter+100)
	if c := e.Counts(); c.Grants != ipc.MaxGrants || c.GrantsEvicted < 200 {
		t.Errorf("%d grants, %d evicted", c.Grants, c.GrantsEvicted)
	}
	if granted(e, start, 1, "11.0.0.1") == 0 || granted(e, start, 2, "13.1.0.99") == 0 {
		t.Error("a small filter or the newest grant had to go")
	}
}

func TestGrantsFitTheirMessages(t *testing.T) {
	// No response holds as many, but a filter may, when a reload tells them.
	var all []netip.Addr
	for i := range ipc.MaxAddresses {
		all = append(all, netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}))
	}
	sum := 0
	for _, g := range pack(ipc.Grants{Kind: ipc.GrantsOpen, Until: start}, all) {
		if n := len(g.V6); n > 48<<10 {
			t.Errorf("%d octets in a message", n)
		}
		sum += len(g.V6) / 16
	}
	if sum != len(all) {
		t.Errorf("%d addresses in messages, want %d", sum, len(all))
	}
}

// As many addresses as a fact holds, as many of them IPv6 as there is room for.
func TestMostAddressesAreGranted(t *testing.T) {
	const v6 = (ipc.MaxAddressBytes - 6*ipc.MaxAddresses) / (18 - 6)
	e := testEngine(t, testPolicy())
	p := exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) {
		for i := range ipc.MaxAddresses {
			if i < v6 {
				a.addr("example.com", netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}).String())
			} else {
				a.addr("example.com", netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}).String())
			}
		}
	})
	sum := 0
	for _, g := range p.Grants {
		sum += len(g.V4)/4 + len(g.V6)/16
	}
	if sum != ipc.MaxAddresses || e.grants.Len() != sum {
		t.Errorf("%d addresses sent, %d held, want %d", sum, e.grants.Len(), ipc.MaxAddresses)
	}
}

// TestMaxOpenings: what one answer opens is bounded with its ports counted, and
// the rest is told as refused.
func TestMaxOpenings(t *testing.T) {
	for ports, open := range map[int]int{1: 3000, 2: 2048, 3: 1365} {
		e := testEngine(t, portPolicy(host{"example.com", ipc.ScopeTree, []ipc.Port{https, ntp, {Number: 22}}[:ports]}))
		var addresses []string
		for i := range 3000 {
			addresses = append(addresses, netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}).String())
		}
		p := exchange(t, e, start, query(handleWeb, "example.com"), func(a *answer) { a.addr("example.com", addresses...) })
		if got := len(listed(ipc.GrantsOpen, p.Grants)); got != open*ports || len(p.Special) != 3000-open || e.Counts().Grants != open {
			t.Errorf("%d ports: %d opened, %d refused, %d remembered", ports, got, len(p.Special), e.Counts().Grants)
		}
	}
}
