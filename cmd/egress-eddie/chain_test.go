package main_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// sameWords requires that a line's field holds these words, in any order.
func sameWords(t *testing.T, line logLine, key string, want ...any) {
	t.Helper()
	got := strings.Fields(line.text(key))
	var texts []string
	for _, w := range want {
		texts = append(texts, fmt.Sprint(w))
	}
	slices.Sort(got)
	slices.Sort(texts)
	if !slices.Equal(got, texts) {
		t.Errorf("%s is %q, want %q in %v", key, got, texts, line)
	}
}

// A chain of CNAME records as a real server sends it: every name on the way
// may be asked for afterwards, and nothing below it, and was not before.
func TestChain(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.dnsmasq("--cname=www.example.com,edge.cdn.test", "--cname=edge.cdn.test,node.cdn.test",
			fmt.Sprintf("--host-record=node.cdn.test,%v", f.web(1)))
		l.start(allowing("example.com"))
		l.rules(standardRules)

		l.isRefused(t, f, "edge.cdn.test", typeOf(f))
		l.isRefused(t, f, "node.cdn.test", typeOf(f))
		l.resolves(t, f, "www.example.com", typeOf(f), "edge.cdn.test.", "node.cdn.test.", f.web(1))
		line := l.daemon.sees(t, eventResponse, fields{"name": "www.example.com", "verdict": "accept", "granted": f.web(1)})
		sameWords(t, line, "learnt", "edge.cdn.test", "node.cdn.test")
		l.reaches(t, f.web(1))

		l.resolves(t, f, "edge.cdn.test", typeOf(f), "node.cdn.test.", f.web(1))
		l.resolves(t, f, "node.cdn.test", typeOf(f), f.web(1))
		l.daemon.sees(t, eventResponse, fields{"name": "node.cdn.test", "verdict": "accept", "allowed_by": "example.com", "by_answer": true})
		l.isRefused(t, f, "below.node.cdn.test", typeOf(f))
		l.isRefused(t, f, "cdn.test", typeOf(f))
		l.idle(t)
	})
}

// The same chain with its records in every order, and one by way of a DNAME.
func TestChainInAnyOrder(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		// Each order has names and an address of its own.
		records := func(i int) []string {
			return []string{
				fmt.Sprintf("w%d.example.com. 60 IN CNAME e%d.cdn.test.", i, i),
				fmt.Sprintf("e%d.cdn.test. 60 IN CNAME n%d.cdn.test.", i, i),
				fmt.Sprintf("n%d.cdn.test. 60 IN %s %v", i, f.record(), f.web(i)),
			}
		}
		orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
		names := map[string][]string{
			"d.tree.example.com.": {
				"d.other.test. 60 IN " + f.record() + " " + f.web(20).String(),
				"d.tree.example.com. 60 IN CNAME d.other.test.",
				"tree.example.com. 60 IN DNAME other.test.",
			},
		}
		for i, order := range orders {
			r := records(i + 1)
			names[fmt.Sprintf("w%d.example.com.", i+1)] = []string{r[order[0]], r[order[1]], r[order[2]]}
			names[fmt.Sprintf("n%d.cdn.test.", i+1)] = r[2:]
		}
		l.resolver(f.resolver, zone(names))
		l.start(allowing("example.com"))
		l.rules(standardRules)

		for i := 1; i <= len(orders); i++ {
			edge, node := fmt.Sprintf("e%d.cdn.test", i), fmt.Sprintf("n%d.cdn.test", i)
			l.isRefused(t, f, node, typeOf(f))
			l.resolves(t, f, fmt.Sprintf("w%d.example.com", i), typeOf(f), edge+".", node+".", f.web(i))
			line := l.daemon.sees(t, eventResponse, fields{"name": fmt.Sprintf("w%d.example.com", i), "verdict": "accept", "granted": f.web(i)})
			sameWords(t, line, "learnt", edge, node)
			l.resolves(t, f, node, typeOf(f), f.web(i))
		}
		l.resolves(t, f, "d.tree.example.com", typeOf(f), "other.test.", "d.other.test.", f.web(20))
		l.daemon.sees(t, eventResponse, fields{"name": "d.tree.example.com", "granted": f.web(20), "learnt": "d.other.test"})
		l.reaches(t, f.web(6))
		l.reaches(t, f.web(20))
		l.isShut(t, f.web(21))
		l.idle(t)
	})
}

// MX, SRV and NS records name hosts that are then asked for. The addresses
// that a server adds for them on its own grant nothing.
func TestTargets(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		targets := []struct {
			name, target string
			record       uint16
		}{
			{"example.com", "mail.mx.test", dns.TypeMX},
			{"_sip._tcp.example.com", "sip.srv.test", dns.TypeSRV},
			{"example.com", "a.ns.test", dns.TypeNS},
		}
		l := newLab(t)
		args := []string{"--mx-host=example.com,mail.mx.test,10", "--srv-host=_sip._tcp.example.com,sip.srv.test,5060",
			fmt.Sprintf("--dns-rr=example.com,2,%x", "\x01a\x02ns\x04test\x00")}
		for i, c := range targets {
			args = append(args, fmt.Sprintf("--host-record=%s,%v", c.target, f.web(i+1)))
		}
		l.dnsmasq(args...)
		l.start(allowing("example.com"))
		l.rules(standardRules)

		for i, c := range targets {
			l.isRefused(t, f, c.target, typeOf(f))
			m := l.client.asker(t, f.client).ask(f.dns(), c.name, c.record)
			if len(m.Answer) != 1 || !strings.HasSuffix(data(m.Answer[0]), c.target+".") {
				t.Fatalf("%s %s: %v", c.name, dns.TypeToString[c.record], m)
			}
			l.daemon.sees(t, eventResponse, fields{"name": c.name, "type": dns.TypeToString[c.record],
				"verdict": "accept", "learnt": c.target, "granted": nil})
			if c.record != dns.TypeNS && len(m.Extra) == 0 {
				t.Errorf("%s: the server added no address, so nothing was shown", c.name)
			}
			l.isShut(t, f.web(i+1))
			l.resolves(t, f, c.target, typeOf(f), f.web(i+1))
			l.daemon.sees(t, eventResponse, fields{"name": c.target, "verdict": "accept", "granted": f.web(i + 1)})
			l.reaches(t, f.web(i+1))
		}
		l.idle(t)
	})
}
