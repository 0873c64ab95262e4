package main_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// specials must never be opened by an answer, whatever the transport.
var specials = []string{
	"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "169.254.169.254", "224.0.0.251", "240.0.0.1", "255.255.255.255",
	"::", "::1", "fe80::1", "ff02::fb", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
	"64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:a9fe:a9fe::1", "2002:7f00:1::",
}

// An answer may point at special addresses among others: all of it reaches
// the client, the others are opened, the special ones are named in the log.
func TestSpecialAddresses(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, func(q *query) {
			m := q.reply()
			for _, a := range append(specials, families[0].web(1).String(), families[1].web(1).String()) {
				if rr := addressRecord(q.name(), netip.MustParseAddr(a)); rr.Header().Rrtype == q.msg.Question[0].Qtype {
					m.Answer = append(m.Answer, rr)
				}
			}
			q.send(m)
		})
		l.start(allowing("example.com"))
		l.rules(standardRules)

		for _, other := range families { // both kinds of record over either transport
			var all, refused []any
			for _, s := range specials {
				a := netip.MustParseAddr(s)
				if a.Is6() == other.v6 {
					all = append(all, data(addressRecord(".", a)))
					refused = append(refused, a.Unmap())
				}
			}
			name := strings.ToLower(other.record()) + ".example.com"
			m := l.client.asker(t, f.client).ask(f.dns(), name, typeOf(other))
			sameData(t, m, append(all, other.web(1))...)
			line := l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "accept", "@level": "warn", "granted": other.web(1)})
			sameWords(t, line, "refused", refused...)
			l.reaches(t, other.web(1))
		}
		l.isShut(t, netip.MustParseAddr("169.254.169.254"))
		if !f.v6 { // it is there, for those who are not filtered
			if got := l.server.curl(t, 0, netip.MustParseAddr("169.254.169.254"), patience.Seconds()); got == "" {
				t.Error("169.254.169.254 does not answer, so nothing was shown")
			}
		}
		l.isShut(t, netip.MustParseAddr("127.0.0.1"))
		l.isShut(t, netip.MustParseAddr("::1"))
		l.idle(t)
	})
}

// addressRecord makes a record of the octets of an address: A of four, AAAA
// of sixteen, which zone file lines do not allow for an IPv4-mapped address.
func addressRecord(name string, a netip.Addr) dns.RR {
	h := dns.RR_Header{Name: name, Class: dns.ClassINET, Ttl: 60}
	if a.Is4() {
		h.Rrtype = dns.TypeA
		return &dns.A{Hdr: h, A: a.AsSlice()}
	}
	h.Rrtype = dns.TypeAAAA
	return &dns.AAAA{Hdr: h, AAAA: a.AsSlice()}
}

// An AAAA record with an IPv4-mapped address opens the IPv4 address, and an
// IPv6 packet with such an address passes nowhere.
func TestMappedAddress(t *testing.T) {
	t.Parallel()
	v4, v6 := families[0], families[1]
	l := newLab(t)
	l.resolver(v6.resolver, func(q *query) {
		m := q.reply()
		m.Answer = append(m.Answer, addressRecord(q.name(), netip.MustParseAddr(fmt.Sprint("::ffff:", v4.web(1)))))
		q.send(m)
	})
	l.start(allowing("example.com"))
	l.rules(standardRules)
	l.client.asker(t, v6.client).ask(v6.dns(), "www.example.com", dns.TypeAAAA)
	l.daemon.sees(t, eventResponse, fields{"name": "www.example.com", "verdict": "accept", "granted": v4.web(1)})
	l.reaches(t, v4.web(1))
	l.isShut(t, v4.web(2))

	mapped := netip.AddrPortFrom(netip.AddrFrom16(v4.web(1).As16()), 80)
	l.client.sendRaw(t, datagram6(t, netip.AddrPortFrom(v6.client, 4000), mapped, nil))
	l.daemon.sees(t, eventTraffic, fields{"verdict": "drop", "reason": "IPv6 packet with an IPv4-mapped address"})
	l.idle(t)
}
