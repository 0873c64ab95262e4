package parent

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/ipc/name"
	"github.com/capnspacehook/egress-eddie/parent/config"
)

func TestCommandLine(t *testing.T) {
	fresh := options{config: "egress-eddie.toml", log: "stdout"}
	for _, test := range []struct {
		args   []string
		change func(*options)
	}{
		{nil, func(*options) {}},
		{[]string{"-c", "x"}, func(o *options) { o.config = "x" }},
		{[]string{"--c=x", "-t"}, func(o *options) { o.config, o.test = "x", true }},
		{[]string{"-d", "-f"}, func(o *options) { o.debug, o.fullDNS = true, true }},
		{[]string{"-l", "stderr", "-log-format", "text"}, func(o *options) { o.log, o.logFormat = "stderr", "text" }},
		{[]string{"-log-format=json", "-u", "1000"}, func(o *options) { o.logFormat, o.user = "json", "1000" }},
		{[]string{"-version"}, func(o *options) { o.version = true }},
	} {
		want := fresh
		test.change(&want)
		if got, err := parseCommandLine(test.args, io.Discard); err != nil || got != want {
			t.Errorf("%v: %+v, %v", test.args, got, err)
		}
	}
	for _, args := range [][]string{
		{"-x"}, {"-c"}, {"-d=perhaps"}, {"file"}, {"-t", "file"}, {"-log-format", "xml"}, {"-log-format", "JSON"}, {"-l", ""}, {"--", "x"},
		{"allowlist"}, {"dnsworker-requests", "1"},
	} {
		_, err := parseCommandLine(args, io.Discard)
		if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "-h shows") {
			t.Errorf("%v: code %d, %v", args, exit.Code(err), err)
		}
	}
	for _, arg := range []string{"-h", "--help", "-help"} {
		var out bytes.Buffer
		if _, err := parseCommandLine([]string{arg}, &out); !errors.Is(err, errHelp) {
			t.Errorf("%s: %v", arg, err)
		}
		lines := strings.Split(out.String(), "\n")
		if len(lines) > 50 {
			t.Errorf("the help has %d lines", len(lines))
		}
		for _, line := range lines {
			if len(line) > 100 {
				t.Errorf("%q is wider than a screen", line)
			}
		}
		for _, flag := range []string{"-c ", "-t ", "-u ", "-l ", "-log-format ", "-d ", "-f ", "-version ", "-h "} {
			if !strings.Contains(out.String(), "\n  "+flag) {
				t.Errorf("the help does not say what %q is", flag)
			}
		}
	}
}

// TestUsageExample: the configuration that the help shows is a valid one.
func TestUsageExample(t *testing.T) {
	_, text, _ := strings.Cut(usage, "# egress-eddie.toml\n")
	text, _, ok := strings.Cut(text, "\n\n")
	path := filepath.Join(t.TempDir(), "c")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil || !ok {
		t.Fatal(err)
	}
	if _, err := config.ParseConfig(path); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
}

func TestVersion(t *testing.T) {
	defer func(v, c string) { Version, Commit = v, c }(Version, Commit)
	Version, Commit = "v1.2.3", "abcdef"
	if got := version(); !strings.HasPrefix(got, "v1.2.3 (abcdef, go1.") {
		t.Error(got)
	}
}

func TestLogFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l, err := openLog(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.fd)
	write := func(s string) {
		if _, err := unix.Write(l.fd, []byte(s)); err != nil {
			t.Error(err)
		}
	}
	write("one\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("two\n")
	fd, before := l.fd, openFiles(t)
	if err := l.reopen(); err != nil {
		t.Fatal(err)
	}
	if l.fd != fd || openFiles(t) != before {
		t.Errorf("descriptor %d became %d, %d open became %d", fd, l.fd, before, openFiles(t))
	}
	write("three\n")
	for file, want := range map[string]string{path + ".1": "one\ntwo\n", path: "three\n"} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	if flags, err := unix.FcntlInt(uintptr(l.fd), unix.F_GETFL, 0); err != nil || flags&unix.O_APPEND == 0 {
		t.Errorf("status %#x, %v: three processes would overwrite each other", flags, err)
	}
	if flags, err := unix.FcntlInt(uintptr(l.fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	// What cannot be opened again leaves the old file in place.
	l.path = filepath.Join(dir, "no", "such", "directory")
	if err := l.reopen(); err == nil || !strings.Contains(err.Error(), l.path) {
		t.Error(err)
	}
	write("four\n")
	if got, _ := os.ReadFile(path); string(got) != "three\nfour\n" {
		t.Errorf("%q", got)
	}
	if _, err := openLog(l.path, ""); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), l.path) {
		t.Errorf("code %d: %v", exit.Code(err), err)
	}
}

