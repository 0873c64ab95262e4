package main_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// forgery is a false answer that arrives before the true one. It must be
// dropped, and the true one must pass all the same.
type forgery struct {
	name   string
	reason string
	shown  string // what the log shows for the name: "" the one asked for, "-" none, or this with NAME for the former
	forge  func(m *dns.Msg) []byte
}

func packed(change func(m *dns.Msg)) func(m *dns.Msg) []byte {
	return func(m *dns.Msg) []byte {
		change(m)
		wire, err := m.Pack()
		if err != nil {
			panic(err)
		}
		return wire
	}
}

var forgeries = []forgery{
	{"transaction id", "no pending request", "", packed(func(m *dns.Msg) { m.Id++ })},
	{"question's name", "no pending request", "other.example.com", packed(func(m *dns.Msg) {
		m.Question[0].Name, m.Answer[0].Header().Name = "other.example.com.", "other.example.com."
	})},
	{"question's type", "no pending request", "", packed(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT })},
	{"second question", "no pending request", "NAME NAME", packed(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })},
	{"class", "class not IN", "", packed(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })},
	{"query", "query on a response queue", "", packed(func(m *dns.Msg) { m.Response = false })},
	{"opcode", "opcode not QUERY", "", packed(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify })},
	{"without question", "no question", "-", packed(func(m *dns.Msg) { m.Question = nil })},
	{"error with records", "no question", "-", packed(func(m *dns.Msg) { m.Question, m.Rcode = nil, dns.RcodeFormatError })},
	{"cut in the question", "not a DNS message", "-", func(m *dns.Msg) []byte { return packed(func(*dns.Msg) {})(m)[:20] }},
	{"no message", "not a DNS message", "-", func(*dns.Msg) []byte { return []byte("too short") }},
}

func TestForgedBefore(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		forge := map[string]func(m *dns.Msg) []byte{}
		for i, c := range forgeries {
			forge[fmt.Sprintf("f%d.example.com.", i)] = c.forge
		}
		l.resolver(f.resolver, func(q *query) {
			if forge := forge[q.name()]; forge != nil {
				q.sendWire(forge(q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(9)))))
			}
			q.send(q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1))))
		})
		l.start(allowing("example.com"))
		l.rules(standardRules)
		for i, c := range forgeries {
			t.Run(c.name, func(t *testing.T) {
				name := fmt.Sprintf("f%d.example.com", i)
				a := l.client.asker(t, f.client)
				sameData(t, a.ask(f.dns(), name, typeOf(f)), f.web(1)) // is the first that comes
				a.nothing()
				l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "accept", "granted": f.web(1)})
				want := fields{"verdict": "drop", "reason": c.reason, "src": f.dns(), "granted": nil}
				switch c.shown {
				case "":
					want["name"] = name
				case "-":
					want["name"] = nil
				default:
					want["name"] = strings.ReplaceAll(c.shown, "NAME", name)
				}
				l.daemon.sees(t, eventResponse, want)
			})
		}
		l.isShut(t, f.web(9))
		l.reaches(t, f.web(1))
		l.idle(t)
	})
}

// Answers from elsewhere, to elsewhere, twice, and to nobody.
func TestForgedOrigin(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		other := l.server.listenUDP(t, netip.AddrPortFrom(f.other, 53))
		port := l.server.listenUDP(t, netip.AddrPortFrom(f.resolver, 5353))
		bystander := l.client.asker(t, f.client)
		truth := func(q *query) *dns.Msg {
			return q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1)))
		}
		l.resolver(f.resolver, func(q *query) {
			forged := pack(t, q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(9))))
			switch q.name() {
			case "address.example.com.":
				q.sendFrom(other, forged)
			case "port.example.com.":
				q.sendFrom(port, forged)
			case "client.example.com.":
				writeTo(t, q.conn, forged, bystander.at)
			case "twice.example.com.":
				q.send(truth(q))
				q.sendWire(forged)
				return
			}
			q.send(truth(q))
		})
		l.start(allowing("example.com"))
		l.rules(func(f family) []string {
			everything := fmt.Sprintf("-A INPUT -p udp --sport 5353 -j NFQUEUE --queue-num %d", inboundQueue(f))
			return append(standardRules(f), everything)
		})
		for _, c := range []struct {
			name     string
			src, dst any
		}{
			{"address", netip.AddrPortFrom(f.other, 53), nil},
			{"port", netip.AddrPortFrom(f.resolver, 5353), nil},
			{"client", f.dns(), bystander.at},
			{"twice", f.dns(), nil},
		} {
			t.Run(c.name, func(t *testing.T) {
				name := c.name + ".example.com"
				a := l.client.asker(t, f.client)
				sameData(t, a.ask(f.dns(), name, typeOf(f)), f.web(1))
				want := fields{"name": name, "verdict": "drop", "reason": "no pending request", "src": c.src, "dst": a.at}
				if c.dst != nil {
					want["dst"] = c.dst
				}
				l.daemon.sees(t, eventResponse, want)
				a.ask(f.dns(), "after."+name, typeOf(f))
				a.nothing()
			})
		}
		t.Run("unsolicited", func(t *testing.T) {
			m := question("unasked.example.com", typeOf(f))
			m.SetReply(m.Copy())
			m.Answer = rrs(t, fmt.Sprintf("unasked.example.com. 60 IN %s %v", f.record(), f.web(9)))
			writeTo(t, other, pack(t, m), bystander.at)
			l.daemon.sees(t, eventResponse, fields{"name": "unasked.example.com", "verdict": "drop", "reason": "no pending request", "filter": nil})
		})
		bystander.ask(f.dns(), "last.example.com", typeOf(f))
		bystander.nothing()
		l.isShut(t, f.web(9))
		l.reaches(t, f.web(1))
		l.idle(t)

		l.daemon.expectExit(0)
		l.daemon.cmd.Process.Signal(unix.SIGTERM)
		all := l.daemon.sees(t, "decided in all", nil)
		if n := count(all, "dropped: no pending request"); n != 5 {
			t.Errorf("%d responses counted that nobody asked for, want the 5: %v", n, all)
		}
	})
}

// A request that is sent again while its answer is on the way counts as one:
// of two answers one passes.
func TestRetransmission(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		var first *query
		l.resolver(f.resolver, func(q *query) {
			if q.name() == "twice.example.com." && first == nil {
				first = q
				return
			}
			q.send(q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1))))
			if first != nil {
				first.send(first.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(2))))
				first = nil
			}
		})
		l.start(allowing("example.com"))
		l.rules(standardRules)
		a, m := l.client.asker(t, f.client), question("twice.example.com", typeOf(f))
		a.send(f.dns(), m)
		a.send(f.dns(), m)
		sameData(t, a.answer(m), f.web(1))
		l.daemon.sees(t, eventResponse, fields{"name": "twice.example.com", "verdict": "drop", "reason": "no pending request"})
		a.ask(f.dns(), "after.example.com", typeOf(f))
		a.nothing()
		l.reaches(t, f.web(1))
		l.isShut(t, f.web(2))
		l.idle(t)
	})
}

func writeTo(t *testing.T, conn *net.UDPConn, wire []byte, to netip.AddrPort) {
	t.Helper()
	if _, err := conn.WriteToUDPAddrPort(wire, to); err != nil {
		t.Errorf("sending to %v: %v", to, err)
	}
}
