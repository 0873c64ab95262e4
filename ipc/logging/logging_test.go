package logging

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// capture logs to a real pipe and returns what came out of it after Close.
func capture(t *testing.T, o Options, log func(*Logger)) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(r)
		all <- b
	}()
	l := New(int(w.Fd()), o)
	log(l)
	if err := l.Close(5 * time.Second); err != nil {
		t.Error(err)
	}
	w.Close()
	return string(<-all)
}

// parse reads JSON lines, every one of which must be an object.
func parse(t *testing.T, text string) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, m)
	}
	return lines
}

func wire(labels ...string) name.Name {
	var b []byte
	for _, l := range labels {
		b = append(append(b, byte(len(l))), l...)
	}
	n, err := name.FromWire(append(b, 0))
	if err != nil {
		panic(err)
	}
	return n
}

func denial(n name.Name) *Decision {
	return &Decision{
		Event: EventRequest, Filter: "web", Queue: 1000,
		Questions: []ipc.Question{{Name: n, Type: 1, Class: 1}},
		Src:       netip.MustParseAddrPort("10.0.0.1:40000"), Dst: netip.MustParseAddrPort("[2001:db8::53]:53"),
		UID: 1000, HasUID: true, Verdict: ipc.Drop, Reason: ipc.ReasonNameNotAllowed,
	}
}

func numbered(i int) *Decision { return denial(wire(fmt.Sprintf("n%d", i), "example")) }

// TestFields: one JSON object with everything that the issue asks for.
func TestFields(t *testing.T) {
	lines := parse(t, capture(t, Options{Process: "allowlist", JSON: true}, func(l *Logger) {
		l.Decide(denial(wire("evil", "example")))
	}))
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	for key, want := range map[string]any{
		"@level": "warn", "@module": "allowlist", "@message": "dns request", "filter": "web", "queue": 1000.0,
		"name": "evil.example", "type": "A", "src": "10.0.0.1:40000", "dst": "[2001:db8::53]:53", "uid": 1000.0,
		"verdict": "drop", "reason": "name not allowed",
	} {
		if got := lines[0][key]; got != want {
			t.Errorf("%s is %v, not %v", key, got, want)
		}
	}
	stamp, err := time.Parse(time.RFC3339Nano, fmt.Sprint(lines[0]["@timestamp"]))
	if err != nil || stamp.Location() != time.UTC || time.Since(stamp) > time.Minute {
		t.Errorf("the time is %v, %v", lines[0]["@timestamp"], err)
	}
}

func TestAccepted(t *testing.T) {
	lines := parse(t, capture(t, Options{Process: "allowlist", JSON: true}, func(l *Logger) {
		l.Decide(&Decision{
			Event: EventResponse, Filter: "web", Queue: 1, Questions: []ipc.Question{{Name: wire("a"), Type: 65280}},
			Verdict: ipc.Accept, Granted: []Opened{{netip.MustParseAddr("192.0.2.1"), ipc.Port{}}, {netip.MustParseAddr("2001:db8::1"), ipc.Port{}}},
			Learnt: []name.Name{wire("b", "example")}, For: "5m0s", Dump: "text",
		})
	}))
	want := map[string]any{
		"@level": "info", "granted": "192.0.2.1 2001:db8::1", "learnt": "b.example", "for": "5m0s",
		"message": "text", "type": "TYPE65280", "verdict": "accept",
	}
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	for key, v := range want {
		if lines[0][key] != v {
			t.Errorf("%s is %v, not %v", key, lines[0][key], v)
		}
	}
	if _, ok := lines[0]["reason"]; ok {
		t.Error("an accepted one has a reason")
	}
	if _, ok := lines[0]["src"]; ok {
		t.Error("an unknown address is shown")
	}
}

