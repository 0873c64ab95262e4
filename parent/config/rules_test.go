package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// one is a complete filter on queues 10 and 11, its first line being line 2
// below one line of top-level keys.
const one = `
[[filters]]
name = "x"
dnsQueue.ipv4 = 10
trafficQueue.ipv4 = 11
allowAnswersFor = "5m"
allowedHostnames = ["example.com"]
`

// self is a filter that asks itself and nothing else, on queue 21.
const self = `
[[filters]]
name = "s"
trafficQueue.ipv4 = 21
lookupUnknownIPs = true
`

const in = "inboundDNSQueue.ipv4 = 1"

// with replaces one line of a text.
func with(text, line, by string) string {
	out := strings.Replace(text, line+"\n", by+"\n", 1)
	if out == text {
		panic("no line " + line)
	}
	return out
}

const (
	x    = `filter "x": `
	hour = "allowAnswersFor = \"5m\""
	dns  = "dnsQueue.ipv4 = 10"
	traf = "trafficQueue.ipv4 = 11"
	list = `allowedHostnames = ["example.com"]`
	nam  = `name = "x"`
)

// everyAnswerKey uses every key that says which answers count and for how long.
const everyAnswerKey = `respectTTL = true
ttlGrace = "1s"
minTTL = "1s"
keepInUse = true
maxInUse = "1h"
privateAnswers = "allow"
allowedQueryTypes = ["A"]
`

// hostnames are mistakes in the list of line 7, addresses in the one of line 8.
func hostnames(want ...string) []string { return inList(":7: "+x+"allowedHostnames: ", want) }
func addresses(want ...string) []string { return inList(":8: "+x+"allowedAddresses: ", want) }

func inList(at string, want []string) []string {
	for i := range want {
		want[i] = at + want[i]
	}
	return want
}

// numbered are so many record types.
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "'TYPE%d',", i+1)
	}
	return b.String()
}

// manyPorts are entries with the ports from first to last.
func manyPorts(format string, first, last int) string {
	var b strings.Builder
	for port := first; port <= last; port++ {
		fmt.Fprintf(&b, "%q, ", fmt.Sprintf(format, port))
	}
	return b.String()
}

