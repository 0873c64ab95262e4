package main_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// askingRules are tcpRules, with the daemon's own questions on their queue.
func askingRules(f family) []string {
	self := fmt.Sprintf("-A OUTPUT -m mark --mark 0x20000000 -p %%s --dport 53 -j NFQUEUE --queue-num %d", selfQueue(f))
	return append([]string{fmt.Sprintf(self, "udp"), fmt.Sprintf(self, "tcp")}, tcpRules(f)...)
}

// asking is the configuration of a daemon that asks this family's resolver.
func asking(f family, filters ...filter) config {
	return config{resolvers: []any{f.resolver}, self: true, filters: filters}
}

// lookingUp is one that looks up addresses that nothing opens.
func lookingUp(f family, allowed ...string) config {
	return asking(f, filter{allowed: allowed, more: "lookupUnknownIPs = true\n"})
}

// cachedAnswers waits until the daemon has opened an address for a cached name.
func (l *lab) cachedAnswer(t *testing.T, of string, at netip.Addr) logLine {
	t.Helper()
	return l.daemon.sees(t, eventResponse, fields{"filter": "filter 0", "name": of, "verdict": "accept", "granted": at})
}

// The addresses of a cached name are open without anybody's question, and
// nobody may ask for it.
func TestCached(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.dnsmasq(fmt.Sprintf("--host-record=node.cdn.test,%v", f.web(1)), "--cname=www.cdn.test,node.cdn.test")
		l.rules(askingRules)
		l.start(asking(f, filter{allowed: []string{"example.com"}, cached: []string{"www.cdn.test"}, every: "10m"}))

		line := l.cachedAnswer(t, "www.cdn.test", f.web(1))
		if line.text("for") != "11m0s" || line.text("learnt") != "" || line.text("queue") != fmt.Sprint(inboundQueue(f)) {
			t.Errorf("the answer: %v", line)
		}
		l.daemon.sees(t, eventRequest, fields{"queue": selfQueue(f), "name": "www.cdn.test", "verdict": "accept"})
		l.reaches(t, f.web(1))
		l.isShut(t, f.web(2))
		l.isRefused(t, f, "www.cdn.test", typeOf(f))
		l.isRefused(t, f, "node.cdn.test", typeOf(f))
		l.idle(t)
	})
}

// A filter of cached names alone has no queue for requests.
func TestCachedAlone(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, zone(map[string][]string{"cdn.test.": {fmt.Sprintf("cdn.test. 60 IN %s %v", f.record(), f.web(1))}}))
		l.rules(askingRules)
		l.start(asking(f, filter{cached: []string{"cdn.test"}}))
		l.cachedAnswer(t, "cdn.test", f.web(1))
		l.reaches(t, f.web(1))
		l.isShut(t, f.web(2))
		l.idle(t)
	})
}

// A name is asked for again every reCacheEvery, and sooner where that failed:
// after 1 s, then 2 s. What an earlier answer opened stays.
func TestCachedAgain(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		var round, late atomic.Int32
		l := newLab(t)
		l.resolver(f.resolver, func(q *query) {
			switch {
			case q.msg == nil || q.msg.Question[0].Qtype != typeOf(f):
				q.send(q.reply())
			case strings.HasPrefix(q.name(), "late."): // exists only later
				if late.Add(1) == 1 {
					m := q.reply()
					m.Rcode = dns.RcodeNameError
					q.send(m)
					return
				}
				q.send(q.reply(fmt.Sprintf("late.test. 1 IN %s %v", f.record(), f.web(9))))
			default:
				q.send(q.reply(fmt.Sprintf("cdn.test. 1 IN %s %v", f.record(), f.web(int(round.Add(1))))))
			}
		})
		l.rules(askingRules)
		began := time.Now()
		l.start(asking(f, filter{cached: []string{"cdn.test"}, every: "3s"}, filter{cached: []string{"late.test"}, every: "1h"}))
		l.cachedAnswer(t, "cdn.test", f.web(1))
		l.daemon.sees(t, "no answer about a name of cachedHostnames", fields{"name": "late.test", "type": f.record(), "again_in": "1s"})
		l.daemon.sees(t, eventResponse, fields{"filter": "filter 1", "name": "late.test", "verdict": "accept", "granted": f.web(9)})
		if took := time.Since(began); took < time.Second {
			t.Errorf("what does not exist was asked for again within %v", took)
		}
		l.cachedAnswer(t, "cdn.test", f.web(2))
		if took := time.Since(began); took < 3*time.Second {
			t.Errorf("a name was asked for again within %v", took)
		}
		l.reaches(t, f.web(1))
		l.reaches(t, f.web(2))
		l.isShut(t, f.web(8))
		l.idle(t)
	})
}

