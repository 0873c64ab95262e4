package main_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	reloaded    = "configuration reloaded"
	notReloaded = "the configuration was not reloaded, the old one is in force"
)

// startFrom starts the daemon with a configuration that it can read again, and
// returns its file.
func (l *lab) startFrom(t *testing.T, c config) (file string) {
	t.Helper()
	file = configFile(t, c.String())
	l.start(c, "-c", file)
	return file
}

// replace puts a file in the place of another, as editors and package managers
// do: whoever reads it sees the one or the other.
func replace(t *testing.T, file, text string) {
	t.Helper()
	next := filepath.Join(filepath.Dir(file), "next")
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
}

// reload has the daemon read another configuration, and waits for what it says.
func (l *lab) reload(t *testing.T, file, text, says string) {
	t.Helper()
	before := l.daemon.count(says)
	replace(t, file, text)
	if err := l.daemon.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool { return l.daemon.gone() || l.daemon.count(says) > before }) || l.daemon.gone() {
		t.Fatalf("it does not say %q", says)
	}
}

// count is how many lines have this message.
func (d *daemon) count(message string) (n int) {
	for _, line := range d.log() {
		if line.message() == message {
			n++
		}
	}
	return n
}

// A name taken away loses its grants at once, one that stays keeps them, one
// that is new works; a faulty file changes nothing and says why.
func TestReload(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, webZone(f))
		file := l.startFrom(t, allowing("w1.example.com", "w2.example.com"))
		l.rules(standardRules)
		l.opens(t, f, "w1.example.com", 1)
		l.opens(t, f, "w2.example.com", 2)
		l.reaches(t, f.web(1))
		l.reaches(t, f.web(2))

		l.reload(t, file, allowing("w3.example.com", "w1.example.com").String(), reloaded)
		l.daemon.sees(t, "policy changed", fields{"grants_kept": 1, "grants_closed": 1, "grants_shortened": 0})
		l.isShut(t, f.web(2))
		l.isRefused(t, f, "w2.example.com", typeOf(f))
		l.opens(t, f, "w3.example.com", 3)
		l.reaches(t, f.web(3))
		l.reaches(t, f.web(1))
		l.daemon.never(t, eventTraffic, fields{"dst": f.web(1), "verdict": "drop"})

		l.daemon.error = notReloaded
		for _, c := range []struct{ text, says string }{
			{"nonsense = 1", `unknown key "nonsense"`},
			{strings.Replace(allowing("w2.example.com").String(), fmt.Sprint(trafficQueue(0, f)), "4000", 1), "other queues need a restart"},
		} {
			l.reload(t, file, c.text, notReloaded)
			if !strings.Contains(l.daemon.output(), strings.ReplaceAll(c.says, `"`, `\"`)) {
				t.Errorf("it does not say %q", c.says)
			}
		}
		l.isRefused(t, f, "evil.test", typeOf(f))
		l.isShut(t, f.web(4))
		l.reaches(t, f.web(3))
		l.idle(t)
	})
}

// A file that only root may read was read by root at the start, and cannot be
// again.
func TestReloadUnreadable(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	file := l.startFrom(t, allowing("example.com"))
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	l.daemon.error = notReloaded
	if err := l.daemon.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	line := l.daemon.sees(t, notReloaded, nil)
	if want := "configuration: " + file + ": permission denied"; line.text("error") != want {
		t.Errorf("it says %q, want %q", line.text("error"), want)
	}
}

// A question that went out under the old policy is answered under the new one.
func TestReloadJudgesAnswers(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	asked, answers := make(chan *query, 2), make(chan bool)
	l.resolver(f.resolver, func(q *query) {
		asked <- q
		if <-answers {
			webZone(f)(q)
		}
	})
	file := l.startFrom(t, allowing("w1.example.com", "w2.example.com"))
	l.rules(standardRules)
	a := l.client.asker(t, f.client)
	a.send(f.dns(), question("w2.example.com", dns.TypeA))
	<-asked
	l.reload(t, file, allowing("w1.example.com").String(), reloaded)
	answers <- true
	l.daemon.sees(t, eventResponse, fields{"name": "w2.example.com", "verdict": "drop", "reason": "name not allowed"})
	a.nothing()
	l.isShut(t, f.web(2))
}

