package parent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// manager is the socket of a service manager. An abstract name begins with @.
func manager(t *testing.T, name string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// heard is all that the manager can read now.
func heard(t *testing.T, fd int) (states []string) {
	t.Helper()
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EAGAIN {
			return states
		}
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, string(buf[:n]))
	}
}

func notifierFor(t *testing.T, socket, limit, pid string) (*notifier, error) {
	t.Helper()
	for name, value := range map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": limit, "WATCHDOG_PID": pid} {
		t.Setenv(name, value) // puts back what was there after the test
		if value == "" {
			os.Unsetenv(name)
		}
	}
	n, err := openNotifier()
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if value, ok := os.LookupEnv(name); ok {
			t.Errorf("%s=%q is still in the environment", name, value)
		}
	}
	if n != nil && n.fd >= 0 {
		t.Cleanup(func() {
			if n.fd >= 0 {
				unix.Close(n.fd)
			}
		})
	}
	return n, err
}

func TestNotify(t *testing.T) {
	for _, name := range []string{
		filepath.Join(t.TempDir(), "notify"),
		fmt.Sprintf("@egress-eddie-test-%d", os.Getpid()),
	} {
		fd := manager(t, name)
		n, err := notifierFor(t, name, "200000", fmt.Sprint(os.Getpid()))
		if err != nil {
			t.Fatal(err)
		}
		if flags, err := unix.FcntlInt(uintptr(n.fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("children inherit the socket (flags %#x, %v)", flags, err)
		}
		ticks, stop := n.beats()
		defer stop()
		select {
		case <-ticks:
		case <-time.After(190 * time.Millisecond):
			t.Error("no sign of life is due within the limit")
		}
		for _, err := range []error{n.say(stateReady), n.alive(), n.flush(), n.say(stateStopping)} {
			if err != nil {
				t.Error(err)
			}
		}
		if got, want := heard(t, fd), []string{stateReady, stateAlive, stateStopping}; !slices.Equal(got, want) {
			t.Errorf("%s: the manager heard %q, want %q", name, got, want)
		}
	}
}

func TestNotifyNobody(t *testing.T) {
	n, err := notifierFor(t, "", "1000000", "")
	if err != nil || n.fd != -1 {
		t.Fatalf("without a socket: %+v, %v", n, err)
	}
	if ticks, _ := n.beats(); ticks != nil {
		t.Error("signs of life for nobody")
	}
	for _, err := range []error{n.say(stateReady), n.alive(), n.flush()} {
		if err != nil {
			t.Error(err)
		}
	}
}

// A manager that does not listen blocks nothing, and hears all that matters
// when it does again, in order, and one sign of life for all it missed.
func TestNotifyBusyManager(t *testing.T) {
	name := fmt.Sprintf("@egress-eddie-test-busy-%d", os.Getpid())
	fd := manager(t, name)
	n, err := notifierFor(t, name, "", "")
	if err != nil {
		t.Fatal(err)
	}
	filled := 0
	for ; len(n.owed) == 0; filled++ {
		if err := n.say("STATUS=filling"); err != nil {
			t.Fatal(err)
		}
	}
	n.owed = nil
	for _, f := range []func() error{func() error { return n.say(stateReady) }, n.alive, n.alive, n.flush} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(heard(t, fd)); got != filled-1 {
		t.Fatalf("the manager heard %d, want %d", got, filled-1)
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	if got, want := heard(t, fd), []string{stateReady, stateAlive}; !slices.Equal(got, want) {
		t.Errorf("the manager heard %q, want %q", got, want)
	}
}

// That the manager is gone is said once and ends nothing.
func TestNotifyManagerGone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	fd := manager(t, name)
	n, err := notifierFor(t, name, "1000000", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if err := n.alive(); err == nil {
		t.Error("nobody heard it, and no error")
	}
	for _, err := range []error{n.alive(), n.say(stateStopping)} {
		if err != nil {
			t.Errorf("said twice: %v", err)
		}
	}
}

func TestNotifyRefuses(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	manager(t, name)
	for _, c := range []struct {
		socket, limit string
		status        int
	}{
		{"notify", "", exit.Usage},
		{"vsock:2:1", "", exit.Usage},
		{name, "0", exit.Usage},
		{name, "-1", exit.Usage},
		{name, "soon", exit.Usage},
		{name, "9223372036854775807", exit.Usage},
		{name + ".gone", "", exit.Unavailable},
	} {
		if _, err := notifierFor(t, c.socket, c.limit, ""); exit.Code(err) != c.status {
			t.Errorf("%+v: %v, status %d", c, err, exit.Code(err))
		}
	}
	if _, err := notifierFor(t, "", "soon", ""); err != nil {
		t.Errorf("without a socket nothing is asked: %v", err)
	}
}

func TestHeartbeat(t *testing.T) {
	for _, c := range []struct {
		limit, pid string
		want       time.Duration
	}{
		{"", "", 0},
		{"10000000", "", 5 * time.Second},
		{"10000000", "42", 5 * time.Second},
		{"10000000", "43", 0},
		{"2", "42", fastestBeat},
	} {
		if got, err := heartbeat(c.limit, c.pid, 42); err != nil || got != c.want {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}
