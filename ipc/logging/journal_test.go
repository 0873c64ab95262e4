package logging

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// TestPriorities: to the journal every line begins with its priority, and
// what follows is the same as elsewhere.
func TestPriorities(t *testing.T) {
	special := []netip.Addr{netip.MustParseAddr("169.254.169.254")}
	log := func(l *Logger) {
		l.Info("i")
		l.Warn("w")
		l.Error("e")
		l.Decide(&Decision{Event: EventRequest, Verdict: ipc.Drop})
		l.Decide(&Decision{Event: EventRequest, Verdict: ipc.Accept})
		l.Decide(&Decision{Event: EventTraffic, Verdict: ipc.Accept})
	}
	want := []string{"<6>", "<4>", "<3>", "<4>", "<6>", "<7>"}
	for _, json := range []bool{false, true} {
		text := capture(t, Options{Process: "p", JSON: json, Debug: true, Journal: true}, log)
		lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
		if len(lines) != len(want) {
			t.Fatalf("%q", text)
		}
		for i, line := range lines {
			rest, ok := strings.CutPrefix(line, want[i])
			if !ok {
				t.Errorf("json %t: no %s before %q", json, want[i], line)
			}
			if json {
				parse(t, rest)
			}
		}
		if text := capture(t, Options{Process: "p", JSON: json, Debug: true}, log); strings.Contains(text, "<") {
			t.Errorf("json %t: a priority that nobody asked for in %q", json, text)
		}
	}
	// Refused addresses have a queue of their own.
	text := capture(t, Options{Process: "p", JSON: true, Journal: true}, func(l *Logger) {
		l.Decide(&Decision{Event: EventResponse, Verdict: ipc.Accept, Refused: special})
	})
	if !strings.HasPrefix(text, "<4>{") {
		t.Errorf("%q", text)
	}
}

// TestNothingForgesAPriority: no line has one that a packet or an owned parser
// has put there, and each line has one, also those of a value of several.
func TestNothingForgesAPriority(t *testing.T) {
	own := regexp.MustCompile(`^<4>[^<]`)
	for _, json := range []bool{false, true} {
		text := capture(t, Options{Process: "p", JSON: json, Journal: true}, func(l *Logger) {
			d := denial(wire("<0>", "\n<0>x", "\r<1>", "<2>\n"))
			d.Dump = "<0>first\n<0>second\n\n<0>third\n"
			l.Decide(d)
		})
		if plain := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(text); !strings.Contains(plain, "<0>x") || !strings.Contains(plain, "<0>third") {
			t.Errorf("json %t: what should be harmless is not there: %q", json, text)
		}
		for line := range strings.Lines(text) {
			if !own.MatchString(line) {
				t.Errorf("json %t: %q", json, line)
			}
		}
	}
}

// TestPriorityIsInTheWrite: a line and its priority are one write, or another
// process's could come between them.
func TestPriorityIsInTheWrite(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	l := New(fds[0], Options{Process: "p", Journal: true})
	d := denial(wire("evil", "example"))
	d.Dump = "one\ntwo\n"
	l.Decide(d)
	if err := l.Close(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	n, err := unix.Read(fds[1], buf)
	if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, "<4>") || !strings.Contains(got, "two") {
		t.Errorf("%q, %v", got, err)
	}
}
