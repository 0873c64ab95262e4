package config

import (
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// seenName says where a name of one filter was first written.
type seenName struct {
	list  *rawList
	entry int
}

// checkNames parses a filter's two lists: every name is valid, stands once in
// its list, and not in both. Names are compared parsed, so that case and
// nothing else is ignored.
func checkNames(allowed, cached *rawList, r *report) (names, cachedNames []name.Name) {
	seen := make(map[name.Name]seenName, len(allowed.entries)+len(cached.entries))
	return parseNames(allowed, seen, r), parseNames(cached, seen, r)
}

func parseNames(list *rawList, seen map[name.Name]seenName, r *report) []name.Name {
	if len(list.entries) == 0 {
		return nil
	}
	names := make([]name.Name, 0, len(list.entries))
	for i, text := range list.entries {
		n, err := name.Parse(text)
		if err != nil {
			r.fail(list.entry(i), "%s is not a valid host name: %v", quote(text), err)
			continue
		}
		first, again := seen[n]
		switch {
		case again && first.list == list:
			r.fail(list.entry(i), "%s is listed twice%s", quote(text), onLine(list.lines[first.entry]))
		case again:
			r.fail(list.entry(i), "%s is in %s too%s", quote(text), first.list.key, onLine(first.list.lines[first.entry]))
		default:
			seen[n] = seenName{list, i}
			names = append(names, n)
		}
	}
	return names
}