// Every rule with its exact message; the wanted lines lack the file's name.
var rules = []struct {
	name, toml string
	want       []string
}{
	// The file as a whole.
	{"no filter", in, []string{": filters: at least one filter is needed"}},
	{"empty filters", "filters = []\n" + in, []string{": filters: at least one filter is needed"}},
	{"empty file", "", []string{": inboundDNSQueue: must be set", ": filters: at least one filter is needed"}},
	{"no inbound", one, []string{": inboundDNSQueue: must be set"}},
	{"inbound 0", "inboundDNSQueue.ipv4 = 0" + one, []string{":1: inboundDNSQueue: must be set"}},
	{"not TOML", "inboundDNSQueue = = 1", []string{`:1: not TOML: expected value but found '=' instead (after the key "inboundDNSQueue")`}},
	{"not TOML, first line", "\x00", []string{`:1: not TOML: files cannot contain NULL bytes; probably using UTF-16; TOML files must be UTF-8`}},
	{"set twice", in + "\n" + in, []string{`:2: not TOML: Key 'inboundDNSQueue.ipv4' has already been defined. (after the key "inboundDNSQueue.ipv4")`}},
	{"filters no array", in + "\n[filters]\nname = \"x\"", []string{":2: filters: must be an array of tables, each below [[filters]], not a table"}},
	{"filter no table", "filters = [\n3,\n{name = \"\"},\n]\n" + in, []string{
		":2: filters: entry 1 must be a table, not an integer",
		":3: filter #1: name: must be set",
		":3: filter #1: trafficQueue: must be set without allowAllHostnames",
		":3: filter #1: allowedHostnames: must not be empty without allowAllHostnames, allowedAddresses, cachedHostnames and lookupUnknownIPs",
	}},
	{"interface check no boolean", "responseInterfaceCheck = 1\n" + in + one, []string{":1: responseInterfaceCheck: must be true or false, not an integer"}},

	// The cells.
	{"sandbox no table", "sandbox = true\n" + in + one, []string{`:1: sandbox: must be a table such as sandbox.userNamespaces = "required", not a boolean`}},
	{"user namespaces no string", "sandbox.userNamespaces = false\n" + in + one, []string{":1: sandbox.userNamespaces: must be a string, not a boolean"}},
	{"user namespaces empty", "sandbox.userNamespaces = \"\"\n" + in + one, []string{`:1: sandbox.userNamespaces: must be "required" or "best-effort", not ""`}},
	{"user namespaces off", "sandbox.userNamespaces = \"Best-Effort\"\n" + in + one, []string{`:1: sandbox.userNamespaces: must be "required" or "best-effort", not "Best-Effort"`}},
	{"sandbox unknown", "sandbox.seccomp = false\n" + in + one, []string{`:1: unknown key "sandbox.seccomp"`}},
	{"user namespaces at the top", "userNamespaces = \"best-effort\"\n" + in + one, []string{`:1: unknown key "userNamespaces" (a key of the table sandbox: it is written sandbox.userNamespaces)`}},
	{"sandbox in a filter", in + one + "sandbox.userNamespaces = \"required\"\n", []string{`:8: ` + x + `unknown key "sandbox.userNamespaces" (a key of the table sandbox: it is written sandbox.userNamespaces)`}},

	// Names of filters.
	{"no name", in + with(one, nam, ""), []string{":2: filter #0: name: must be set"}},
	{"empty name", in + with(one, nam, `name = ""`), []string{":3: filter #0: name: must be set"}},
	{"name no string", in + with(one, nam, "name = 3"), []string{":3: filter #0: name: must be a string, not an integer"}},
	{"name twice", in + one + with(self, `name = "s"`, nam) + "[selfDNSQueue]\nipv4 = 2", []string{`:10: filter #1: name: "x" is already the name of filter #0`}},
	{"name too long", in + with(one, nam, `name = "`+strings.Repeat("n", ipc.MaxFilterName+1)+`"`), []string{":3: filter #0: name: 257 octets long, more than 256"}},
	{"name with a control character", in + with(one, nam, `name = "a\u001b[2J"`), []string{`:3: filter #0: name: holds the character '\x1b', which cannot be printed`}},
	{"name with a direction override", in + with(one, nam, `name = "a\u202eb"`), []string{`:3: filter #0: name: holds the character '\u202e', which cannot be printed`}},

	// Queues.
	{"families equal", "inboundDNSQueue = {ipv4 = 1, ipv6 = 1}" + with(with(one, dns, "dnsQueue = {ipv4 = 10, ipv6 = 12}"), traf, "trafficQueue = {ipv4 = 11, ipv6 = 13}"),
		[]string{":1: inboundDNSQueue: ipv4 and ipv6 must differ, both are queue 1"}},
	{"dns lacks a family", "inboundDNSQueue = {ipv4 = 1, ipv6 = 2}" + with(one, traf, "trafficQueue = {ipv4 = 11, ipv6 = 13}"),
		[]string{":4: " + x + "dnsQueue.ipv6: must be set when inboundDNSQueue.ipv6 is"}},
	{"traffic lacks a family", "inboundDNSQueue = {ipv4 = 1, ipv6 = 2}" + with(one, dns, "dnsQueue = {ipv4 = 10, ipv6 = 13}"),
		[]string{":5: " + x + "trafficQueue.ipv6: must be set when inboundDNSQueue.ipv6 is"}},
	{"wrong family", "inboundDNSQueue.ipv6 = 1" + with(one, traf, "trafficQueue.ipv6 = 11"), []string{
		":4: " + x + "dnsQueue.ipv4: must not be set when inboundDNSQueue.ipv4 is not",
		":4: " + x + "dnsQueue.ipv6: must be set when inboundDNSQueue.ipv6 is",
	}},
	{"family too many", in + with(one, dns, "dnsQueue = {ipv4 = 10, ipv6 = 12}"), []string{":4: " + x + "dnsQueue.ipv6: must not be set when inboundDNSQueue.ipv6 is not"}},
	{"self lacks a family", "inboundDNSQueue = {ipv4 = 1, ipv6 = 2}\nselfDNSQueue.ipv4 = 3" + with(self, "trafficQueue.ipv4 = 21", "trafficQueue = {ipv4 = 21, ipv6 = 22}"),
		[]string{":2: selfDNSQueue.ipv6: must be set when inboundDNSQueue.ipv6 is"}},
	{"number twice: inbound and self", in + "\nselfDNSQueue.ipv4 = 1" + self, []string{":2: selfDNSQueue.ipv4: queue 1 is already inboundDNSQueue.ipv4 (line 1)"}},
	{"number twice: inbound and dns", in + with(one, dns, "dnsQueue.ipv4 = 1"), []string{":4: " + x + "dnsQueue.ipv4: queue 1 is already inboundDNSQueue.ipv4 (line 1)"}},
	{"number twice: dns and traffic", in + with(one, traf, "trafficQueue.ipv4 = 10"), []string{":5: " + x + `trafficQueue.ipv4: queue 10 is already dnsQueue.ipv4 of filter "x" (line 4)`}},
	{"number twice: two filters", in + "\nselfDNSQueue.ipv4 = 2" + one + with(self, "trafficQueue.ipv4 = 21", traf), []string{`:12: filter "s": trafficQueue.ipv4: queue 11 is already trafficQueue.ipv4 of filter "x" (line 6)`}},
	{"number twice: families crossed", "inboundDNSQueue = {ipv4 = 1, ipv6 = 2}" + with(with(one, dns, "dnsQueue = {ipv4 = 10, ipv6 = 11}"), traf, "[filters.trafficQueue]\nipv4 = 12\nipv6 = 10\n[[filters]]\nname = \"y\"\nallowAllHostnames = true\ndnsQueue = {ipv4 = 30, ipv6 = 31}\n"),
		[]string{
			":2: " + x + "allowedHostnames: must not be empty without allowAllHostnames, allowedAddresses, cachedHostnames and lookupUnknownIPs",
			":7: " + x + `trafficQueue.ipv6: queue 10 is already dnsQueue.ipv4 of filter "x" (line 4)`,
			`:13: filter "y": allowAnswersFor: must not be set with allowAllHostnames`,
			`:14: filter "y": allowedHostnames: must be empty with allowAllHostnames`,
		}},
	{"number negative", "inboundDNSQueue.ipv4 = -1" + one, []string{":1: inboundDNSQueue.ipv4: -1 is outside 0 to 65535"}},
	{"number too large", in + with(one, dns, "dnsQueue.ipv4 = 65536"), []string{":4: " + x + "dnsQueue.ipv4: 65536 is outside 0 to 65535"}},
	{"number a string", in + with(one, dns, `dnsQueue.ipv4 = "10"`), []string{":4: " + x + "dnsQueue.ipv4: must be a queue number, not a string"}},
	{"number a float", in + with(one, dns, `dnsQueue.ipv4 = 10.0`), []string{":4: " + x + "dnsQueue.ipv4: must be a queue number, not a float"}},
	{"queue no table", "inboundDNSQueue = 1" + one, []string{":1: inboundDNSQueue: must be a table such as inboundDNSQueue.ipv4 = 1, not an integer"}},
	{"no dns", in + with(one, dns, ""), []string{":2: " + x + "dnsQueue: must be set with allowedHostnames"}},
	{"dns 0", in + with(one, dns, "dnsQueue.ipv4 = 0"), []string{":4: " + x + "dnsQueue: must be set with allowedHostnames"}},
	{"no traffic", in + with(one, traf, ""), []string{":2: " + x + "trafficQueue: must be set without allowAllHostnames"}},
	{"dns with lookup alone", in + "\nselfDNSQueue.ipv4 = 2" + self + "dnsQueue.ipv4 = 22", []string{
		`:7: filter "s": dnsQueue: must not be set when allowedHostnames is empty and cachedHostnames or lookupUnknownIPs is used`}},
	{"dns with cached alone", in + "\nselfDNSQueue.ipv4 = 2" + with(self, "lookupUnknownIPs = true", "cachedHostnames = [\"a\"]\nreCacheEvery = \"1h\"") + "dnsQueue.ipv4 = 22", []string{
		`:8: filter "s": dnsQueue: must not be set when allowedHostnames is empty and cachedHostnames or lookupUnknownIPs is used`}},

	// selfDNSQueue.
	{"self needless", in + "\nselfDNSQueue.ipv4 = 2" + one, []string{":2: selfDNSQueue: must not be set when no filter uses cachedHostnames or lookupUnknownIPs"}},
	{"self missing, lookup", in + self, []string{": selfDNSQueue: must be set when a filter uses cachedHostnames or lookupUnknownIPs"}},
	{"self missing, cached", in + one + "cachedHostnames = [\"a\"]\nreCacheEvery = \"1h\"", []string{": selfDNSQueue: must be set when a filter uses cachedHostnames or lookupUnknownIPs"}},

	{"mark without self", in + "\nselfMark = 1" + one, []string{":2: selfMark: must not be set without selfDNSQueue"}},
	{"mark with an empty self", in + "\nselfMark = 1\nselfDNSQueue = {}" + one, []string{":2: selfMark: must not be set without selfDNSQueue"}},
	{"mark 0", in + "\nselfMark = 0\nselfDNSQueue.ipv4 = 2" + self, []string{":2: selfMark: 0 is outside 1 to 4294967295"}},
	{"mark negative", in + "\nselfMark = -1\nselfDNSQueue.ipv4 = 2" + self, []string{":2: selfMark: -1 is outside 1 to 4294967295"}},
	{"mark too large", in + "\nselfMark = 0x1_0000_0000\nselfDNSQueue.ipv4 = 2" + self, []string{":2: selfMark: 4294967296 is outside 1 to 4294967295"}},
	{"mark a string", in + "\nselfMark = \"0x1\"\nselfDNSQueue.ipv4 = 2" + self, []string{":2: selfMark: must be an integer from 1 to 4294967295, not a string"}},
	{"mark of a broken self", in + "\nselfMark = 1\nselfDNSQueue = 2" + self, []string{":3: selfDNSQueue: must be a table such as selfDNSQueue.ipv4 = 1, not an integer"}},
	{"mark in a filter", in + one + "selfMark = 1", []string{`:8: ` + x + `unknown key "selfMark" (a key of the top level: it belongs above the first table)`}},
	{"no resolver to ask, IPv4", "resolvers = [\"2001:db8::53\"]\n" + in + "\nselfDNSQueue.ipv4 = 2" + self, []string{
		":1: resolvers: none of the resolvers is of a family that inboundDNSQueue covers, link-local IPv6 aside: selfDNSQueue needs one"}},
	{"no resolver to ask, IPv6", "resolvers = [\"192.0.2.53\", \"fe80::1\"]\ninboundDNSQueue.ipv6 = 1\nselfDNSQueue.ipv6 = 2" + with(self, "trafficQueue.ipv4 = 21", "trafficQueue.ipv6 = 21"), []string{
		":1: resolvers: none of the resolvers is of a family that inboundDNSQueue covers, link-local IPv6 aside: selfDNSQueue needs one"}},
	{"no resolver to ask, perhaps", "resolvers = [\"2001:db8::53\", \"x\"]\n" + in + "\nselfDNSQueue.ipv4 = 2" + self, []string{
		`:1: resolvers: "x" is not an IP address (no port, no host name)`}},
	{"no resolver to ask, perhaps a broken one", "resolvers = [\"2001:db8::53\", 4]\n" + in + "\nselfDNSQueue.ipv4 = 2" + self, []string{
		":1: resolvers: entry 2 must be a string, not an integer"}},
	{"no resolver to ask, without inbound", "resolvers = [\"2001:db8::53\"]\nselfDNSQueue.ipv4 = 2" + self, []string{": inboundDNSQueue: must be set"}},
	{"no resolver to ask, inbound broken", "resolvers = [\"2001:db8::53\"]\ninboundDNSQueue = {ipv4 = 1, ipv6 = -1}\nselfDNSQueue.ipv4 = 2" + self, []string{
		":2: inboundDNSQueue.ipv6: -1 is outside 0 to 65535"}},

	// allowAllHostnames.
	{"all with traffic", in + "\n[[filters]]\nname = \"x\"\nallowAllHostnames = true\ndnsQueue.ipv4 = 10\ntrafficQueue.ipv4 = 11", []string{
		":6: " + x + "trafficQueue: must not be set with allowAllHostnames"}},
	{"all without dns", in + "\n[[filters]]\nname = \"x\"\nallowAllHostnames = true", []string{
		":2: " + x + "dnsQueue: must be set with allowAllHostnames"}},
	{"all with names", in + "\n[[filters]]\nname = \"x\"\nallowAllHostnames = true\ndnsQueue.ipv4 = 10\nallowedHostnames = [\"a\"]", []string{
		":6: " + x + "allowedHostnames: must be empty with allowAllHostnames"}},
	{"all with cached", in + "\nselfDNSQueue.ipv4 = 2\n[[filters]]\nname = \"x\"\nallowAllHostnames = true\ndnsQueue.ipv4 = 10\nreCacheEvery = \"1h\"\ncachedHostnames = [\"a\"]", []string{
		":8: " + x + "cachedHostnames: must be empty with allowAllHostnames"}},
	{"all with lookup", in + "\nselfDNSQueue.ipv4 = 2\n[[filters]]\nname = \"x\"\nallowAllHostnames = true\ndnsQueue.ipv4 = 10\nlookupUnknownIPs = true", []string{
		":7: " + x + "lookupUnknownIPs: must not be set with allowAllHostnames"}},
	{"all with answers", in + "\n[[filters]]\nname = \"x\"\nallowAllHostnames = true\ndnsQueue.ipv4 = 10\nallowAnswersFor = \"0s\"", []string{
		":6: " + x + "allowAnswersFor: must not be set with allowAllHostnames"}},
	{"all no boolean", in + with(one, list, "allowAllHostnames = \"yes\""), []string{":7: " + x + "allowAllHostnames: must be true or false, not a string"}},

	// Names and times.
	{"no names", in + with(one, list, ""), []string{":2: " + x + "allowedHostnames: must not be empty without allowAllHostnames, allowedAddresses, cachedHostnames and lookupUnknownIPs"}},
	{"empty names", in + with(one, list, "allowedHostnames = []"), []string{":7: " + x + "allowedHostnames: must not be empty without allowAllHostnames, allowedAddresses, cachedHostnames and lookupUnknownIPs"}},
	{"names no array", in + with(one, list, "allowedHostnames = \"a\""), []string{":7: " + x + "allowedHostnames: must be an array of strings, not a string"}},
	{"names tables", in + with(one, list, "[[filters.allowedHostnames]]"), []string{":7: " + x + "allowedHostnames: must be an array of strings, not an array of tables"}},
	{"name no string", in + with(one, list, "allowedHostnames = [\n\"a\", # first\n2,\n]"), []string{":9: " + x + "allowedHostnames: entry 2 must be a string, not an integer"}},
	{"no answers", in + with(one, hour, ""), []string{":2: " + x + "allowAnswersFor: must be set and positive with allowedHostnames"}},
	{"answers 0", in + with(one, hour, `allowAnswersFor = "0s"`), []string{":6: " + x + "allowAnswersFor: must be set and positive with allowedHostnames"}},
	{"answers negative", in + with(one, hour, `allowAnswersFor = "-1s"`), []string{":6: " + x + `allowAnswersFor: "-1s" is negative`}},
	{"answers negative, lookup alone", in + "\nselfDNSQueue.ipv4 = 2" + self + `allowAnswersFor = "-1s"`, []string{`:7: filter "s": allowAnswersFor: "-1s" is negative`}},
	{"answers for ever", in + with(one, hour, `allowAnswersFor = "2000000h"`), []string{":6: " + x + `allowAnswersFor: "2000000h" is longer than 146 years`}},
	{"answers unparsable", in + with(one, hour, `allowAnswersFor = "5"`), []string{":6: " + x + `allowAnswersFor: "5" is not a duration such as "90s" or "1h30m"`}},
	{"answers no string", in + with(one, hour, `allowAnswersFor = 5`), []string{":6: " + x + `allowAnswersFor: must be a duration in quotes such as "90s" or "1h30m", not an integer`}},
	{"cached without reCache", in + "\nselfDNSQueue.ipv4 = 2" + one + `cachedHostnames = ["a"]`, []string{":3: " + x + "reCacheEvery: must be set and positive with cachedHostnames"}},
	{"cached with reCache 0", in + "\nselfDNSQueue.ipv4 = 2" + one + "cachedHostnames = [\"a\"]\nreCacheEvery = \"0s\"", []string{":10: " + x + "reCacheEvery: must be set and positive with cachedHostnames"}},
	{"reCache negative", in + "\nselfDNSQueue.ipv4 = 2" + one + "cachedHostnames = [\"a\"]\nreCacheEvery = \"-1h\"", []string{":10: " + x + `reCacheEvery: "-1h" is negative`}},
	{"reCache without cached", in + one + `reCacheEvery = "1h"`, []string{":8: " + x + "reCacheEvery: must not be set without cachedHostnames"}},
	{"reCache too short", in + "\nselfDNSQueue.ipv4 = 2" + one + "cachedHostnames = [\"a\"]\nreCacheEvery = \"999ms\"", []string{":10: " + x + "reCacheEvery: 999ms is shorter than 1s: the DNS servers would be asked the same without a pause"}},
	{"reCache too long", in + "\nselfDNSQueue.ipv4 = 2" + one + "cachedHostnames = [\"a\"]\nreCacheEvery = \"4611685959s\"", []string{":10: " + x + "reCacheEvery: 1281023h52m39s is longer than 146 years less the minute that cached addresses stay open after it"}},
	{"reCache short without cached", in + one + `reCacheEvery = "1ms"`, []string{":8: " + x + "reCacheEvery: must not be set without cachedHostnames"}},
	{"name invalid", in + with(one, list, `allowedHostnames = ["a..b", "", "=", "*.", "$c"]`), []string{
		":7: " + x + `allowedHostnames: "a..b" is not a valid host name: has an empty label`,
		":7: " + x + `allowedHostnames: "" is not a valid host name: empty name`,
		":7: " + x + `allowedHostnames: "=" is not a valid host name: empty name`,
		":7: " + x + `allowedHostnames: "*." is not a valid host name: empty name`,
		":7: " + x + `allowedHostnames: "$c" is not a valid host name: has the character '$'`,
	}},
	{"name with a final dot", in + with(one, list, `allowedHostnames = ["example.com."]`), []string{":7: " + x + `allowedHostnames: "example.com." is not a valid host name: ends with a dot`}},
	{"name twice", in + with(one, list, "allowedHostnames = [\n'Example.com',\n'b', 'eXample.com']"), []string{":9: " + x + `allowedHostnames: "eXample.com" is listed twice (line 8)`}},
	{"cached name twice", in + "\nselfDNSQueue.ipv4 = 2" + one + "reCacheEvery = \"1h\"\ncachedHostnames = [\n'a',\n'A']", []string{":12: " + x + `cachedHostnames: "A" is listed twice (line 11)`}},
	{"name in both", in + "\nselfDNSQueue.ipv4 = 2" + one + "reCacheEvery = \"1h\"\ncachedHostnames = ['EXAMPLE.com']", []string{":10: " + x + `cachedHostnames: "EXAMPLE.com" is in allowedHostnames too (line 8)`}},
	{"cached name with a scope or a port", in + "\nselfDNSQueue.ipv4 = 2" + one + "reCacheEvery = \"1h\"\ncachedHostnames = [\"=a\", \"*.a\", \"a:443\"]", []string{
		":10: " + x + `cachedHostnames: "=a" is not a valid host name: has the character '='`,
		":10: " + x + `cachedHostnames: "*.a" is not a valid host name: has the character '*'`,
		":10: " + x + `cachedHostnames: "a:443" is not a valid host name: has the character ':'`}},
	{"cached name that itself is allowed", in + "\nselfDNSQueue.ipv4 = 2" + with(one, list, `allowedHostnames = ["=a", "*.b", "c:443"]`) + "reCacheEvery = \"1h\"\ncachedHostnames = [\"a\", \"b\", \"c\"]", []string{
		":10: " + x + `cachedHostnames: "a" is in allowedHostnames too (line 8)`,
		":10: " + x + `cachedHostnames: "c" is in allowedHostnames too (line 8)`}},

	// Scopes, ports and international names.
	{"stars", in + with(one, list, `allowedHostnames = ["*", "a.*.b", "*a.b", "**.b", "*.*.b", "=*.b", "*:443"]`), hostnames(
		`"*" is not a valid host name: "*" stands before no name; allowAllHostnames allows every name`,
		`"a.*.b" is not a valid host name: "*" can only stand in front, as "*."`,
		`"*a.b" is not a valid host name: "*" can only stand in front, as "*."`,
		`"**.b" is not a valid host name: "*" can only stand in front, as "*."`,
		`"*.*.b" is not a valid host name: "*" can only stand in front, as "*."`,
		`"=*.b" is not a valid host name: "*" can only stand in front, as "*."`,
		`"*:443" is not a valid host name: "*" stands before no name; allowAllHostnames allows every name`)},
	{"equals", in + with(one, list, `allowedHostnames = ["*.=b", "==b", "a=b", "b="]`), hostnames(
		`"*.=b" is not a valid host name: "=" can only stand in front, once`,
		`"==b" is not a valid host name: "=" can only stand in front, once`,
		`"a=b" is not a valid host name: "=" can only stand in front, once`,
		`"b=" is not a valid host name: "=" can only stand in front, once`)},
	{"ports", in + with(one, list, `allowedHostnames = ["a:", "a:0", "a:65536", "a:+1", "a:http", "a:443/sctp", "a:443/", "a:/tcp", "a:1:2", "2001:db8::1", ":443"]`), hostnames(
		`"a:" is not a valid host name: the port "" is not a number from 1 to 65535`,
		`"a:0" is not a valid host name: the port "0" is not a number from 1 to 65535`,
		`"a:65536" is not a valid host name: the port "65536" is not a number from 1 to 65535`,
		`"a:+1" is not a valid host name: the port "+1" is not a number from 1 to 65535`,
		`"a:http" is not a valid host name: the port "http" is not a number from 1 to 65535`,
		`"a:443/sctp" is not a valid host name: the protocol "sctp" is neither tcp nor udp`,
		`"a:443/" is not a valid host name: the protocol "" is neither tcp nor udp`,
		`"a:/tcp" is not a valid host name: the port "" is not a number from 1 to 65535`,
		`"a:1:2" is not a valid host name: has more than one ":"`,
		`"2001:db8::1" is not a valid host name: has more than one ":"`,
		`":443" is not a valid host name: empty name`)},
	{"entry twice", in + with(one, list, "allowedHostnames = [\n\"a:443\", \"=a\",\n\"a:443/tcp\", \"*.a\",\n\"A:443\", \"=A\", \"*.A\", \"a:443/TCP\"]"), []string{
		":10: " + x + `allowedHostnames: "A:443" is listed twice (line 8)`,
		":10: " + x + `allowedHostnames: "=A" is listed twice (line 8)`,
		":10: " + x + `allowedHostnames: "*.A" is listed twice (line 9)`,
		":10: " + x + `allowedHostnames: "a:443/TCP" is listed twice (line 9)`}},
	{"too many ports", in + with(one, list, "allowedHostnames = ["+manyPorts("a:%d", 1, 16)+"\n\"a:17/udp\", \"a:18\", \"*.a:17\"]"), []string{
		":8: " + x + `allowedHostnames: "a:17/udp" is one entry more than the 16 ports that can be listed; without a port all are open`}},
	{"international names", in + with(one, list, `allowedHostnames = ["bücher。example", "BÜCHER.example", "xn--bcher-kva.example", "ü..a", "ü.a.", "ü＊.a", "ü:0"]`), hostnames(
		`"BÜCHER.example" is listed twice (line 7)`,
		`"xn--bcher-kva.example" is listed twice (line 7)`,
		`"ü..a" is not a valid host name: has an empty label`,
		`"ü.a." is not a valid host name: ends with a dot`,
		`"ü＊.a" is not a valid host name: has the character '*'`,
		`"ü:0" is not a valid host name: the port "0" is not a number from 1 to 65535`)},
	{"international names that are none", in + with(one, list, `allowedHostnames = ["xn--zzz999.bücher", "XN--\u00fc.a", "a\u200db", "\u05d0a.example", "\u2764\ufe0f\u202e", "`+strings.Repeat("ü", 60)+`"]`), hostnames(
		`"xn--zzz999.bücher" is not a valid host name: the label "xn--zzz999" does not decode to an international name`,
		`"XN--ü.a" is not a valid host name: the label "xn--ü" does not decode to an international name`,
		`"a\u200db" is not a valid host name: not an international name: invalid label "a\u200db"`,
		`"אa.example" is not a valid host name: not an international name: invalid label "אa.example"`,
		`"❤️\u202e" is not a valid host name: not an international name: disallowed rune U+202E`,
		`"`+strings.Repeat("ü", 60)+`" is not a valid host name: has a label of 66 octets, more than 63`)},

	// Addresses.
	{"addresses", in + one + `allowedAddresses = ["", "a.example", "10.0.0.0/33", "10.0.0.1/tcp", "10.0.0.1:0", "10.0.0.0/8:443/sctp", "2001:db8::/32:443", "[10.0.0.1]:443", "[2001:db8::1]", "[2001:db8::]/32:443", "[2001:db8::1", "[2001:db8::1]:", "[2001:db8::1]:1:2", "[]:1"]`, addresses(
		`"" is not valid: it is neither an IP address nor a network`,
		`"a.example" is not valid: it is neither an IP address nor a network`,
		`"10.0.0.0/33" is not valid: it is neither an IP address nor a network`,
		`"10.0.0.1/tcp" is not valid: it is neither an IP address nor a network`,
		`"10.0.0.1:0" is not valid: the port "0" is not a number from 1 to 65535`,
		`"10.0.0.0/8:443/sctp" is not valid: the protocol "sctp" is neither tcp nor udp`,
		`"2001:db8::/32:443" is not valid: IPv6 with a port is written "[2001:db8::/32]:443"`,
		`"[10.0.0.1]:443" is not valid: IPv6 with a port is written "[2001:db8::/32]:443"`,
		`"[2001:db8::1]" is not valid: IPv6 with a port is written "[2001:db8::/32]:443"`,
		`"[2001:db8::]/32:443" is not valid: IPv6 with a port is written "[2001:db8::/32]:443"`,
		`"[2001:db8::1" is not valid: IPv6 with a port is written "[2001:db8::/32]:443"`,
		`"[2001:db8::1]:" is not valid: the port "" is not a number from 1 to 65535`,
		`"[2001:db8::1]:1:2" is not valid: has more than one ":"`,
		`"[]:1" is not valid: IPv6 with a port is written "[2001:db8::/32]:443"`)},
	{"addresses too wide", in + one + `allowedAddresses = ["0.0.0.0/0", "::/0", "10.0.0.1/8", "[2001:db8::1/32]:443", "fe80::1%eth0", "fe80::%eth0/64", "0.0.0.0", "0.0.0.0/1", "128.0.0.0/1", "::", "224.0.0.251", "ff02::/16", "::ffff:0:0/96", "::ffff:10.0.0.1/104", "::fffe:0:0/95", "::/64", "::ffff:0.0.0.0/90", "1.2.3.4/0"]`, addresses(
		`"0.0.0.0/0" is not valid: it opens every address`,
		`"::/0" is not valid: it opens every address`,
		`"10.0.0.1/8" is not valid: it has bits beyond its length; 10.0.0.0/8 is perhaps meant`,
		`"[2001:db8::1/32]:443" is not valid: it has bits beyond its length; 2001:db8::/32 is perhaps meant`,
		`"fe80::1%eth0" is not valid: it has a zone, which no packet carries`,
		`"fe80::%eth0/64" is not valid: it has a zone, which no packet carries`,
		`"0.0.0.0" is not valid: it holds multicast or unspecified addresses`,
		`"0.0.0.0/1" is not valid: it holds multicast or unspecified addresses`,
		`"128.0.0.0/1" is not valid: it holds multicast or unspecified addresses`,
		`"::" is not valid: it holds multicast or unspecified addresses`,
		`"224.0.0.251" is not valid: it holds multicast or unspecified addresses`,
		`"ff02::/16" is not valid: it holds multicast or unspecified addresses`,
		`"::ffff:0:0/96" is not valid: it opens every address`,
		`"::ffff:10.0.0.1/104" is not valid: it has bits beyond its length; 10.0.0.0/8 is perhaps meant`,
		`"::fffe:0:0/95" is not valid: it holds more than the IPv4-mapped addresses`,
		`"::/64" is not valid: it holds more than the IPv4-mapped addresses`,
		`"::ffff:0.0.0.0/90" is not valid: it holds more than the IPv4-mapped addresses`,
		`"1.2.3.4/0" is not valid: it opens every address`)},
	{"address twice", in + one + "allowedAddresses = [\n\"192.0.2.7\", \"192.0.2.7:443\",\n\"::ffff:192.0.2.7\", \"192.0.2.7/32\", \"192.0.2.7:443/tcp\", \"::ffff:192.0.2.0/120\", \"[::ffff:192.0.2.7]:443\"]", []string{
		":10: " + x + `allowedAddresses: "::ffff:192.0.2.7" is listed twice (line 9)`,
		":10: " + x + `allowedAddresses: "192.0.2.7/32" is listed twice (line 9)`,
		":10: " + x + `allowedAddresses: "[::ffff:192.0.2.7]:443" is listed twice (line 9)`}},
	{"too many ports of an address", in + one + "allowedAddresses = [" + manyPorts("192.0.2.7:%d", 1, 17) + "]", addresses(
		`"192.0.2.7:17" is one entry more than the 16 ports that can be listed; without a port all are open`)},
	{"addresses no array", in + one + `allowedAddresses = "192.0.2.7"`, []string{":8: " + x + "allowedAddresses: must be an array of strings, not a string"}},
	{"addresses alone, no traffic", in + "\n[[filters]]\nname = \"x\"\nallowedAddresses = [\"192.0.2.7\"]", []string{
		":2: " + x + "trafficQueue: must be set without allowAllHostnames"}},
	{"addresses alone, keys of answers", in + with(one, list, `allowedAddresses = ["192.0.2.7"]`) + everyAnswerKey, []string{
		":4: " + x + "dnsQueue: must not be set with allowedAddresses alone",
		":6: " + x + "allowAnswersFor: must not be set with allowedAddresses alone",
		":8: " + x + "respectTTL: must not be set with allowedAddresses alone",
		":9: " + x + "ttlGrace: must not be set with allowedAddresses alone",
		":10: " + x + "minTTL: must not be set with allowedAddresses alone",
		":11: " + x + "keepInUse: must not be set with allowedAddresses alone",
		":12: " + x + "maxInUse: must not be set with allowedAddresses alone",
		":13: " + x + "privateAnswers: must not be set with allowedAddresses alone",
		":14: " + x + "allowedQueryTypes: must not be set with allowedAddresses alone"}},
	{"addresses broken, alone", in + "\n[[filters]]\nname = \"x\"\ntrafficQueue.ipv4 = 11\nallowedAddresses = 1", []string{
		":5: " + x + "allowedAddresses: must be an array of strings, not an integer"}},

	// How long answers stay, and which count.
	{"all with addresses and the keys of answers", in + "\n[[filters]]\nname = \"x\"\ndnsQueue.ipv4 = 10\nallowAllHostnames = true\nallowedAddresses = [\"192.0.2.7\"]\n" + everyAnswerKey, []string{
		":6: " + x + "allowedAddresses: must be empty with allowAllHostnames",
		":7: " + x + "respectTTL: must not be set with allowAllHostnames",
		":8: " + x + "ttlGrace: must not be set with allowAllHostnames",
		":9: " + x + "minTTL: must not be set with allowAllHostnames",
		":10: " + x + "keepInUse: must not be set with allowAllHostnames",
		":11: " + x + "maxInUse: must not be set with allowAllHostnames",
		":12: " + x + "privateAnswers: must not be set with allowAllHostnames",
		":13: " + x + "allowedQueryTypes: must not be set with allowAllHostnames"}},
	{"times without their switches", in + one + "ttlGrace = \"1s\"\nminTTL = \"1s\"\nmaxInUse = \"1h\"\nrespectTTL = false", []string{
		":8: " + x + "ttlGrace: must not be set without respectTTL",
		":9: " + x + "minTTL: must not be set without respectTTL",
		":10: " + x + "maxInUse: must not be set without keepInUse"}},
	{"times with broken switches", in + one + "ttlGrace = \"1s\"\nmaxInUse = \"1s\"\nrespectTTL = 1\nkeepInUse = \"yes\"", []string{
		":10: " + x + "respectTTL: must be true or false, not an integer",
		":11: " + x + "keepInUse: must be true or false, not a string"}},
	{"broken times", in + one + "respectTTL = true\nkeepInUse = true\nttlGrace = \"-1s\"\nminTTL = 60\nmaxInUse = \"1\"", []string{
		":10: " + x + `ttlGrace: "-1s" is negative`,
		":11: " + x + `minTTL: must be a duration in quotes such as "90s" or "1h30m", not an integer`,
		":12: " + x + `maxInUse: "1" is not a duration such as "90s" or "1h30m"`}},
	{"times against allowAnswersFor", in + one + "respectTTL = true\nkeepInUse = true\nminTTL = \"301s\"\nmaxInUse = \"299s\"", []string{
		":10: " + x + "minTTL: 5m1s is longer than allowAnswersFor, 5m0s",
		":11: " + x + "maxInUse: 4m59s is shorter than allowAnswersFor, 5m0s"}},
	{"times against reCacheEvery", in + "\nselfDNSQueue.ipv4 = 2" + one + "keepInUse = true\nmaxInUse = \"89m\"\nreCacheEvery = \"89m\"\ncachedHostnames = [\"a\"]", []string{
		":10: " + x + "maxInUse: 1h29m0s is shorter than reCacheEvery and a minute, 1h30m0s, for which cachedHostnames stay open"}},
	{"times against a broken allowAnswersFor", in + with(one, hour, "allowAnswersFor = 5") + "respectTTL = true\nkeepInUse = true\nminTTL = \"301s\"\nmaxInUse = \"1s\"", []string{
		":6: " + x + `allowAnswersFor: must be a duration in quotes such as "90s" or "1h30m", not an integer`}},
	{"no time at all", in + one + "respectTTL = true\nminTTL = \"0s\"\nttlGrace = \"0s\"", []string{
		":9: " + x + "minTTL: must be positive when ttlGrace is 0: an answer may have a TTL of 0"}},
	{"switches without allowAnswersFor", in + with(one, hour, "respectTTL = true\nkeepInUse = true"), []string{
		":2: " + x + "allowAnswersFor: must be set and positive with allowedHostnames"}},
	{"switches without allowAnswersFor, lookup", in + "\nselfDNSQueue.ipv4 = 2" + self + "respectTTL = true\nkeepInUse = true\nallowedQueryTypes = [\"A\"]", []string{
		`:7: filter "s": respectTTL: must not be set without allowAnswersFor`,
		`:8: filter "s": keepInUse: must not be set without allowAnswersFor`,
		`:9: filter "s": allowedQueryTypes: must not be set without allowedHostnames`}},
	{"private answers", in + one + `privateAnswers = "Deny"`, []string{":8: " + x + `privateAnswers: must be "allow" or "deny", not "Deny"`}},
	{"private answers empty", in + one + `privateAnswers = ""`, []string{":8: " + x + `privateAnswers: must be "allow" or "deny", not ""`}},
	{"private answers no string", in + one + `privateAnswers = false`, []string{":8: " + x + "privateAnswers: must be a string, not a boolean"}},
	{"no query types", in + one + `allowedQueryTypes = []`, []string{":8: " + x + "allowedQueryTypes: must name a type, or be left out to allow every type"}},
	{"too many query types", in + one + "allowedQueryTypes = [" + numbered(257) + "]", []string{":8: " + x + "allowedQueryTypes: names 257 types; at most 256 can be listed"}},
	{"query types no array", in + one + `allowedQueryTypes = "A"`, []string{":8: " + x + "allowedQueryTypes: must be an array of strings, not a string"}},
	{"query types", in + one + "allowedQueryTypes = [\n\"A\", \"AAAAA\", \"\", \"TYPE\", \"TYPE0\", \"TYPE65536\", \"TYPE-1\", \"65\", \"*\",\n\"type1\", \"https\", \"TYPE065\", \"axfr\", \"TYPE252\"]", []string{
		":9: " + x + `allowedQueryTypes: "AAAAA" is not a record type such as "AAAA" or "TYPE65"`,
		":9: " + x + `allowedQueryTypes: "" is not a record type such as "AAAA" or "TYPE65"`,
		":9: " + x + `allowedQueryTypes: "TYPE" is not a record type such as "AAAA" or "TYPE65"`,
		":9: " + x + `allowedQueryTypes: "TYPE0" is not a record type such as "AAAA" or "TYPE65"`,
		":9: " + x + `allowedQueryTypes: "TYPE65536" is not a record type such as "AAAA" or "TYPE65"`,
		":9: " + x + `allowedQueryTypes: "TYPE-1" is not a record type such as "AAAA" or "TYPE65"`,
		":9: " + x + `allowedQueryTypes: "65" is not a record type such as "AAAA" or "TYPE65"`,
		":9: " + x + `allowedQueryTypes: "*" is not a record type such as "AAAA" or "TYPE65"`,
		":10: " + x + `allowedQueryTypes: "type1" is listed twice (line 9)`,
		":10: " + x + `allowedQueryTypes: "TYPE065" is listed twice (line 10)`,
		":10: " + x + `allowedQueryTypes: "TYPE252" is listed twice (line 10)`}},

	// Resolvers.
	{"resolvers no array", "resolvers = \"192.0.2.1\"\n" + in + one, []string{":1: resolvers: must be an array of strings, not a string"}},
	{"resolvers empty", "resolvers = []\n" + in + one, []string{":1: resolvers: must name a server, or be left out to trust every server"}},
	{"resolver no address", "resolvers = [\"192.0.2.1:53\"]\n" + in + one, []string{`:1: resolvers: "192.0.2.1:53" is not an IP address (no port, no host name)`}},
	{"resolver with a zone", "resolvers = [\"fe80::1%eth0\"]\n" + in + one, []string{`:1: resolvers: "fe80::1%eth0" has a zone, which no packet carries`}},
	{"resolver unspecified", "resolvers = [\"::\", \"0.0.0.0\"]\n" + in + one, []string{
		`:1: resolvers: "::" is not the address of one server`,
		`:1: resolvers: "0.0.0.0" is not the address of one server`}},
	{"resolver multicast", "resolvers = [\"ff02::fb\", \"::ffff:224.0.0.251\"]\n" + in + one, []string{
		`:1: resolvers: "ff02::fb" is not the address of one server`,
		`:1: resolvers: "::ffff:224.0.0.251" is not the address of one server`}},
	{"resolver twice", "resolvers = [\"192.0.2.1\",\n\"::ffff:192.0.2.1\"]\n" + in + one, []string{`:2: resolvers: "::ffff:192.0.2.1" is listed twice (line 1)`}},

	// A broken value is reported once; no rule complains of it again, and
	// every rule that does not need it still holds.
	{"inbound half broken", "inboundDNSQueue = {ipv4 = 1, ipv6 = -1}" + with(one, dns, "dnsQueue = {ipv4 = 10, ipv6 = 12}"), []string{":1: inboundDNSQueue.ipv6: -1 is outside 0 to 65535"}},
	{"dns half broken", "inboundDNSQueue = {ipv4 = 1, ipv6 = 2}" + with(with(one, dns, "dnsQueue = {ipv4 = 10, ipv6 = 70000}"), traf, "trafficQueue = {ipv4 = 11, ipv6 = 12}"),
		[]string{":4: " + x + "dnsQueue.ipv6: 70000 is outside 0 to 65535"}},
	{"dns half broken, used twice", in + with(one, dns, "dnsQueue = {ipv4 = 1, ipv6 = 70000}"), []string{
		":4: " + x + "dnsQueue.ipv6: 70000 is outside 0 to 65535",
		":4: " + x + "dnsQueue.ipv4: queue 1 is already inboundDNSQueue.ipv4 (line 1)"}},
	{"traffic broken", in + with(one, traf, "trafficQueue = 11"), []string{":5: " + x + "trafficQueue: must be a table such as trafficQueue.ipv4 = 1, not an integer"}},
	{"dns broken, all", in + "\n[[filters]]\nname = \"x\"\nallowAllHostnames = true\ndnsQueue = 10", []string{
		":5: " + x + "dnsQueue: must be a table such as dnsQueue.ipv4 = 1, not an integer"}},
	{"self broken", in + "\nselfDNSQueue = 2" + self, []string{":2: selfDNSQueue: must be a table such as selfDNSQueue.ipv4 = 1, not an integer"}},
	{"lookup broken", in + "\nselfDNSQueue.ipv4 = 2" + with(self, "lookupUnknownIPs = true", "lookupUnknownIPs = 1"), []string{
		`:6: filter "s": lookupUnknownIPs: must be true or false, not an integer`}},
	{"names broken, no dns", in + with(with(one, dns, ""), list, "allowedHostnames = 1"), []string{
		":2: " + x + "dnsQueue: must be set with allowedHostnames",
		":7: " + x + "allowedHostnames: must be an array of strings, not an integer"}},
	{"cached broken, no self", in + one + "cachedHostnames = 1", []string{
		": selfDNSQueue: must be set when a filter uses cachedHostnames or lookupUnknownIPs",
		":2: " + x + "reCacheEvery: must be set and positive with cachedHostnames",
		":8: " + x + "cachedHostnames: must be an array of strings, not an integer"}},

	// Keys.
	{"unknown keys", "bogus = 1\n" + in + with(one, nam, nam+"\nallowedHostname = []\ndnsQueue.ipv5 = 3") + "[more]\ndeep.key = 1\n[more.empty]\n", []string{
		`:1: unknown key "bogus"`,
		`:5: ` + x + `unknown key "allowedHostname"`,
		`:6: ` + x + `unknown key "dnsQueue.ipv5"`,
		`:12: unknown key "more.deep.key"`,
		`:13: unknown key "more.empty"`,
	}},
	{"after a byte order mark", "\ufeffbogus = 1\n" + in + one, []string{`:1: unknown key "bogus"`}},
	{"keys of a filter at the top", everyAnswerKey + "allowedAddresses = []\n" + in + one, func() (want []string) {
		for i, key := range []string{"respectTTL", "ttlGrace", "minTTL", "keepInUse", "maxInUse", "privateAnswers", "allowedQueryTypes", "allowedAddresses"} {
			want = append(want, fmt.Sprintf(`:%d: unknown key %q (a key of a filter: it belongs directly below [[filters]])`, i+1, key))
		}
		return want
	}()},
	{"keys in the wrong table", "allowAllHostnames = true\n" + in + one + "resolvers = [\"192.0.2.1\"]", []string{
		`:1: unknown key "allowAllHostnames" (a key of a filter: it belongs directly below [[filters]])`,
		`:9: ` + x + `unknown key "resolvers" (a key of the top level: it belongs above the first table)`,
	}},
	{"two spellings", in + with(one, nam, "name = \"x\"\nNAME = \"y\""), []string{`:3: filter #0: name: set twice, as "NAME" and as "name"`}},
	{"key too long", strings.Repeat("k", maxKey+1) + " = 1", []string{":1: a key longer than 256 octets"}},
	{"key too deep", in + "\n" + strings.Repeat("k.", maxDepth) + "k = 1", []string{":2: nested deeper than 16 levels"}},
	{"value too deep", in + "\nx = " + strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), []string{":2: nested deeper than 16 levels"}},
	{"tables too deep", in + "\nx = " + strings.Repeat("{a=", maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1), []string{":2: nested deeper than 16 levels"}},
}

