package resolver

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/child"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// bare is the argument that makes the test binary the process under test: all
// of it, with its descriptors where they are in the tree, but for the cell.
const bare = "resolver-without-a-cell"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == bare {
		if err := child.Serve(load); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exit.Code(err))
		}
		os.Exit(0)
	}
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked { // tests mostly wait for time to pass
		if err := flag.Set("test.parallel", "24"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// patience is how long something may take that should take no time.
const patience = 10 * time.Second

// lab is a resolver with a parent and a holder that are played here.
type lab struct {
	*testing.T
	pid     int
	lookups int // the holder's end
	sender  *ipc.Sender[ipc.Lookup]

	parent   *ipc.Sender[ipc.PolicyItem]
	control  int                     // the parent's end
	connect  func(ipc.Socket) int    // makes a socket, -1 for none
	keep     bool                    // do not close the parent's copies
	hold     sync.Mutex              // locked: no answer
	requests chan asking             // what the parent was asked for, and when
	played   chan struct{}           // closed with the parent's end
	gone     chan syscall.WaitStatus // of the process
	words    *os.File                // its stderr
	broken   bool                    // it has ended as it should

	inherited []int // the descriptors that it has without sockets
}

type asking struct {
	ipc.Socket
	at time.Time
}

// newLab starts a resolver whose sockets are made by connect.
func newLab(t *testing.T, connect func(ipc.Socket) int) *lab {
	t.Helper()
	l := &lab{T: t, connect: connect, requests: make(chan asking, 10_000), played: make(chan struct{}), gone: make(chan syscall.WaitStatus, 1)}
	theirControl, control, err := ipc.Pair(false, false)
	if err != nil {
		t.Fatal(err)
	}
	lookups, theirLookups, err := ipc.Pair(true, true)
	if err != nil {
		t.Fatal(err)
	}
	words, theirWords, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l.control, l.lookups, l.words = control, lookups, words
	l.parent, l.sender = ipc.NewPolicySender(control), ipc.NewLookupSender(lookups)
	files := slices.Repeat([]uintptr{^uintptr(0)}, ipc.FDLookups+1)
	files[ipc.FDStderr], files[ipc.FDControl], files[ipc.FDLookups] = theirWords.Fd(), uintptr(theirControl), uintptr(theirLookups)
	l.pid, err = syscall.ForkExec("/proc/self/exe", []string{"resolver", bare}, &syscall.ProcAttr{Files: files})
	err = errors.Join(err, theirWords.Close(), unix.Close(theirControl), unix.Close(theirLookups))
	if err != nil {
		t.Fatal(err)
	}
	loaded := make(chan error, 1)
	go func() {
		defer close(l.played)
		loaded <- l.play(loaded)
	}()
	go func() {
		var status syscall.WaitStatus
		_, _ = syscall.Wait4(l.pid, &status, 0, nil)
		l.gone <- status
	}()
	t.Cleanup(l.stop)
	if err := <-loaded; err != nil {
		t.Fatal("the resolver does not load its policy: ", err)
	}
	l.inherited = l.sockets()
	return l
}

// play is the parent, until the process is gone.
func (l *lab) play(loaded chan<- error) error {
	buf := make([]byte, 64)
	for {
		n, err := ipc.RecvPacket(l.control, buf)
		if err != nil {
			return err
		}
		if n == ipc.SocketSize {
			err = l.answer(buf[:n])
		} else {
			err = l.signal(buf[:n], loaded)
		}
		if err != nil {
			return err
		}
	}
}

func (l *lab) signal(packet []byte, loaded chan<- error) error {
	s, err := ipc.ParseSignal(packet)
	if err != nil {
		return err
	}
	switch s {
	case ipc.SignalLoaded:
		loaded <- nil
		return nil
	case ipc.SignalAlive:
		return nil
	}
	items := (&ipc.Policy{}).Items()
	for i := range items {
		if err := l.parent.Send(&items[i]); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) answer(packet []byte) error {
	s, err := ipc.ParseSocket(packet)
	if err != nil {
		l.Errorf("the parent is asked for %x: %v", packet, err)
		return err
	}
	l.requests <- asking{s, time.Now()}
	l.hold.Lock()
	defer l.hold.Unlock()
	return l.give(s, l.connect(s))
}

// give hands over a socket, or says that there is none.
func (l *lab) give(s ipc.Socket, fd int) error {
	item := &ipc.PolicyItem{Kind: ipc.PolicySocket, Socket: s}
	if fd < 0 {
		return l.parent.Send(item)
	}
	err := l.parent.SendWith(item, fd)
	if l.keep {
		l.Cleanup(func() { unix.Close(fd) })
		return err
	}
	return errors.Join(err, unix.Close(fd))
}

// stop ends the parent, which is the orderly end of the process.
func (l *lab) stop() {
	_ = unix.Shutdown(l.control, unix.SHUT_RDWR)
	if status, words := l.end(); status.ExitStatus() != 0 && !l.broken {
		l.Errorf("the resolver ended with %#x: %s", int(status), words)
	}
	<-l.played
	unix.Close(l.control)
	unix.Close(l.lookups)
}

// end waits for the process's end, and returns what it said.
func (l *lab) end() (syscall.WaitStatus, string) {
	l.Helper()
	select {
	case status := <-l.gone:
		l.gone <- status
		words, _ := io.ReadAll(l.words)
		return status, string(words)
	case <-time.After(patience):
		_ = syscall.Kill(l.pid, syscall.SIGKILL)
		l.Fatal("the resolver does not end")
	}
	return 0, ""
}

// mustBreak waits for an end that complains.
func (l *lab) mustBreak(words string) {
	l.Helper()
	status, got := l.end()
	if !status.Exited() || status.ExitStatus() == 0 || !strings.Contains(got, words) {
		l.Errorf("the resolver ended with %#x: %s", int(status), got)
	}
	l.broken = true
}

// ask has the holder send a lookup.
func (l *lab) ask(text string, typ uint16, lasts time.Duration) {
	l.Helper()
	n, err := name.Parse(text)
	if err != nil {
		l.Fatal(err)
	}
	if err := l.sender.Send(&ipc.Lookup{Name: n, Type: typ, Until: ipc.Now().Add(lasts)}); err != nil {
		l.Fatal(err)
	}
}

// request is the next thing that the parent is asked for.
func (l *lab) request(proto uint8, server uint32) asking {
	l.Helper()
	select {
	case r := <-l.requests:
		if r.Socket != (ipc.Socket{Server: server, Proto: proto}) {
			l.Fatalf("asked for %+v, not server %d protocol %d", r.Socket, server, proto)
		}
		return r
	case <-time.After(patience):
		l.Fatalf("nobody asks for server %d protocol %d", server, proto)
	}
	return asking{}
}

// quiet checks that the parent is asked for nothing more for a while.
func (l *lab) quiet(lasts time.Duration) {
	l.Helper()
	select {
	case r := <-l.requests:
		l.Errorf("asked for %+v", r.Socket)
	case <-time.After(lasts):
	}
}

// sockets are the descriptors that the process has besides those it began with.
func (l *lab) sockets() (fds []int) {
	l.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", l.pid))
	if err != nil {
		l.Fatal(err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && !slices.Contains(l.inherited, fd) {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	return fds
}

// comesTo waits until the process has so many sockets.
func (l *lab) comesTo(sockets int, limit time.Duration) {
	l.Helper()
	start := time.Now()
	for len(l.sockets()) != sockets {
		if time.Since(start) > limit {
			l.Fatalf("sockets %v after %v, should be %d", l.sockets(), limit, sockets)
		}
		time.Sleep(time.Millisecond)
	}
}

// processorTime is what the process has used so far.
func (l *lab) processorTime() time.Duration {
	l.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.pid))
	if err != nil {
		l.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')'):]))
	user, _ := strconv.Atoi(fields[12])
	system, _ := strconv.Atoi(fields[13])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// namespace is a network namespace with nothing but a loopback, for all tests
// of this process.
var namespace = sync.OnceValues(func() (int, error) {
	type result struct {
		fd  int
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			var out []byte
			if out, err = exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
		}
		fd := -1
		if err == nil {
			fd, err = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		made <- result{fd, err}
	}()
	r := <-made
	return r.fd, r.err
})

// inside runs f in the namespace, where the sockets that it makes stay.
func inside(f func() error) error {
	fd, err := namespace()
	if err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		err := unix.Setns(fd, unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}
