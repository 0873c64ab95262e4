package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
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
	for _, rule := range rules {
		f.Add([]byte(rule.toml))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
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
	asks := false
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
	case c.InboundDNSQueue == QueuePair{}:
		return "inboundDNSQueue is missing"
	case asks && !covers(c, c.SelfDNSQueue), !asks && c.SelfDNSQueue != QueuePair{}:
		return "selfDNSQueue does not fit"
	}
	return slowResolvers(c.Resolvers)
}

func slowFilter(c *Config, f *FilterOptions) string {
	allowed, cached := len(f.AllowedHostnames) > 0, len(f.CachedHostnames) > 0
	lookup, all, none := f.LookupUnknownIPs, f.AllowAllHostnames, QueuePair{}
	switch {
	case f.Name == "" || len(f.Name) > ipc.MaxFilterName || strings.ContainsFunc(f.Name, func(c rune) bool { return !unicode.IsPrint(c) }):
		return "has a bad name"
	case all && (allowed || cached || lookup || f.TrafficQueue != none || f.AllowAnswersFor != 0):
		return "allows all and more"
	case !all && !allowed && !cached && !lookup:
		return "allows nothing"
	case (all || allowed) && !covers(c, f.DNSQueue), !all && !allowed && f.DNSQueue != none:
		return "has a dnsQueue that does not fit"
	case !all && !covers(c, f.TrafficQueue):
		return "has a trafficQueue that does not fit"
	case f.AllowAnswersFor < 0, allowed && f.AllowAnswersFor == 0:
		return "has a bad allowAnswersFor"
	case cached && f.ReCacheEvery <= 0, !cached && f.ReCacheEvery != 0:
		return "has a bad reCacheEvery"
	case !parsed(f.AllowedHostnames, namesOf(f.Hostnames)) || !parsed(f.CachedHostnames, f.CachedNames):
		return "has names that are not its host names"
	}
	both := append(append([]string{}, f.AllowedHostnames...), f.CachedHostnames...)
	for i, a := range both {
		for _, b := range both[:i] {
			if strings.EqualFold(a, b) {
				return fmt.Sprintf("has %q twice", a)
			}
		}
	}
	return ""
}

// covers reports whether q has exactly the families of inboundDNSQueue.
func covers(c *Config, q QueuePair) bool {
	return (q.IPv4 != 0) == (c.InboundDNSQueue.IPv4 != 0) && (q.IPv6 != 0) == (c.InboundDNSQueue.IPv6 != 0)
}

func parsed(texts []string, names []name.Name) bool {
	if len(texts) != len(names) {
		return false
	}
	for i, text := range texts {
		if !names[i].Valid() || names[i] == name.Root || names[i].String() != strings.ToLower(text) {
			return false
		}
	}
	return true
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

func namesOf(hostnames []Hostname) (names []name.Name) {
	for _, h := range hostnames {
		names = append(names, h.Name)
	}
	return names
}