// Twenty changes under a flood: what both policies allow is never refused,
// what neither allows never passes, and no packet stays.
func TestReloadUnderFlood(t *testing.T) {
	f := families[0]
	l := newLab(t)
	l.resolver(f.resolver, webZone(f))
	file := l.startFrom(t, allowing("w1.example.com"))
	l.rules(standardRules)
	l.opens(t, f, "w1.example.com", 1)
	tr := l.flood(t, f, f.web(1), f.web(2))
	l.questions(t, f, "w1.example.com", "not.allowed.test")
	tr.flows(t)
	for i := range 20 {
		names := []string{fmt.Sprintf("n%d.example.com", i), "w1.example.com", "other.test"}
		l.reload(t, file, allowing(names[i%2:]...).String(), reloaded)
	}
	l.daemon.never(t, eventTraffic, fields{"dst": f.web(1), "verdict": "drop"})
	l.daemon.never(t, eventRequest, fields{"name": "w1.example.com", "verdict": "drop", "reason": "name not allowed"})
	l.reload(t, file, allowing("other.test").String(), reloaded)
	closed := time.Now()
	tr.closed(t, closed)
	if tr.denied > 0 {
		t.Errorf("%d packets passed that no policy allows", tr.denied)
	}
	l.idleButForOverflow(t)
}

