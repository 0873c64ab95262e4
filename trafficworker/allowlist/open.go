package allowlist

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// openStep is to what the ends of grants are rounded down for a new
// trafficworker, so that one message carries many addresses; once more for each
// openSome grants that there are.
const (
	openStep = 100 * time.Millisecond
	openSome = 4096
)

// Open is all that is open by answers, as a trafficworker is told that knows
// nothing of it. What use had renewed beyond that is not known here, and over. It
// may take a second, and calls turn again and again meanwhile.
func (e *Engine) Open(now ipc.Instant, turn func()) (all []ipc.Grants) {
	for filter := range e.rules {
		r, lots := &e.rules[filter], map[lot][]netip.Addr{}
		step, n := openStep*time.Duration(1+e.grants.Len()/openSome), 0
		e.grants.Each(now, filter, func(address [16]byte, why proofs, _ ipc.Instant) {
			a := netip.AddrFrom16(address).Unmap()
			for l := range r.lotsOf(now, step, &why) {
				lots[l] = append(lots[l], a)
			}
			if n++; n%1024 == 0 {
				turn()
			}
		})
		for _, l := range slices.SortedFunc(maps.Keys(lots), compareLots) {
			g := ipc.Grants{Kind: ipc.GrantsOpen, Filter: uint32(filter), Until: l.until, Port: l.port}
			all = append(all, pack(g, lots[l])...)
		}
	}
	return all
}

// lotsOf is what the proofs of a grant open, each port once.
func (r *rules) lotsOf(now ipc.Instant, step time.Duration, why *proofs) map[lot]bool {
	until := map[ipc.Port]ipc.Instant{}
	for _, p := range why.appendTo(nil, now) {
		for _, port := range r.opened(p.entry) {
			until[port] = max(until[port], p.plain)
		}
	}
	lots := map[lot]bool{}
	for port, end := range until {
		if end -= end % ipc.Instant(step); end > now {
			lots[lot{end, port}] = true
		}
	}
	return lots
}
