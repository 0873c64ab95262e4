package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse([]byte(text), "f.toml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// everything uses every key.
const everything = `
resolvers = ["192.0.2.1", "::ffff:192.0.2.2", "2001:db8::53", "127.0.0.53", "fe80::1"]
responseInterfaceCheck = false
sandbox.userNamespaces = "best-effort"
inboundDNSQueue.ipv4 = 1
inboundDNSQueue.ipv6 = 65535
selfDNSQueue.ipv4 = 3
selfDNSQueue.ipv6 = 4
selfMark = 0xffff_ffff

[[filters]]
name = "names & more"
dnsQueue.ipv4 = 10
dnsQueue.ipv6 = 11
trafficQueue.ipv4 = 12
trafficQueue.ipv6 = 13
allowAnswersFor = "1h30m"
allowedHostnames = ["Example.COM", "_dmarc.example.org"]
cachedHostnames = ["ntp.example"]
reCacheEvery = "90s"
lookupUnknownIPs = true
respectTTL = true
ttlGrace = "10s"
minTTL = "20s"
keepInUse = true
maxInUse = "3h"
privateAnswers = "deny"
allowedQueryTypes = ["https", "A", "TYPE64", "aaaa"]
allowedAddresses = ["192.0.2.7"]

[[filters]]
name = "all"
dnsQueue.ipv4 = 20
dnsQueue.ipv6 = 21
allowAllHostnames = true

[[filters]]
name = "cached"
trafficQueue.ipv4 = 30
trafficQueue.ipv6 = 31
cachedHostnames = ["Example.COM"]
reCacheEvery = "1s"
allowAnswersFor = "0s"

[[filters]]
name = "addresses"
trafficQueue.ipv4 = 40
trafficQueue.ipv6 = 41
allowedAddresses = ["10.0.0.0/8:443", "[2001:db8::/32]:443/tcp", "10.0.0.0/8:53/udp", "2001:db8::1", "::ffff:192.0.2.0/120"]
`

func TestEverything(t *testing.T) {
	got := mustParse(t, everything)
	want := &Config{
		InboundDNSQueue: QueuePair{1, 65535},
		SelfDNSQueue:    QueuePair{3, 4},
		SelfMark:        1<<32 - 1,
		Resolvers: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"),
			netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("fe80::1")},
		Servers: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"),
			netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("127.0.0.53")},
		Filters: []FilterOptions{
			{
				Name: "names & more", DNSQueue: QueuePair{10, 11}, TrafficQueue: QueuePair{12, 13},
				AllowAnswersFor: 90 * time.Minute, ReCacheEvery: 90 * time.Second, LookupUnknownIPs: true,
				AllowedHostnames: []string{"Example.COM", "_dmarc.example.org"},
				CachedHostnames:  []string{"ntp.example"},
				Hostnames:        []Hostname{{Name: "\x07example\x03com\x00", Scope: ipc.ScopeTree}, {Name: "\x06_dmarc\x07example\x03org\x00", Scope: ipc.ScopeTree}},
				CachedNames:      []name.Name{"\x03ntp\x07example\x00"},
				RespectTTL:       true, TTLGrace: 10 * time.Second, MinTTL: 20 * time.Second, KeepInUse: true, MaxInUse: 3 * time.Hour,
				DenyPrivate: true, QueryTypes: []uint16{1, 28, 64, 65},
				Addresses: []AllowedAddress{{Prefix: netip.MustParsePrefix("192.0.2.7/32")}},
			},
			{Name: "all", DNSQueue: QueuePair{20, 21}, AllowAllHostnames: true},
			{
				Name: "cached", TrafficQueue: QueuePair{30, 31}, ReCacheEvery: time.Second,
				CachedHostnames: []string{"Example.COM"}, CachedNames: []name.Name{"\x07example\x03com\x00"},
			},
			{
				Name: "addresses", TrafficQueue: QueuePair{40, 41},
				Addresses: []AllowedAddress{
					{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Ports: []ipc.Port{{Number: 443}, {Number: 53, Proto: ipc.ProtoUDP}}},
					{Prefix: netip.MustParsePrefix("2001:db8::/32"), Ports: []ipc.Port{{Number: 443, Proto: ipc.ProtoTCP}}},
					{Prefix: netip.MustParsePrefix("2001:db8::1/128")},
					{Prefix: netip.MustParsePrefix("192.0.2.0/24")},
				},
			},
		},
		NamespacesBestEffort: true,
		Warnings:             []string{warnBestEffort},
		file:                 "f.toml",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// One configuration in the spellings that TOML and the predecessor allow.
func TestSpellings(t *testing.T) {
	want := mustParse(t, in+one)
	if !want.ResponseInterfaceCheck {
		t.Error("the interface check is off by default")
	}
	if want.NamespacesBestEffort {
		t.Error("cells may do without namespaces by default")
	}
	if len(want.Warnings) != 1 || want.Warnings[0] != warnResolvers || strings.Contains(warnResolvers, "\n") {
		t.Errorf("warnings %q", want.Warnings)
	}
	for name, text := range map[string]string{
		"header":     "[inboundDNSQueue]\nipv4 = 1\nipv6 = 0\n[[filters]]\nname = 'x'\nallowAnswersFor = '300s'\nallowedHostnames = ['example.com']\n[filters.dnsQueue]\nipv4 = 0xA\n[filters.trafficQueue]\nipv4 = 1_1\n",
		"inline":     "inboundDNSQueue = {ipv4 = 1}\nfilters = [{name = 'x', dnsQueue = {ipv4 = 10}, trafficQueue.ipv4 = 11, allowAnswersFor = '5m', allowedHostnames = ['example.com']}]",
		"other case": "INBOUNDdnsqueue.IPV4 = 1\n[[Filters]]\nNAME = 'x'\ndnsqueue.ipv4 = 10\nTrafficQueue.ipv4 = 11\nallowanswersfor = '5m'\nallowedHostNames = ['example.com']",
		"crlf, bom":  "\ufeff" + strings.ReplaceAll(in+one, "\n", "\r\n"),
		"unset ones": "responseInterfaceCheck = true\nsandbox = {UserNamespaces = 'required'}\nselfDNSQueue = {}\n" + in + one + "allowAllHostnames = false\nlookupUnknownIPs = false\ncachedHostnames = []\nallowedAddresses = []\nrespectTTL = false\nkeepInUse = false\nprivateAnswers = 'allow'\n",
	} {
		got := mustParse(t, text)
		// An empty list and an absent one are the same to every reader.
		if f := &got.Filters[0]; len(f.CachedHostnames) == 0 {
			f.CachedHostnames = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", name, got, want)
		}
	}
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../cmd/egress-eddie/examples/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		if _, err := ParseConfig(file); err != nil {
			t.Errorf("%v", err)
		}
	}
	c, err := ParseConfig("../../cmd/egress-eddie/examples/egress-eddie.toml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Filters) != 3 || c.InboundDNSQueue.IPv4 == 0 || c.InboundDNSQueue.IPv6 == 0 || !c.Filters[2].AllowAllHostnames {
		t.Errorf("the worked example is %+v", c)
	}
}

