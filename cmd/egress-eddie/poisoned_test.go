package main_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// poison is what is wrong with an answer that is otherwise to the question:
// it has the true address in it, and more. The whole of it is dropped, grants
// nothing, and uses the request up.
var poisons = []struct {
	name   string
	reason string
	// poison changes the answer to name, which holds its own address record;
	// evil is an address record of another owner.
	poison func(m *dns.Msg, name, evil string) []byte
}{
	{"unrelated address", "answer does not belong to the question", add("EVIL")},
	{"unrelated address first", "answer does not belong to the question", changed(func(m *dns.Msg, _, evil string) {
		m.Answer = append(must(evil), m.Answer...)
	})},
	{"unrelated alias", "answer does not belong to the question", add("unrelated.test. 60 IN CNAME evil.test.")},
	{"unrelated alias to the question", "answer does not belong to the question", add("unrelated.test. 60 IN CNAME OWNER")},
	{"unrelated servers", "answer does not belong to the question", add("test. 60 IN NS evil.test.")},
	{"unrelated text", "answer does not belong to the question", add("unrelated.test. 60 IN TXT evil")},
	{"unrelated chain", "answer does not belong to the question", add("a.test. 60 IN CNAME b.test.", "b.test. 60 IN CNAME a.test.")},
	{"parent", "answer does not belong to the question", add("example.com. 60 IN TXT evil")},
	{"class", "class not IN", add("OWNER 60 CH TXT evil")},
	{"trailing bytes", "bytes after the DNS message", wired(func(wire []byte) []byte { return append(wire, 0) })},
	{"cut short", "not a DNS message", wired(func(wire []byte) []byte { return wire[:len(wire)-1] })},
	{"options among the answers", "malformed record", changed(func(m *dns.Msg, _, _ string) {
		m.Answer = append(m.Answer, &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}})
	})},
	{"address of five octets", "malformed record", changed(func(m *dns.Msg, name, _ string) {
		m.Answer = append(m.Answer, &dns.RFC3597{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, Rdata: "c633640901"})
	})},
	{"unrelated hints", "answer does not belong to the question", changed(func(m *dns.Msg, _, _ string) {
		m.Answer = append(m.Answer, must("unrelated.test. 60 IN HTTPS 1 . ipv4hint=198.51.100.8 ipv6hint=2001:db8:1::8")...)
	})},
	{"unrelated service that gives nothing", "answer does not belong to the question", add("unrelated.test. 60 IN SVCB 1 . alpn=h2")},
	{"hint of five octets", "malformed record", serviceData("0001 00 0004 0005 c633640801")},
	{"half an IPv6 hint", "malformed record", serviceData("0001 00 0006 0008 20010db800010000")},
	{"hint over the record's end", "malformed record", serviceData("0001 00 0004 0008 c6336408")},
	{"parameters out of order", "malformed record", serviceData("0001 00 0004 0004 c6336408 0003 0002 01bb")},
	{"compressed target", "malformed record", serviceData("0001 c00c 0004 0004 c6336408")},
	{"service with a dot in a label", "label with a dot or NUL", add(`OWNER 60 IN HTTPS 1 a\.example.com. ipv4hint=198.51.100.8`)},
	{"alias with a dot in a label", "label with a dot or NUL", add(`OWNER 60 IN CNAME a\.example.com.`)},
	{"owner with a NUL in a label", "label with a dot or NUL", add(`a\000.example.com. 60 IN TXT x`)},
	{"eighteen owners", "too many owner names", changed(func(m *dns.Msg, name, _ string) {
		m.Answer = nil
		for i := range 18 {
			m.Answer = append(m.Answer, must(fmt.Sprintf("%s 60 IN CNAME o%d.test.", name, i))...)
			name = fmt.Sprintf("o%d.test.", i)
		}
	})},
}

func must(line string) []dns.RR {
	rr, err := dns.NewRR(line)
	if err != nil {
		panic(err)
	}
	return []dns.RR{rr}
}

// add adds records, in which OWNER is the question's name and EVIL the record
// of another owner.
func add(lines ...string) func(m *dns.Msg, name, evil string) []byte {
	return changed(func(m *dns.Msg, name, evil string) {
		for _, line := range lines {
			m.Answer = append(m.Answer, must(strings.NewReplacer("OWNER", name, "EVIL", evil).Replace(line))...)
		}
	})
}

func changed(change func(m *dns.Msg, name, evil string)) func(m *dns.Msg, name, evil string) []byte {
	return func(m *dns.Msg, name, evil string) []byte {
		return packed(func(m *dns.Msg) { change(m, name, evil) })(m)
	}
}

// serviceData adds an HTTPS record of the question's name with this data, in hex.
func serviceData(data string) func(m *dns.Msg, name, evil string) []byte {
	return changed(func(m *dns.Msg, name, _ string) {
		h := dns.RR_Header{Name: name, Rrtype: dns.TypeHTTPS, Class: dns.ClassINET, Ttl: 60}
		m.Answer = append(m.Answer, &dns.RFC3597{Hdr: h, Rdata: strings.ReplaceAll(data, " ", "")})
	})
}

