package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The daemon's decision lines (package logging).
const (
	eventRequest  = "dns request"
	eventResponse = "dns response"
	eventTraffic  = "traffic"
)

// config is the daemon's configuration. Queue numbers are those of lab_test.go.
type config struct {
	resolvers       []any // addresses
	noInterfaceTest bool  // responseInterfaceCheck = false
	onlyV4Queues    bool
	self            bool // selfDNSQueue
	filters         []filter
}

type filter struct {
	name    string   // default "filter" and its number
	allowed []string // none: allowAllHostnames
	lasts   string   // default "10m"
	cached  []string // cachedHostnames; without allowed there is nothing else
	every   string   // reCacheEvery, default "10m"
	more    string   // further lines of it
}

func (c config) String() string {
	var b strings.Builder
	pair := func(key string, number func(f family) int) {
		for _, f := range families {
			if f.v6 && c.onlyV4Queues {
				continue
			}
			fmt.Fprintf(&b, "%s.%s = %d\n", key, f.name, number(f))
		}
	}
	if len(c.resolvers) > 0 {
		fmt.Fprintf(&b, "resolvers = [%s]\n", quoted(c.resolvers))
	}
	if c.noInterfaceTest {
		b.WriteString("responseInterfaceCheck = false\n")
	}
	pair("inboundDNSQueue", inboundQueue)
	if c.self {
		pair("selfDNSQueue", selfQueue)
	}
	for i, f := range c.filters {
		if f.name == "" {
			f.name = fmt.Sprint("filter ", i)
		}
		fmt.Fprintf(&b, "[[filters]]\nname = %q\n", f.name)
		if len(f.allowed) > 0 || len(f.cached) == 0 {
			pair("dnsQueue", func(fam family) int { return dnsQueue(i, fam) })
		}
		if len(f.cached) > 0 {
			if f.every == "" {
				f.every = "10m"
			}
			fmt.Fprintf(&b, "cachedHostnames = [%s]\nreCacheEvery = %q\n", quoted(f.cached), f.every)
		}
		switch {
		case len(f.allowed) == 0 && len(f.cached) > 0:
			pair("trafficQueue", func(fam family) int { return trafficQueue(i, fam) })
		case len(f.allowed) == 0:
			b.WriteString("allowAllHostnames = true\n")
		default:
			if f.lasts == "" {
				f.lasts = "10m"
			}
			pair("trafficQueue", func(fam family) int { return trafficQueue(i, fam) })
			fmt.Fprintf(&b, "allowAnswersFor = %q\nallowedHostnames = [%s]\n", f.lasts, quoted(f.allowed))
		}
		b.WriteString(f.more)
	}
	return b.String()
}

func quoted[T any](items []T) string {
	parts := make([]string, len(items))
	for i, item := range items {
		parts[i] = fmt.Sprintf("%q", fmt.Sprint(item))
	}
	return strings.Join(parts, ", ")
}

// allowing is the configuration of one filter that allows these names.
func allowing(names ...string) config { return config{filters: []filter{{allowed: names}}} }

// daemon is a running egress-eddie.
type daemon struct {
	cmd          *exec.Cmd
	exited       chan struct{} // closed when it is gone
	status       int           // valid then: its exit status, or -1 for a signal
	want         int           // the status it shall end with
	ended        bool          // whether the test ends it itself
	error        string        // the one error that it may log
	mayLogErrors bool          // a child dies in it, or several

	mu    sync.Mutex
	lines []logLine
	raw   strings.Builder // stdout and stderr, for a test that fails
}

// logLine is one JSON line of its log.
type logLine map[string]any

func (l logLine) message() string { return fmt.Sprint(l["@message"]) }