// A trafficworker that is kept from taking the new policy judges by the old one
// until it goes on; then the change is complete.
func TestReloadWaits(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := newLab(t)
	l.resolver(f.resolver, webZone(f))
	file := l.startFrom(t, allowing("w1.example.com"))
	l.rules(standardRules)
	l.opens(t, f, "w1.example.com", 1)
	p := l.daemon.processes(t)
	if err := unix.Kill(p.children["trafficworker"], unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	replace(t, file, allowing("w3.example.com").String())
	if err := l.daemon.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	l.isRefused(t, f, "w3.example.com", typeOf(f))
	l.daemon.never(t, reloaded, nil)
	if err := unix.Kill(p.children["trafficworker"], unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool { return l.daemon.count(reloaded) == 1 }) {
		t.Fatal("it does not go on")
	}
	l.isShut(t, f.web(1))
	l.opens(t, f, "w3.example.com", 3)
	l.reaches(t, f.web(3))
}

// A change of which more must be told than the edge has room for waits for the
// trafficworker, and is complete all the same: 128,000 grants of two ports stay.
func TestReloadOfManyGrants(t *testing.T) {
	f := families[1]
	l := newLab(t)
	l.resolver(f.resolver, manyAddresses)
	ports := []string{"example.com:80", "example.com:443"}
	many := config{filters: []filter{{name: "A", allowed: ports}, {name: "B", allowed: ports}}}
	file := l.startFrom(t, many)
	l.rules(userRules(true, true))
	total := 0
	for user := range 2 {
		a := l.client.askerAs(t, userA+user, f.client)
		for i := range 32 {
			total += len(a.ask(f.dns(), fmt.Sprintf("%d-%d.example.com", user, i), dns.TypeAAAA).Answer)
		}
	}
	many.filters[0].allowed, many.filters[1].allowed = append([]string{"other.test"}, ports...), append(ports, "other.test")
	replace(t, file, many.String())
	// The holder gets the policy when the trafficworker has taken it, and that
	// one then takes nothing of what the holder has to say about it.
	p := l.daemon.processes(t)
	signal := func(pid int, s unix.Signal) {
		t.Helper()
		if err := unix.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
	}
	signal(p.children["allowlist"], unix.SIGSTOP)
	signal(p.parent, unix.SIGHUP)
	l.daemon.sees(t, "reloading: the trafficworker has the new policy, the holder is next", nil)
	signal(p.children["trafficworker"], unix.SIGSTOP)
	signal(p.children["allowlist"], unix.SIGCONT)
	l.daemon.sees(t, "policy changed", fields{"grants_closed": 0, "grants_kept": total})
	// The holder goes on meanwhile, by the new policy; what would open
	// something has to wait.
	a := l.client.askerAs(t, userA, f.client)
	a.send(f.dns(), question("evil.test", dns.TypeAAAA))
	l.daemon.sees(t, eventRequest, fields{"name": "evil.test", "verdict": "drop", "reason": "name not allowed"})
	a.send(f.dns(), question("0-99.example.com", dns.TypeAAAA))
	l.daemon.sees(t, eventResponse, fields{"name": "0-99.example.com", "verdict": "drop", "reason": "grant could not be handed over"})
	l.daemon.never(t, reloaded, nil)
	signal(p.children["trafficworker"], unix.SIGCONT)
	l.daemon.sees(t, reloaded, nil)
	for user := range uint32(2) {
		if got := l.client.curl(t, userA+user, manyAddress(int(user), 31, 0), patience.Seconds()); got == "" {
			t.Errorf("user %d does not get through any more", user)
		}
	}
	l.idle(t)
	l.daemon.expectExit(0)
	l.daemon.cmd.Process.Signal(unix.SIGTERM)
	if !l.daemon.wait(t, patience) {
		t.Fatal("it does not end")
	}
	if line := l.daemon.sees(t, "decided in all", nil); line.text("changes_waited") == "0" {
		t.Error("there was room for all at once: nothing is shown")
	}
}

// manyAddress is the web server's address number n for question i of a user:
// they all lead to the server's namespace.
func manyAddress(user, i, n int) netip.Addr {
	a := families[1].web(1).As16()
	a[12], a[13], a[14], a[15] = byte(user+1), byte(i), byte(n>>8), byte(n)
	return netip.AddrFrom16(a)
}

// manyAddresses answers "USER-I.example.com" with 2,000 addresses.
func manyAddresses(q *query) {
	var user, i int
	if _, err := fmt.Sscanf(q.name(), "%d-%d.example.com.", &user, &i); err != nil {
		q.t.Errorf("%q: %v", q.name(), err)
	}
	m := q.reply()
	for n := range 2000 {
		m.Answer = append(m.Answer, &dns.AAAA{
			Hdr:  dns.RR_Header{Name: q.name(), Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: 60},
			AAAA: manyAddress(user, i, n).AsSlice(),
		})
	}
	q.send(m)
}

// TestReloadClosesWhatNobodyKnows: an answer that found room for a part of
// its addresses only is dropped, and the holder forgets all of it; what the
// part opened is closed with its name all the same.
func TestReloadClosesWhatNobodyKnows(t *testing.T) {
	f := families[0]
	l := newLab(t)
	// All of the network of the web servers is their machine's.
	web := func(i int) netip.Addr { a := f.web(1).As4(); a[3] = byte(i + 1); return netip.AddrFrom4(a) }
	// 4,000 addresses are two messages to the trafficworker.
	l.resolver(f.resolver, func(q *query) {
		m := q.reply()
		for n := range 4000 {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.name(), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: []byte{11, 0, byte(n >> 8), byte(n)},
			})
		}
		var i int
		if _, err := fmt.Sscanf(q.name(), "%d.example.com.", &i); err != nil {
			t.Error(err)
		}
		m.Answer[0].(*dns.A).A = web(i).AsSlice()
		q.send(m)
	})
	file := l.startFrom(t, allowing("example.com"))
	l.rules(standardRules)
	worker := l.daemon.processes(t).children["trafficworker"]
	if err := unix.Kill(worker, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	a, last := l.client.asker(t, f.client), 0
	for dropped := false; !dropped; last++ {
		if last > 240 {
			t.Fatal("the edge does not fill")
		}
		a.send(f.dns(), question(fmt.Sprintf("%d.example.com", last), dns.TypeA))
		for asked := time.Now(); !dropped; { // until the answer comes, or the log says that it does not
			a.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := a.conn.Read(make([]byte, 1<<16)); err == nil {
				break
			}
			dropped = l.daemon.find(eventResponse, fields{"verdict": "drop", "reason": "grant could not be handed over"}) != nil
			if time.Since(asked) > patience {
				t.Fatal("neither an answer nor a reason")
			}
		}
	}
	replace(t, file, allowing("other.test").String())
	if err := l.daemon.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(worker, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l.daemon.sees(t, reloaded, nil)
	for _, i := range []int{0, last - 2, last - 1} { // the last of these was dropped
		l.isShut(t, web(i))
	}
}