// TestLevels: denials at warn, accepted DNS at info, accepted traffic at
// debug, and so only with -d.
func TestLevels(t *testing.T) {
	special := []netip.Addr{netip.MustParseAddr("169.254.169.254")}
	for _, test := range []struct {
		d    Decision
		want hclog.Level
	}{
		{Decision{Event: EventRequest, Verdict: ipc.Drop}, hclog.Warn},
		{Decision{Event: EventResponse, Verdict: ipc.Drop}, hclog.Warn},
		{Decision{Event: EventTraffic, Verdict: ipc.Drop}, hclog.Warn},
		{Decision{Event: EventTraffic}, hclog.Warn}, // no verdict is no accept
		{Decision{Event: EventRequest, Verdict: ipc.Accept}, hclog.Info},
		{Decision{Event: EventResponse, Verdict: ipc.Accept}, hclog.Info},
		{Decision{Event: EventResponse, Verdict: ipc.Accept, Refused: special}, hclog.Warn},
		{Decision{Event: EventTraffic, Verdict: ipc.Accept}, hclog.Debug},
	} {
		for _, debug := range []bool{false, true} {
			lines := parse(t, capture(t, Options{Process: "p", JSON: true, Debug: debug}, func(l *Logger) {
				if l.Enabled() != debug {
					t.Errorf("enabled is %t", !debug)
				}
				l.Decide(&test.d)
			}))
			shown := debug || test.want != hclog.Debug
			if shown != (len(lines) == 1) || shown && lines[0]["@level"] != test.want.String() {
				t.Errorf("%+v, debug %t: %v", test.d, debug, lines)
			}
		}
	}
	lines := parse(t, capture(t, Options{Process: "p", JSON: true, Debug: true}, func(l *Logger) {
		l.Info("i", "k", 1)
		l.Warn("w")
		l.Error("e")
	}))
	if len(lines) != 3 || lines[0]["@level"] != "info" || lines[1]["@level"] != "warn" || lines[2]["@level"] != "error" {
		t.Errorf("%v", lines)
	}
}

// TestNothingForgesALine: whatever a packet or an owned parser had a hand in,
// no line of the log begins where it did not, and no octet of it moves a
// cursor.
func TestNothingForgesALine(t *testing.T) {
	// A dump that passed ipc's Validate, and a name of any octets.
	dump := "\n2026-01-01T00:00:00.000Z [INFO]  allowlist: forged: verdict=accept\" }\n{\"@level\":\"info\"}"
	hostile := "\n2026-01-01T00:00:00.000Z [INFO]  allowlist: forged: verdict=accept\r\x1b[2J\x00\u202e\u2028\x85\xff\" verdict=accept"
	for _, json := range []bool{false, true} {
		text := capture(t, Options{Process: "allowlist", JSON: json}, func(l *Logger) {
			d := denial(wire(hostile[:60], "a.b", `"} {"`))
			d.Dump = dump
			l.Decide(d)
		})
		for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			if i > 0 && !strings.HasPrefix(line, "  ") {
				t.Errorf("json %t: a line of its own: %q", json, line)
			}
			for _, r := range line {
				if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0x2028 {
					t.Errorf("json %t: %q holds %q", json, line, r)
				}
			}
		}
		if json && len(parse(t, text)) != 1 {
			t.Errorf("more than one object: %q", text)
		}
		if !strings.Contains(text, `a\\.b`) && !strings.Contains(text, `a\.b`) {
			t.Errorf("the dot in a label is not escaped: %q", text)
		}
	}
}

// a folder with a clock of the test's own, and what it writes.
func testFolder() (*folder, *bytes.Buffer, *time.Time) {
	var out bytes.Buffer
	now := time.Now()
	f := newFolder(hclog.New(&hclog.LoggerOptions{Name: "p", Level: hclog.Info, Output: &out, JSONFormat: true}))
	f.now = func() time.Time { return now }
	return f, &out, &now
}

func (f *folder) push(d *Decision) { f.entry(entry{decision: d}) }

// take reads what was written since the last call.
func take(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	lines := parse(t, out.String())
	out.Reset()
	return lines
}

