package main_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// The tests of files lifecycle_* watch the processes: how they start, what
// they are, and how they end. Those that measure how long an end takes run
// alone, before all that run side by side.

// endsWithin is how long the tree may take to end, and orphansFor how long
// its processes may outlive a parent that was killed.
const (
	endsWithin = 2 * time.Second
	orphansFor = time.Second
)

// startCommand is startDaemon for a command of the test's own; what it prints
// on pipes of the test is not read.
func startCommand(t *testing.T, n *netns, cmd *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{cmd: cmd, exited: make(chan struct{})}
	if d.cmd.Env == nil {
		d.cmd.Env = []string{}
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if d.cmd.Stdout == nil {
		d.cmd.Stdout = write
	}
	if d.cmd.Stderr == nil {
		d.cmd.Stderr = write
	}
	err = n.start(d.cmd, false)
	write.Close()
	if err != nil {
		t.Fatalf("starting the daemon: %v", err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); d.read(read) }()
	go func() {
		d.cmd.Wait()
		<-ended
		d.status = d.cmd.ProcessState.ExitCode()
		close(d.exited)
	}()
	t.Cleanup(func() { d.cleanup(t) })
	return d
}

// configFile writes a configuration that everybody may read.
func configFile(t *testing.T, text string) string {
	t.Helper()
	dir := openDir(t)
	path := filepath.Join(dir, "egress-eddie.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// openDir is a directory that everybody may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "egress-eddie-lifecycle-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// processes are those of a tree.
type processes struct {
	parent   int
	children map[ipc.Role]int
}

// processes finds them.
func (d *daemon) processes(t *testing.T) processes {
	t.Helper()
	p, err := d.tryProcesses()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// tryProcesses is for a tree that may be changing.
func (d *daemon) tryProcesses() (processes, error) {
	p := processes{parent: d.cmd.Process.Pid, children: map[ipc.Role]int{}}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.parent))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return p, err
			}
			args := commandLine(pid)
			if len(args) != 3 || args[0] != "egress-eddie" {
				return p, fmt.Errorf("process %d is %q", pid, args)
			}
			p.children[ipc.Role(args[1])] = pid
		}
	}
	if !slices.Equal(slices.Sorted(maps.Keys(p.children)), slices.Sorted(slices.Values(p.roles()))) {
		return p, fmt.Errorf("the children are %v", p.children)
	}
	return p, nil
}

// roles are those that the children should have: whether there is a resolver
// is for the test to know.
func (p processes) roles() []ipc.Role {
	if p.children[ipc.RoleResolver] == 0 {
		return ipc.Children
	}
	return ipc.AllChildren
}

// commandLine is empty for a process that has ended.
func commandLine(pid int) []string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// all is every process, the parent first.
func (p processes) all() []int {
	all := []int{p.parent}
	for _, role := range p.roles() {
		all = append(all, p.children[role])
	}
	return all
}

// running reports whether a process runs; one that is dead and not reaped
// does not.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// goneWithin requires that no process runs any more after a time.
func (p processes) goneWithin(t *testing.T, limit time.Duration) {
	t.Helper()
	left := func() []int { return slices.DeleteFunc(p.all(), func(pid int) bool { return !running(pid) }) }
	for deadline := time.Now().Add(limit); len(left()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v processes %v of %+v still run", limit, left(), p)
		}
	}
}

// stopped requires that the tree has ended with a status, in time.
func (d *daemon) stopped(t *testing.T, p processes, status int) {
	t.Helper()
	if !d.wait(t, endsWithin) {
		t.Fatalf("the tree runs on after %v", endsWithin)
	}
	if d.status != status {
		t.Errorf("status %d, not %d", d.status, status)
	}
	p.goneWithin(t, 0)
}

// floodPort is where floods go.
const floodPort = 7000

// traffic is a flood of datagrams that carry the time at which they were
// sent, from the host to two web servers: one that was granted, one that was
// not. It shows when a packet got through that was sent when.
type traffic struct {
	mu       sync.Mutex
	granted  []time.Time // sent, of those that arrived
	denied   int
	stop     chan struct{}
	finished sync.WaitGroup
	epoch    time.Time
}

func (l *lab) flood(t *testing.T, f family, granted, denied netip.Addr) *traffic {
	t.Helper()
	tr := &traffic{stop: make(chan struct{}), epoch: time.Now()}
	for _, to := range []netip.Addr{granted, denied} {
		server := l.server.listenUDP(t, netip.AddrPortFrom(to, floodPort))
		go tr.receive(server, to == denied)
		client := l.client.asker(t, f.client)
		tr.finished.Go(func() { tr.send(client.conn, netip.AddrPortFrom(to, floodPort)) })
	}
	t.Cleanup(tr.end)
	return tr
}

