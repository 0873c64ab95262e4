package config

import (
	"net/netip"
	"slices"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// checkNames parses a filter's two lists: every name is valid, no entry stands
// twice in its list, and no name in both. Names are compared parsed, so that
// case and nothing else is ignored.
func checkNames(allowed, cached *rawList, r *report) ([]Hostname, []name.Name) {
	hostnames := gather[scoped](allowed)
	for i, text := range allowed.entries {
		s, port, err := parseHostname(text)
		if err != nil {
			r.fail(allowed.entry(i), "%s is not a valid host name: %v", quote(text), err)
			continue
		}
		hostnames.add(s, port, i, r)
		warnName(allowed, i, s, port, r)
	}
	return merged(hostnames, r), checkCached(cached, hostnames, r)
}

func merged(g *gathered[scoped], r *report) []Hostname {
	if len(g.keys) == 0 {
		return nil
	}
	hostnames := make([]Hostname, len(g.keys))
	for i, s := range g.keys {
		hostnames[i] = Hostname{Name: s.name, Scope: s.scope, Ports: g.ports(i, r)}
	}
	for i := range hostnames {
		if h := &hostnames[i]; h.Ports != nil {
			warnOpened(g, hostnames, i, r)
		}
	}
	return hostnames
}

// warnOpened warns where the ports of one entry are no limit, because another
// entry allows the same names and opens all ports.
func warnOpened(g *gathered[scoped], hostnames []Hostname, i int, r *report) {
	s := g.keys[i]
	wider := []scoped{{s.name, ipc.ScopeTree}}
	for up, more := s.name.Parent(); more; up, more = up.Parent() {
		wider = append(wider, scoped{up, ipc.ScopeTree}, scoped{up, ipc.ScopeBelow})
	}
	for _, w := range wider {
		if at, ok := g.at[w]; ok && hostnames[at].Ports == nil {
			all := slices.IndexFunc(g.uses[at], func(u use) bool { return u.port == ipc.Port{} })
			g.warnSuperfluous(g.uses[i], g.uses[at][all], r)
			return
		}
	}
}

// checkCached parses the names that the daemon asks for itself: names alone,
// each one's addresses wholly open.
func checkCached(list *rawList, allowed *gathered[scoped], r *report) []name.Name {
	var names []name.Name
	first := make(map[name.Name]int, len(list.entries))
	for i, text := range list.entries {
		n, err := parseName(text)
		if err != nil {
			r.fail(list.entry(i), "%s is not a valid host name: %v", quote(text), err)
			continue
		}
		if line, too := lineOf(allowed, n); too {
			r.fail(list.entry(i), "%s is in %s too%s", quote(text), allowed.list.key, onLine(line))
			continue
		}
		if at, again := first[n]; again {
			r.fail(list.entry(i), "%s is listed twice%s", quote(text), onLine(list.lines[at]))
			continue
		}
		first[n] = i
		names = append(names, n)
		warnALabel(list, i, n, r)
	}
	return names
}

// lineOf says where n itself is allowed.
func lineOf(g *gathered[scoped], n name.Name) (line int, found bool) {
	for _, scope := range []ipc.Scope{ipc.ScopeTree, ipc.ScopeExact} {
		if at, ok := g.at[scoped{n, scope}]; ok {
			return g.list.lines[g.uses[at][0].entry], true
		}
	}
	return 0, false
}

// warnName warns of an entry that is legal and hardly meant.
func warnName(list *rawList, i int, s scoped, port ipc.Port, r *report) {
	warnALabel(list, i, s.name, r)
	text := s.name.String()
	if _, err := netip.ParseAddr(text); err == nil {
		r.warn(list.entry(i), "%s is an address, and no program asks the DNS for it; write it in allowedAddresses", quote(list.entries[i]))
		return
	}
	if s.scope == ipc.ScopeTree && isPublicSuffix(text) {
		if port != (ipc.Port{}) {
			text += ":" + port.String()
		}
		r.warn(list.entry(i), "%s is a public suffix: anybody can have a name below it; write \"*.%s\" or \"=%s\" if that is meant",
			quote(list.entries[i]), text, text)
	}
}

func warnALabel(list *rawList, i int, n name.Name, r *report) {
	if label, bad := badALabel(n); bad {
		r.warn(list.entry(i), "%s: the label %s does not decode to an international name", quote(list.entries[i]), quote(label))
	}
}
