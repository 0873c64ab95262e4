package main_test

import (
	"fmt"
	"net/netip"
	"testing"
)

// The queue says that it is DNS, no port does: neither a client's port that
// something else is known by (VXLAN, Geneve, SIP, mDNS, GTP) nor a server's.
func TestPorts(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		servers := []uint16{53, 5353, 8053}
		for _, port := range servers {
			l.resolverOn(l.server, netip.AddrPortFrom(f.resolver, port), func(q *query) {
				q.send(q.reply(fmt.Sprintf("%s 60 IN %s %v", q.name(), f.record(), f.web(1))))
			})
		}
		l.start(allowing("example.com"))
		l.rules(func(f family) []string {
			lines := standardRules(f)
			for _, port := range servers[1:] { // before the one for other traffic
				lines = append([]string{
					fmt.Sprintf("-A INPUT -p udp --sport %d -j NFQUEUE --queue-num %d", port, inboundQueue(f)),
					fmt.Sprintf("-A OUTPUT -p udp --dport %d -j NFQUEUE --queue-num %d", port, dnsQueue(0, f)),
				}, lines...)
			}
			return lines
		})
		for _, client := range []uint16{4789, 6081, 5060, 5353, 2152} {
			at := netip.AddrPortFrom(f.client, client)
			a := &asker{t, l.client.listenUDP(t, at), at}
			for _, server := range servers {
				to := netip.AddrPortFrom(f.resolver, server)
				name := fmt.Sprintf("c%d-s%d.example.com", client, server)
				sameData(t, a.ask(to, name, typeOf(f)), f.web(1))
				l.daemon.sees(t, eventResponse, fields{"name": name, "verdict": "accept", "src": to, "dst": at, "granted": f.web(1)})
				refused := question(fmt.Sprintf("c%d-s%d.test", client, server), typeOf(f))
				a.send(to, refused)
				l.daemon.sees(t, eventRequest, fields{"name": refused.Question[0].Name[:len(refused.Question[0].Name)-1],
					"verdict": "drop", "reason": "name not allowed"})
			}
			a.nothing()
		}
		l.reaches(t, f.web(1))
		l.idle(t)
	})
}
