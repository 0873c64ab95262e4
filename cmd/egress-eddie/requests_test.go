package main_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// header is that of a query with these counts and flags.
func header(flags uint16, qd, an, ns, ar byte) []byte {
	return []byte{0xbe, 0xef, byte(flags >> 8), byte(flags), 0, qd, 0, an, 0, ns, 0, ar}
}

// asks is a question section's entry for a name of these labels.
func asks(labels ...string) []byte {
	var b []byte
	for _, label := range labels {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// badRequests would all be about allowed names, and must not leave the host.
// Each has a name of its own in the log.
var badRequests = []struct {
	name   string
	reason string
	shown  any // what the log shows for the name, nil for nothing
	wire   []byte
}{
	{"answer record", "unexpected records in a request", "an.example.com",
		join(header(0x100, 1, 1, 0, 0), asks("an", "example", "com"), []byte("\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x00\x00\x05\x04leak"))},
	{"authority record", "unexpected records in a request", "ns.example.com",
		join(header(0x100, 1, 0, 1, 0), asks("ns", "example", "com"), []byte("\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x00\x00\x05\x04leak"))},
	{"additional record", "unexpected records in a request", "ar.example.com",
		join(header(0x100, 1, 0, 0, 1), asks("ar", "example", "com"), []byte("\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x00\x00\x05\x04leak"))},
	{"two OPT records", "unexpected records in a request", "opt.example.com",
		join(header(0x100, 1, 0, 0, 2), asks("opt", "example", "com"), []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"))},
	{"NOTIFY", "opcode not QUERY", "notify.example.com", join(header(0x2000, 1, 0, 0, 0), asks("notify", "example", "com"))},
	{"UPDATE", "opcode not QUERY", "update.example.com", join(header(0x2800, 1, 0, 0, 0), asks("update", "example", "com"))},
	{"response", "response on a request queue", "qr.example.com", join(header(0x8100, 1, 0, 0, 0), asks("qr", "example", "com"))},
	{"trailing bytes", "bytes after the DNS message", "tail.example.com", join(header(0x100, 1, 0, 0, 0), asks("tail", "example", "com"), []byte("secret"))},
	{"label with a dot", "label with a dot or NUL", `leak\.example.com`, join(header(0x100, 1, 0, 0, 0), asks("leak.example", "com"))},
	{"label with a dot below", "label with a dot or NUL", `a\.b.example.com`, join(header(0x100, 1, 0, 0, 0), asks("a.b", "example", "com"))},
	{"label with a NUL", "label with a dot or NUL", `evil\000.example.com`, join(header(0x100, 1, 0, 0, 0), asks("evil\x00", "example", "com"))},
	{"two questions, one denied", "name not allowed", "one.example.com evil.test",
		join(header(0x100, 2, 0, 0, 0), asks("one", "example", "com"), asks("evil", "test"))},
	{"no question", "no question", nil, header(0x100, 0, 0, 0, 0)},
	{"many questions", "too many questions", nil,
		join(header(0x100, 5, 0, 0, 0), bytes.Repeat(asks("many", "example", "com"), 5))},
	{"class", "class not IN", "chaos.example.com", join(header(0x100, 1, 0, 0, 0), []byte("\x05chaos\x07example\x03com\x00\x00\x10\x00\x03"))},
	{"bits that mean nothing", "not a DNS message", "bits.example.com", join(header(0x10f, 1, 0, 0, 0), asks("bits", "example", "com"))},
	{"pointer to itself", "not a DNS message", nil, join(header(0x100, 1, 0, 0, 0), []byte("\xc0\x0c\x00\x01\x00\x01"))},
	{"shorter than a header", "not a DNS message", nil, []byte("leak")},
	{"empty", "not a DNS message", nil, nil},
}

func TestBadRequests(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		r := l.resolver(f.resolver, func(q *query) {
			if q.msg != nil && len(q.msg.Question) == 1 {
				q.send(q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1))))
			}
		})
		l.start(allowing("example.com"))
		l.rules(standardRules)
		a := l.client.asker(t, f.client)
		for _, c := range badRequests {
			t.Run(c.name, func(t *testing.T) {
				from := l.client.asker(t, f.client)
				from.sendWire(f.dns(), c.wire)
				want := fields{"name": c.shown, "verdict": "drop", "reason": c.reason, "filter": "filter 0", "dst": f.dns()}
				if c.shown != nil {
					want["src"] = from.at
				}
				l.daemon.sees(t, eventRequest, want)
			})
		}
		sameData(t, a.ask(f.dns(), "last.example.com", typeOf(f)), f.web(1))
		for _, q := range r.got() {
			if q.name() != "last.example.com." {
				t.Errorf("a request left the host: %q", q.wire)
			}
		}
		l.idle(t)
	})
}

// Requests that are unusual and good: two questions, both allowed, and a
// signature (TSIG), with OPT or alone.
func TestUnusualRequests(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		r := l.resolver(f.resolver, func(q *query) {
			m := q.reply()
			for _, question := range q.msg.Question {
				m.Answer = append(m.Answer, rrs(t, fmt.Sprintf("%s 60 IN %s %v", question.Name, f.record(), f.web(len(m.Answer)+1)))...)
			}
			m.Question = q.msg.Question
			q.send(m)
		})
		l.start(allowing("example.com", "example.net"))
		l.rules(standardRules)
		a := l.client.asker(t, f.client)

		two := question("example.com", typeOf(f))
		two.Question = append(two.Question, question("www.example.net", typeOf(f)).Question...)
		a.send(f.dns(), two)
		sameData(t, a.answer(two), f.web(1), f.web(2))
		line := l.daemon.sees(t, eventResponse, fields{"name": "example.com www.example.net", "verdict": "accept"})
		sameWords(t, line, "granted", f.web(1), f.web(2))

		for _, name := range []string{"tsig.example.com", "both.example.com"} {
			m := question(name, typeOf(f))
			if name == "both.example.com" {
				m.SetEdns0(1232, false)
			}
			m.SetTsig("key.test.", dns.HmacSHA256, 300, time.Now().Unix())
			wire, _, err := dns.TsigGenerate(m, "c2VjcmV0", "", false)
			if err != nil {
				t.Fatal(err)
			}
			a.sendWire(f.dns(), wire)
			sameData(t, a.answer(m), f.web(1))
			if got := r.got()[len(r.got())-1]; !bytes.Equal(got.wire, wire) {
				t.Errorf("%s: the server got %x, not %x", name, got.wire, wire)
			}
		}
		l.reaches(t, f.web(2))
		l.idle(t)
	})
}

// DNS over TCP that no rule sends to a DNS queue is other traffic: the
// resolver's address was never in an answer.
func TestTCPAsTraffic(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.dnsmasq(fmt.Sprintf("--host-record=example.com,%v", f.web(1)))
		l.start(allowing("example.com"))
		l.rules(standardRules)
		if out, ok := l.server.dig(t, 0, f.resolver, 10, "+tcp", "example.com", f.record()); !ok || len(out) != 1 {
			t.Errorf("dig +tcp beside the filter: %v", out)
		}
		if l.client.connects(t, netip.Addr{}, f.dns(), shortly) {
			t.Error("a connection to the resolver came about")
		}
		l.daemon.sees(t, eventTraffic, fields{"dst": f.resolver, "verdict": "drop", "reason": "address not granted"})
		l.idle(t)
	})
}