func TestLogStandard(t *testing.T) {
	for _, where := range []string{"stdout", "stderr"} {
		l, err := openLog(where, "")
		if err != nil {
			t.Fatal(err)
		}
		if l.path != "" || l.fd < 3 {
			t.Errorf("%+v", l)
		}
		if err := l.reopen(); err != nil {
			t.Error(err)
		}
		unix.Close(l.fd)
	}
}

func TestStatistics(t *testing.T) {
	for line, want := range map[string]struct {
		queue   uint16
		dropped uint64
		ok      bool
	}{
		" 1000  31621     0 2 65531     3     4        7  1\n":    {1000, 7, true},
		"    0 4294963139 4096 0     0     0     0        0  1\n": {0, 0, true},
		"65535 1 0 2 60 18446744073709551615 0 1 1\n":             {65535, 1<<64 - 1, true},
		"":                         {0, 0, false},
		"\n":                       {0, 0, false},
		"1 2 3 4 5 6 7\n":          {0, 0, false},
		"65536 1 0 2 60 0 0 1 1\n": {0, 0, false},
		"-1 1 0 2 60 0 0 1 1\n":    {0, 0, false},
		"queue 1 0 2 60 0 0 1 1\n": {0, 0, false},
		"1 1 0 2 60 many 0 1 1\n":  {0, 0, false},
		"1 1 0 2 60 0 -5 1 1\n":    {0, 0, false},
		"1 1 0 2 60 0 18446744073709551616 1 1\n": {0, 0, false},
	} {
		queue, dropped, ok := parseStatistics(line)
		if ok != want.ok || ok && (queue != want.queue || dropped != want.dropped) {
			t.Errorf("%q: queue %d, %d dropped, %t", line, queue, dropped, ok)
		}
	}
}

// TestAuditSyscall reads the kernel's lines (kernel/auditsc.c, audit_seccomp)
// and believes nobody else's words in them.
func TestAuditSyscall(t *testing.T) {
	const honest = `5,812,104711,-;audit: type=1326 audit(1700000000.123:45): auid=4294967295 uid=61184 gid=61184 ses=4294967295 pid=4711 comm="egress-eddie" exe="/usr/bin/egress-eddie" sig=31 arch=c000003e syscall=41 compat=0 ip=0x403c1b code=0x80000000`
	for _, test := range []struct {
		line string
		nr   int
		ok   bool
	}{
		{honest, 41, true},
		{strings.Replace(honest, "pid=4711", "pid=4712", 1), 0, false},
		{strings.Replace(honest, "pid=4711", "pid=47110", 1), 0, false},
		{strings.Replace(honest, "pid=4711", "ppid=4711", 1), 0, false},
		{strings.Replace(honest, "type=1326", "type=1300", 1), 0, false},
		{strings.Replace(honest, "syscall=41", "syscall=", 1), 0, false},
		{strings.Replace(honest, "syscall=41", "syscall=x", 1), 0, false},
		{strings.Replace(honest, "syscall=41", "syscall=-1", 1), 0, false},
		{strings.Replace(honest, "syscall=41", "syscall=99999999999999999999", 1), 0, false},
		{strings.Replace(honest, `comm="egress-eddie"`, `comm="syscall=1 pid=1"`, 1), 41, true},
		{strings.Replace(honest, "pid=4711", `comm="pid=4711"`, 1), 0, false},
		{"", 0, false},
		{strings.Repeat("=", 5000), 0, false},
	} {
		nr, ok := auditSyscall(strings.Fields(test.line), 4711)
		if ok != test.ok || ok && nr != test.nr {
			t.Errorf("%q: %d, %t", test.line, nr, ok)
		}
	}
	if text := (&kernelLog{fd: -1}).forbidden(4711); !strings.Contains(text, "journalctl") {
		t.Errorf("without a kernel log: %q", text)
	}
}

