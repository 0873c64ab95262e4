package config

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// resolvConf has what resolv.conf(5) allows, and what it does not.
const resolvConf = `# nameserver 192.0.2.1
; nameserver 192.0.2.2
search example.com
 nameserver 192.0.2.3
Nameserver 192.0.2.4
nameservers 192.0.2.5
nameserver192.0.2.6
nameserver
nameserver 192.0.2.7:53
nameserver fe80::1%eth0
nameserver 0.0.0.0
nameserver ::ffff:0.0.0.0
nameserver ::
nameserver ff02::fb
nameserver 192.0.2.8,192.0.2.9
nameserver	  127.0.0.53 192.0.2.10
options edns0
nameserver ::ffff:192.0.2.11	# a comment
nameserver 2001:db8::53
nameserver 192.0.2.12
`

var slowServer = regexp.MustCompile(`(?m)^nameserver[ \t]+([^ \t\n]+)`)

// slowNameservers reads a resolv.conf once more.
func slowNameservers(text []byte) []netip.Addr {
	var servers []netip.Addr
	for _, m := range slowServer.FindAllSubmatch(text, -1) {
		if a, err := netip.ParseAddr(string(m[1])); err == nil && slowResolvers([]netip.Addr{a.Unmap()}) == "" && a.Zone() == "" {
			servers = append(servers, a.Unmap())
		}
	}
	return servers[:min(3, len(servers))]
}

func addrs(texts ...string) (as []netip.Addr) {
	for _, text := range texts {
		as = append(as, netip.MustParseAddr(text))
	}
	return as
}

func TestNameservers(t *testing.T) {
	for text, want := range map[string][]netip.Addr{
		"":                               nil,
		"nameserver 192.0.2.1":           addrs("192.0.2.1"),
		"nameserver 192.0.2.1\r\n":       nil, // nor does the C library take it
		"nameserver \n192.0.2.1":         nil,
		"x\nnameserver ::1\nnameserver ": addrs("::1"),
		resolvConf:                       addrs("127.0.0.53", "192.0.2.11", "2001:db8::53"),
	} {
		if got := nameservers(text); !slices.Equal(got, want) {
			t.Errorf("%q: %v, not %v", text, got, want)
		}
	}
}

// TestSetServers: resolv.conf is read only where it is needed, and names at
// least one server whose answers are seen.
func TestSetServers(t *testing.T) {
	const both = "inboundDNSQueue = {ipv4 = 1, ipv6 = 2}\nselfDNSQueue = {ipv4 = 3, ipv6 = 4}"
	onBoth := with(self, "trafficQueue.ipv4 = 21", "trafficQueue = {ipv4 = 21, ipv6 = 22}")
	const on6 = "inboundDNSQueue.ipv6 = 2\nselfDNSQueue.ipv6 = 4"
	only6 := with(self, "trafficQueue.ipv4 = 21", "trafficQueue.ipv6 = 22")
	for name, test := range map[string]struct {
		config, resolvConf string
		want               []netip.Addr
		err                string
	}{
		"both":      {both + onBoth, resolvConf, addrs("127.0.0.53", "192.0.2.11", "2001:db8::53"), ""},
		"IPv4":      {in + "\nselfDNSQueue.ipv4 = 2" + self, resolvConf, addrs("127.0.0.53", "192.0.2.11"), ""},
		"IPv6":      {on6 + only6, resolvConf, addrs("2001:db8::53"), ""},
		"IPv6 last": {on6 + only6, strings.Repeat("nameserver 192.0.2.1\n", 3) + "nameserver 2001:db8::53\n", nil, "names no server that can be asked"},
		"no zone":   {both + onBoth, "nameserver fe80::1\n", nil, "names no server that can be asked"},
		"empty":     {both + onBoth, "", nil, "names no server that can be asked"},
		"missing":   {both + onBoth, "missing", nil, "cannot be read: no such file or directory"},
		"resolvers": {"resolvers = [\"192.0.2.53\", \"2001:db8::1\", \"169.254.169.253\"]\n" + in + "\nselfDNSQueue.ipv4 = 2" + self, "unread", addrs("192.0.2.53", "169.254.169.253"), ""},
		"not asked": {in + one, "unread", nil, ""},
	} {
		c := mustParse(t, test.config)
		reads := 0
		err := c.SetServers(func(path string) ([]byte, error) {
			reads++
			if path != "/etc/resolv.conf" || test.resolvConf == "missing" {
				return nil, unix.ENOENT
			}
			return []byte(test.resolvConf), nil
		})
		if test.err != "" {
			want := "f.toml: selfDNSQueue: resolvers is not set, and /etc/resolv.conf " + test.err
			if err == nil || err.Error() != want || exit.Code(err) != exit.Config {
				t.Errorf("%s: code %d, %v", name, exit.Code(err), err)
			}
		} else if err != nil || !slices.Equal(c.Servers, test.want) {
			t.Errorf("%s: %v, %v", name, c.Servers, err)
		}
		if (reads == 0) != (test.resolvConf == "unread") {
			t.Errorf("%s: read %d times", name, reads)
		}
	}
}
