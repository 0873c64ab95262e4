package trafficworker

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// networks are the addresses and networks that are always open for a filter.
// A look costs one map access for each length of prefix that there is.
type networks struct {
	lengths []int                       // of prefixes, as of IPv6: IPv4 is ::ffff:0:0/96
	ports   map[netip.Prefix][]ipc.Port // nil is all
}

// allNetworks checks what the parent sent and what only this relies on.
func allNetworks(filters []ipc.Filter, addresses [][]ipc.AllowedAddress) ([]networks, error) {
	all := make([]networks, len(filters))
	for i := range min(len(addresses), len(filters)) {
		for j := range addresses[i] {
			if filters[i].AllowAll {
				return nil, fmt.Errorf("filter %q allows everything, and addresses", filters[i].Name)
			}
			if err := all[i].add(&addresses[i][j]); err != nil {
				return nil, fmt.Errorf("filter %q: %w", filters[i].Name, err)
			}
		}
	}
	return all, nil
}

func (n *networks) add(a *ipc.AllowedAddress) error {
	p, ok := a.Prefix()
	if !ok {
		return fmt.Errorf("%v is no network", p)
	}
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	p = netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), bits)
	if _, twice := n.ports[p]; twice {
		return fmt.Errorf("%v twice", p)
	}
	if n.ports == nil {
		n.ports = map[netip.Prefix][]ipc.Port{}
	}
	n.ports[p] = a.Ports
	if !slices.Contains(n.lengths, bits) {
		n.lengths = append(n.lengths, bits)
	}
	return nil
}

func (n *networks) open(a netip.Addr, port ipc.Port) bool {
	whole := netip.AddrFrom16(a.As16())
	for _, bits := range n.lengths {
		ports, ok := n.ports[netip.PrefixFrom(whole, bits).Masked()]
		if ok && (ports == nil || slices.Contains(ports, port) || slices.Contains(ports, ipc.Port{Number: port.Number})) {
			return true
		}
	}
	return false
}
