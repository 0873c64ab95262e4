package allowlist

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

func TestNewRefusesAPolicyThatContradictsItself(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(p *ipc.Policy)
		want  string
	}{
		"no filters":             {func(p *ipc.Policy) { p.Filters, p.Hostnames = nil, nil }, "0 filters"},
		"too many filters":       {func(p *ipc.Policy) { p.Filters = make([]ipc.Filter, ipc.MaxFilters+1) }, "8193 filters"},
		"host names of another":  {func(p *ipc.Policy) { p.Hostnames = p.Hostnames[:2] }, "host names of 2 filters for 3"},
		"index out of order":     {func(p *ipc.Policy) { p.Filters[1].Index = 0 }, "index 0 at place 1"},
		"nameless filter":        {func(p *ipc.Policy) { p.Filters[1].Name = "" }, "no usable name"},
		"long filter name":       {func(p *ipc.Policy) { p.Filters[1].Name = strings.Repeat("x", 257) }, "no usable name"},
		"grants and allows all":  {func(p *ipc.Policy) { p.Filters[2].AllowAnswersFor = time.Second }, "all names is true"},
		"grants for no time":     {func(p *ipc.Policy) { p.Filters[0].AllowAnswersFor = 0 }, "all names is false"},
		"grants into the past":   {func(p *ipc.Policy) { p.Filters[0].AllowAnswersFor = -1 }, "-1ns"},
		"all and some":           {func(p *ipc.Policy) { p.Hostnames[2] = ipc.Tree(wire("a")) }, "allows all names and some"},
		"invalid name":           {func(p *ipc.Policy) { p.Hostnames[0].Names[1] = "\x03WWW\x00" }, "host name (invalid)"},
		"the zero name":          {func(p *ipc.Policy) { p.Hostnames[0].Names[1] = "" }, "host name (invalid)"},
		"the root":               {func(p *ipc.Policy) { p.Hostnames[0].Names[1] = name.Root }, "host name ."},
		"a name twice":           {func(p *ipc.Policy) { p.Hostnames[0].Names[1] = p.Hostnames[0].Names[0] }, "a host name twice"},
		"too many names":         {func(p *ipc.Policy) { *p = *testPolicy(); p.Hostnames[0] = ipc.Tree(manyNames()...) }, "2097155 host names"},
		"too many resolvers":     {func(p *ipc.Policy) { p.Resolvers = make([]ipc.Address, 257) }, "257 resolvers"},
		"resolver of no address": {func(p *ipc.Policy) { p.Resolvers = []ipc.Address{"abc"} }, "resolver that is no address"},
		"too many servers":       {func(p *ipc.Policy) { p.Servers = make([]ipc.Address, 257) }, "257 servers"},
		"no server to ask":       {func(p *ipc.Policy) { p.Servers = nil }, "0 servers"},
		"servers for nothing":    {func(p *ipc.Policy) { p.Queues = p.Queues[:4] }, "a queue for that is false"},
		"server of no address":   {func(p *ipc.Policy) { p.Servers = append(p.Servers, "abc") }, "server that is no address"},
		"too many queues":        {func(p *ipc.Policy) { p.Queues = make([]ipc.Queue, ipc.MaxQueues+1) }, "16385 queues"},
		"handle 0":               {func(p *ipc.Policy) { p.Queues[0].Handle = 0 }, "handle 0"},
		"handle twice":           {func(p *ipc.Policy) { p.Queues[1].Handle = handleWeb }, "handle 10"},
		"traffic queue":          {func(p *ipc.Policy) { p.Queues[1].Kind = ipc.QueueTraffic }, "a traffic queue"},
		"queue of no kind":       {func(p *ipc.Policy) { p.Queues[1].Kind = 0 }, "a invalid queue"},
		"queue of no filter":     {func(p *ipc.Policy) { p.Queues[1].Filter = 3 }, "unknown filter 3"},
		"own queue of a filter":  {func(p *ipc.Policy) { p.Queues[4].Filter = 1 }, "of filter 1"},
		"cached for less":        {func(p *ipc.Policy) { p.Filters[0].CachedFor = time.Minute }, "1 cached names"},
		"cached for no time":     {func(p *ipc.Policy) { p.Filters[0].CachedFor = 0 }, "1 cached names"},
		"cached at no time":      {func(p *ipc.Policy) { p.Filters[0].ReCacheEvery = 0 }, "1 cached names"},
		"cached for nothing":     {func(p *ipc.Policy) { p.Hostnames[0] = ipc.Tree(wire("a")) }, "0 cached names"},
		"cached, and all":        {func(p *ipc.Policy) { p.Filters[2].CachedFor = time.Minute }, "all names is true"},
		"looks up for nothing":   {func(p *ipc.Policy) { p.Hostnames[0] = cachedOnly() }, "allows no name"},
		"responses of a filter":  {func(p *ipc.Policy) { p.Queues[3].Filter = 1 }, "response queue of filter 1"},
	} {
		p := askingPolicy()
		c.spoil(p)
		if _, err := New(p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	for _, p := range []*ipc.Policy{testPolicy(), askingPolicy()} {
		if _, err := New(p); err != nil {
			t.Error(err)
		}
	}
}

func cachedOnly() (h ipc.Hostnames) {
	h.Add(wire("cdn.net"), ipc.ScopeCached, nil)
	return h
}

// manyNames is one name more than all filters together may have.
func manyNames() []name.Name {
	return slices.Repeat([]name.Name{wire("example.com")}, ipc.MaxHostnames+1)
}
