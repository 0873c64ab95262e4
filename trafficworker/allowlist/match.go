package allowlist

import (
	"fmt"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// rules are one filter's rules, in a form that makes the cost of a question
// depend on its own labels and not on the number of allowed names.
type rules struct {
	allowAll  bool
	lasts     time.Duration
	hostnames []name.Name          // shared with the policy
	entries   map[name.Name]uint32 // index in hostnames
	longest   int                  // octets of the longest host name
}

func newRules(f *ipc.Filter, hostnames []name.Name) (rules, error) {
	r := rules{
		allowAll:  f.AllowAll,
		lasts:     f.AllowAnswersFor,
		hostnames: hostnames,
		entries:   make(map[name.Name]uint32, len(hostnames)),
	}
	for i, n := range hostnames {
		r.entries[n] = uint32(i)
		r.longest = max(r.longest, len(n))
	}
	if len(r.entries) != len(hostnames) {
		return rules{}, fmt.Errorf("filter %q: a host name twice", f.Name)
	}
	return r, nil
}

// find is the next allowed host name that n is or lies below, looked for from
// n towards the root, and the name from which to look for a further one.
// Nothing is found from "", the parent of the root.
func (r *rules) find(n name.Name) (entry uint32, rest name.Name, ok bool) {
	for more := true; more; n, more = n.Parent() {
		if len(n) > r.longest {
			continue // no need to hash what is longer than all of them
		}
		if entry, ok = r.entries[n]; ok {
			rest, _ = n.Parent() // an allowed name is never the root
			return entry, rest, true
		}
	}
	return 0, "", false
}

// judge matches questions against the policy in force: once when they are
// asked and, since it may have changed, again when they are answered. It
// tells o what decided.
func (e *Engine) judge(now ipc.Instant, filter uint32, server ipc.Address, questions []ipc.Question, o *Outcome) ipc.Reason {
	r := &e.rules[filter]
	if r.allowAll {
		return ipc.ReasonNone
	}
	if len(e.resolvers) > 0 && !e.resolvers[server] {
		return ipc.ReasonResolverNotTrusted
	}
	for i, q := range questions {
		if q.Class != classIN {
			return ipc.ReasonClass
		}
		entry, _, ok := r.find(q.Name)
		if !ok {
			learnt, _, _ := e.learnt.Get(now, int(filter), q.Name)
			var live bool
			if entry, live = learnt.one(now); !live {
				return ipc.ReasonNameNotAllowed
			}
		}
		if i == 0 {
			o.Entry, o.Learnt = r.hostnames[entry], !ok
		}
	}
	return ipc.ReasonNone
}

// classIN is the class of the Internet, RFC 1035 section 3.2.4.
const classIN = 1