func TestRules(t *testing.T) {
	for _, test := range rules {
		t.Run(test.name, func(t *testing.T) {
			config, err := Parse([]byte(test.toml), "f.toml")
			if config != nil || err == nil {
				t.Fatalf("accepted: %+v", config)
			}
			if got := exit.Code(err); got != exit.Config {
				t.Errorf("exit code %d", got)
			}
			want := "f.toml" + strings.Join(test.want, "\nf.toml")
			if err.Error() != want {
				t.Errorf("got\n%v\nwant\n%v", err, want)
			}
		})
	}
}

// Bounds whose files are too long to write down.
func TestBounds(t *testing.T) {
	var filters, addresses, queues strings.Builder
	for i := range ipc.MaxFilters + 1 {
		fmt.Fprintf(&filters, "\n[[filters]]\nname = \"f%d\"\nallowAllHostnames = true\ndnsQueue.ipv4 = %d\n", i, i+2)
	}
	for i := range ipc.MaxResolvers + 1 {
		fmt.Fprintf(&addresses, "\"10.0.%d.%d\",", i>>8, i&255)
	}
	for i := range ipc.MaxQueues / 4 {
		fmt.Fprintf(&queues, "\n[[filters]]\nname = \"f%d\"\ndnsQueue = {ipv4 = %d, ipv6 = %d}\ntrafficQueue = {ipv4 = %d, ipv6 = %d}\nallowAnswersFor = \"1s\"\nallowedHostnames = [\"a\"]",
			i, 4*i+3, 4*i+4, 4*i+5, 4*i+6)
	}
	for _, test := range []struct{ name, toml, want string }{
		{"filters", in + filters.String(), "f.toml: filters: 8193 filters, more than 8192"},
		{"resolvers", "resolvers = [" + addresses.String() + "]\n" + in + one, "f.toml:1: resolvers: 257 resolvers, more than 256"},
		{"queues", "inboundDNSQueue = {ipv4 = 1, ipv6 = 2}" + queues.String(), "f.toml: 16386 queues in all, more than 16384"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse([]byte(test.toml), "f.toml")
			if err == nil || err.Error() != test.want {
				t.Errorf("got\n%.1000v\nwant\n%s", err, test.want)
			}
		})
	}
	if _, err := Parse(make([]byte, MaxFile+1), "f.toml"); err == nil || err.Error() != "f.toml: longer than 268435456 octets" {
		t.Errorf("size: got\n%.1000v", err)
	}
}