func (tr *traffic) send(conn *net.UDPConn, to netip.AddrPort) {
	for {
		select {
		case <-tr.stop:
			return
		default:
		}
		b := binary.BigEndian.AppendUint64(nil, uint64(time.Since(tr.epoch)))
		// What waits in a queue is charged to its sender, who then waits too.
		conn.SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
		conn.WriteToUDPAddrPort(b, to)
		time.Sleep(100 * time.Microsecond)
	}
}

func (tr *traffic) receive(conn *net.UDPConn, denied bool) {
	b := make([]byte, 8)
	for {
		if n, err := conn.Read(b); err != nil || n != 8 {
			return
		}
		tr.mu.Lock()
		if denied {
			tr.denied++
		} else {
			tr.granted = append(tr.granted, tr.epoch.Add(time.Duration(binary.BigEndian.Uint64(b))))
		}
		tr.mu.Unlock()
	}
}

func (tr *traffic) end() {
	select {
	case <-tr.stop:
	default:
		close(tr.stop)
		tr.finished.Wait()
	}
}

// flows waits until some of the granted flood has arrived.
func (tr *traffic) flows(t *testing.T) {
	t.Helper()
	if !eventually(func() bool { tr.mu.Lock(); defer tr.mu.Unlock(); return len(tr.granted) > 20 }) {
		t.Fatal("no granted packet arrives")
	}
}

// closed requires that nothing that was sent after an instant got through,
// with the flood going on for a while now, and nothing denied at all.
func (tr *traffic) closed(t *testing.T, since time.Time) {
	t.Helper()
	time.Sleep(100 * time.Millisecond)
	tr.end()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, sent := range tr.granted {
		if sent.After(since) {
			t.Errorf("a packet that was sent %v after the filter had gone arrived", sent.Sub(since))
			break
		}
	}
	if tr.denied > 0 {
		t.Errorf("%d denied packets arrived", tr.denied)
	}
}

// questions asks for an allowed name again and again, and for one that is
// not, until the test ends: every process has work.
func (l *lab) questions(t *testing.T, f family, names ...string) {
	t.Helper()
	stop, ended := make(chan struct{}), sync.WaitGroup{}
	for _, name := range names {
		a := l.client.asker(t, f.client)
		wire := pack(t, question(name, typeOf(f)))
		ended.Go(func() {
			for i := uint16(0); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				binary.BigEndian.PutUint16(wire, i)
				a.conn.SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
				a.conn.WriteToUDPAddrPort(wire, f.dns())
				time.Sleep(50 * time.Microsecond)
			}
		})
	}
	t.Cleanup(func() { close(stop); ended.Wait() })
}

// opened is a lab in which the first web server is granted and the second is
// not, with its daemon running.
func opened(t *testing.T, f family) *lab {
	t.Helper()
	l := newLab(t)
	l.resolver(f.resolver, zone(map[string][]string{
		"example.com.": {fmt.Sprintf("example.com. 60 IN %s %v", f.record(), f.web(1))},
	}))
	l.start(allowing("example.com"))
	l.rules(standardRules)
	l.resolves(t, f, "example.com", typeOf(f), f.web(1))
	return l
}

// openedWith is a lab with a tree in which there is that role.
func openedWith(t *testing.T, f family, role ipc.Role) *lab {
	t.Helper()
	if role == ipc.RoleResolver {
		return openedAsking(t, f)
	}
	return opened(t, f)
}

// openedAsking is opened with a daemon that asks questions of its own: the
// first web server is granted by somebody's, and by one about a cached name.
func openedAsking(t *testing.T, f family) *lab {
	t.Helper()
	l := newLab(t)
	address := func(name string) []string { return []string{fmt.Sprintf("%s 60 IN %s %v", name, f.record(), f.web(1))} }
	l.resolver(f.resolver, zone(map[string][]string{
		"example.com.": address("example.com."), "more.example.com.": address("more.example.com."), "cdn.test.": address("cdn.test."),
	}))
	l.rules(askingRules)
	l.start(asking(f, filter{allowed: []string{"example.com"}, cached: []string{"cdn.test"}, more: "lookupUnknownIPs = true\n"}))
	l.cachedAnswer(t, "cdn.test", f.web(1))
	l.resolves(t, f, "example.com", typeOf(f), f.web(1))
	return l
}