func TestFold(t *testing.T) {
	f, out, now := testFolder()
	for i := range 4212 {
		d := denial(wire("evil", "example"))
		d.Src = netip.AddrPortFrom(d.Src.Addr(), uint16(i)+1) // every retry has another port
		f.push(d)
	}
	if lines := take(t, out); len(lines) != 1 || lines[0]["repeats"] != nil {
		t.Fatalf("%v", lines)
	}
	*now = now.Add(9 * time.Second)
	f.tick(*now)
	if lines := take(t, out); len(lines) != 0 {
		t.Fatalf("too early: %v", lines)
	}
	*now = now.Add(time.Second)
	f.tick(*now)
	lines := take(t, out)
	if len(lines) != 1 || lines[0]["@message"] != "dns request: and 4211 more in 10 s" || lines[0]["repeats"] != 4211.0 ||
		lines[0]["name"] != "evil.example" || lines[0]["@level"] != "warn" {
		t.Fatalf("%v", lines)
	}
	f.push(denial(wire("evil", "example")))
	if lines := take(t, out); len(lines) != 1 {
		t.Errorf("after the count it is not shown again: %v", lines)
	}
	*now = now.Add(time.Hour)
	f.tick(*now)
	if lines := take(t, out); len(lines) != 0 {
		t.Errorf("no repeats are shown as some: %v", lines)
	}
}

// TestFoldKey: what differs in anything that matters is not folded.
func TestFoldKey(t *testing.T) {
	f, out, _ := testFolder()
	changes := []func(*Decision){
		func(*Decision) {},
		func(d *Decision) { d.Filter = "other" },
		func(d *Decision) { d.Queue++ },
		func(d *Decision) { d.Event = EventResponse },
		func(d *Decision) { d.Verdict = ipc.Accept },
		func(d *Decision) { d.Reason = ipc.ReasonOpcode },
		func(d *Decision) { d.Questions[0].Name = wire("other") },
		func(d *Decision) { d.Questions[0].Name = wire("evil.example") },
		func(d *Decision) { d.Questions = nil }, // now by its destination
		func(d *Decision) { d.Questions, d.Dst = nil, netip.MustParseAddrPort("192.0.2.9:443") },
		func(d *Decision) { d.Granted = []Opened{{Addr: netip.MustParseAddr("192.0.2.1")}} },
		func(d *Decision) { d.Granted = []Opened{{netip.MustParseAddr("192.0.2.1"), ipc.Port{Number: 443}}} },
		func(d *Decision) { d.Port = ipc.Port{Number: 443, Proto: ipc.ProtoTCP} },
		func(d *Decision) { d.Granted = []Opened{{Addr: netip.MustParseAddr("192.0.2.2")}} },
		func(d *Decision) { d.Learnt = []name.Name{wire("x")} },
		func(d *Decision) { d.Refused = []netip.Addr{netip.MustParseAddr("169.254.169.254")} },
		func(d *Decision) { d.Questions = []ipc.Question{{Name: wire("evil", "example"), Type: 28, Class: 1}} },
		func(d *Decision) {
			d.Questions = append(d.Questions, ipc.Question{Name: wire("second"), Type: 1, Class: 1})
		},
		func(d *Decision) { d.UID++ },
	}
	for _, change := range changes {
		for range 2 {
			d := denial(wire("evil", "example"))
			change(d)
			f.push(d)
		}
	}
	if lines := take(t, out); len(lines) != len(changes) {
		t.Errorf("%d lines of %d", len(lines), len(changes))
	}
	f.flush()
	if lines := take(t, out); len(lines) != len(changes) {
		t.Errorf("%d counts of %d", len(lines), len(changes))
	}
}

// TestFloodOfDifferent: a flood in which every denial is another one is shown
// up to a bound a second and counted beyond it; it does not push accepted
// ones out.
func TestFloodOfDifferent(t *testing.T) {
	f, out, now := testFolder()
	for i := range 10_000 {
		f.push(numbered(i))
	}
	accepted := numbered(-1)
	accepted.Verdict, accepted.Reason = ipc.Accept, ipc.ReasonNone
	f.push(accepted)
	lines := take(t, out)
	if len(lines) != quietAtOnce+1 || lines[quietAtOnce]["verdict"] != "accept" {
		t.Fatalf("%d lines", len(lines))
	}
	*now = now.Add(time.Second)
	f.tick(*now)
	lines = take(t, out)
	if len(lines) != 1 || lines[0]["repeats"] != float64(10_000-quietAtOnce) || lines[0]["reason"] != "name not allowed" || lines[0]["@level"] != "warn" {
		t.Fatalf("%v", lines)
	}
	f.push(numbered(20_000))
	if lines := take(t, out); len(lines) != 1 {
		t.Errorf("the next second shows nothing: %v", lines)
	}
}