// Hundreds of names are asked for side by side: a server that takes 200 ms for
// each is done in a fraction of what one after the other would take.
func TestCachedConcurrently(t *testing.T) {
	const names = 300
	const slow = 200 * time.Millisecond
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, func(q *query) {
			time.AfterFunc(slow, func() { q.send(q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1)))) })
		})
		l.rules(askingRules)
		c := asking(f, filter{})
		c.filters[0].cached = nil
		for i := range names {
			c.filters[0].cached = append(c.filters[0].cached, fmt.Sprintf("n%d.cdn.test", i))
		}
		began := time.Now()
		l.start(c)
		for i := range names {
			l.daemon.sees(t, eventResponse, fields{"name": fmt.Sprintf("n%d.cdn.test", i), "type": f.record(), "verdict": "accept"})
		}
		if took := time.Since(began); took > names*slow/4 {
			t.Errorf("%d names took %v", names, took)
		} else {
			t.Logf("%d names, two questions each, took %v", names, took)
		}
		time.Sleep(2 * slow) // what was asked last has been answered
		l.idle(t)
	})
}

// The first server is dead, refuses, or fails: the next one is asked.
func TestCachedNextServer(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		for what, first := range map[string]func(l *lab){
			"silent": func(l *lab) { l.resolver(f.resolver, func(*query) {}) },
			"closed": func(*lab) {}, // the port is unreachable
			"fails": func(l *lab) {
				l.resolver(f.resolver, func(q *query) {
					m := q.reply()
					m.Rcode = dns.RcodeServerFailure
					q.send(m)
				})
			},
		} {
			t.Run(what, func(t *testing.T) {
				l := newLab(t)
				first(l)
				l.resolver(f.other, zone(map[string][]string{"cdn.test.": {fmt.Sprintf("cdn.test. 60 IN %s %v", f.record(), f.web(1))}}))
				l.rules(askingRules)
				c := asking(f, filter{cached: []string{"cdn.test"}})
				c.resolvers = append(c.resolvers, f.other)
				l.start(c)
				l.cachedAnswer(t, "cdn.test", f.web(1))
				l.reaches(t, f.web(1))
				l.idle(t)
			})
		}
	})
}

// Each question begins with the first server. A program whose packets have
// questions asked that nobody answers does not turn others to the next server.
func TestCachedServerOrder(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		answer := func(i int) func(*query) {
			return func(q *query) {
				if !strings.HasSuffix(q.name(), ".arpa.") {
					q.send(q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(i))))
				}
			}
		}
		first := l.resolver(f.resolver, answer(1))
		second := l.resolver(f.other, answer(2))
		l.rules(askingRules)
		c := asking(f, filter{allowed: []string{"example.com"}, more: "lookupUnknownIPs = true\n"}, filter{cached: []string{"cdn.test"}, every: "1s"})
		c.resolvers = append(c.resolvers, f.other)
		l.start(c)
		if l.client.connects(t, netip.Addr{}, netip.AddrPortFrom(f.web(3), 80), 100*time.Millisecond) {
			t.Error("an unknown address is open")
		}
		if !eventually(func() bool { return second.asked(reverse(f.web(3))) > 0 }) {
			t.Error("the second server is not asked for what the first does not answer")
		}
		before := first.asked("cdn.test")
		if !eventually(func() bool { return first.asked("cdn.test")+second.asked("cdn.test") > before+2 }) {
			t.Error("a cached name is not asked for again")
		}
		if n := second.asked("cdn.test"); n > 0 {
			t.Errorf("%d questions about a cached name at the second server, though the first answers", n)
		}
		l.idle(t)
	})
}

// A truncated answer has the question asked again by TCP, whose answer of many
// segments counts as a whole.
func TestCachedTruncated(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		truncated := func(q *query) {
			m := q.reply()
			m.Truncated = true
			q.send(m)
		}
		u := l.resolver(f.resolver, truncated)
		s := l.tcpServer(f.resolver, func(conn net.Conn, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Compress = true
			for i := range 700 {
				m.Answer = append(m.Answer, rrs(t, fmt.Sprintf("cdn.test. 60 IN %s %v", f.record(), pick(f,
					fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250), fmt.Sprintf("2001:db8:1::%x", 1+i))))...)
			}
			conn.Write(framed(t, m))
		})
		l.rules(askingRules)
		l.start(asking(f, filter{cached: []string{"cdn.test"}}))
		l.daemon.sees(t, eventResponse, fields{"name": "cdn.test", "type": f.record(), "verdict": "accept", "for": "11m0s"})
		l.reaches(t, f.web(1))
		l.reaches(t, f.web(99))
		if u.asked("cdn.test") == 0 || s.asked("cdn.test") == 0 {
			t.Error("it was not asked both ways")
		}
		l.idle(t)
	})
}

