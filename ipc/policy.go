package ipc

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// Bounds of a policy.
const (
	// MaxQueues bounds the queues of one child; a queue number has 16 bits.
	MaxQueues = 1 << 14
	// MaxFilters bounds the filters.
	MaxFilters = 1 << 13
	// MaxFilterName bounds a filter's name in bytes.
	MaxFilterName = 256
	// MaxHostnames bounds the allowed host names of all filters together.
	// A change of policy needs room for two of them.
	MaxHostnames = 1 << 21
	// MaxCached bounds the names of ScopeCached of all filters together: each is
	// two questions, of which all may be due at one time.
	MaxCached = 4096
	// namesPerItem bounds the names of one PolicyNames item: 128 of at most
	// 255 octets fit a frame.
	namesPerItem = 128
	// MaxResolvers bounds the trusted resolvers, and the servers that the daemon
	// itself asks.
	MaxResolvers = 256
	// MaxAllowedAddresses bounds the configured addresses and networks of all
	// filters together.
	MaxAllowedAddresses = 65_536
	// MaxQueryTypes bounds the record types of one filter. It is more than are
	// in use, and fits the message that holds them.
	MaxQueryTypes = 256
)

// QueueKind is what a queue carries. Zero is invalid.
type QueueKind uint8

// The kinds of queue.
const (
	QueueRequests QueueKind = iota + 1
	QueueResponses
	QueueTraffic
	QueueSelf // DNS requests of the resolver's
	queueKindEnd
)

func (k QueueKind) String() string {
	switch k {
	case QueueRequests:
		return "dns request"
	case QueueResponses:
		return "dns response"
	case QueueTraffic:
		return "traffic"
	case QueueSelf:
		return "own dns request"
	}
	return "invalid"
}

// PolicyKind says which part of a policy an item carries. Zero is invalid.
type PolicyKind uint8

// The items, in the order of a policy: one begin, any number of the others
// (a filter before its names), one done.
const (
	PolicyBegin PolicyKind = iota + 1
	PolicyQueue
	PolicyFilter
	PolicyNames
	PolicyResolver
	PolicyServer
	PolicyAddress
	PolicyDone
	// PolicyLog is no part of a policy: it comes with a descriptor, the log
	// that takes the place of FDLog.
	PolicyLog
	// PolicySocket is no part of a policy: it answers a request for a Socket, in
	// their order, with a descriptor, or without if it could not be made.
	PolicySocket
	// PolicyEdge is no part of a policy: it comes with a descriptor, the edge that
	// takes the place of one whose other end was a process that has ended.
	PolicyEdge
	policyKindEnd
)

// PolicyItem is the one message from the parent to a child. Only the part
// that Kind names is looked at; every child gets only the items it needs.
type PolicyItem struct {
	Kind     PolicyKind
	Settings Settings    // PolicyBegin
	Queue    Queue       // PolicyQueue
	Filter   Filter      // PolicyFilter
	Of       uint32      // PolicyNames, PolicyAddress: the filter's index
	Names    []name.Name // PolicyNames: its next allowed host names, in the file's order
	Scopes   []byte      // PolicyNames: the Scope of each
	Ports    []PortsAt   // PolicyNames: of those that do not open all
	Resolver Address     // PolicyResolver
	Server   Address     // PolicyServer
	Address  AllowedAddress
	Socket   Socket // PolicySocket
	Edge     uint32 // PolicyEdge: the number of the descriptor that it takes
}

// PortsAt are the ports of the name At in a list.
type PortsAt struct {
	At    uint32
	Ports []Port
}

// AllowedAddress is an address or network of a filter that is always open.
type AllowedAddress struct {
	Address Address
	Bits    uint8  // length of the network's prefix
	Ports   []Port // nil is all
}

// Prefix is the network, and false for what is none, or has bits behind its
// prefix.
func (a *AllowedAddress) Prefix() (netip.Prefix, bool) {
	addr, ok := a.Address.Addr()
	p := netip.PrefixFrom(addr, int(a.Bits))
	return p, ok && p.IsValid() && p == p.Masked()
}

// Settings hold for a whole child.
type Settings struct {
	Debug          bool // log accepted traffic too (-d)
	FullDNS        bool // log whole DNS messages (-f)
	JSON           bool // log format
	Journal        bool // the log is the journal's, see logging.Options
	InterfaceCheck bool // responses must arrive by the interface the request left by
	AskA, AskAAAA  bool // the types that the daemon asks for itself: those of the families with queues
}

// Queue is one NFQUEUE as a child sees it.
type Queue struct {
	Handle uint32 // names the queue in facts and verdicts; never 0, never used again
	Slot   uint32 // its socket is descriptor FDQueues+Slot; used by readers only
	Number uint16 // NFQUEUE number, for people
	Kind   QueueKind
	Filter uint32 // index of its filter; 0 for responses and QueueSelf, which belong to none
}

