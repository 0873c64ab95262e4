package allowlist

import (
	"net/netip"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// grantsAtOnce bounds the addresses of one ipc.Grants, so that 16 octets each
// stay well below the largest frame.
const grantsAtOnce = 3072

// grant takes the addresses of a response into the plan. Everything is owned
// by a reached name; that was checked. NB: called once a plan.
func (p *Plan) grant(f *ipc.ResponseFact, c *chain, until ipc.Instant) {
	p.addresses = make([]taught[netip.Addr], 0, len(f.A.Owners)+len(f.AAAA.Owners))
	for i, owner := range f.A.Owners {
		p.grantOne(netip.AddrFrom4([4]byte([]byte(f.A.Octets[4*i:4*i+4]))), c.from(owner))
	}
	for i, owner := range f.AAAA.Owners {
		// ::ffff:1.2.3.4 is reached by an IPv4 packet to 1.2.3.4.
		p.grantOne(netip.AddrFrom16([16]byte([]byte(f.AAAA.Octets[16*i:16*i+16]))).Unmap(), c.from(owner))
	}
	all := make([]netip.Addr, len(p.addresses))
	for i, a := range p.addresses {
		all[i] = a.what
	}
	p.Grants = pack(ipc.Grants{Kind: ipc.GrantsOpen, Filter: uint32(p.Filter), Until: until}, all)
}

func (p *Plan) grantOne(a netip.Addr, from uint8) {
	if ipc.Special(a) {
		p.Special = append(p.Special, a)
		return
	}
	p.addresses = append(p.addresses, taught[netip.Addr]{a, from})
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
func (e *Engine) commitAddress(now ipc.Instant, p *Plan, a taught[netip.Addr]) {
	key := a.what.As16()
	known, _, _ := e.grants.Get(now, p.Filter, key)
	for i, b := range p.bases {
		if a.from&(1<<i) != 0 {
			for _, proof := range b.addresses {
				known.add(now, proof)
			}
		}
	}
	e.grants.Put(now, p.Filter, key, known, known.until())
}
