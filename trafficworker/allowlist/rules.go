package allowlist

import (
	"fmt"
	"iter"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// rules are one filter's rules, in a form that makes the cost of a question
// depend on its own labels and not on the number of allowed names.
type rules struct {
	ipc.Filter
	hosts   ipc.Hostnames          // shared with the policy
	first   map[name.Name]uint32   // place in hosts
	more    map[name.Name][]uint32 // further places of names that stand there in several scopes
	longest int                    // octets of the longest host name
	types   map[uint16]bool        // that may be asked for, nil for all
}

func newRules(f *ipc.Filter, hosts ipc.Hostnames) (rules, error) {
	r := rules{Filter: *f, hosts: hosts, first: make(map[name.Name]uint32, len(hosts.Names))}
	for i, n := range hosts.Names {
		r.longest = max(r.longest, len(n))
		at, known := r.first[n]
		if !known {
			r.first[n] = uint32(i)
			continue
		}
		for _, other := range append([]uint32{at}, r.more[n]...) {
			if hosts.Scopes[other] == hosts.Scopes[i] {
				return rules{}, fmt.Errorf("filter %q: a host name twice", f.Name)
			}
		}
		if r.more == nil {
			r.more = map[name.Name][]uint32{}
		}
		r.more[n] = append(r.more[n], uint32(i))
	}
	if f.QueryTypes != nil {
		r.types = make(map[uint16]bool, len(f.QueryTypes))
		for _, t := range f.QueryTypes {
			r.types[t] = true
		}
	}
	return r, nil
}

// allowing are the entries that allow a name, those of longer host names
// first: looked for from the name towards the root.
func (r *rules) allowing(n name.Name) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		self := ipc.ScopeExact // what allows the name itself and not what is below it
		for more := true; more; n, more = n.Parent() {
			// No need to hash what is longer than all of them.
			if len(n) <= r.longest && !r.yieldAt(n, self, yield) {
				return
			}
			self = ipc.ScopeBelow
		}
	}
}

// yieldAt yields the entries of one name that have a scope or are a whole tree.
func (r *rules) yieldAt(n name.Name, scope ipc.Scope, yield func(uint32) bool) bool {
	at, ok := r.first[n]
	if !ok {
		return true
	}
	if r.inScope(at, scope) && !yield(at) {
		return false
	}
	for _, at := range r.more[n] {
		if r.inScope(at, scope) && !yield(at) {
			return false
		}
	}
	return true
}

func (r *rules) inScope(at uint32, scope ipc.Scope) bool {
	s := ipc.Scope(r.hosts.Scopes[at])
	return s == ipc.ScopeTree || s == scope
}

// find is one entry that allows a name, if there is any.
func (r *rules) find(n name.Name) (entry uint32, ok bool) {
	for entry := range r.allowing(n) {
		return entry, true
	}
	return 0, false
}

// isCached reports whether an entry is of cachedHostnames.
func (r *rules) isCached(entry uint32) bool {
	return ipc.Scope(r.hosts.Scopes[entry]) == ipc.ScopeCached
}

// covering are the entries that allow all that an entry of other rules does.
func (r *rules) covering(other *rules, entry uint32) iter.Seq[uint32] {
	n, scope := other.hosts.Names[entry], ipc.Scope(other.hosts.Scopes[entry])
	return func(yield func(uint32) bool) {
		// Of the name itself only the same scope covers one, or the whole tree.
		if !r.yieldAt(n, scope, yield) {
			return
		}
		for up, more := n.Parent(); more; up, more = up.Parent() {
			if len(up) <= r.longest && !r.yieldAt(up, ipc.ScopeBelow, yield) {
				return
			}
		}
	}
}

// ports are those that an entry opens, nil for all.
func (r *rules) ports(entry uint32) []ipc.Port { return r.hosts.Of(entry) }