// reverse is the name whose PTR record names an address.
func reverse(a netip.Addr) string { return name.Reverse(a).String() + "." }

// An address that nobody asked about is opened when it has an allowed name
// that leads back to it; its first packet waits for that.
func TestUnknown(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		answer := zone(map[string][]string{
			reverse(f.web(1)): {fmt.Sprintf("%s 60 IN PTR w1.example.com.", reverse(f.web(1)))},
			"w1.example.com.": {fmt.Sprintf("w1.example.com. 60 IN %s %v", f.record(), f.web(1)), fmt.Sprintf("w1.example.com. 60 IN %s %v", f.record(), f.web(5))},
			reverse(f.web(2)): {fmt.Sprintf("%s 60 IN PTR host.evil.test.", reverse(f.web(2)))},
			reverse(f.web(3)): {fmt.Sprintf("%s 60 IN PTR w1.example.com.", reverse(f.web(3)))}, // anybody can say so
			"asked.test.":     {fmt.Sprintf("asked.test. 60 IN %s %v", f.record(), f.web(4))},
			"host.evil.test.": {fmt.Sprintf("host.evil.test. 60 IN %s %v", f.record(), f.web(2))},
			reverse(f.web(6)): {},
		})
		slow := time.Duration(0)
		r := l.resolver(f.resolver, func(q *query) {
			if slow > 0 && strings.HasSuffix(q.name(), ".arpa.") {
				time.AfterFunc(slow, func() { answer(q) })
				return
			}
			answer(q)
		})
		l.rules(askingRules)
		l.start(lookingUp(f, "example.com", "asked.test"))

		l.reaches(t, f.web(1))
		l.daemon.sees(t, eventResponse, fields{"filter": "filter 0", "name": "w1.example.com", "granted": f.web(1), "for": "10m0s"})
		looked := "address not granted, and its reverse lookup leads to no allowed name"
		for _, i := range []int{2, 3, 6, 7} {
			if got := l.client.curl(t, 0, f.web(i), 0.3); got != "" {
				t.Errorf("web %d: %q", i, got)
			}
			l.daemon.sees(t, eventTraffic, fields{"dst": f.web(i), "verdict": "drop", "reason": looked})
		}
		if r.asked("host.evil.test") > 0 {
			t.Error("a name that is not allowed was asked for")
		}
		// Only the address itself is open, not what else its name has.
		l.daemon.never(t, eventResponse, fields{"granted": f.web(5)})
		l.idle(t)
	})
}

// While a packet waits for its lookup, everything else goes on; and without an
// answer it is dropped after 2 s.
func TestUnknownWaits(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, func(q *query) {
			if !strings.HasSuffix(q.name(), ".arpa.") {
				zone(map[string][]string{"example.com.": {fmt.Sprintf("example.com. 60 IN %s %v", f.record(), f.web(1))}})(q)
			}
		})
		l.rules(askingRules)
		l.start(lookingUp(f, "example.com"))
		l.resolves(t, f, "example.com", typeOf(f), f.web(1))

		done := make(chan bool)
		began := time.Now()
		go func() {
			done <- l.client.connects(t, netip.Addr{}, netip.AddrPortFrom(f.web(2), 80), 1500*time.Millisecond)
		}()
		l.daemon.sees(t, eventRequest, fields{"queue": selfQueue(f), "name": strings.TrimSuffix(reverse(f.web(2)), "."), "type": "PTR", "verdict": "accept"})
		for range 20 {
			if !l.client.connects(t, netip.Addr{}, netip.AddrPortFrom(f.web(1), 80), time.Second) {
				t.Error("what is open waits too")
			}
		}
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("20 connections took %v", took)
		}
		if <-done {
			t.Error("an unknown address is open")
		}
		l.daemon.sees(t, eventTraffic, fields{"dst": f.web(2), "verdict": "drop", "reason": "address not granted, and its reverse lookup took too long"})
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("dropped after %v", took)
		}
		l.idle(t)
	})
}

