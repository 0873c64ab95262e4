package allowlist

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// grantsAtOnce bounds the addresses of one ipc.Grants, so that 16 octets each
// stay well below the largest frame.
const grantsAtOnce = 3072

// maxOpenings bounds what one answer opens, each port of an address counted:
// otherwise an answer of thousands of addresses, each with many ports, would
// push out all that others opened and keep everybody waiting. It is what an answer
// without ports can open.
const maxOpenings = ipc.MaxAddresses

// answered is an address of a response, the questions from which it was
// reached, and for how long it may be open.
type answered struct {
	taught[netip.Addr]
	lasts time.Duration
}

// answered lists the addresses of a response that may be granted, and puts
// the others into the plan. Everything is owned by a reached name; that was
// checked.
func (p *Plan) answered(f *ipc.ResponseFact, c *chain, r *rules) (all []answered) {
	all = make([]answered, 0, len(f.A.Owners)+len(f.AAAA.Owners))
	add := func(a netip.Addr, from uint8, ttl uint32) {
		if ipc.Special(a) || r.DenyPrivate && ipc.Private(a) {
			p.Special = append(p.Special, a)
			return
		}
		all = append(all, answered{taught[netip.Addr]{a, from}, r.Lasts(ttl)})
	}
	for i, owner := range f.A.Owners {
		add(netip.AddrFrom4([4]byte([]byte(f.A.Octets[4*i:4*i+4]))), c.from(owner), f.A.TTLOf(i))
	}
	for i, owner := range f.AAAA.Owners {
		// ::ffff:1.2.3.4 is reached by an IPv4 packet to 1.2.3.4.
		add(netip.AddrFrom16([16]byte([]byte(f.AAAA.Octets[16*i:16*i+16]))).Unmap(), c.from(owner), f.AAAA.TTLOf(i))
	}
	return all
}

// lot is what the addresses of one message have in common.
type lot struct {
	until ipc.Instant
	port  ipc.Port
}

// grant makes the messages that open the plan's addresses, each with the ports
// of the entries that justify it.
func (p *Plan) grant(now ipc.Instant, r *rules) {
	lots := map[lot][]netip.Addr{}
	var known [1 << ipc.MaxQuestions]map[ipc.Port]bool // by answered.from
	openings, all := 0, p.addresses
	p.addresses = p.addresses[:0]
	for _, a := range all {
		ports := known[a.from]
		if ports == nil {
			ports = p.portsOf(a.from, r)
			known[a.from] = ports
		}
		if openings += len(ports); openings > maxOpenings {
			p.Special = append(p.Special, a.what)
			continue
		}
		p.addresses = append(p.addresses, a)
		p.Lasts = max(p.Lasts, a.lasts)
		for port := range ports {
			l := lot{now.Add(a.lasts), port}
			lots[l] = append(lots[l], a.what)
		}
	}
	for _, l := range slices.SortedFunc(maps.Keys(lots), compareLots) {
		p.Grants = append(p.Grants, pack(ipc.Grants{
			Kind: ipc.GrantsOpen, Filter: uint32(p.Filter), Until: l.until, Port: l.port,
		}, lots[l])...)
	}
}

// compareLots keeps the messages of a plan in one order, whatever a map's is.
func compareLots(a, b lot) int {
	return cmp.Or(cmp.Compare(a.until, b.until), comparePorts(a.port, b.port))
}

func comparePorts(a, b ipc.Port) int {
	return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Proto, b.Proto))
}

// portsOf are the ports that the questions of some bits open: of every entry
// that justifies an answer to one of them, or all if one of those opens all.
func (p *Plan) portsOf(from uint8, r *rules) map[ipc.Port]bool {
	ports := map[ipc.Port]bool{}
	for i, b := range p.bases {
		if from&(1<<i) == 0 {
			continue
		}
		for _, proof := range b {
			if !r.addPorts(ports, proof.entry) {
				return allPorts
			}
		}
	}
	return ports
}

var allPorts = map[ipc.Port]bool{{}: true}

// addPorts adds the ports of an entry, and reports false if it opens all.
func (r *rules) addPorts(ports map[ipc.Port]bool, entry uint32) bool {
	some := r.ports(entry)
	for _, port := range some {
		ports[port] = true
	}
	return len(some) > 0
}

// pack makes as many messages like g as it takes to carry the addresses.
func pack(g ipc.Grants, addresses []netip.Addr) (messages []ipc.Grants) {
	for len(addresses) > 0 {
		n := min(len(addresses), grantsAtOnce)
		var v4, v6 []byte
		for _, a := range addresses[:n] {
			if a.Is4() {
				v4 = append(v4, a.AsSlice()...)
			} else {
				v6 = append(v6, a.AsSlice()...)
			}
		}
		g.V4, g.V6 = string(v4), string(v6)
		messages, addresses = append(messages, g), addresses[n:]
	}
	return messages
}

// commitAddress remembers a grant that the trafficworker has been handed.
func (e *Engine) commitAddress(now ipc.Instant, p *Plan, a answered) {
	key := a.what.As16()
	// One in use may be renewed over there until maxInUse, which nobody tells.
	plain, until := now.Add(a.lasts), now.Add(max(a.lasts, e.rules[p.Filter].MaxInUse))
	known, _, _ := e.grants.Get(now, p.Filter, key)
	for i, b := range p.bases {
		if a.from&(1<<i) != 0 {
			for _, why := range b {
				known.add(now, proof{entry: why.entry, until: until, plain: plain, answered: now})
			}
		}
	}
	e.grants.Put(now, p.Filter, key, known, known.until())
}
