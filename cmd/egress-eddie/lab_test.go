package main_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

// family is one address family and who has which address in it.
type family struct {
	name     string
	v6       bool
	client   netip.Addr // the host that is filtered
	resolver netip.Addr // the DNS server it asks
	other    netip.Addr // another DNS server on the same machine
	inside   netip.Addr // the router's side of the container's network
	guest    netip.Addr // the container
	webs     string     // prefix of the web servers' addresses
	bits     int        // of a link's prefix
}

// The addresses are those of RFC 5737 and RFC 3849.
var families = []family{
	{
		name: "ipv4", bits: 24, webs: "198.51.100.",
		client: netip.MustParseAddr("192.0.2.1"), resolver: netip.MustParseAddr("192.0.2.53"), other: netip.MustParseAddr("192.0.2.54"),
		inside: netip.MustParseAddr("203.0.113.1"), guest: netip.MustParseAddr("203.0.113.2"),
	},
	{
		name: "ipv6", v6: true, bits: 64, webs: "2001:db8:1::",
		client: netip.MustParseAddr("2001:db8::1"), resolver: netip.MustParseAddr("2001:db8::53"), other: netip.MustParseAddr("2001:db8::54"),
		inside: netip.MustParseAddr("2001:db8:2::1"), guest: netip.MustParseAddr("2001:db8:2::2"),
	},
}

// eachFamily runs a test once for each family, side by side with others.
func eachFamily(t *testing.T, test func(t *testing.T, f family)) {
	t.Parallel()
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}

// web is the address of web server i, 1 to 99. All are the same machine.
func (f family) web(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprint(f.webs, i)) }

// record is the type of the family's address records.
func (f family) record() string {
	if f.v6 {
		return "AAAA"
	}
	return "A"
}

func (f family) dns() netip.AddrPort { return netip.AddrPortFrom(f.resolver, 53) }

// address is the ip(8) command that gives a device an address, usable at once.
func (f family) address(a netip.Addr, device string) string {
	return fmt.Sprintf("addr add %v/%d dev %s%s", a, f.bits, device, pick(f, "", " nodad"))
}

// pick is a for IPv4 and b for IPv6.
func pick[T any](f family, a, b T) T {
	if f.v6 {
		return b
	}
	return a
}

// lab is one filtered host and the world that it sees.
type lab struct {
	t              *testing.T
	client, server *netns
	daemon         *daemon
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, client: newNetns(t, "client"), server: newNetns(t, "server")}
	cable(t, l.client, l.server, "eth0", "eth0")
	for _, f := range families {
		l.client.ip(t,
			f.address(f.client, "eth0"),
			fmt.Sprintf("route add default via %v", f.resolver))
		l.server.ip(t,
			f.address(f.resolver, "eth0"),
			f.address(f.other, "eth0"),
			fmt.Sprintf("route add %v/%d via %v", netip.PrefixFrom(f.guest, f.bits).Masked().Addr(), f.bits, f.client),
			fmt.Sprintf("route add local %v dev lo", netip.PrefixFrom(f.web(1), f.bits).Masked()))
	}
	// Where clouds keep their secrets; the world of these tests has it too.
	l.server.ip(t, "route add local 169.254.169.254/32 dev lo")
	l.serve(l.server)
	return l
}

// cable joins two namespaces by interfaces of these names.
func cable(t *testing.T, a, b *netns, nameA, nameB string) {
	t.Helper()
	a.ip(t, fmt.Sprintf("link add %s type veth peer name %s netns %d", nameA, nameB, b.tid), "link set "+nameA+" up")
	b.ip(t, "link set "+nameB+" up")
}

// serve is a web server on every address of a namespace. It answers with the
// address that it was asked at.
func (l *lab) serve(n *netns) {
	l.t.Helper()
	listener := n.listenTCP(l.t, netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "here %v\n", r.Context().Value(http.LocalAddrContextKey))
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	l.t.Cleanup(func() { server.Close(); <-done })
}

// queue numbers, the same in every lab.
func inboundQueue(f family) int        { return pick(f, 1, 2) }
func selfQueue(f family) int           { return pick(f, 3, 4) }
func dnsQueue(i int, f family) int     { return 1000 + 10*i + pick(f, 0, 1) }
func trafficQueue(i int, f family) int { return 1000 + 10*i + pick(f, 2, 3) }

