package parent

import (
	"slices"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/parent/config"
)

// queuesOf lists every queue of a configuration with its handle. Handles
// start at 1 and are never used again in the life of the parent.
func queuesOf(c *config.Config) []ipc.Queue {
	var queues []ipc.Queue
	add := func(pair config.QueuePair, kind ipc.QueueKind, filter int) {
		for _, number := range []uint16{pair.IPv4, pair.IPv6} {
			if number != 0 {
				queues = append(queues, ipc.Queue{
					Handle: uint32(len(queues) + 1),
					Number: number,
					Kind:   kind,
					Filter: uint32(filter),
				})
			}
		}
	}
	add(c.InboundDNSQueue, ipc.QueueResponses, 0)
	add(c.SelfDNSQueue, ipc.QueueSelf, 0)
	for i, f := range c.Filters {
		add(f.DNSQueue, ipc.QueueRequests, i)
		add(f.TrafficQueue, ipc.QueueTraffic, i)
	}
	return queues
}

// readKinds are the queues whose sockets a role reads, and judgeKinds those
// it gives verdicts for.
var (
	readKinds = map[ipc.Role][]ipc.QueueKind{
		ipc.RoleRequests:  {ipc.QueueRequests, ipc.QueueSelf},
		ipc.RoleResponses: {ipc.QueueResponses},
		ipc.RoleTraffic:   {ipc.QueueTraffic},
	}
	judgeKinds = map[ipc.Role][]ipc.QueueKind{
		ipc.RoleAllowlist: {ipc.QueueRequests, ipc.QueueResponses, ipc.QueueSelf},
		ipc.RoleTraffic:   {ipc.QueueTraffic},
	}
)

// policyFor is what one role needs to know of the configuration, and no more:
// a parser knows no names, the trafficworker none either, and the resolver is
// told of each when it has to ask.
func policyFor(role ipc.Role, c *config.Config, o options, json, journal bool, queues []ipc.Queue) *ipc.Policy {
	p := &ipc.Policy{Settings: ipc.Settings{
		Debug:          o.debug,
		FullDNS:        o.fullDNS,
		JSON:           json,
		Journal:        journal,
		InterfaceCheck: c.ResponseInterfaceCheck,
	}}
	p.Queues = slotted(queues, readKinds[role])
	if role == ipc.RoleAllowlist {
		p.Queues = slotted(queues, judgeKinds[role])
		p.Settings.AskA = c.AsksItself() && c.InboundDNSQueue.IPv4 != 0
		p.Settings.AskAAAA = c.AsksItself() && c.InboundDNSQueue.IPv6 != 0
		for _, r := range c.Resolvers {
			p.Resolvers = append(p.Resolvers, ipc.AddressOf(r))
		}
		if c.AsksItself() {
			for _, s := range c.Servers {
				p.Servers = append(p.Servers, ipc.AddressOf(s))
			}
		}
	}
	if role == ipc.RoleAllowlist || role == ipc.RoleTraffic {
		for i, f := range c.Filters {
			p.Filters = append(p.Filters, ipc.Filter{
				Index:           uint32(i),
				Name:            f.Name,
				AllowAll:        f.AllowAllHostnames,
				AllowAnswersFor: allowAnswersFor(&f),
				ReCacheEvery:    f.ReCacheEvery,
				CachedFor:       f.CachedFor(),
				LookupUnknown:   f.LookupUnknownIPs && len(f.Hostnames) > 0, // else no name could count
				RespectTTL:      f.RespectTTL,
				TTLGrace:        f.TTLGrace,
				MinTTL:          f.MinTTL,
				MaxInUse:        maxInUse(&f),
				DenyPrivate:     f.DenyPrivate,
				QueryTypes:      f.QueryTypes,
				Ports:           namesPorts(&f),
			})
			p.Hostnames, p.Addresses = append(p.Hostnames, ipc.Hostnames{}), append(p.Addresses, nil)
			if role == ipc.RoleAllowlist {
				for _, h := range f.Hostnames {
					p.Hostnames[i].Add(h.Name, h.Scope, h.Ports)
				}
				for _, n := range f.CachedNames {
					p.Hostnames[i].Add(n, ipc.ScopeCached, nil)
				}
				continue
			}
			for _, a := range f.Addresses {
				p.Addresses[i] = append(p.Addresses[i], ipc.AllowedAddress{
					Address: ipc.AddressOf(a.Prefix.Addr()), Bits: uint8(a.Prefix.Bits()), Ports: a.Ports,
				})
			}
		}
	}
	return p
}

// allowAnswersFor is 0 where nothing may be asked for, whatever the file says.
func allowAnswersFor(f *config.FilterOptions) time.Duration {
	if len(f.Hostnames) == 0 {
		return 0
	}
	return f.AllowAnswersFor
}

func maxInUse(f *config.FilterOptions) time.Duration {
	if !f.KeepInUse {
		return 0
	}
	return f.MaxInUse
}

// namesPorts reports whether anything of a filter opens single ports.
func namesPorts(f *config.FilterOptions) bool {
	return slices.ContainsFunc(f.Hostnames, func(h config.Hostname) bool { return len(h.Ports) > 0 }) ||
		slices.ContainsFunc(f.Addresses, func(a config.AllowedAddress) bool { return len(a.Ports) > 0 })
}

// slotted picks the queues of some kinds and numbers their slots: the order
// in which their descriptors are handed down. NB: as tree.sockets does, by kind.
func slotted(queues []ipc.Queue, kinds []ipc.QueueKind) []ipc.Queue {
	var picked []ipc.Queue
	for _, kind := range kinds {
		for _, q := range queues {
			if q.Kind == kind {
				q.Slot = uint32(len(picked))
				picked = append(picked, q)
			}
		}
	}
	return picked
}
