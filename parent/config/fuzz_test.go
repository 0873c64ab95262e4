package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// FuzzParse: no text makes Parse panic, and what it returns is either an
// error in the promised form or a configuration that an independent, slow
// reading of the rules finds nothing wrong with.
func FuzzParse(f *testing.F) {
	f.Add([]byte(in + one))
	f.Add([]byte(everything))
	f.Add([]byte("\ufeff" + strings.ReplaceAll(everything, "\n", "\r\n")))
	f.Add([]byte(in + with(one, list, `allowedHostnames = ["=a:1", "A:2/tcp", "a:3/udp", "*.a", "b\u00fccher\u3002example", "co.uk", "xn--zzz999.a"]`) + everyAnswerKey))
	for _, rule := range rules {
		f.Add([]byte(rule.toml))
	}
	f.Add([]byte(resolvConf))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, want := nameservers(string(data)), slowNameservers(data); !slices.Equal(got, want) {
			t.Fatalf("the servers %v, not %v", got, want)
		}
		c, err := Parse(data, "f.toml")
		if (c == nil) == (err == nil) {
			t.Fatalf("configuration %v and error %v", c, err)
		}
		if err == nil {
			if wrong := slowCheck(c); wrong != "" {
				t.Fatalf("accepted, but %s\n%+v", wrong, c)
			}
			return
		}
		var e *exit.Error
		if !errors.As(err, &e) || e != err || e.Code != exit.Config {
			t.Fatalf("error of another kind: %v", err)
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasPrefix(line, "f.toml:") || strings.ContainsFunc(line, func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Fatalf("line %q of the message", line)
			}
		}
		if _, again := Parse(data, "f.toml"); again == nil || again.Error() != err.Error() {
			t.Fatalf("first\n%v\nthen\n%v", err, again)
		}
	})
}

// slowCheck reads the rules once more, over the configuration alone and
// without an index. It returns what is wrong.
func slowCheck(c *Config) string {
	if len(c.Filters) == 0 || len(c.Filters) > ipc.MaxFilters || len(c.Resolvers) > ipc.MaxResolvers {
		return "it has too few or too many filters or resolvers"
	}
	numbers := []uint16{c.InboundDNSQueue.IPv4, c.InboundDNSQueue.IPv6, c.SelfDNSQueue.IPv4, c.SelfDNSQueue.IPv6}
	asks, cached := false, 0
	for i := range c.Filters {
		filter := &c.Filters[i]
		if wrong := slowFilter(c, filter); wrong != "" {
			return fmt.Sprintf("filter %d %s", i, wrong)
		}
		for j := range c.Filters[:i] {
			if c.Filters[j].Name == filter.Name {
				return "two filters have one name"
			}
		}
		asks = asks || filter.LookupUnknownIPs || len(filter.CachedHostnames) > 0
		cached += len(filter.CachedNames)
		numbers = append(numbers, filter.DNSQueue.IPv4, filter.DNSQueue.IPv6, filter.TrafficQueue.IPv4, filter.TrafficQueue.IPv6)
	}
	for i, n := range numbers {
		for _, m := range numbers[:i] {
			if n != 0 && n == m {
				return fmt.Sprintf("queue %d is used twice", n)
			}
		}
	}
	switch {
	case cached > ipc.MaxCached:
		return "it has too many cached names"
	case c.InboundDNSQueue == QueuePair{}:
		return "inboundDNSQueue is missing"
	case asks && !covers(c, c.SelfDNSQueue), !asks && c.SelfDNSQueue != QueuePair{}:
		return "selfDNSQueue does not fit"
	}
	return cmp.Or(slowAsking(c), slowResolvers(c.Resolvers))
}

