package main_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// hint is the SvcParam that hints at addresses of the family.
func (f family) hint(addresses ...netip.Addr) string {
	return pick(f, "ipv4hint", "ipv6hint") + "=" + commas(addresses)
}

func commas(addresses []netip.Addr) string {
	var texts []string
	for _, a := range addresses {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ",")
}

// asksService asks for an HTTPS or SVCB record and requires that it comes.
func (l *lab) asksService(t *testing.T, f family, name string, record uint16) *dns.Msg {
	t.Helper()
	m := l.client.asker(t, f.client).ask(f.dns(), name, record)
	if len(m.Answer) == 0 || m.Answer[0].Header().Rrtype != record {
		t.Errorf("%s: the client got %v", name, m)
	}
	return m
}

// The hints of an HTTPS or SVCB record open addresses, of either family
// whatever carried them, and its target may be asked for.
func TestServiceHints(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		v4, v6 := families[0], families[1]
		l.resolver(f.resolver, zone(map[string][]string{
			"www.example.com.": {fmt.Sprintf("www.example.com. 60 IN HTTPS 1 . mandatory=alpn alpn=h3,h2 port=80 %s %s",
				v4.hint(v4.web(1), v4.web(2)), v6.hint(v6.web(1)))},
			"_dns.example.com.": {"_dns.example.com. 60 IN SVCB 1 dns.cdn.test. alpn=h2 " + f.hint(f.web(3))},
			"dns.cdn.test.":     {fmt.Sprintf("dns.cdn.test. 60 IN %s %v", f.record(), f.web(4))},
			"two.example.com.": {
				"two.example.com. 60 IN CNAME edge.cdn.test.",
				"edge.cdn.test. 60 IN HTTPS 1 first.cdn.test. " + f.hint(f.web(5)),
				"edge.cdn.test. 60 IN HTTPS 2 . " + f.hint(f.web(6)),
			},
		}))
		l.start(allowing("example.com"))
		l.rules(standardRules)

		l.isRefused(t, f, "dns.cdn.test", typeOf(f))
		l.asksService(t, f, "www.example.com", dns.TypeHTTPS)
		line := l.daemon.sees(t, eventResponse, fields{"name": "www.example.com", "type": "HTTPS", "verdict": "accept", "learnt": nil})
		sameWords(t, line, "granted", v4.web(1), v4.web(2), v6.web(1))
		for _, open := range []netip.Addr{v4.web(1), v4.web(2), v6.web(1)} {
			l.reaches(t, open)
		}
		l.isShut(t, v6.web(2))

		l.asksService(t, f, "_dns.example.com", dns.TypeSVCB)
		l.daemon.sees(t, eventResponse, fields{"name": "_dns.example.com", "type": "SVCB", "verdict": "accept",
			"granted": f.web(3), "learnt": "dns.cdn.test"})
		l.reaches(t, f.web(3))
		l.isShut(t, f.web(4))
		l.resolves(t, f, "dns.cdn.test", typeOf(f), f.web(4))
		l.reaches(t, f.web(4))

		l.client.asker(t, f.client).ask(f.dns(), "two.example.com", dns.TypeHTTPS)
		line = l.daemon.sees(t, eventResponse, fields{"name": "two.example.com", "verdict": "accept"})
		sameWords(t, line, "granted", f.web(5), f.web(6))
		sameWords(t, line, "learnt", "edge.cdn.test", "first.cdn.test")
		l.reaches(t, f.web(5))
		l.idle(t)
	})
}

// An alias names what to ask next and nothing else: what stands in its
// parameters is ignored, and the root is no name.
func TestServiceAlias(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, zone(map[string][]string{
			"example.com.":         {"example.com. 60 IN HTTPS 0 real.cdn.test."},
			"hinted.example.com.":  {"hinted.example.com. 60 IN HTTPS 0 hinted.cdn.test. " + f.hint(f.web(8))},
			"nothing.example.com.": {"nothing.example.com. 60 IN HTTPS 0 . " + f.hint(f.web(8))},
			"real.cdn.test.":       {"real.cdn.test. 60 IN HTTPS 1 . " + f.hint(f.web(1))},
		}))
		l.start(allowing("example.com"))
		l.rules(standardRules)

		l.isRefused(t, f, "real.cdn.test", dns.TypeHTTPS)
		for _, c := range []struct{ name, learnt string }{
			{"example.com", "real.cdn.test"}, {"hinted.example.com", "hinted.cdn.test"},
		} {
			l.asksService(t, f, c.name, dns.TypeHTTPS)
			l.daemon.sees(t, eventResponse, fields{"name": c.name, "verdict": "accept", "granted": nil, "learnt": c.learnt})
		}
		l.asksService(t, f, "nothing.example.com", dns.TypeHTTPS)
		l.daemon.sees(t, eventResponse, fields{"name": "nothing.example.com", "verdict": "accept", "granted": nil, "learnt": nil})
		l.isShut(t, f.web(8))

		l.isShut(t, f.web(1))
		l.asksService(t, f, "real.cdn.test", dns.TypeHTTPS)
		l.daemon.sees(t, eventResponse, fields{"name": "real.cdn.test", "verdict": "accept", "by_answer": true, "granted": f.web(1)})
		l.isRefused(t, f, "below.real.cdn.test", dns.TypeHTTPS)
		l.idle(t)
	})
}

// A hint opens no special address, as no other answer does.
func TestSpecialHints(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		bad := netip.MustParseAddr(pick(f, "169.254.169.254", "fd00:ec2::254"))
		l.resolver(f.resolver, zone(map[string][]string{
			"www.example.com.": {"www.example.com. 60 IN HTTPS 1 . " + f.hint(bad, f.web(1))},
		}))
		l.start(allowing("example.com"))
		l.rules(standardRules)
		l.asksService(t, f, "www.example.com", dns.TypeHTTPS)
		l.daemon.sees(t, eventResponse, fields{"name": "www.example.com", "verdict": "accept", "@level": "warn",
			"granted": f.web(1), "refused": bad})
		l.reaches(t, f.web(1))
		l.idle(t)
	})
}
