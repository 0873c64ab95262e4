package main_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestFullMessages: with -f the log has the whole DNS messages, without it none.
func TestFullMessages(t *testing.T) {
	for _, options := range [][]string{{"-f"}, nil} {
		f := families[0]
		l := newLab(t)
		l.dnsmasq(fmt.Sprintf("--host-record=www.example.com,%v", f.web(1)))
		l.start(allowing("example.com"), options...)
		l.rules(standardRules)
		if out, ok := l.client.dig(t, 0, f.resolver, 10, "www.example.com", "A"); !ok {
			t.Fatal(out)
		}
		for event, want := range map[string]string{
			eventRequest:  ";www.example.com. IN A\n",
			eventResponse: fmt.Sprintf("IN A %v\n", f.web(1)),
		} {
			got := l.daemon.sees(t, event, fields{"name": "www.example.com", "verdict": "accept"}).text("message")
			if strings.Contains(got, want) != (options != nil) || options == nil && got != "" {
				t.Errorf("%v: %s: message %q", options, event, got)
			}
		}
	}
}