// A filter has a share of the lookups, and what was not looked up for lack of
// room is not said to have been.
func TestUnknownShare(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		r := l.resolver(f.resolver, func(*query) {})
		l.rules(askingRules)
		c := asking(f)
		for range 8 {
			c.filters = append(c.filters, filter{allowed: []string{"example.com"}, more: "lookupUnknownIPs = true\n"})
		}
		l.start(c)
		conn := l.client.listenUDP(t, netip.AddrPortFrom(f.client, 0))
		const packets, share = 16, 8 // of 64 for 8 filters
		for i := range packets {
			if _, err := conn.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(f.web(i+1), 9)); err != nil {
				t.Fatal(err)
			}
		}
		looked := 0
		for i := range packets {
			line := l.daemon.sees(t, eventTraffic, fields{"dst": f.web(i + 1), "verdict": "drop"})
			want := "address not granted, and too many reverse lookups"
			if r.asked(reverse(f.web(i+1))) > 0 {
				want = "address not granted, and its reverse lookup took too long"
				looked++
			}
			if got := line.text("reason"); got != want {
				t.Errorf("%v: %q, should be %q", f.web(i+1), got, want)
			}
		}
		if looked != share {
			t.Errorf("%d were looked up", looked)
		}
		l.idle(t)
	})
}

// Private addresses are not looked up: they would tell of the network inside.
func TestUnknownPrivate(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		r := l.resolver(f.resolver, func(q *query) { q.send(q.reply()) })
		l.rules(askingRules)
		l.start(lookingUp(f, "example.com"))
		for _, a := range pick(f, []string{"10.1.2.3", "192.168.7.7", "100.64.1.1", "169.254.9.9"}, []string{"fd00:1::1", "64:ff9b::a01:203"}) {
			l.isShut(t, netip.MustParseAddr(a))
			if r.asked(reverse(netip.MustParseAddr(a))) > 0 {
				t.Errorf("%s was looked up", a)
			}
		}
		l.idle(t)
	})
}

// mark gives an asker the daemon's mark.
func (a *asker) mark() {
	a.t.Helper()
	option(a.t, a.conn, unix.SO_MARK, 0x20000000)
}

// option sets an option of a socket (socket(7)).
func option(t *testing.T, conn *net.UDPConn, name, value int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, name, value) })
	if err != nil {
		t.Fatal(err)
	}
}

// Whoever has the mark is on the daemon's own queue, and gets nothing by it.
func TestSelfQueueOfOthers(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		r := l.resolver(f.resolver, func(q *query) {
			q.send(q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1))))
		})
		l.rules(askingRules)
		l.start(asking(f, filter{allowed: []string{"example.com"}, cached: []string{"cdn.test"}}))
		l.cachedAnswer(t, "cdn.test", f.web(1))
		l.daemon.sees(t, eventResponse, fields{"name": "cdn.test", "type": pick(f, "AAAA", "A"), "verdict": "accept"})

		a := l.client.asker(t, f.client)
		a.mark()
		for _, n := range []string{"example.com", "cdn.test", "secret.cdn.test", "secret.in-addr.arpa", strings.TrimSuffix(reverse(f.web(7)), ".")} {
			for _, record := range []uint16{typeOf(f), dns.TypePTR} {
				reason := "not a question that the daemon has to ask"
				if n == "cdn.test" && record == typeOf(f) {
					reason = "lookup that is over"
				}
				a.send(f.dns(), question(n, record))
				l.daemon.sees(t, eventRequest, fields{"queue": selfQueue(f), "name": n, "type": dns.TypeToString[record], "verdict": "drop", "reason": reason})
			}
		}
		a.nothing()
		if got := r.asked("cdn.test"); got != 2 {
			t.Errorf("cdn.test was asked for %d times", got)
		}
		l.idle(t)
	})
}

// A slow server answers an earlier attempt of the resolver's than the last one,
// which asks once more. The log does not take that for somebody else's question.
func TestSelfQueueSlowServer(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		var answers sync.WaitGroup
		l.resolver(f.resolver, func(q *query) {
			answers.Go(func() {
				time.Sleep(1600 * time.Millisecond)
				q.send(q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1))))
			})
		})
		l.rules(askingRules)
		l.start(asking(f, filter{cached: []string{"cdn.test"}, every: "1h"}))
		l.cachedAnswer(t, "cdn.test", f.web(1))
		l.daemon.sees(t, eventRequest, fields{"queue": selfQueue(f), "name": "cdn.test", "type": f.record(), "verdict": "drop", "reason": "lookup that is over"})
		l.daemon.never(t, eventRequest, fields{"reason": "not a question that the daemon has to ask"})
		answers.Wait()
		l.idle(t)
	})
}

