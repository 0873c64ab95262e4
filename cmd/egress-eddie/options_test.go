package main_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// ednsOptions are what clients and servers really send, and one that nobody
// knows.
func ednsOptions() []dns.EDNS0 {
	return []dns.EDNS0{
		&dns.EDNS0_NSID{Code: dns.EDNS0NSID},
		&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: netip.MustParseAddr("192.0.2.0").AsSlice()},
		&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"},
		&dns.EDNS0_PADDING{Padding: make([]byte, 100)},
		&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")},
	}
}

// Options pass in both directions as they are. The size that an OPT record
// claims is between client and server: it cuts nothing here.
func TestEDNSOptions(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		r := l.resolver(f.resolver, func(q *query) {
			m := q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1)),
				q.name()+" 60 IN TXT "+strings.Repeat("x", 250)+" "+strings.Repeat("y", 250)+" "+strings.Repeat("z", 250))
			if opt := m.IsEdns0(); opt != nil {
				opt.Option = ednsOptions()
			}
			q.send(m)
		})
		l.start(allowing("example.com"))
		l.rules(standardRules)
		a := l.client.asker(t, f.client)
		for _, size := range []uint16{0, 512, 1232, 65535} {
			name := fmt.Sprintf("s%d.example.com", size)
			m := question(name, typeOf(f)).SetEdns0(size, true)
			m.IsEdns0().Option = ednsOptions()
			a.send(f.dns(), m)
			got := a.answer(m)
			if len(got.Answer) != 2 || got.Len() < 800 || len(got.IsEdns0().Option) != len(ednsOptions()) {
				t.Errorf("claimed %d: the client got %v", size, got)
			}
			l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "accept", "granted": f.web(1)})
		}
		for _, q := range r.got() {
			if opt := q.msg.IsEdns0(); opt == nil || len(opt.Option) != len(ednsOptions()) {
				t.Errorf("the server got %v", q.msg)
			}
		}
		l.reaches(t, f.web(1))
		l.idle(t)
	})
}