// TestHow names real deaths.
func TestHow(t *testing.T) {
	for script, want := range map[string]string{
		"exit 3":      "exit status 3",
		"kill -9 $$":  "signal SIGKILL",
		"kill -11 $$": "signal SIGSEGV",
		"kill -31 $$": "killed by seccomp (SIGSYS): the kernel log names",
	} {
		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{})
		if err != nil {
			t.Fatal(err)
		}
		c := &child{pid: pid, words: make(chan []byte, 1)}
		c.words <- []byte("last\nwords")
		d, err := c.wait()
		if err != nil {
			t.Fatal(err)
		}
		if got := d.how(pid, &kernelLog{fd: -1}); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", script, got)
		}
		if lines := d.lines(); !reflect.DeepEqual(lines, []string{"last", "words"}) {
			t.Errorf("%q", lines)
		}
	}
}

// TestLastWords: what a dead child said is escaped, bounded, and no child
// waits for room while it says it.
func TestLastWords(t *testing.T) {
	d := death{words: []byte("panic: \x1b[2J\r\u202e\xff\n\n\"quoted\"\n")}
	if got, want := d.lines(), []string{`panic: \x1b[2J\r\u202e\xff`, "", `\"quoted\"`}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{stderr: r, words: make(chan []byte, 1)}
	go c.hear()
	w.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
		t.Error(err)
	}
	w.Close()
	if n := len(<-c.words); n != lastWords {
		t.Errorf("%d octets are kept", n)
	}
}

func TestStartError(t *testing.T) {
	for err, code := range map[error]int{
		unix.EPERM: exit.Unavailable, unix.ENOSPC: exit.Unavailable, unix.EINVAL: exit.Unavailable, unix.EACCES: exit.NoPerm,
		unix.ENOENT: exit.Software, unix.ENOMEM: exit.Software,
	} {
		got := startError(ipc.RoleTraffic, err)
		if exit.Code(got) != code || !strings.Contains(got.Error(), "trafficworker") || !errors.Is(got, err) {
			t.Errorf("%v: code %d, %v", err, exit.Code(got), got)
		}
	}
}

// TestLayout: a child has the descriptors it is given, and no other.
func TestLayout(t *testing.T) {
	got := layout(map[int]int{ipc.FDStderr: 50, ipc.FDControl: 51, ipc.FDLog: 52}, []int{60, 61})
	if len(got) != ipc.FDQueues+2 {
		t.Fatalf("%d numbers", len(got))
	}
	want := map[int]uintptr{2: 50, 3: 51, 8: 52, 16: 60, 17: 61}
	for number, fd := range got {
		expected, ok := want[number]
		if !ok {
			expected = noFile
		}
		if fd != expected {
			t.Errorf("number %d is %d", number, int(fd))
		}
	}
}

