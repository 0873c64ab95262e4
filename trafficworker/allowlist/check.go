package allowlist

import (
	"errors"
	"fmt"
	"slices"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// checkPolicy checks what the parent sent once more, and what only the holder
// relies on: an engine on a policy that contradicts itself could err towards
// "allowed".
func checkPolicy(p *ipc.Policy) error {
	if len(p.Filters) == 0 || len(p.Filters) > ipc.MaxFilters {
		return fmt.Errorf("%d filters", len(p.Filters))
	}
	if len(p.Hostnames) != len(p.Filters) {
		return fmt.Errorf("host names of %d filters for %d", len(p.Hostnames), len(p.Filters))
	}
	hostnames := 0
	for i := range p.Filters {
		if err := checkFilter(i, &p.Filters[i], &p.Hostnames[i]); err != nil {
			return fmt.Errorf("filter %q: %w", p.Filters[i].Name, err)
		}
		hostnames += len(p.Hostnames[i].Names)
	}
	if hostnames > ipc.MaxHostnames {
		return fmt.Errorf("%d host names", hostnames)
	}
	if len(p.Resolvers) > ipc.MaxResolvers {
		return fmt.Errorf("%d resolvers", len(p.Resolvers))
	}
	for _, r := range p.Resolvers {
		if _, ok := r.Addr(); !ok {
			return errors.New("resolver that is no address")
		}
	}
	if err := checkQueues(p); err != nil {
		return err
	}
	return checkServers(p)
}

// checkServers: without servers of its own the daemon's questions could pass to
// none, or to all.
func checkServers(p *ipc.Policy) error {
	asks := slices.ContainsFunc(p.Queues, func(q ipc.Queue) bool { return q.Kind == ipc.QueueSelf })
	if asks != (len(p.Servers) > 0) || len(p.Servers) > ipc.MaxResolvers {
		return fmt.Errorf("%d servers to ask, and a queue for that is %t", len(p.Servers), asks)
	}
	for _, s := range p.Servers {
		if _, ok := s.Addr(); !ok {
			return errors.New("server that is no address")
		}
	}
	return nil
}

func checkFilter(i int, f *ipc.Filter, hosts *ipc.Hostnames) error {
	if int(f.Index) != i {
		return fmt.Errorf("index %d at place %d", f.Index, i)
	}
	if f.Name == "" || len(f.Name) > ipc.MaxFilterName {
		return errors.New("no usable name")
	}
	asked, cached := countNames(hosts)
	// A filter may do without names: then it has addresses, and grants nothing.
	if f.AllowAnswersFor < 0 || f.AllowAll && f.Longest() != 0 || asked > 0 && f.AllowAnswersFor == 0 && !f.AllowAll {
		return fmt.Errorf("allows answers for %v, and all names is %v", f.AllowAnswersFor, f.AllowAll)
	}
	if cached > 0 != (f.ReCacheEvery > 0) || cached > 0 != (f.CachedFor > 0) || f.CachedFor < f.ReCacheEvery {
		return fmt.Errorf("%d cached names, looked up every %v and open for %v", cached, f.ReCacheEvery, f.CachedFor)
	}
	if f.LookupUnknown && asked == 0 {
		return errors.New("looks unknown addresses up, and allows no name that they could have")
	}
	if f.AllowAll && len(hosts.Names) > 0 {
		return errors.New("allows all names and some")
	}
	if len(hosts.Scopes) != len(hosts.Names) {
		return fmt.Errorf("%d scopes of %d host names", len(hosts.Scopes), len(hosts.Names))
	}
	for i, n := range hosts.Names {
		// Everything is below the root: that is spelt allowAllHostnames.
		if !n.Valid() || n == name.Root || !ipc.Scope(hosts.Scopes[i]).Valid() {
			return fmt.Errorf("host name %v of scope %d", n, hosts.Scopes[i])
		}
	}
	return nil
}

// countNames is how many names may be asked for, and how many are looked up.
func countNames(hosts *ipc.Hostnames) (asked, cached int) {
	for _, scope := range hosts.Scopes {
		if ipc.Scope(scope) == ipc.ScopeCached {
			cached++
		} else {
			asked++
		}
	}
	return asked, cached
}

func checkQueues(p *ipc.Policy) error {
	if len(p.Queues) > ipc.MaxQueues {
		return fmt.Errorf("%d queues", len(p.Queues))
	}
	handles := make(map[uint32]bool, len(p.Queues))
	for _, q := range p.Queues {
		if q.Handle == 0 || handles[q.Handle] {
			return fmt.Errorf("queue %d: handle %d is none or not its own", q.Number, q.Handle)
		}
		handles[q.Handle] = true
		switch q.Kind {
		case ipc.QueueRequests:
			if int64(q.Filter) >= int64(len(p.Filters)) {
				return fmt.Errorf("queue %d: unknown filter %d", q.Number, q.Filter)
			}
		case ipc.QueueResponses:
			// A response belongs to the filter whose request it answers, never
			// to the one a queue would name.
			if q.Filter != 0 {
				return fmt.Errorf("queue %d: response queue of filter %d", q.Number, q.Filter)
			}
		case ipc.QueueSelf:
			if q.Filter != 0 {
				return fmt.Errorf("queue %d: the daemon's own requests, of filter %d", q.Number, q.Filter)
			}
		default:
			return fmt.Errorf("queue %d: a %v queue, which is not judged here", q.Number, q.Kind)
		}
	}
	return nil
}