// slowAsking: without resolvers no server is known yet.
func slowAsking(c *Config) string {
	asks := c.SelfDNSQueue != QueuePair{}
	var servers []netip.Addr
	for _, a := range c.Resolvers {
		if asks && (a.Is4() && c.InboundDNSQueue.IPv4 != 0 || a.Is6() && c.InboundDNSQueue.IPv6 != 0 && !linkLocal.Contains(a)) {
			servers = append(servers, a)
		}
	}
	switch {
	case asks != c.AsksItself(), asks != (c.SelfMark != 0):
		return "selfMark does not fit"
	case !slices.Equal(servers, c.Servers), asks && len(c.Resolvers) > 0 && len(servers) == 0:
		return fmt.Sprintf("has the servers %v", c.Servers)
	}
	return ""
}

var linkLocal = netip.MustParsePrefix("fe80::/10")

func slowFilter(c *Config, f *FilterOptions) string {
	allowed, cached := len(f.AllowedHostnames) > 0, len(f.CachedHostnames) > 0
	addresses, lookup, all, none := len(f.Addresses) > 0, f.LookupUnknownIPs, f.AllowAllHostnames, QueuePair{}
	answers := f.AllowAnswersFor != 0 || f.RespectTTL || f.KeepInUse || f.DenyPrivate || f.QueryTypes != nil
	switch {
	case f.Name == "" || len(f.Name) > ipc.MaxFilterName || strings.ContainsFunc(f.Name, func(c rune) bool { return !unicode.IsPrint(c) }):
		return "has a bad name"
	case all && (allowed || cached || lookup || addresses || f.TrafficQueue != none || answers):
		return "allows all and more"
	case !all && !allowed && !cached && !lookup && !addresses:
		return "allows nothing"
	case !allowed && !cached && !lookup && answers:
		return "has settings for answers that it never sees"
	case !allowed && f.QueryTypes != nil:
		return "has types for questions that it never sees"
	case (all || allowed) && !covers(c, f.DNSQueue), !all && !allowed && f.DNSQueue != none:
		return "has a dnsQueue that does not fit"
	case !all && !covers(c, f.TrafficQueue):
		return "has a trafficQueue that does not fit"
	case f.AllowAnswersFor < 0, allowed && f.AllowAnswersFor == 0:
		return "has a bad allowAnswersFor"
	case cached && f.ReCacheEvery < time.Second, !cached && f.ReCacheEvery != 0:
		return "has a bad reCacheEvery"
	case cached && f.CachedFor() != f.ReCacheEvery+time.Minute, !cached && f.CachedFor() != 0, f.CachedFor() > ipc.MaxDuration:
		return "has cached names open for a wrong time"
	}
	for _, wrong := range []string{slowTimes(f), slowHostnames(f), slowCached(f), slowAddresses(f), slowTypes(f.QueryTypes)} {
		if wrong != "" {
			return wrong
		}
	}
	return ""
}

func slowTimes(f *FilterOptions) string {
	switch {
	case f.RespectTTL && (f.TTLGrace < 0 || f.MinTTL < 0 || f.TTLGrace+f.MinTTL <= 0 || f.MinTTL > f.AllowAnswersFor || f.AllowAnswersFor == 0):
		return "has a TTL that does not fit"
	case !f.RespectTTL && (f.TTLGrace != 0 || f.MinTTL != 0):
		return "has a TTL that is not respected"
	case f.KeepInUse && (f.AllowAnswersFor == 0 || f.MaxInUse < f.AllowAnswersFor || f.MaxInUse < f.CachedFor()), !f.KeepInUse && f.MaxInUse != 0:
		return "has a maxInUse that does not fit"
	}
	return ""
}

// slowHostnames: every entry is found in the host names, and they hold no
// more, each name and scope once.
func slowHostnames(f *FilterOptions) string {
	ports := 0
	for i, h := range f.Hostnames {
		if !isHostname(h.Name) || !h.Scope.Valid() {
			return fmt.Sprintf("has the host name %v", h)
		}
		if wrong := slowPorts(h.Ports); wrong != "" {
			return wrong
		}
		for _, g := range f.Hostnames[:i] {
			if g.Name == h.Name && g.Scope == h.Scope {
				return fmt.Sprintf("has %v twice", h.Name)
			}
		}
		ports += max(1, len(h.Ports))
	}
	if ports > len(f.AllowedHostnames) {
		return "opens more than its entries"
	}
	for _, text := range f.AllowedHostnames {
		if isASCII(text) && !slices.ContainsFunc(f.Hostnames, func(h Hostname) bool { return writtenAs(h, strings.ToLower(text)) }) {
			return fmt.Sprintf("lacks %q", text)
		}
	}
	return ""
}