// TestPolicyFor: no child knows more than it needs.
func TestPolicyFor(t *testing.T) {
	c := &config.Config{
		InboundDNSQueue: config.QueuePair{IPv4: 1, IPv6: 2},
		Filters: []config.FilterOptions{
			{Name: "web", DNSQueue: config.QueuePair{IPv4: 10, IPv6: 11}, TrafficQueue: config.QueuePair{IPv4: 12, IPv6: 13}, AllowAnswersFor: time.Minute, Hostnames: []config.Hostname{{Name: "\x01a\x00", Scope: ipc.ScopeTree}}},
			{Name: "all", DNSQueue: config.QueuePair{IPv4: 20}, AllowAllHostnames: true},
		},
	}
	queues := queuesOf(c)
	seen := map[uint32]bool{}
	for _, q := range queues {
		if q.Handle == 0 || seen[q.Handle] {
			t.Errorf("handle %d of queue %d", q.Handle, q.Number)
		}
		seen[q.Handle] = true
	}
	if len(queues) != 7 {
		t.Errorf("%d queues", len(queues))
	}
	for role, want := range map[ipc.Role]struct {
		queues  []uint16
		filters int
		names   int
	}{
		ipc.RoleRequests:  {[]uint16{10, 11, 20}, 0, 0},
		ipc.RoleResponses: {[]uint16{1, 2}, 0, 0},
		ipc.RoleTraffic:   {[]uint16{12, 13}, 2, 0},
		ipc.RoleAllowlist: {[]uint16{10, 11, 20, 1, 2}, 2, 1},
	} {
		p := policyFor(role, c, options{}, true, false, queues)
		var numbers []uint16
		for i, q := range p.Queues {
			if q.Slot != uint32(i) {
				t.Errorf("%s: queue %d in slot %d, not %d", role, q.Number, q.Slot, i)
			}
			numbers = append(numbers, q.Number)
		}
		names := 0
		for _, of := range p.Hostnames {
			names += len(of.Names)
		}
		if !reflect.DeepEqual(numbers, want.queues) || len(p.Filters) != want.filters || names != want.names {
			t.Errorf("%s: queues %v, %d filters, %d names", role, numbers, len(p.Filters), names)
		}
		got := &ipc.Policy{}
		for _, item := range p.Items() {
			if err := item.Validate(); err != nil {
				t.Errorf("%s: %v", role, err)
			}
			if _, err := got.Add(&item); err != nil {
				t.Errorf("%s: %v", role, err)
			}
		}
	}
}

