package config

import (
	"github.com/capnspacehook/egress-eddie/ipc"
)

// warnResolvers is the start-up warning for a file without resolvers.
const warnResolvers = "resolvers is not set, every DNS server is trusted: a program that asks a server of its own " +
	"can have any address granted under an allowed name"

// validate checks the rules between the values and makes the configuration.
func validate(raw *rawConfig, r *report) *Config {
	checkQueues(raw, r)
	checkSelf(raw, r)
	if len(raw.filters) == 0 && !raw.filtersBad {
		r.fail(spot{key: keyFilters}, "at least one filter is needed")
	}
	if len(raw.filters) > ipc.MaxFilters {
		r.fail(spot{key: keyFilters}, "%d filters, more than %d", len(raw.filters), ipc.MaxFilters)
	}
	c := &Config{
		InboundDNSQueue:        raw.inbound.QueuePair,
		SelfDNSQueue:           raw.self.QueuePair,
		Resolvers:              checkResolvers(&raw.resolvers, r),
		ResponseInterfaceCheck: raw.interfaceCheck.value || !raw.interfaceCheck.set,
		NamespacesBestEffort:   raw.bestEffort,
	}
	if c.AsksItself() {
		c.SelfMark = checkMark(&raw.mark)
		c.Servers = checkServers(c, raw, r)
	}
	checkUnique(raw.filters, r)
	checkTotal(raw.filters, r)
	for i := range raw.filters {
		c.Filters = append(c.Filters, validateFilter(&raw.filters[i], r))
	}
	if !raw.resolvers.set {
		c.Warnings = append(c.Warnings, warnResolvers)
	}
	if raw.bestEffort {
		c.Warnings = append(c.Warnings, warnBestEffort)
	}
	return c
}

// checkSelf: selfDNSQueue is set exactly when some filter makes the daemon ask
// questions of its own.
func checkSelf(raw *rawConfig, r *report) {
	asks, unknown := false, raw.filtersBad
	for i := range raw.filters {
		f := &raw.filters[i]
		asks = asks || f.cached.used() || f.lookup.value
		unknown = unknown || f.lookup.bad
	}
	switch {
	case asks && !raw.self.Set() && !raw.self.bad:
		r.fail(raw.self.spot, "must be set when a filter uses cachedHostnames or lookupUnknownIPs")
	case raw.self.Set() && !asks && !unknown:
		r.fail(raw.self.spot, "must not be set when no filter uses cachedHostnames or lookupUnknownIPs")
	}
	if raw.mark.set && !raw.self.Set() && !raw.self.bad {
		r.fail(raw.mark.spot, "must not be set without selfDNSQueue")
	}
}

// defaultMark is a single bit: a rule can match it beside the bits of others.
const defaultMark = 0x2000_0000

func checkMark(mark *rawNumber) uint32 {
	if !mark.set {
		return defaultMark
	}
	return uint32(mark.value)
}

// checkUnique: the names of the filters differ.
func checkUnique(filters []rawFilter, r *report) {
	first := make(map[string]int, len(filters))
	for i := range filters {
		name := &filters[i].name
		if name.value == "" {
			continue
		}
		if at, again := first[name.value]; again {
			r.fail(name.spot, "%s is already the name of filter #%d", quote(name.value), filters[at].index)
			continue
		}
		first[name.value] = i
	}
}

// checkTotal bounds the names and the addresses of all filters together.
func checkTotal(filters []rawFilter, r *report) {
	names, cached, addresses := 0, 0, 0
	for i := range filters {
		names += len(filters[i].allowed.entries) + len(filters[i].cached.entries)
		cached += len(filters[i].cached.entries)
		addresses += len(filters[i].addresses.entries)
	}
	if names > ipc.MaxHostnames {
		r.fail(spot{key: keyFilters}, "%d host names in all, more than %d", names, ipc.MaxHostnames)
	}
	if cached > ipc.MaxCached {
		r.fail(spot{key: keyFilters}, "%d cachedHostnames in all, more than %d", cached, ipc.MaxCached)
	}
	if addresses > maxAddresses {
		r.fail(spot{key: keyFilters}, "%d allowed addresses in all, more than %d", addresses, maxAddresses)
	}
}