// Without resolvers the servers are those of /etc/resolv.conf as it is at the
// start, and after a reload as it is then; by the daemon's own queue no others
// can be asked.
func TestServersOfResolvConf(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		answer := func(i int) func(*query) {
			return func(q *query) { q.send(q.reply(fmt.Sprintf("cdn.test. 60 IN %s %v", f.record(), f.web(i)))) }
		}
		l.resolver(f.resolver, answer(1))
		l.resolver(f.other, answer(2))
		l.rules(askingRules)
		dir := openDir(t) // the daemon's user reads it at the reload
		conf, file := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "egress-eddie.toml")
		c := config{self: true, filters: []filter{{cached: []string{"cdn.test"}}}}
		write := func(path, text string) {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write(conf, fmt.Sprintf("# of the test\nsearch example.com\nnameserver %v\n", f.resolver))
		write(file, c.String())
		// A mount namespace of its own has it where the daemon looks for it.
		l.daemon = startDaemon(t, l.client, "/usr/bin/unshare", "-m", "--propagation", "private", "/bin/sh", "-c",
			`mount --bind "$1" /etc/resolv.conf && exec "$0" -c "$2" -d -log-format json`, builtBinary, conf, file)
		l.daemon.sees(t, "filtering", nil)
		l.cachedAnswer(t, "cdn.test", f.web(1))
		l.daemon.never(t, eventResponse, fields{"granted": f.web(2)})
		a := l.client.asker(t, f.client)
		a.mark()
		isForeign := func(server netip.Addr, record uint16) { // equal lines are folded
			t.Helper()
			a.send(netip.AddrPortFrom(server, 53), question("cdn.test", record))
			l.daemon.sees(t, eventRequest, fields{"queue": selfQueue(f), "dst": netip.AddrPortFrom(server, 53), "verdict": "drop", "reason": "resolver not trusted"})
			a.nothing()
		}
		isForeign(f.other, dns.TypeA)

		write(conf, fmt.Sprintf("nameserver %v\n", f.other))
		if err := l.daemon.cmd.Process.Signal(unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
		l.daemon.sees(t, "configuration reloaded", nil)
		l.cachedAnswer(t, "cdn.test", f.web(2))
		isForeign(f.resolver, dns.TypeAAAA)
		l.reaches(t, f.web(1))
		l.reaches(t, f.web(2))
		l.idle(t)
	})
}

// Rules that do not send the daemon's own questions to its queue are said so.
func TestSelfQueueWithoutRules(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, zone(map[string][]string{}))
		l.rules(tcpRules)
		l.start(asking(f, filter{allowed: []string{"example.com"}, cached: []string{"cdn.test"}}))
		l.daemon.sees(t, "no answer about a name of cachedHostnames", fields{"name": "cdn.test"})
		l.daemon.sees(t, "no DNS request of the daemon itself has come to selfDNSQueue: it could not send any (see above), or no rule sends there what has the mark selfMark, by UDP and TCP", nil)
		l.idle(t)
	})
}

// While the network is not up, the rules are not blamed for it.
func TestSelfQueueWithoutNetwork(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.client.ip(t, "link set eth0 down")
		l.rules(askingRules)
		l.start(asking(f, filter{cached: []string{"cdn.test"}}))
		hint := l.daemon.sees(t, "no DNS request of the daemon itself has come to selfDNSQueue: it could not send any (see above), or no rule sends there what has the mark selfMark, by UDP and TCP", nil)
		above := l.daemon.find("a DNS server cannot be asked for the daemon itself", nil)
		if above == nil || above.text("@timestamp") > hint.text("@timestamp") {
			t.Errorf("what it could not send is not said above: %v", above)
		}
	})
}

// A check of the configuration says what is missing. At the start that may yet
// come, as at boot before DHCP: the unit tries again after this status.
func TestAskingWithoutServers(t *testing.T) {
	t.Parallel()
	n := newNetns(t, "client")
	dir := t.TempDir()
	conf, file := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "egress-eddie.toml")
	c := config{self: true, onlyV4Queues: true, filters: []filter{{cached: []string{"cdn.test"}}}}
	if err := os.WriteFile(file, []byte(c.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"# before the network\n", "nameserver 2001:db8::53\n"} {
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for args, status := range map[string]int{"": exit.Unavailable, "-t": exit.Config} {
			out := n.ends(t, status, exec.Command("/usr/bin/unshare", "-m", "--propagation", "private", "/bin/sh", "-c",
				`mount --bind "$1" /etc/resolv.conf && exec "$0" -c "$2" $3`, builtBinary, conf, file, args))
			contains(t, out, "selfDNSQueue: resolvers is not set, and /etc/resolv.conf names no server that can be asked")
		}
	}
}