// Filter is one filter's rules.
type Filter struct {
	Index           uint32 // filters come in order of their index, from 0
	Name            string
	AllowAll        bool
	AllowAnswersFor time.Duration // 0 exactly when it grants nothing by names that are asked for

	// The names of ScopeCached are looked up every ReCacheEvery, and what they
	// had is open for CachedFor after it. Both are 0 without such names.
	ReCacheEvery, CachedFor time.Duration
	LookupUnknown           bool // an address that nothing opens is looked up

	// A grant lasts for its record's TTL and TTLGrace, at least MinTTL and at
	// most AllowAnswersFor.
	RespectTTL       bool
	TTLGrace, MinTTL time.Duration
	// An accepted packet renews a grant, until MaxInUse after the last answer
	// that held it. 0: it does not.
	MaxInUse    time.Duration
	DenyPrivate bool     // answers in private ranges grant nothing
	QueryTypes  []uint16 // that may be asked for, in order; nil is all
	Ports       bool     // something of it opens single ports
}

// Longest is how long a grant may last at most.
func (f *Filter) Longest() time.Duration { return max(f.AllowAnswersFor, f.CachedFor) }

// Lasts is how long a grant of a record with a TTL lasts.
func (f *Filter) Lasts(ttl uint32) time.Duration {
	if !f.RespectTTL {
		return f.AllowAnswersFor
	}
	return min(max(time.Duration(ttl)*time.Second+f.TTLGrace, f.MinTTL), f.AllowAnswersFor)
}

func (f *Filter) validate() error {
	if f.Name == "" || len(f.Name) > MaxFilterName {
		return fmt.Errorf("filter %q", f.Name)
	}
	for _, d := range []time.Duration{f.AllowAnswersFor, f.TTLGrace, f.MinTTL, f.MaxInUse, f.ReCacheEvery, f.CachedFor} {
		if d < 0 || d > MaxDuration {
			return fmt.Errorf("filter %q: a time of %v", f.Name, d)
		}
	}
	if len(f.QueryTypes) > MaxQueryTypes {
		return fmt.Errorf("filter %q: %d query types", f.Name, len(f.QueryTypes))
	}
	return nil
}

// MaxDuration bounds every time of a policy, so that no instant overflows.
const MaxDuration time.Duration = 1 << 62

// Validate checks an item by itself; Policy.Add checks it against the others.
func (p *PolicyItem) Validate() error {
	switch p.Kind {
	case PolicyBegin, PolicyDone, PolicyLog:
		return nil
	case PolicySocket:
		return p.Socket.validate()
	case PolicyEdge:
		if p.Edge >= FDQueues {
			return fmt.Errorf("edge %d", p.Edge)
		}
		return nil
	case PolicyQueue:
		if p.Queue.Handle == 0 || p.Queue.Kind == 0 || p.Queue.Kind >= queueKindEnd || p.Queue.Slot >= MaxQueues {
			return fmt.Errorf("queue %+v", p.Queue)
		}
		return nil
	case PolicyFilter:
		return p.Filter.validate()
	case PolicyNames:
		return p.validateNames()
	case PolicyAddress:
		if _, ok := p.Address.Prefix(); !ok {
			return errors.New("address that is none, or no network")
		}
		return validatePorts(p.Address.Ports)
	case PolicyResolver:
		if _, ok := p.Resolver.Addr(); !ok {
			return errors.New("resolver that is no address")
		}
		return nil
	case PolicyServer:
		if _, ok := p.Server.Addr(); !ok {
			return errors.New("server that is no address")
		}
		return nil
	}
	return fmt.Errorf("policy item of kind %d", p.Kind)
}

func (p *PolicyItem) validateNames() error {
	if len(p.Names) == 0 || len(p.Names) > namesPerItem || len(p.Scopes) != len(p.Names) || len(p.Ports) > len(p.Names) {
		return fmt.Errorf("%d names, %d scopes, ports of %d in an item", len(p.Names), len(p.Scopes), len(p.Ports))
	}
	for i, n := range p.Names {
		if !n.Valid() || !Scope(p.Scopes[i]).Valid() {
			return errors.New("invalid name or scope")
		}
	}
	for _, at := range p.Ports {
		if int64(at.At) >= int64(len(p.Names)) || len(at.Ports) == 0 {
			return fmt.Errorf("%d ports of name %d", len(at.Ports), at.At)
		}
		if err := validatePorts(at.Ports); err != nil {
			return err
		}
	}
	return nil
}