// TestPolicyOfAsking: what the daemon asks for itself is known to who judges
// it, and how long it opens to who bounds that.
func TestPolicyOfAsking(t *testing.T) {
	c := &config.Config{
		InboundDNSQueue: config.QueuePair{IPv6: 1},
		SelfDNSQueue:    config.QueuePair{IPv6: 2},
		Servers:         []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("2001:db8::54")},
		Filters: []config.FilterOptions{
			{
				Name: "both", DNSQueue: config.QueuePair{IPv6: 10}, TrafficQueue: config.QueuePair{IPv6: 11}, AllowAnswersFor: time.Minute, LookupUnknownIPs: true,
				Hostnames:    []config.Hostname{{Name: "\x01a\x00", Scope: ipc.ScopeTree, Ports: []ipc.Port{{Number: 443}}}},
				ReCacheEvery: time.Hour, CachedNames: []name.Name{"\x01b\x01a\x00", "\x01c\x00"},
			},
			{
				Name: "cached", TrafficQueue: config.QueuePair{IPv6: 21}, AllowAnswersFor: time.Minute, LookupUnknownIPs: true, KeepInUse: true, MaxInUse: 3 * time.Hour,
				ReCacheEvery: 2 * time.Hour, CachedNames: []name.Name{"\x01d\x00"},
			},
			{Name: "plain", DNSQueue: config.QueuePair{IPv6: 30}, TrafficQueue: config.QueuePair{IPv6: 31}, AllowAnswersFor: time.Minute, Hostnames: []config.Hostname{{Name: "\x01e\x00", Scope: ipc.ScopeExact}}},
		},
	}
	queues := queuesOf(c)
	if len(queues) < 3 || queues[1] != (ipc.Queue{Handle: 2, Number: 2, Kind: ipc.QueueSelf}) || queues[2].Number != 10 {
		t.Errorf("%+v", queues)
	}
	filters := []ipc.Filter{
		{Index: 0, Name: "both", AllowAnswersFor: time.Minute, ReCacheEvery: time.Hour, CachedFor: 61 * time.Minute, LookupUnknown: true, Ports: true},
		{Index: 1, Name: "cached", ReCacheEvery: 2 * time.Hour, CachedFor: 121 * time.Minute, MaxInUse: 3 * time.Hour},
		{Index: 2, Name: "plain", AllowAnswersFor: time.Minute},
	}
	for role, want := range map[ipc.Role]struct {
		queues   []uint16
		settings ipc.Settings
		filters  []ipc.Filter
	}{
		ipc.RoleRequests:  {[]uint16{10, 30, 2}, ipc.Settings{}, nil},
		ipc.RoleResponses: {[]uint16{1}, ipc.Settings{}, nil},
		ipc.RoleTraffic:   {[]uint16{11, 21, 31}, ipc.Settings{}, filters},
		ipc.RoleAllowlist: {[]uint16{10, 30, 1, 2}, ipc.Settings{AskAAAA: true}, filters},
		ipc.RoleResolver:  {nil, ipc.Settings{}, nil},
	} {
		p := policyFor(role, c, options{}, false, false, queues)
		var numbers []uint16
		for _, q := range p.Queues {
			numbers = append(numbers, q.Number)
		}
		if !slices.Equal(numbers, want.queues) || p.Settings != want.settings || !reflect.DeepEqual(p.Filters, want.filters) {
			t.Errorf("%s: queues %v, %+v, filters %+v", role, numbers, p.Settings, p.Filters)
		}
		if want := c.Servers; role != ipc.RoleAllowlist && len(p.Servers) > 0 ||
			role == ipc.RoleAllowlist && !slices.Equal(p.Servers, []ipc.Address{ipc.AddressOf(want[0]), ipc.AddressOf(want[1])}) {
			t.Errorf("%s: servers %q", role, p.Servers)
		}
		got := &ipc.Policy{}
		for _, item := range p.Items() {
			if err := item.Validate(); err != nil {
				t.Errorf("%s: %v", role, err)
			}
			if _, err := got.Add(&item); err != nil {
				t.Errorf("%s: %v", role, err)
			}
		}
		if role == ipc.RoleResolver && len(p.Items()) != 2 {
			t.Errorf("the resolver is told %+v", p)
		}
	}
	for family, pair := range map[string]config.QueuePair{"A": {IPv4: 1}, "none": {}} {
		c.InboundDNSQueue, c.SelfDNSQueue = config.QueuePair{IPv4: 1}, pair
		p := policyFor(ipc.RoleAllowlist, c, options{}, false, false, nil)
		if asks := family == "A"; p.Settings.AskA != asks || p.Settings.AskAAAA || len(p.Servers) > 0 != asks {
			t.Errorf("%s: %+v, servers %q", family, p.Settings, p.Servers)
		}
	}
	h := policyFor(ipc.RoleAllowlist, c, options{}, false, false, queues).Hostnames
	want := []ipc.Hostnames{
		{
			Names:  []name.Name{"\x01a\x00", "\x01b\x01a\x00", "\x01c\x00"},
			Scopes: []byte{byte(ipc.ScopeTree), byte(ipc.ScopeCached), byte(ipc.ScopeCached)},
			Ports:  map[uint32][]ipc.Port{0: {{Number: 443}}},
		},
		{Names: []name.Name{"\x01d\x00"}, Scopes: []byte{byte(ipc.ScopeCached)}},
		{Names: []name.Name{"\x01e\x00"}, Scopes: []byte{byte(ipc.ScopeExact)}},
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("%+v", h)
	}
}

// TestSlots: a reader finds each queue's socket where its policy says.
func TestSlots(t *testing.T) {
	tr := tree{queues: openOf(t, asking)}
	var queues []ipc.Queue
	for i, q := range tr.queues {
		q.fd = i
		queues = append(queues, q.Queue)
	}
	for role, kinds := range readKinds {
		sockets := tr.sockets(role)
		picked := slotted(queues, kinds)
		if len(sockets) != len(picked) || len(picked) == 0 {
			t.Errorf("%s: %d sockets of %d queues", role, len(sockets), len(picked))
			continue
		}
		for _, q := range picked {
			if got := tr.queues[sockets[q.Slot]].Queue.Number; got != q.Number {
				t.Errorf("%s: slot %d is queue %d, not %d", role, q.Slot, got, q.Number)
			}
		}
	}
}
