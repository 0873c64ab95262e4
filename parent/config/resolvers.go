package config

import (
	"net/netip"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// checkResolvers parses the trusted resolvers. An empty list is refused: it
// could be read as "trust none" or as "trust all".
func checkResolvers(list *rawList, r *report) []netip.Addr {
	if list.set && !list.used() {
		r.fail(list.spot, "must name a server, or be left out to trust every server")
	}
	if len(list.entries) > ipc.MaxResolvers {
		r.fail(list.spot, "%d resolvers, more than %d", len(list.entries), ipc.MaxResolvers)
	}
	var addrs []netip.Addr
	first := make(map[netip.Addr]int)
	for i, text := range list.entries {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			r.fail(list.entry(i), "%s is not an IP address (no port, no host name)", quote(text))
			continue
		}
		zone := addr.Zone()
		addr = addr.Unmap() // drops the zone too
		switch at, again := first[addr]; {
		case zone != "":
			r.fail(list.entry(i), "%s has a zone, which no packet carries", quote(text))
		case addr.IsUnspecified() || addr.IsMulticast():
			r.fail(list.entry(i), "%s is not the address of one server", quote(text))
		case again:
			r.fail(list.entry(i), "%s is listed twice%s", quote(text), onLine(list.lines[at]))
		default:
			first[addr] = i
			addrs = append(addrs, addr)
		}
	}
	return addrs
}