// TestNothingUncounted: over any flood, lines and counts add up to what was
// decided, and the tables stay within their bounds.
func TestNothingUncounted(t *testing.T) {
	f, out, now := testFolder()
	total := 0.0
	count := func() {
		for _, line := range take(t, out) {
			if repeats, ok := line["repeats"].(float64); ok {
				total += repeats
			} else {
				total++
			}
		}
	}
	pushed := 0
	for second := range 30 {
		for i := range 3000 {
			f.push(numbered(second*700 + i%2000))
			pushed++
		}
		if len(f.folds) > maxFolds {
			t.Fatalf("%d folds", len(f.folds))
		}
		*now = now.Add(time.Second)
		f.tick(*now)
		count()
	}
	f.flush()
	count()
	if int(total) != pushed {
		t.Errorf("%d of %d are accounted for", int(total), pushed)
	}
}

// TestBlockedReader: with a log that nobody reads no decision waits, what is
// lost is counted, and the count is shown when somebody reads again.
func TestBlockedReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	l := New(int(w.Fd()), Options{Process: "p", JSON: true})
	const pushed = 50_000
	longest := time.Duration(0)
	d := denial(wire("evil", "example"))
	d.Event, d.Verdict = EventTraffic, ipc.Accept // shown one by one, were it debug
	for i := range pushed {
		start := time.Now()
		l.Warn("line", "number", i, "padding", strings.Repeat("x", 100))
		longest = max(longest, time.Since(start))
	}
	l.Decide(d)
	if longest > time.Second {
		t.Errorf("one line took %v", longest)
	}
	if start := time.Now(); l.Close(50*time.Millisecond) == nil || time.Since(start) > 5*time.Second {
		t.Errorf("closing took %v, or succeeded", time.Since(start))
	}
	// Somebody reads again.
	shown, lost := 0, 0
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		line := parse(t, scanner.Text())[0]
		if n, ok := line["lines"].(float64); ok {
			lost += int(n)
			if shown+lost >= pushed {
				break
			}
			continue
		}
		shown++
	}
	// The one decision may be lost or shown.
	if got := shown + lost; got < pushed || got > pushed+1 {
		t.Errorf("%d shown and %d lost of %d", shown, lost, pushed)
	}
	if shown < queueLength {
		t.Errorf("only %d were kept", shown)
	}
	<-l.stopped
}

