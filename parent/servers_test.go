package parent

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/parent/config"
)

// inOwnEtc runs f on a thread with an empty /etc of its own.
func inOwnEtc(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		err := fmt.Errorf("the test ended early")
		defer func() { done <- err }()
		runtime.LockOSThread() // never unlocked
		if err = unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return
		}
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return
		}
		if err = unix.Mount("tmpfs", "/etc", "tmpfs", 0, ""); err != nil {
			return
		}
		f()
		err = nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestServersOfTheHost: without resolvers, /etc/resolv.conf is read at the start
// and again with the configuration. That it names nobody is a fault of the
// configuration in a check; at the start, which may be before the network's, it
// is something that may yet come.
func TestServersOfTheHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.toml")
	text := strings.Replace(asking, "resolvers = [\"192.0.2.53\"]\n", "", 1)
	write(t, path, text)
	queues := openOf(t, text)
	reads := map[string]func() (*config.Config, error){
		"at the start": func() (*config.Config, error) { return load(options{config: path}) },
		"at a reload":  func() (*config.Config, error) { return reread(path, queues) },
		"in a check":   func() (*config.Config, error) { return load(options{config: path, test: true}) },
	}
	codes := map[string]int{"at the start": exit.Unavailable, "at a reload": exit.Config, "in a check": exit.Config}
	inOwnEtc(t, func() {
		for when, read := range reads {
			if _, err := read(); exit.Code(err) != codes[when] || !strings.HasSuffix(err.Error(), "/etc/resolv.conf cannot be read: no such file or directory") {
				t.Errorf("%s: code %d, %v", when, exit.Code(err), err)
			}
		}
		for _, server := range []string{"192.0.2.1", "192.0.2.2"} {
			write(t, "/etc/resolv.conf", "nameserver "+server+"\n")
			for when, read := range reads {
				if c, err := read(); err != nil || len(c.Servers) != 1 || c.Servers[0].String() != server || len(c.Resolvers) != 0 {
					t.Errorf("%s: %+v, %v", when, c, err)
				}
			}
		}
		write(t, "/etc/resolv.conf", "nameserver ::1\n")
		for when, read := range reads {
			if _, err := read(); exit.Code(err) != codes[when] || !strings.HasSuffix(err.Error(), "/etc/resolv.conf names no server that can be asked") {
				t.Errorf("%s: code %d, %v", when, exit.Code(err), err)
			}
		}
	})
}