func TestParseConfigFiles(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.toml")
	if err := os.WriteFile(bad, []byte("a = 1\nb = ["), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, want string }{
		{filepath.Join(dir, "none.toml"), "configuration: open " + filepath.Join(dir, "none.toml") + ": no such file or directory"},
		{dir, "configuration: read " + dir + ": is a directory"},
		{"", "configuration: no file named"},
		{bad, bad + ":2: not TOML: unexpected EOF; expected value (after the key \"b\")"},
		{"/dev/zero", "/dev/zero: longer than 268435456 octets"},
		{"/proc/self/mem", "configuration: read /proc/self/mem: input/output error"},
	} {
		c, err := ParseConfig(test.path)
		if c != nil || err == nil || err.Error() != test.want || exit.Code(err) != exit.Config {
			t.Errorf("%q: code %d, %v\nwant %s", test.path, exit.Code(err), err, test.want)
		}
	}
}

// A message stays one line of bounded length whatever the file holds.
func TestMessagesAreSafe(t *testing.T) {
	long := strings.Repeat("a", 1<<20)
	for _, text := range []string{
		in + with(one, list, `allowedHostnames = ["`+long+`"]`),
		in + with(one, list, `allowedHostnames = ["\u001b]0;x\u0007\n"]`),
		in + with(one, nam, `name = "`+long+`"`),
		in + "\nx = " + strings.Repeat("9", 1<<20),
		in + "\n\"\\u009b\\n\" = 1" + one,
		in + "\n\"\\u009b\\n\".a = 1\n\"\\u009b\\n\".a = 2",
		in + "\nx = '''\n'''\nx = 1",
	} {
		_, err := Parse([]byte(text), "f\n\x1b.toml")
		if err == nil {
			t.Errorf("accepted %.200q", text)
			continue
		}
		msg := err.Error()
		if len(msg) > 2000 || strings.ContainsAny(msg, "\n\x1b\u009b") {
			t.Errorf("message %.3000q", msg)
		}
	}
}