// The totals of all filters' names and addresses, without parsing two million of them.
func TestTotalNames(t *testing.T) {
	list := func(n int) rawList { return rawList{entries: make([]string, n)} }
	last := list(1)
	filters := []rawFilter{
		{allowed: list(ipc.MaxHostnames / 2), cached: list(ipc.MaxCached - 1), addresses: last},
		{allowed: list(ipc.MaxHostnames/2 - ipc.MaxCached), cached: last, addresses: list(maxAddresses - 1)},
	}
	r := &report{file: "f.toml"}
	if checkTotal(filters, r); r.err() != nil {
		t.Errorf("the bound itself is refused: %v", r.err())
	}
	checkTotal(append(filters, rawFilter{cached: last, addresses: last}), r)
	const want = "f.toml: filters: 2097153 host names in all, more than 2097152\n" +
		"f.toml: filters: 4097 cachedHostnames in all, more than 4096\n" +
		"f.toml: filters: 65537 allowed addresses in all, more than 65536"
	if err := r.err(); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// The library's errors are all of one type today; another one is refused too.
func TestOtherTOMLError(t *testing.T) {
	r := &report{file: "f.toml"}
	failTOML(r, errors.New("no\nreason"))
	if err := r.err(); err == nil || err.Error() != "f.toml: not TOML: no\ufffdreason" {
		t.Errorf("got %v", err)
	}
}