func wired(change func(wire []byte) []byte) func(m *dns.Msg, name, evil string) []byte {
	return func(m *dns.Msg, _, _ string) []byte { return change(packed(func(*dns.Msg) {})(m)) }
}

func TestPoisoned(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		evil := fmt.Sprintf("evil.test. 60 IN %s %v", f.record(), f.web(8))
		asked := map[string]int{}
		l.resolver(f.resolver, func(q *query) {
			truth := func(i int) *dns.Msg {
				return q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(i)))
			}
			var i int
			if _, err := fmt.Sscanf(q.name(), "p%d.", &i); err == nil && asked[q.name()] == 0 {
				q.sendWire(poisons[i].poison(truth(9), q.name(), evil))
			}
			asked[q.name()]++
			q.send(truth(1))
		})
		l.start(allowing("example.com"))
		l.rules(standardRules)
		for i, c := range poisons {
			t.Run(c.name, func(t *testing.T) {
				name := fmt.Sprintf("p%d.example.com", i)
				a := l.client.asker(t, f.client)
				a.send(f.dns(), question(name, typeOf(f)))
				l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "drop", "reason": c.reason, "filter": "filter 0",
					"granted": nil, "learnt": nil})
				// The true one came too late: the request was used up.
				l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "drop", "reason": "no pending request"})
				sameData(t, a.ask(f.dns(), name, typeOf(f)), f.web(1))
				a.nothing()
				l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "accept", "granted": f.web(1)})
			})
		}
		for _, i := range []int{8, 9} {
			l.isShut(t, f.web(i))
			l.daemon.never(t, eventResponse, fields{"granted": f.web(i)})
		}
		l.isRefused(t, f, "evil.test", typeOf(f))
		l.reaches(t, f.web(1))
		l.idle(t)
	})
}

// What stands only in the authority and additional sections opens nothing.
func TestAuthorityOnly(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, func(q *query) {
			m := q.reply()
			m.Ns = rrs(t, "example.com. 60 IN NS ns.example.net.", q.name()+" 60 IN CNAME evil.test.",
				fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1)))
			m.Extra = rrs(t, fmt.Sprintf("ns.example.net. 60 IN %s %v", f.record(), f.web(2)),
				fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(3)))
			q.send(m)
		})
		l.start(allowing("example.com"))
		l.rules(standardRules)
		m := l.client.asker(t, f.client).ask(f.dns(), "www.example.com", typeOf(f))
		if len(m.Ns) != 3 || len(m.Extra) != 2 {
			t.Errorf("the client got %v", m)
		}
		l.daemon.sees(t, eventResponse, fields{"name": "www.example.com", "verdict": "accept", "granted": nil, "learnt": nil, "reason": nil})
		for i := 1; i <= 3; i++ {
			l.isShut(t, f.web(i))
		}
		l.isRefused(t, f, "ns.example.net", typeOf(f))
		l.isRefused(t, f, "evil.test", typeOf(f))
		l.idle(t)
	})
}

// A truncated answer tells the client to ask otherwise, and grants nothing
// even if it holds something. An error of a server that did not understand
// the question passes without one.
func TestTruncatedAndBareErrors(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, func(q *query) {
			m := q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1)))
			switch q.name() {
			case "tc.example.com.":
				m.Truncated = true
			case "formerr.example.com.":
				m = &dns.Msg{MsgHdr: dns.MsgHdr{Id: q.msg.Id, Response: true, Rcode: dns.RcodeFormatError}}
			case "formerropt.example.com.":
				m = &dns.Msg{MsgHdr: dns.MsgHdr{Id: q.msg.Id, Response: true, Rcode: dns.RcodeFormatError}}
				m.SetEdns0(1232, false)
			}
			q.send(m)
		})
		l.start(allowing("example.com"))
		l.rules(standardRules)
		a := l.client.asker(t, f.client)
		if m := a.ask(f.dns(), "tc.example.com", typeOf(f)); !m.Truncated || len(m.Answer) != 1 {
			t.Errorf("the client got %v", m)
		}
		l.daemon.sees(t, eventResponse, fields{"name": "tc.example.com", "verdict": "accept", "granted": nil, "reason": nil})
		l.isShut(t, f.web(1))
		for _, name := range []string{"formerr.example.com", "formerropt.example.com"} {
			q := question(name, typeOf(f))
			a.send(f.dns(), q)
			wire, _ := a.receive()
			if !bytes.Equal(wire[:2], pack(t, q)[:2]) || wire[3] != 1 {
				t.Errorf("%s: the client got %x", name, wire)
			}
			l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "accept", "granted": nil, "reason": nil})
		}
		sameData(t, a.ask(f.dns(), "www.example.com", typeOf(f)), f.web(1))
		l.reaches(t, f.web(1))
		l.idle(t)
	})
}
