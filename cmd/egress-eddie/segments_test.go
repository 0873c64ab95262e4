package main_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// UDP_SEGMENT makes the kernel cut one write into several datagrams, if it can
// only when they leave. Seen whole, the write below is one query for an
// allowed name with an OPT record; on the wire its second half is a query of
// its own.
func TestSegments(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		r := l.resolver(f.resolver, func(q *query) {
			if q.msg != nil && q.name() == "last.example.com." {
				q.send(q.reply())
			}
		})
		first := join(header(0x100, 1, 0, 0, 1), asks("www", "example", "com"),
			// An OPT record, of which an option in the range for local use
			// holds the second datagram.
			[]byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00"))
		hidden := join(header(0x100, 1, 0, 0, 0), asks("secret", "evil", "test"))
		first = append(first, 0, byte(len(hidden)+4), 0xfd, 0xe9, 0, byte(len(hidden)))
		whole := join(first, hidden)
		if m := new(dns.Msg); m.Unpack(whole) != nil || m.IsEdns0() == nil || m.Question[0].Name != "www.example.com." {
			t.Fatal("the two datagrams do not look like one query")
		}

		a := l.client.asker(t, f.client)
		a.segments(len(first))
		a.sendWire(f.dns(), whole) // not filtered yet: the kernel does cut it
		if !eventually(func() bool { return len(r.got()) == 2 }) || !bytes.Equal(r.got()[1].wire, hidden) {
			t.Fatalf("without the filter %d datagrams came", len(r.got()))
		}

		l.start(allowing("example.com"))
		l.rules(standardRules)
		before := l.queued(t, dnsQueue(0, f))
		a.sendWire(f.dns(), whole)
		if !eventually(func() bool { return l.queued(t, dnsQueue(0, f)) > before }) {
			t.Error("nothing came to the queue")
		}
		a.segments(0)
		a.ask(f.dns(), "last.example.com", typeOf(f))
		for _, q := range r.got()[2:] {
			if q.name() != "last.example.com." {
				t.Errorf("a datagram left the host: %q", q.wire)
			}
		}
		// The halves are judged one by one.
		l.daemon.sees(t, eventRequest, fields{"name": "secret.evil.test", "verdict": "drop", "reason": "name not allowed"})
		l.daemon.sees(t, eventRequest, fields{"name": "www.example.com", "verdict": "drop", "reason": "not a DNS message"})
		l.idle(t)
	})
}

// segments has what is sent from now on cut into datagrams of this size, 0
// for not at all.
func (a *asker) segments(size int) {
	a.t.Helper()
	raw, err := a.conn.SyscallConn()
	if err != nil {
		a.t.Fatal(err)
	}
	if controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size)
	}); controlErr != nil || err != nil {
		a.t.Fatalf("UDP_SEGMENT: %v %v", controlErr, err)
	}
}

// queued is how many packets a queue has had.
func (l *lab) queued(t *testing.T, number int) int {
	t.Helper()
	for _, q := range l.client.queues(t) {
		if q.number == number {
			return q.last
		}
	}
	t.Fatalf("no queue %d", number)
	return 0
}

// A response that does not fit one packet comes in fragments. The kernel puts
// it together before the queue, and all of it counts.
func TestFragments(t *testing.T) {
	const addresses = 90
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, func(q *query) {
			var lines []string
			for i := 1; i <= addresses; i++ {
				lines = append(lines, fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(i)))
			}
			m := q.reply(lines...)
			m.Compress = false
			q.send(m)
		})
		l.start(allowing("example.com"))
		l.rules(standardRules)
		name := strings.Repeat("long-label.", 4) + "example.com"
		query := question(name, typeOf(f))
		query.SetEdns0(16384, false)
		a := l.client.asker(t, f.client)
		a.send(f.dns(), query)
		if m := a.answer(query); len(m.Answer) != addresses {
			t.Errorf("the client got %d addresses", len(m.Answer))
		}
		if n := l.server.fragments(t, f); n < 3 {
			t.Errorf("the answer came in %d fragments", n)
		}
		l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "accept"})
		l.reaches(t, f.web(1))
		l.reaches(t, f.web(addresses))
		l.isShut(t, f.web(addresses+1))
		l.idle(t)
	})
}

// A request in fragments, where no rule needs conntrack and so nobody puts
// them together: only the first one has ports to match, and it is dropped.
func TestRequestInFragments(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		r := l.resolver(f.resolver, webZone(f))
		l.start(allowing("example.com"))
		l.rules(dnsRules)
		a := l.client.asker(t, f.client)
		wire := pack(t, question("w1.example.com", typeOf(f)))
		wire = append(wire, make([]byte, -len(wire)&7)...)
		packet := datagram(t, a.at, f.dns(), wire)
		if f.v6 {
			packet = datagram6(t, a.at, f.dns(), wire, extension{unix.IPPROTO_FRAGMENT, []byte{0, 0, 1, 1, 2, 3, 4}})
		} else {
			packet[6] |= 0x20 // more fragments
		}
		l.client.sendRaw(t, packet)
		l.daemon.sees(t, eventRequest, fields{"name": nil, "verdict": "drop", "reason": "IP fragment", "queue": dnsQueue(0, f)})
		sameData(t, a.ask(f.dns(), "w2.example.com", typeOf(f)), f.web(2))
		if r.asked("w1.example.com") > 0 {
			t.Error("the request left the host")
		}
		l.idle(t)
	})
}

// fragments is how many the namespace has made.
func (n *netns) fragments(t *testing.T, f family) int {
	t.Helper()
	var text []byte
	n.inside(t, func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/" + pick(f, "snmp", "snmp6"))
		return err
	})
	if f.v6 {
		_, after, _ := strings.Cut(string(text), "Ip6FragCreates")
		count, _ := strconv.Atoi(strings.Fields(after)[0])
		return count
	}
	lines := strings.Split(string(text), "\n")
	for i, key := range strings.Fields(lines[0]) {
		if key == "FragCreates" {
			count, _ := strconv.Atoi(strings.Fields(lines[1])[i])
			return count
		}
	}
	t.Fatal("no FragCreates")
	return 0
}
