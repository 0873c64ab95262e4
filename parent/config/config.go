package config

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// MaxFile bounds a configuration file in octets. ipc.MaxHostnames names of
// ordinary length fit.
const MaxFile = 256 << 20

// Config is a configuration that has passed every rule.
type Config struct {
	InboundDNSQueue QueuePair // receives every DNS response
	SelfDNSQueue    QueuePair // receives the daemon's own DNS requests; set exactly if it has any
	SelfMark        uint32    // SO_MARK of their sockets, by which rules find them; 0 exactly if it has none
	// Resolvers are the only DNS servers that filters which grant may ask,
	// unmapped and without zones. Empty: every server is trusted.
	Resolvers []netip.Addr
	// Servers are the DNS servers that the daemon's own questions go to, port 53,
	// in the order in which they are to be tried: of Resolvers, or else, as soon
	// as SetServers has looked, of ResolvConf. Each is of a family that
	// InboundDNSQueue covers. Empty if the daemon has no questions.
	Servers []netip.Addr
	// ResponseInterfaceCheck: a response must arrive by the interface by which
	// its request left. True unless the file says otherwise.
	ResponseInterfaceCheck bool
	// NamespacesBestEffort: children may run without namespaces of their own
	// where user namespaces are forbidden. False unless the file says so.
	NamespacesBestEffort bool
	Filters              []FilterOptions // at least one

	// Warnings are one line each, for the start-up log and -t.
	Warnings []string

	file string // for messages
}

// AsksItself reports whether the daemon has questions of its own.
func (c *Config) AsksItself() bool { return c.SelfDNSQueue.Set() }

// QueuePair is a pair of NFQUEUE numbers, one a family. 0 is not set.
type QueuePair struct {
	IPv4, IPv6 uint16
}

// Set reports whether either number is set.
func (q QueuePair) Set() bool { return q.IPv4 != 0 || q.IPv6 != 0 }

// FilterOptions is one filter.
type FilterOptions struct {
	Name         string    // unique, printable, 1 to ipc.MaxFilterName octets
	DNSQueue     QueuePair // receives the filter's DNS requests
	TrafficQueue QueuePair // receives the filter's other traffic

	AllowAllHostnames bool // allow every name; the traffic is not filtered
	LookupUnknownIPs  bool // reverse-look-up an address nobody asked for

	AllowAnswersFor time.Duration // how long answers stay allowed; 0 is not set
	ReCacheEvery    time.Duration // how often CachedHostnames are asked for; 0 exactly without any

	// RespectTTL: a grant lasts for its record's TTL and TTLGrace, at least
	// MinTTL and at most AllowAnswersFor; else for AllowAnswersFor.
	RespectTTL       bool
	TTLGrace, MinTTL time.Duration
	// KeepInUse: an accepted packet renews a grant for as long as it had, until
	// MaxInUse after the last answer that held it.
	KeepInUse bool
	MaxInUse  time.Duration
	// DenyPrivate: answers in private ranges (RFC 1918, RFC 4193, RFC 6598) grant nothing.
	DenyPrivate bool
	QueryTypes  []uint16 // the only record types that may be asked for, ascending; nil is all

	AllowedHostnames []string // as written
	CachedHostnames  []string // as written

	// Hostnames are AllowedHostnames, parsed. Entries of one name and scope are
	// one Hostname, at the place of the first.
	Hostnames   []Hostname
	Addresses   []AllowedAddress // allowedAddresses, likewise one for each network
	CachedNames []name.Name      // CachedHostnames, parsed, in the same order
}

// CachedFor is how long the addresses of CachedHostnames stay open after each
// answer, whatever AllowAnswersFor and RespectTTL say. 0 exactly without any.
func (f *FilterOptions) CachedFor() time.Duration { return cachedFor(f.ReCacheEvery) }

// Hostname is an entry of allowedHostnames.
type Hostname struct {
	Name  name.Name // never the root
	Scope ipc.Scope
	Ports []ipc.Port // nil is all; at most ipc.MaxPorts, each once
}

// AllowedAddress is an entry of allowedAddresses: always open.
type AllowedAddress struct {
	Prefix netip.Prefix // masked, not IPv4-mapped
	Ports  []ipc.Port   // nil is all; at most ipc.MaxPorts, each once
}

// ParseConfig reads and validates the file at path. An error carries
// exit.Config and reads as one line for each mistake.
func ParseConfig(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		// The operating system's error names the path.
		return nil, exit.Errorf(exit.Config, "configuration: %w", err)
	}
	return Parse(data, path)
}

// Parse validates data as the contents of the file called file. An error
// carries exit.Config and reads as one line for each mistake.
func Parse(data []byte, file string) (*Config, error) {
	r := &report{file: printable(file)}
	c := parse(data, r)
	if err := r.err(); err != nil {
		return nil, err
	}
	c.Warnings = append(c.Warnings, r.warned()...)
	c.file = r.file
	return c, nil
}

// readFile reads a whole file, a pipe too, but never more than MaxFile and
// one octet: enough for Parse to see that it is too long.
func readFile(path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("no file named")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxFile+1))
}