// TestDeadLogs: a full disk, and a reader that went away, cost lines and
// nothing else.
func TestDeadLogs(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	for what, fd := range map[string]int{"full disk": int(full.Fd()), "no reader": int(w.Fd()), "closed": 1 << 20} {
		l := New(fd, Options{Process: "p"})
		for i := range 1000 {
			l.Decide(numbered(i))
		}
		if err := l.Close(5 * time.Second); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestReplaced: the descriptor may be replaced while lines are written; every
// line is in one of the two files, whole.
func TestReplaced(t *testing.T) {
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.OpenFile(dir+name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first, second := open("/1"), open("/2")
	defer first.Close()
	defer second.Close()
	l := New(int(first.Fd()), Options{Process: "p", JSON: true})
	for i := range 2000 {
		if i == 1000 {
			if err := unix.Dup3(int(second.Fd()), int(first.Fd()), unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
		}
		l.Warn("line", "number", i)
	}
	l.Warn("the last one")
	if err := l.Close(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, name := range []string{"/1", "/2"} {
		text, err := os.ReadFile(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		lines += len(parse(t, string(text)))
		if name == "/2" && !strings.Contains(string(text), "the last one") {
			t.Error("the new file did not get the last line")
		}
	}
	if lines != 2001 {
		t.Errorf("%d lines", lines)
	}
}

// TestManyWriters: the logger may be used by several goroutines.
func TestManyWriters(t *testing.T) {
	lines := parse(t, capture(t, Options{Process: "p", JSON: true}, func(l *Logger) {
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				for i := range 50 {
					l.Decide(numbered(g*50 + i))
				}
			})
		}
		all.Wait()
	}))
	if len(lines) != 400 {
		t.Errorf("%d lines", len(lines))
	}
}

// TestOneWriteALine: a line is one write, so that three processes can share a
// file. A datagram socket keeps each write apart.
func TestOneWriteALine(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	for _, json := range []bool{true, false} {
		l := New(fds[0], Options{Process: "p", JSON: json})
		d := denial(wire("evil", "example"))
		d.Dump = "one\ntwo\n" + strings.Repeat("x", 4000)
		l.Decide(d)
		l.Warn("second")
		if err := l.Close(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64<<10)
		for _, want := range []string{"evil.example", "second"} {
			n, err := unix.Read(fds[1], buf)
			if err != nil || !bytes.Contains(buf[:n], []byte(want)) || buf[n-1] != '\n' {
				t.Errorf("json %t: %q, %v", json, buf[:n], err)
			}
		}
	}
}

func TestTypeName(t *testing.T) {
	for typ, want := range map[uint16]string{1: "A", 28: "AAAA", 65: "HTTPS", 255: "ANY", 0: "TYPE0", 65535: "TYPE65535"} {
		if got := ipc.TypeName(typ); got != want {
			t.Errorf("type %d is %s", typ, got)
		}
	}
}

// TestOpenedIsNotPushedOut: what a response opened is in the log however many
// questions and denials come before it in the same second.
func TestOpenedIsNotPushedOut(t *testing.T) {
	f, out, _ := testFolder()
	for i := range 10_000 {
		d := numbered(i)
		if i%2 == 0 {
			d.Verdict, d.Reason = ipc.Accept, ipc.ReasonNone
		}
		f.push(d)
	}
	take(t, out)
	opened := numbered(-1)
	opened.Verdict, opened.Reason = ipc.Accept, ipc.ReasonNone
	opened.Granted = []Opened{{Addr: netip.MustParseAddr("192.0.2.1")}}
	f.push(opened)
	if lines := take(t, out); len(lines) != 1 || lines[0]["granted"] != "192.0.2.1" {
		t.Errorf("%v", lines)
	}
}

// TestManyLearntNames: a line shows a bounded number of names and how many
// more there were.
func TestManyLearntNames(t *testing.T) {
	f, out, _ := testFolder()
	d := numbered(1)
	for i := range 47 {
		d.Learnt = append(d.Learnt, wire(fmt.Sprint("n", i)))
	}
	f.push(d)
	lines := take(t, out)
	if len(lines) != 1 || len(strings.Fields(lines[0]["learnt"].(string))) != namesInLine || lines[0]["learnt_more"] != float64(47-namesInLine) {
		t.Errorf("%v", lines)
	}
}

// TestLostToAFullDisk: lines that could not be written are counted, and the
// count is logged once there is room.
func TestLostToAFullDisk(t *testing.T) {
	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(full)
	l := New(full, Options{Process: "x", JSON: true})
	for i := range 100 {
		l.Decide(numbered(i))
	}
	for deadline := time.Now().Add(5 * time.Second); l.lost.Load() < 100; {
		if time.Now().After(deadline) {
			t.Fatalf("%d lines are counted as lost", l.lost.Load())
		}
		time.Sleep(time.Millisecond)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Dup3(int(w.Fd()), full, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	w.Close()
	line, err := bufio.NewReader(r).ReadString('\n')
	if lines := parse(t, line); err != nil || len(lines) != 1 || lines[0]["lines"].(float64) < 100 {
		t.Errorf("%q, %v", line, err)
	}
	if err := l.Close(5 * time.Second); err != nil {
		t.Error(err)
	}
}

// TestOpenedString is written as the configuration writes it.
func TestOpenedString(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for o, want := range map[Opened]string{
		{v4, ipc.Port{}}:                                "192.0.2.1",
		{v4, ipc.Port{Number: 443}}:                     "192.0.2.1:443",
		{v6, ipc.Port{}}:                                "2001:db8::1",
		{v6, ipc.Port{Number: 53, Proto: ipc.ProtoUDP}}: "[2001:db8::1]:53/udp",
		{v6, ipc.Port{Number: 53, Proto: ipc.ProtoTCP}}: "[2001:db8::1]:53/tcp",
	} {
		if got := o.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
