package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// holderAttacks are those of an owned allowlist, on the trafficworker, on the
// resolver and on the parent.
var holderAttacks = framedAs("lookup-", ipc.FDLookups, framed(ipc.FDGrants, map[string]attack{
	"handle-traffic": foreign(5),
	"handle-never":   foreign(1 << 20),
	"verdict-4": func(m *moment) error {
		r := acceptRecord(m.request.Handle, m.request.ID)
		r[8] = 4 // NF_REPEAT
		return raw(ipc.FDVerdicts, r)
	},

	// What it can: grant, as the real one does.
	"grant":       granted(func(*ipc.Grants) {}),
	"grant-flood": floodGrants,
	"grant-empty": func(m *moment) error {
		if err := raw(ipc.FDGrants, nil); err != nil {
			return err
		}
		return accept(&m.request.Packet)
	},

	"grant-filter":  granted(func(g *ipc.Grants) { g.Filter = 99 }),
	"grant-all":     granted(func(g *ipc.Grants) { g.Filter = 1 }), // which allows all names and grants nothing
	"grant-long":    granted(func(g *ipc.Grants) { g.Until = g.Until.Add(time.Hour) }),
	"grant-ever":    granted(func(g *ipc.Grants) { g.Until = 1<<63 - 1 }),
	"grant-no-end":  granted(func(g *ipc.Grants) { g.Until = 0 }),
	"grant-past":    granted(func(g *ipc.Grants) { g.Until = -1 }),
	"grant-nothing": granted(func(g *ipc.Grants) { g.V4 = "" }),
	"grant-cut":     granted(func(g *ipc.Grants) { g.V4 += "\xc6" }),
	"grant-many":    granted(func(g *ipc.Grants) { g.V4 = strings.Repeat(web8, ipc.MaxAddresses+1) }),
	// A special address takes the good one beside it along.
	"grant-meta":     granted(func(g *ipc.Grants) { g.V4 += "\xa9\xfe\xa9\xfe" }),
	"grant-loopback": granted(func(g *ipc.Grants) { g.V4 += "\x7f\x00\x00\x01" }),
	"grant-v6":       granted(func(g *ipc.Grants) { g.V6 = strings.Repeat("\x00", 15) + "\x01" }),
	"grant-mapped":   granted(func(g *ipc.Grants) { g.V6 = strings.Repeat("\x00", 10) + "\xff\xff" + web8 }),
	// What only a change of policy may do, and only one that was announced.
	"grant-no-kind": granted(func(g *ipc.Grants) { g.Kind = 0 }),
	"grant-kind":    granted(func(g *ipc.Grants) { g.Kind = ipc.GrantsAll + 1 }),
	"grant-change":  granted(func(g *ipc.Grants) { *g = ipc.Grants{Kind: ipc.GrantsChange} }),
	"grant-keep":    granted(func(g *ipc.Grants) { *g = ipc.Grants{Kind: ipc.GrantsKeep, V4: web8} }),
	"grant-port":    granted(func(g *ipc.Grants) { g.Port = ipc.Port{Number: 80, Proto: 1} }),
	"grant-done":    granted(func(g *ipc.Grants) { *g = ipc.Grants{Kind: ipc.GrantsDone} }),
	"another-edge":  func(m *moment) error { return ipc.NewRequestSender(ipc.FDGrants).Send(m.request) },

	// Lookups of the trafficworker's that are over: filter 1 has some where any does.
	"settled-plain":  settled(func(g *ipc.Grants) { g.Filter = 0 }),
	"settled-filter": settled(func(g *ipc.Grants) { g.Filter = 99 }),
	"settled-long":   settled(func(g *ipc.Grants) { g.Until = ipc.Now().Add(2 * time.Minute) }),
	"settled-past":   settled(func(g *ipc.Grants) { g.Until = -1 }),
	"settled-port":   settled(func(g *ipc.Grants) { g.Port = ipc.Port{Number: 80} }),
	"settled-meta":   settled(func(g *ipc.Grants) { g.V4 += "\xa9\xfe\xa9\xfe" }),
	"settled-change": func(m *moment) error {
		if err := toTraffic.Send(&ipc.Grants{Kind: ipc.GrantsChange}); err != nil {
			return err
		}
		return settled(func(*ipc.Grants) {})(m)
	},

	// What the resolver is to ask.
	"lookup-no-name": lookingUp(ipc.Lookup{Type: ipc.TypeA, Until: 1 << 62}),
	"lookup-upper":   lookingUp(ipc.Lookup{Name: wire("EXAMPLE", "com"), Type: ipc.TypeA, Until: 1 << 62}),
	"lookup-cut":     lookingUp(ipc.Lookup{Name: allowed[:4], Type: ipc.TypeA, Until: 1 << 62}),
	"lookup-TXT":     lookingUp(ipc.Lookup{Name: allowed, Type: 16, Until: 1 << 62}),
	"lookup-no-end":  lookingUp(ipc.Lookup{Name: allowed, Type: ipc.TypeA}),
	"lookup-edge":    func(m *moment) error { return ipc.NewRequestSender(ipc.FDLookups).Send(m.request) },
	"lookup-any":     lookUpAnything,
	"lookup-flood":   floodLookups,
}))

