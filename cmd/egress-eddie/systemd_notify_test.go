package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNotifyFromTheCell has the tree talk to a service manager that is not
// there in its own namespaces: an abstract name, which Landlock's scope keeps
// from whoever had not connected to it before, and a path. Started as root, it
// has become somebody else by then.
func TestNotifyFromTheCell(t *testing.T) {
	for _, name := range []string{"@egress-eddie-test", openDir(t) + "/notify"} {
		t.Run(name[:1], func(t *testing.T) {
			n := newNetns(t, "client")
			fd := -1
			n.inside(t, func() (err error) {
				if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
					return err
				}
				return unix.Bind(fd, &unix.SockaddrUnix{Name: name})
			})
			defer unix.Close(fd)
			cmd := exec.Command(builtBinary, "-c", configFile(t, allowing("example.com").String()), "-log-format", "json")
			cmd.Env = []string{"NOTIFY_SOCKET=" + name, "WATCHDOG_USEC=200000"}
			d := startCommand(t, n, cmd)
			hears(t, fd, "READY=1", patience)
			d.sees(t, "filtering", nil)
			for range 5 {
				hears(t, fd, "WATCHDOG=1", 200*time.Millisecond)
			}
			for role, pid := range d.processes(t).children {
				if environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(environ) != 0 {
					t.Errorf("%s has the environment %q, %v", role, environ, err)
				}
			}
			if err := unix.Kill(cmd.Process.Pid, unix.SIGHUP); err != nil {
				t.Fatal(err)
			}
			hears(t, fd, "RELOADING=1", patience)
			hears(t, fd, "READY=1", patience)
			d.expectExit(0)
			if err := unix.Kill(cmd.Process.Pid, unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			hears(t, fd, "STOPPING=1", endsWithin)
		})
	}
}

// hears reads until the first line of a message is what is waited for, past
// signs of life.
func hears(t *testing.T, fd int, want string, limit time.Duration) {
	t.Helper()
	timeout := unix.NsecToTimeval(limit.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR { // by the runtime's preemption, see SO_RCVTIMEO in signal(7)
			continue
		}
		if err != nil {
			t.Fatalf("no %s within %v: %v", want, limit, err)
		}
		first, _, _ := strings.Cut(string(buf[:n]), "\n")
		if first == want {
			return
		}
		if first != "WATCHDOG=1" {
			t.Fatalf("%q instead of %s", first, want)
		}
	}
}
