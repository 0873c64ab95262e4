package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// cutPort takes the port from the end of an entry: ":443", ":443/tcp" or
// ":53/udp". Without one it is the zero port, which is all of them.
func cutPort(text string) (rest string, port ipc.Port, err error) {
	rest, number, found := strings.Cut(text, ":")
	if !found {
		return rest, port, nil
	}
	if strings.Contains(number, ":") {
		return rest, port, errors.New(`has more than one ":"`)
	}
	number, proto, found := strings.Cut(number, "/")
	if found {
		switch strings.ToLower(proto) {
		case "tcp":
			port.Proto = ipc.ProtoTCP
		case "udp":
			port.Proto = ipc.ProtoUDP
		default:
			return rest, port, fmt.Errorf("the protocol %s is neither tcp nor udp", quote(proto))
		}
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return rest, port, fmt.Errorf("the port %s is not a number from 1 to 65535", quote(number))
	}
	port.Number = uint16(n)
	return rest, port, nil
}

// use is the port of an entry.
type use struct {
	port  ipc.Port
	entry int32
}

// gathered adds up the ports of the entries of a list that name the same.
type gathered[K comparable] struct {
	list *rawList
	keys []K // in the order of their first entries
	uses [][]use
	at   map[K]int32 // in keys
}

func gather[K comparable](list *rawList) *gathered[K] {
	n := len(list.entries)
	return &gathered[K]{list: list, keys: make([]K, 0, n), uses: make([][]use, 0, n), at: make(map[K]int32, n)}
}

// add adds entry i, which names key. The same port twice is a mistake.
func (g *gathered[K]) add(key K, port ipc.Port, i int, r *report) {
	at, known := g.at[key]
	if !known {
		g.at[key] = int32(len(g.keys))
		g.keys = append(g.keys, key)
		g.uses = append(g.uses, []use{{port, int32(i)}})
		return
	}
	uses := g.uses[at]
	for _, u := range uses {
		if u.port == port {
			r.fail(g.list.entry(i), "%s is listed twice%s", quote(g.list.entries[i]), onLine(g.list.lines[u.entry]))
			return
		}
	}
	switch {
	case len(uses) < ipc.MaxPorts:
		g.uses[at] = append(uses, use{port, int32(i)})
	case len(uses) == ipc.MaxPorts: // once, and what follows is not looked at
		g.uses[at] = append(uses, use{port, int32(i)})
		r.fail(g.list.entry(i), "%s is one entry more than the %d ports that can be listed; without a port all are open",
			quote(g.list.entries[i]), ipc.MaxPorts)
	}
}

// ports are the ports of the key with index at; nil is all. A warning says
// which entries that makes superfluous: whoever wrote them meant to open less.
func (g *gathered[K]) ports(at int, r *report) []ipc.Port {
	uses := g.uses[at]
	for _, all := range uses {
		if all.port == (ipc.Port{}) {
			g.warnSuperfluous(uses, all, r)
			return nil
		}
	}
	ports := make([]ipc.Port, len(uses))
	for i, u := range uses {
		ports[i] = u.port
	}
	return ports
}

func (g *gathered[K]) warnSuperfluous(uses []use, all use, r *report) {
	for _, u := range uses {
		if u != all {
			r.warn(g.list.entry(int(u.entry)), "%s opens nothing more than %s%s, which opens all ports",
				quote(g.list.entries[u.entry]), quote(g.list.entries[all.entry]), onLine(g.list.lines[all.entry]))
		}
	}
}