// rules sets the rules of both families in the client's namespace, in the
// filter table unless they begin with another one.
func (l *lab) rules(of func(f family) []string) {
	l.t.Helper()
	for _, f := range families {
		lines := of(f)
		if len(lines) == 0 || !strings.HasPrefix(lines[0], "*") {
			lines = append([]string{"*filter"}, lines...)
		}
		l.client.feed(l.t, strings.Join(lines, "\n")+"\nCOMMIT\n", pick(f, "iptables-restore", "ip6tables-restore"))
	}
}

// standardRules are the README's for one filter: everything of the host.
func standardRules(f family) []string {
	return append(dnsRules(f), trafficRule(f))
}

func dnsRules(f family) []string {
	return []string{
		fmt.Sprintf("-A INPUT -p udp --sport 53 -j NFQUEUE --queue-num %d", inboundQueue(f)),
		fmt.Sprintf("-A OUTPUT -p udp --dport 53 -j NFQUEUE --queue-num %d", dnsQueue(0, f)),
	}
}

// tcpRules are standardRules, with DNS over TCP on the same queues.
func tcpRules(f family) []string {
	return append([]string{
		fmt.Sprintf("-A INPUT -p tcp --sport 53 -j NFQUEUE --queue-num %d", inboundQueue(f)),
		fmt.Sprintf("-A OUTPUT -p tcp --dport 53 -j NFQUEUE --queue-num %d", dnsQueue(0, f)),
	}, standardRules(f)...)
}

func trafficRule(f family) string {
	return fmt.Sprintf("-A OUTPUT -m conntrack --ctstate NEW -j NFQUEUE --queue-num %d", trafficQueue(0, f))
}

// idle requires that nothing waits in any queue, and that nothing was lost
// before the daemon could see it.
func (l *lab) idle(t *testing.T) {
	t.Helper()
	var queues []queueState
	empty := func() bool {
		waiting := 0
		queues = l.client.queues(t)
		for _, q := range queues {
			waiting += q.waiting
		}
		return waiting == 0
	}
	if !eventually(empty) {
		t.Errorf("packets wait in a queue: %+v", queues)
	}
	if len(queues) == 0 {
		t.Error("no queues: the daemon is gone")
	}
	for _, q := range queues {
		if q.dropped+q.lost > 0 {
			t.Errorf("the kernel itself dropped packets: %+v", q)
		}
	}
}

// curl asks a web server and returns what it said, or "" when no connection
// came about.
func (n *netns) curl(t *testing.T, uid uint32, at netip.Addr, seconds float64) string {
	t.Helper()
	url := "http://" + netip.AddrPortFrom(at, 80).String() + "/"
	out, status := n.run(t, as(uid, exec.Command("curl", "-q", "-sS", "--noproxy", "*", "--connect-timeout", fmt.Sprint(seconds), url)))
	switch status {
	case 0:
		return out
	case 28: // CURLE_OPERATION_TIMEDOUT
		return ""
	}
	t.Fatalf("curl %s: status %d: %s", url, status, out)
	return ""
}

// reaches requires that the host can open a connection to a web server.
func (l *lab) reaches(t *testing.T, at netip.Addr) {
	t.Helper()
	if got, want := l.client.curl(t, 0, at, patience.Seconds()), fmt.Sprintf("here %v\n", netip.AddrPortFrom(at, 80)); got != want {
		t.Errorf("curl %v said %q, want %q", at, got, want)
	}
	l.daemon.sees(t, eventTraffic, fields{"dst": at, "verdict": "accept", "reason": nil})
}

// isShut requires that the host cannot open a connection to an address, and
// that it is the filter that keeps it from it.
func (l *lab) isShut(t *testing.T, at netip.Addr) {
	t.Helper()
	if got := l.client.curl(t, 0, at, 0.3); got != "" {
		t.Errorf("curl %v got through: %q", at, got)
	}
	l.daemon.sees(t, eventTraffic, fields{"dst": at, "verdict": "drop", "reason": "address not granted"})
}
