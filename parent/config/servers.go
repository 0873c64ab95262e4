package config

import (
	"net/netip"
	"strings"
)

// ResolvConf names the servers that the daemon's own questions go to when
// resolvers is not set.
const ResolvConf = "/etc/resolv.conf"

// checkServers are those of the resolvers that the daemon itself can ask.
func checkServers(c *Config, raw *rawConfig, r *report) []netip.Addr {
	servers := c.asked(c.Resolvers)
	broken := raw.resolvers.bad || len(c.Resolvers) < len(raw.resolvers.entries) || raw.inbound.bad || !raw.inbound.Set()
	if len(servers) == 0 && len(c.Resolvers) > 0 && !broken {
		r.fail(raw.resolvers.spot, "none of the resolvers is of a family that inboundDNSQueue covers, link-local IPv6 aside: selfDNSQueue needs one")
	}
	return servers
}

// SetServers reads ResolvConf for Servers, with read, where the configuration
// needs it. An error carries exit.Config. Call it last.
func (c *Config) SetServers(read func(path string) ([]byte, error)) error {
	if !c.AsksItself() || len(c.Resolvers) > 0 {
		return nil
	}
	r := &report{file: c.file}
	at := spot{key: keySelf}
	text, err := read(ResolvConf)
	if err != nil {
		r.fail(at, "resolvers is not set, and %s cannot be read: %v", ResolvConf, err)
		return r.err()
	}
	c.Servers = c.asked(nameservers(string(text)))
	if len(c.Servers) == 0 {
		r.fail(at, "resolvers is not set, and %s names no server that can be asked", ResolvConf)
	}
	return r.err()
}

// asked are those of some servers that can be asked: of the others no response
// would be seen, or a packet to them needs a zone, which they do not have.
func (c *Config) asked(servers []netip.Addr) []netip.Addr {
	var asked []netip.Addr
	for _, s := range servers {
		covered := c.InboundDNSQueue.IPv6
		if s.Is4() {
			covered = c.InboundDNSQueue.IPv4
		}
		if covered != 0 && !(s.Is6() && s.IsLinkLocalUnicast()) {
			asked = append(asked, s)
		}
	}
	return asked
}

// maxServers is how many servers of resolv.conf(5) count: MAXNS of <resolv.h>.
const maxServers = 3

// nameservers are the servers that a text names as resolv.conf(5) says: the
// keyword begins the line, and what follows the address is ignored. What is not
// the address of one server, or has a zone, is passed over.
func nameservers(text string) []netip.Addr {
	var servers []netip.Addr
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "nameserver")
		text := strings.TrimLeft(rest, " \t")
		if !ok || text == rest {
			continue // another keyword, or a comment
		}
		if end := strings.IndexAny(text, " \t\n"); end >= 0 {
			text = text[:end]
		}
		s, err := netip.ParseAddr(text)
		zone := s.Zone()
		s = s.Unmap() // drops the zone too
		if err != nil || zone != "" || s.IsUnspecified() || s.IsMulticast() {
			continue
		}
		if servers = append(servers, s); len(servers) == maxServers {
			break
		}
	}
	return servers
}