// writtenAs reports whether h comes of an entry.
func writtenAs(h Hostname, text string) bool {
	bare, port, _ := strings.Cut(text, ":")
	front := map[ipc.Scope]string{ipc.ScopeTree: "", ipc.ScopeExact: "=", ipc.ScopeBelow: "*."}[h.Scope]
	if bare != front+h.Name.String() {
		return false
	}
	return h.Ports == nil || slices.ContainsFunc(h.Ports, func(p ipc.Port) bool {
		return strings.TrimLeft(port, "0") == p.String()
	})
}

// isHostname reports whether n is what name.Parse makes of a name in ASCII.
func isHostname(n name.Name) bool {
	again, err := name.Parse(n.String())
	return n.Valid() && n != name.Root && err == nil && again == n
}

func slowPorts(ports []ipc.Port) string {
	if ports != nil && len(ports) == 0 || len(ports) > ipc.MaxPorts {
		return fmt.Sprintf("has %d ports", len(ports))
	}
	for i, p := range ports {
		if p.Validate() != nil || slices.Contains(ports[:i], p) {
			return fmt.Sprintf("has the ports %v", ports)
		}
	}
	return ""
}

func slowCached(f *FilterOptions) string {
	if len(f.CachedNames) != len(f.CachedHostnames) {
		return "lacks cached names"
	}
	for i, n := range f.CachedNames {
		text := f.CachedHostnames[i]
		switch {
		case !isHostname(n) || isASCII(text) && n.String() != strings.ToLower(text):
			return fmt.Sprintf("has the cached name %v for %q", n, text)
		case slices.Contains(f.CachedNames[:i], n):
			return fmt.Sprintf("has the cached name %v twice", n)
		case slices.ContainsFunc(f.Hostnames, func(h Hostname) bool { return h.Name == n && h.Scope != ipc.ScopeBelow }):
			return fmt.Sprintf("has the cached name %v among its host names", n)
		}
	}
	return ""
}

func slowAddresses(f *FilterOptions) string {
	for i, a := range f.Addresses {
		p := a.Prefix
		switch {
		case !p.IsValid() || p.Bits() == 0 || p.Masked() != p || p.Addr().Is4In6() || p.Addr().IsUnspecified() || p.Addr().IsMulticast():
			return fmt.Sprintf("has the address %v", p)
		case slices.ContainsFunc(f.Addresses[:i], func(b AllowedAddress) bool { return b.Prefix == p }):
			return fmt.Sprintf("has the address %v twice", p)
		}
		if wrong := slowPorts(a.Ports); wrong != "" {
			return wrong
		}
	}
	return ""
}

func slowTypes(types []uint16) string {
	for i, t := range types {
		if t == 0 || i > 0 && t <= types[i-1] {
			return fmt.Sprintf("has the types %v", types)
		}
	}
	return ""
}

// covers reports whether q has exactly the families of inboundDNSQueue.
func covers(c *Config, q QueuePair) bool {
	return (q.IPv4 != 0) == (c.InboundDNSQueue.IPv4 != 0) && (q.IPv6 != 0) == (c.InboundDNSQueue.IPv6 != 0)
}

func slowResolvers(addrs []netip.Addr) string {
	for i, a := range addrs {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Sprintf("resolver %v is none", a)
		}
		for _, b := range addrs[:i] {
			if a == b {
				return fmt.Sprintf("resolver %v is there twice", a)
			}
		}
	}
	return ""
}
