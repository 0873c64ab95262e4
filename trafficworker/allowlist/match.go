package allowlist

import "github.com/capnspacehook/egress-eddie/ipc"

// judge matches questions against the policy in force: once when they are
// asked and, since it may have changed, again when they are answered. It
// tells o what decided.
func (e *Engine) judge(now ipc.Instant, filter uint32, server ipc.Address, questions []ipc.Question, o *Outcome) ipc.Reason {
	if !e.mayAsk(filter, server) {
		return ipc.ReasonResolverNotTrusted
	}
	if int(filter) == e.self {
		e.lookups.seen = true
		return e.lookups.request(now, questions)
	}
	r := &e.rules[filter]
	if r.AllowAll {
		return ipc.ReasonNone
	}
	for i, q := range questions {
		if q.Class != classIN {
			return ipc.ReasonClass
		}
		if r.types != nil && !r.types[q.Type] {
			return ipc.ReasonQueryType
		}
		entry, ok := r.find(q.Name)
		if !ok {
			learnt, _, _ := e.learnt.Get(now, int(filter), q.Name)
			var live bool
			if entry, live = learnt.one(now); !live {
				return ipc.ReasonNameNotAllowed
			}
		}
		if i == 0 {
			o.Entry, o.Learnt = r.hosts.Names[entry], !ok
		}
	}
	return ipc.ReasonNone
}

// mayAsk reports whether a filter's clients may talk to a server at all: one
// that grants must trust it. The daemon itself asks its own servers alone, also
// where clients may ask all: else whoever has the mark could have a server of
// his answer a question of the daemon's.
func (e *Engine) mayAsk(filter uint32, server ipc.Address) bool {
	if int(filter) == e.self {
		return e.servers[server]
	}
	return e.rules[filter].AllowAll || len(e.resolvers) == 0 || e.resolvers[server]
}

// classIN is the class of the Internet, RFC 1035 section 3.2.4.
const classIN = 1