// text is a field as text, "" where there is none.
func (l logLine) text(key string) string {
	if v, ok := l[key]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

// fields are what a line must hold: the text of each value, or nil for a
// field that must not be there.
type fields map[string]any

func (l logLine) has(want fields) bool {
	for key, value := range want {
		got, ok := l[key]
		switch {
		case value == nil && ok, value != nil && (!ok || fmt.Sprint(got) != fmt.Sprint(value)):
			return false
		}
	}
	return true
}

// start starts the daemon in the client's namespace, with every decision in
// its log, and waits until it filters.
func (l *lab) start(c config, options ...string) {
	l.t.Helper()
	l.startBinary(builtBinary, c, options...)
}

func (l *lab) startBinary(binary string, c config, options ...string) {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "egress-eddie.toml")
	if err := os.WriteFile(path, []byte(c.String()), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.daemon = startDaemon(l.t, l.client, binary, append([]string{"-c", path, "-d", "-log-format", "json"}, options...)...)
	l.daemon.sees(l.t, "filtering", nil)
	l.t.Cleanup(func() {
		if !l.daemon.ended {
			l.idle(l.t)
		}
	})
}

// startDaemon starts a binary with these arguments. It is ended with the
// test, and its log shown if that failed.
func startDaemon(t *testing.T, n *netns, binary string, args ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: exec.Command(binary, args...), exited: make(chan struct{})}
	d.cmd.Env = []string{}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stdout, d.cmd.Stderr = write, write
	err = n.start(d.cmd, false)
	write.Close()
	if err != nil {
		t.Fatalf("starting the daemon: %v", err)
	}
	read2 := make(chan struct{})
	go func() { defer close(read2); d.read(read) }()
	go func() {
		d.cmd.Wait()
		<-read2 // every child has closed it too
		d.status = d.cmd.ProcessState.ExitCode()
		close(d.exited)
	}()
	t.Cleanup(func() { d.cleanup(t) })
	return d
}

func (d *daemon) read(r io.ReadCloser) {
	defer r.Close()
	for lines := bufio.NewReader(r); ; {
		text, err := lines.ReadString('\n')
		if err != nil && text == "" {
			return
		}
		var line logLine
		ok := json.Unmarshal([]byte(text), &line) == nil
		d.mu.Lock()
		d.raw.WriteString(text)
		if ok {
			d.lines = append(d.lines, line)
		}
		d.mu.Unlock()
	}
}

// log is every line so far.
func (d *daemon) log() []logLine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lines[:len(d.lines):len(d.lines)]
}

// output is all that it wrote so far.
func (d *daemon) output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.raw.String()
}

// expectExit says that the test ends the daemon itself, and with what status.
func (d *daemon) expectExit(status int) { d.ended, d.want = true, status }

// wait waits for its end.
func (d *daemon) wait(t *testing.T, limit time.Duration) bool {
	t.Helper()
	select {
	case <-d.exited:
		return true
	case <-time.After(limit):
		return false
	}
}

func (d *daemon) cleanup(t *testing.T) {
	if !d.ended {
		d.cmd.Process.Signal(unix.SIGTERM)
	}
	if !d.wait(t, patience) {
		t.Error("the daemon does not end")
		d.cmd.Process.Kill()
		<-d.exited
	}
	if d.status != d.want {
		t.Errorf("the daemon ended with status %d, want %d", d.status, d.want)
	}
	for _, line := range d.log() {
		if line.text("@level") == "error" && d.want == 0 && line.message() != d.error && !d.mayLogErrors {
			t.Errorf("the daemon logged an error: %v", line)
		}
	}
	if t.Failed() {
		t.Logf("what the daemon wrote:\n%s", d.output())
	}
}

// sees waits for a line with this message and these fields.
//
// NB: the daemon shows a decision once in ten seconds and then counts, so a
// test asks for every name, and tries every address, under one heading once.
func (d *daemon) sees(t *testing.T, message string, want fields) logLine {
	t.Helper()
	var found logLine
	ok := eventually(func() bool {
		gone := d.gone()
		found = d.find(message, want)
		return found != nil || gone
	})
	if !ok || found == nil {
		t.Fatalf("no line %q with %v in the daemon's log", message, want)
	}
	return found
}

// never requires that there is no such line so far.
func (d *daemon) never(t *testing.T, message string, want fields) {
	t.Helper()
	if line := d.find(message, want); line != nil {
		t.Errorf("the daemon logged %v", line)
	}
}

func (d *daemon) find(message string, want fields) logLine {
	for _, line := range d.log() {
		if line.message() == message && line.has(want) {
			return line
		}
	}
	return nil
}

func (d *daemon) gone() bool {
	select {
	case <-d.exited:
		return true
	default:
		return false
	}
}
