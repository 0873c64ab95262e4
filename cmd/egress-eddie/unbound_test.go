package main_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const unboundConf = `
server:
	directory: ""
	chroot: ""
	username: ""
	pidfile: ""
	logfile: ""
	use-syslog: no
	interface: %[1]v
	access-control: 0.0.0.0/0 allow
	access-control: ::/0 allow
	module-config: "iterator" # no DNSSEC: nothing here is signed
	use-caps-for-id: yes
	qname-minimisation: no
remote-control:
	control-enable: no
stub-zone:
	name: "example.com"
	stub-addr: %[2]v
stub-zone:
	name: "example.net"
	stub-addr: %[2]v
`

// unbound starts Debian's caching resolver, which spells every question that
// it asks in random case and refuses an answer to another spelling (DNS 0x20).
func (l *lab) unbound(n *netns, uid uint32, at, authority netip.Addr) {
	l.t.Helper()
	path, err := exec.LookPath("unbound")
	if err != nil {
		l.t.Fatal(err)
	}
	conf := configFile(l.t, fmt.Sprintf(unboundConf, at, authority))
	// Ubuntu's AppArmor profile keeps the installed one to /etc/unbound. It is
	// for cp to write the copy: a file that this process writes may still be open
	// in what another test has just forked, and could not be executed.
	copied := filepath.Join(filepath.Dir(conf), "unbound")
	if out, err := exec.Command("cp", path, copied).CombinedOutput(); err != nil {
		l.t.Fatalf("copying unbound: %v: %s", err, out)
	}
	var out bytes.Buffer
	cmd := as(uid, exec.Command(copied, "-d", "-c", conf))
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.start(cmd, true); err != nil {
		l.t.Fatalf("unbound: %v", err)
	}
	l.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if l.t.Failed() {
			l.t.Logf("unbound:\n%s", out.String())
		}
	})
	l.awaitDNS(n, at)
}

// authority answers nI.example.com with an alias, and the alias, about which
// unbound asks it too, with the address of web I.
func authority(f family) func(q *query) {
	records := map[string][]string{}
	for i := 1; i <= 40; i++ {
		name, alias := fmt.Sprintf("n%d.example.com.", i), fmt.Sprintf("n%d.cdn.example.net.", i)
		records[name] = []string{fmt.Sprintf("%s 60 IN CNAME %s", name, alias)}
		records[alias] = []string{fmt.Sprintf("%s 60 IN %s %v", alias, f.record(), f.web(i))}
	}
	return func(q *query) {
		m := q.reply(records[strings.ToLower(q.name())]...)
		m.Authoritative = true
		q.send(m)
	}
}

// spelt is a name in random case.
func spelt(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' && rand.IntN(2) == 0 {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

// askSpelt asks for n1 to n40.example.com and then again, when all of it is in
// the cache. Every answer must come, to the spelling that was used.
func askSpelt(t *testing.T, a *asker, at netip.Addr, f family) {
	t.Helper()
	start := time.Now()
	for range 2 {
		for i := 1; i <= 40; i++ {
			name := spelt(fmt.Sprintf("n%d.example.com.", i))
			got := a.ask(netip.AddrPortFrom(at, 53), name, typeOf(f))
			sameData(t, got, fmt.Sprintf("n%d.cdn.example.net.", i), f.web(i))
			if got.Question[0].Name != name {
				t.Errorf("asked for %s, answered was %s", name, got.Question[0].Name)
			}
		}
	}
	t.Logf("80 questions to unbound, one after the other: %v", time.Since(start))
}

// spellings requires that unbound asked the authority for each name, not twice
// for all of them, and spelt the aliases, which came from no client, its way.
func (r *resolver) spellings(t *testing.T) {
	t.Helper()
	asked, mixed := 0, 0
	for i := 1; i <= 40; i++ {
		n := r.asked(fmt.Sprintf("n%d.example.com", i))
		if n == 0 {
			t.Errorf("the authority was never asked for n%d", i)
		}
		asked += n
	}
	for _, q := range r.got() {
		if low := strings.ToLower(q.name()); low != q.name() && strings.Contains(low, ".cdn.") {
			mixed++
		}
	}
	if asked >= 80 || mixed < 30 {
		t.Errorf("the authority was asked %d times for 40 names; %d of 40 aliases were in mixed case", asked, mixed)
	}
}

// A caching resolver behind the filter: the client's spellings pass, and
// every answer, fresh or cached, is paired and opens its address.
func TestUnboundBehind(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		r := l.resolver(f.other, authority(f))
		l.unbound(l.server, 0, f.resolver, f.other)
		l.start(allowing("example.com"))
		l.rules(standardRules)
		askSpelt(t, l.client.asker(t, f.client), f.resolver, f)
		r.spellings(t)
		for _, i := range []int{1, 40} {
			l.daemon.sees(t, eventResponse, fields{"name": fmt.Sprintf("n%d.example.com", i), "verdict": "accept",
				"granted": f.web(i), "learnt": fmt.Sprintf("n%d.cdn.example.net", i)})
			l.reaches(t, f.web(i))
		}
		l.isRefused(t, f, "n41.example.org", typeOf(f))
		l.isShut(t, f.web(41))
		if r.asked("n41.example.org") > 0 {
			t.Error("the question reached the authority")
		}
		l.idle(t)
	})
}

// The host's own caching resolver, which may ask for any name, and a user who
// may not: both pass the filter, the resolver's questions with the spelling
// that it insists on.
func TestUnboundOnTheHost(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.client.sysctl(t, "ipv4/ip_unprivileged_port_start", "53") // of IPv6 too
		here := pick(f, netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback())
		r := l.resolver(f.resolver, authority(f))
		l.unbound(l.client, userB, here, f.resolver)
		l.start(config{filters: []filter{{name: "A", allowed: []string{"example.com"}}, {name: "all"}}})
		l.rules(userRules(true, false))

		a := l.client.askerAs(t, userA, here)
		askSpelt(t, a, here, f)
		r.spellings(t)
		l.daemon.sees(t, eventRequest, fields{"filter": "all", "uid": userB, "name": "n40.example.com", "dst": f.dns(), "verdict": "accept"})
		l.daemon.sees(t, eventResponse, fields{"filter": "all", "name": "n40.example.com", "src": f.dns(), "verdict": "accept", "granted": nil})
		l.daemon.sees(t, eventResponse, fields{"filter": "A", "name": "n40.example.com", "verdict": "accept", "granted": f.web(40)})
		if got := l.client.curl(t, userA, f.web(40), patience.Seconds()); got == "" {
			t.Error("the user cannot reach what was opened for him")
		}

		a.send(netip.AddrPortFrom(here, 53), question("n41.example.org", dns.TypeTXT))
		l.daemon.sees(t, eventRequest, fields{"filter": "A", "name": "n41.example.org", "verdict": "drop", "reason": "name not allowed"})
		if got := l.client.curl(t, userA, f.web(41), 0.3); got != "" {
			t.Errorf("the user reached what nobody opened: %q", got)
		}
		a.nothing()
		if r.asked("n41.example.org") > 0 {
			t.Error("the question reached the authority")
		}
		l.idle(t)
	})
}