func validatePorts(ports []Port) error {
	if len(ports) > MaxPorts {
		return fmt.Errorf("%d ports", len(ports))
	}
	for _, port := range ports {
		if err := port.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// Policy is a whole policy as a child holds it, assembled from its items.
// Hostnames[i] and Addresses[i] are those of Filters[i].
type Policy struct {
	Settings  Settings
	Queues    []Queue
	Filters   []Filter
	Hostnames []Hostnames
	Addresses [][]AllowedAddress
	Resolvers []Address // that clients may ask, any if there are none
	Servers   []Address // that the daemon itself asks

	begun, done bool
	hostnames   int
	cached      int // of ScopeCached, among the hostnames
	addresses   int
	handles     map[uint32]bool
}

// Items are the messages that carry p, begin and done included.
func (p *Policy) Items() []PolicyItem {
	items := []PolicyItem{{Kind: PolicyBegin, Settings: p.Settings}}
	for _, q := range p.Queues {
		items = append(items, PolicyItem{Kind: PolicyQueue, Queue: q})
	}
	for i, f := range p.Filters {
		items = append(items, PolicyItem{Kind: PolicyFilter, Filter: f})
		if i < len(p.Hostnames) {
			items = append(items, p.Hostnames[i].items(uint32(i))...)
		}
		if i < len(p.Addresses) {
			for _, a := range p.Addresses[i] {
				items = append(items, PolicyItem{Kind: PolicyAddress, Of: uint32(i), Address: a})
			}
		}
	}
	for _, r := range p.Resolvers {
		items = append(items, PolicyItem{Kind: PolicyResolver, Resolver: r})
	}
	for _, s := range p.Servers {
		items = append(items, PolicyItem{Kind: PolicyServer, Server: s})
	}
	return append(items, PolicyItem{Kind: PolicyDone})
}

// Add takes the next validated item. It reports whether the policy is now
// complete; before that nothing of it may be used.
func (p *Policy) Add(item *PolicyItem) (complete bool, err error) {
	if p.done || p.begun == (item.Kind == PolicyBegin) {
		return false, fmt.Errorf("policy item of kind %d out of order", item.Kind)
	}
	switch item.Kind {
	case PolicyBegin:
		p.begun, p.Settings = true, item.Settings
	case PolicyQueue:
		return false, p.addQueue(item.Queue)
	case PolicyFilter:
		if int(item.Filter.Index) != len(p.Filters) || len(p.Filters) >= MaxFilters {
			return false, fmt.Errorf("filter %d out of order", item.Filter.Index)
		}
		p.Filters = append(p.Filters, item.Filter)
		p.Hostnames = append(p.Hostnames, Hostnames{})
		p.Addresses = append(p.Addresses, nil)
	case PolicyNames:
		if int64(item.Of) >= int64(len(p.Filters)) {
			return false, fmt.Errorf("names of the unknown filter %d", item.Of)
		}
		if p.hostnames += len(item.Names); p.hostnames > MaxHostnames {
			return false, fmt.Errorf("more than %d host names", MaxHostnames)
		}
		if p.cached += bytes.Count(item.Scopes, []byte{byte(ScopeCached)}); p.cached > MaxCached {
			return false, fmt.Errorf("more than %d host names to look up", MaxCached)
		}
		p.Hostnames[item.Of].add(item)
	case PolicyAddress:
		if int64(item.Of) >= int64(len(p.Filters)) {
			return false, fmt.Errorf("address of the unknown filter %d", item.Of)
		}
		if p.addresses++; p.addresses > MaxAllowedAddresses {
			return false, fmt.Errorf("more than %d addresses", MaxAllowedAddresses)
		}
		p.Addresses[item.Of] = append(p.Addresses[item.Of], item.Address)
	case PolicyResolver:
		if len(p.Resolvers) >= MaxResolvers {
			return false, fmt.Errorf("more than %d resolvers", MaxResolvers)
		}
		p.Resolvers = append(p.Resolvers, item.Resolver)
	case PolicyServer:
		if len(p.Servers) >= MaxResolvers {
			return false, fmt.Errorf("more than %d servers", MaxResolvers)
		}
		p.Servers = append(p.Servers, item.Server)
	case PolicyDone:
		p.done = true
		return true, p.check()
	default:
		return false, fmt.Errorf("policy item of kind %d in a policy", item.Kind)
	}
	return false, nil
}

func (p *Policy) addQueue(q Queue) error {
	if len(p.Queues) >= MaxQueues {
		return fmt.Errorf("more than %d queues", MaxQueues)
	}
	if p.handles[q.Handle] {
		return fmt.Errorf("handle %d twice", q.Handle)
	}
	if p.handles == nil {
		p.handles = make(map[uint32]bool)
	}
	p.handles[q.Handle] = true
	p.Queues = append(p.Queues, q)
	return nil
}

// check looks at what only the whole can show. A policy without filters is
// what a dnsworker gets: it needs to know none.
func (p *Policy) check() error {
	for _, q := range p.Queues {
		if len(p.Filters) > 0 && int(q.Filter) >= len(p.Filters) {
			return fmt.Errorf("queue %d of the unknown filter %d", q.Number, q.Filter)
		}
	}
	return nil
}
