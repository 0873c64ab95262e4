package main_test

import (
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"
)

// What was opened closes again, by the clock, for new connections only; a
// repeat extends it. Names that were learnt end alike.
func TestExpiry(t *testing.T) {
	const lasts = 2 * time.Second
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		names := map[string][]string{}
		for i := 1; i <= 2; i++ {
			names[fmt.Sprintf("w%d.example.com.", i)] = []string{
				fmt.Sprintf("w%d.example.com. 1 IN CNAME w%d.cdn.test.", i, i),
				fmt.Sprintf("w%d.cdn.test. 1 IN %s %v", i, f.record(), f.web(i)),
			}
		}
		l.resolver(f.resolver, zone(names))
		l.start(config{filters: []filter{{allowed: []string{"example.com"}, lasts: lasts.String()}}})
		l.rules(standardRules)
		web := func(i int) netip.AddrPort { return netip.AddrPortFrom(f.web(i), 80) }

		// The second is asked for again half way through; each is shut no
		// earlier than lasts after it was asked for last.
		l.resolves(t, f, "w1.example.com", typeOf(f), "w1.cdn.test.", f.web(1))
		l.resolves(t, f, "w2.example.com", typeOf(f), "w2.cdn.test.", f.web(2))
		opened := time.Now()
		conn, err := l.client.dial(t, netip.Addr{}, web(1), patience)
		if err != nil {
			t.Fatalf("web 1 is not open: %v", err)
		}
		time.Sleep(lasts / 2)
		extending := time.Now()
		l.resolves(t, f, "w2.example.com", typeOf(f), "w2.cdn.test.", f.web(2))
		extended := time.Now()

		time.Sleep(time.Until(opened.Add(lasts + 50*time.Millisecond)))
		if open := l.client.connects(t, netip.Addr{}, web(2), patience); !open && time.Since(extending) < lasts {
			t.Error("web 2 was shut before its time")
		}
		l.isShut(t, f.web(1))
		l.isRefused(t, f, "w1.cdn.test", typeOf(f))

		// What was connected stays so.
		fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n")
		conn.SetReadDeadline(time.Now().Add(patience))
		if reply, err := io.ReadAll(conn); err != nil || len(reply) == 0 {
			t.Errorf("the connection that was open did not live on: %q, %v", reply, err)
		}

		time.Sleep(time.Until(extended.Add(lasts + 50*time.Millisecond)))
		l.isShut(t, f.web(2))
		l.idle(t)
	})
}

// A name that only an earlier answer allowed cannot keep itself allowed by
// answers of its own, and neither can two that name each other.
func TestLearntNamesEnd(t *testing.T) {
	const lasts = 2 * time.Second
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.resolver(f.resolver, zone(map[string][]string{
			"www.example.com.": {"www.example.com. 1 IN CNAME a.evil.test."},
			"a.evil.test.":     {"a.evil.test. 1 IN CNAME b.evil.test.", "b.evil.test. 1 IN NS b.evil.test."},
			"b.evil.test.":     {"b.evil.test. 1 IN NS b.evil.test.", "b.evil.test. 1 IN NS a.evil.test."},
		}))
		l.start(config{filters: []filter{{allowed: []string{"example.com"}, lasts: lasts.String()}}})
		l.rules(standardRules)
		l.client.asker(t, f.client).ask(f.dns(), "www.example.com", typeOf(f))
		taught := time.Now()
		asker := l.client.asker(t, f.client)
		for time.Since(taught) < lasts*3/4 {
			asker.ask(f.dns(), "a.evil.test", typeOf(f))
			asker.ask(f.dns(), "b.evil.test", typeOf(f))
			time.Sleep(lasts / 8)
		}
		time.Sleep(time.Until(taught.Add(lasts + 50*time.Millisecond)))
		l.isRefused(t, f, "a.evil.test", typeOf(f))
		l.isRefused(t, f, "b.evil.test", typeOf(f))
		l.idle(t)
	})
}