// granted opens an address for filter 0 for as long as that may be, with
// something changed, and lets the request pass.
func granted(change func(g *ipc.Grants)) attack {
	return func(m *moment) error {
		g := ipc.Grants{Kind: ipc.GrantsOpen, Until: ipc.Now().Add(m.policy.Filters[0].AllowAnswersFor), V4: web8}
		change(&g)
		if err := toTraffic.Send(&g); err != nil {
			return err
		}
		return accept(&m.request.Packet)
	}
}

// floodGrants opens an address at its first moment. From the second on it keeps
// the trafficworker's edge full of the longest messages, all of addresses that
// end sooner.
func floodGrants(m *moment) error {
	if !flooded {
		flooded = true
		return granted(func(*ipc.Grants) {})(m)
	}
	g := ipc.Grants{Kind: ipc.GrantsOpen, Until: ipc.Now().Add(m.policy.Filters[0].AllowAnswersFor / 2)}
	for i := 0; ; i++ {
		g.V4 = manyAddresses(i)
		for err := ipc.ErrWouldBlock; err == ipc.ErrWouldBlock; {
			if err = toTraffic.Send(&g); err != nil && err != ipc.ErrWouldBlock {
				return err
			}
		}
	}
}

var flooded bool

// manyAddresses are as many as a message holds, others for each i.
func manyAddresses(i int) string {
	var b []byte
	for j := range ipc.MaxAddresses {
		n := i*ipc.MaxAddresses + j
		b = append(b, 11, byte(n>>16), byte(n>>8), byte(n))
	}
	return string(b)
}

// settled says that an address of filter 1 has been looked up, with something
// changed, and lets the request pass.
func settled(change func(g *ipc.Grants)) attack {
	return granted(func(g *ipc.Grants) {
		*g = ipc.Grants{Kind: ipc.GrantsSettled, Filter: 1, Until: ipc.Now().Add(time.Second), V4: web8}
		change(g)
	})
}

// lookingUp has something asked, and lets the request pass.
func lookingUp(l ipc.Lookup) attack {
	return func(m *moment) error {
		if err := toAsk.Send(&l); err != nil {
			return err
		}
		return accept(&m.request.Packet)
	}
}

// anyLookup is what no configuration names.
var anyLookup = []ipc.Lookup{
	{Name: secret.Name, Type: ipc.TypeA},
	{Name: wire("other", "test"), Type: ipc.TypeAAAA},
	{Name: wire("7", "100", "51", "198", "in-addr", "arpa"), Type: ipc.TypePTR},
}

// lookUpAnything has all asked that no configuration names.
func lookUpAnything(m *moment) error {
	for _, l := range anyLookup {
		l.Until = ipc.Now().Add(ipc.MaxLookupTime)
		if err := toAsk.Send(&l); err != nil {
			return err
		}
	}
	return accept(&m.request.Packet)
}

// floodLookups opens an address, and from then on has the resolver asked for
// other names without end, whose questions it lets pass.
func floodLookups(m *moment) error {
	go func() {
		for i := 0; ; i++ {
			l := ipc.Lookup{Name: wire(fmt.Sprint("n", i), "evil", "test"), Type: ipc.TypeA, Until: 1 << 62}
			for toAsk.Send(&l) == ipc.ErrWouldBlock {
				runtime.Gosched()
			}
		}
	}()
	return granted(func(*ipc.Grants) {})(m)
}
