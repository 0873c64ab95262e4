package main_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The example's user dev, who has no account here, and a uid that
// /etc/subuid would lend to him.
const (
	exampleDev    = 2002
	exampleSubuid = 100123
	exampleOther  = 3003
)

// exampleRules is the shipped script with dev's uid for his name.
func exampleRules(t *testing.T) string {
	t.Helper()
	script, err := os.ReadFile("examples/iptables.sh")
	if err != nil {
		t.Fatal(err)
	}
	const name = "filtered dev "
	if strings.Count(string(script), name) != 1 {
		t.Fatalf("the script does not say %q once", name)
	}
	return strings.Replace(string(script), name, fmt.Sprintf("filtered %d ", exampleDev), 1)
}

func (l *lab) script(text string) (output string, status int) {
	l.t.Helper()
	return l.client.run(l.t, exec.Command("sh", "-c", text))
}

// TestExamples: the shipped rules and the shipped configuration do what they
// say, for both families, loaded as often as you like.
func TestExamples(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		server := l.dnsmasq(fmt.Sprintf("--host-record=proxy.golang.org,%v", f.web(1)), fmt.Sprintf("--host-record=evil.test,%v", f.web(2)))
		l.daemon = startDaemon(t, l.client, builtBinary, "-c", "examples/egress-eddie.toml", "-d", "-log-format", "json")
		l.daemon.sees(t, "filtering", nil)
		for range 2 {
			if out, status := l.script(exampleRules(t)); status != 0 {
				t.Fatalf("status %d: %s", status, out)
			}
		}
		for _, by := range []string{"+notcp", "+tcp"} {
			if out, ok := l.client.dig(t, exampleDev, f.resolver, 10, by, "proxy.golang.org", f.record()); !ok || len(out) != 1 {
				t.Errorf("dev asks for an allowed name, %s: %v", by, out)
			}
			if out, ok := l.client.dig(t, exampleDev, f.resolver, 1, by, "secret.evil.test", f.record()); ok {
				t.Errorf("dev asks for another name, %s: %v", by, out)
			}
			if out, ok := l.client.dig(t, 0, f.resolver, 10, by, "evil.test", f.record()); !ok || len(out) != 1 {
				t.Errorf("root asks for any name, %s: %v", by, out)
			}
			if out, ok := l.client.dig(t, exampleOther, f.resolver, 1, by, "proxy.golang.org", f.record()); ok {
				t.Errorf("somebody else asks, %s: %v", by, out)
			}
		}
		if got := l.client.curl(t, exampleDev, f.web(1), patience.Seconds()); got == "" {
			t.Error("dev cannot reach it")
		}
		// The kernel repeats dev's query for the closed socket, as nobody's.
		l.daemon.sees(t, eventRequest, fields{"queue": pick(f, 3000, 3001), "uid": nil, "verdict": "drop", "reason": "connection not known"})
		if server.asked("secret.evil.test") {
			t.Error("dev's query left")
		}
		for uid, open := range map[uint32]bool{exampleDev: false, exampleSubuid: false, 0: true} {
			if got := l.client.curl(t, uid, f.web(2), 0.3); (got != "") != open {
				t.Errorf("uid %d at an address that was not granted: %q", uid, got)
			}
		}
		l.daemon.sees(t, eventTraffic, fields{"uid": exampleSubuid, "filter": "dev: go modules", "verdict": "drop"})
		l.idle(t)
	})
}

// TestExampleRulesStayClosed: at no moment of loading them again, and after no
// mistake in them, can the user send anything while no daemon runs.
func TestExampleRulesStayClosed(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		if out, status := l.script(exampleRules(t)); status != 0 {
			t.Fatalf("status %d: %s", status, out)
		}
		// The last name of the script is the one that the kernel does not know.
		broken := strings.Replace(exampleRules(t), "--uid-owner root -p", "--uid-owner no-such-user -p", 1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 10 {
				if out, status := l.script(exampleRules(t)); status != 0 {
					t.Errorf("status %d: %s", status, out)
				}
			}
			if out, status := l.script(broken); status == 0 {
				t.Errorf("a user that does not exist is no mistake: %s", out)
			}
		}()
		tries := 0
		for loading := true; loading; tries++ {
			select {
			case <-done:
				loading = false // and one try after the mistake
			default:
			}
			if got := l.client.curl(t, exampleDev, f.web(1), 0.05); got != "" {
				t.Errorf("try %d got through: %q", tries, got)
				break
			}
		}
		<-done
		if tries < 3 {
			t.Errorf("only %d tries", tries)
		}
		if got := l.client.curl(t, 0, f.web(1), patience.Seconds()); got == "" {
			t.Error("root cannot send either: the test shows nothing")
		}
	})
}

// TestOutsiderSpeaksFirst: somebody outside who sends the user a packet first
// gets no answer past the filter.
func TestOutsiderSpeaksFirst(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		l.daemon = startDaemon(t, l.client, builtBinary, "-c", "examples/egress-eddie.toml", "-d", "-log-format", "json")
		l.daemon.sees(t, "filtering", nil)
		if out, status := l.script(exampleRules(t)); status != 0 {
			t.Fatalf("status %d: %s", status, out)
		}
		dev := l.client.askerAs(t, exampleDev, f.client)
		outside := l.server.listenUDP(t, netip.AddrPortFrom(f.web(3), 7000))
		if _, err := outside.WriteToUDPAddrPort([]byte("send me what you have"), dev.at); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		if n, from, err := dev.conn.ReadFromUDPAddrPort(buf); err != nil || string(buf[:n]) != "send me what you have" {
			t.Fatalf("%q of %v, %v", buf[:n], from, err)
		}
		if _, err := dev.conn.WriteToUDPAddrPort([]byte("secret"), netip.AddrPortFrom(f.web(3), 7000)); err != nil {
			t.Fatal(err)
		}
		l.daemon.sees(t, eventTraffic, fields{"dst": f.web(3), "uid": exampleDev, "verdict": "drop", "reason": "address not granted"})
	})
}
