package parent

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/parent/config"
)

// mute is a child of which only the sockets exist; it never reads or writes.
func mute(t *testing.T, role ipc.Role) (c *child, theirs int) {
	t.Helper()
	ours, theirs, err := controlPair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ours) })
	return &child{role: role, control: ours, verdicts: -1, pidfd: ended(t), gone: make(chan struct{})}, theirs
}

// ended is a process that is over: there is nothing to kill.
func ended(t *testing.T) (pidfd int) {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pidfd) })
	return pidfd
}

// TestClosedControl: a living child that closes its control socket, or says
// nothing at length, breaks the protocol; a dying one does not.
func TestClosedControl(t *testing.T) {
	for name, act := range map[string]func(fd int){
		"closed": func(fd int) { unix.Close(fd) },
		"empty":  func(fd int) { unix.Write(fd, nil) },
	} {
		tr := &tree{events: make(chan event, 4)}
		c, theirs := mute(t, ipc.RoleTraffic)
		c.busy.Add(1)
		go tr.watchControl(c)
		act(theirs)
		select {
		case e := <-tr.events:
			if e.child != c || !errors.Is(e.err, errProtocol) {
				t.Errorf("%s: %+v", name, e)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: not noticed", name)
		}

		c, theirs = mute(t, ipc.RoleTraffic)
		close(c.gone)
		act(theirs)
		done := make(chan struct{})
		c.busy.Add(1)
		go func() { defer close(done); tr.watchControl(c) }()
		<-done
		if len(tr.events) > 0 {
			t.Errorf("%s by a dying one: %+v", name, <-tr.events)
		}
	}
}

// TestPolicyNotRead: a child that does not read its policy keeps the parent
// neither from its own patience nor from a signal.
func TestPolicyNotRead(t *testing.T) {
	conf := &config.Config{Filters: make([]config.FilterOptions, 2000)}
	for i := range conf.Filters {
		conf.Filters[i].Name = strings.Repeat("x", 200)
	}
	for _, signalled := range []bool{true, false} {
		c, theirs := mute(t, ipc.RoleTraffic)
		defer unix.Close(theirs)
		d := &daemon{config: conf, target: &logTarget{}, tree: tree{children: []*child{c}, events: make(chan event, 4)}}
		d.sendPolicies()
		s := signals{stop: make(chan os.Signal, 1)}
		if signalled {
			s.stop <- unix.SIGTERM
		}
		err := d.await(ipc.SignalLoaded, 100*time.Millisecond, s)
		if err == nil || errors.Is(err, errStopped) != signalled {
			t.Errorf("signalled %t: %v", signalled, err)
		}
		// The end of the socket ends the sending too.
		if err := unix.Shutdown(c.control, unix.SHUT_RDWR); err != nil {
			t.Error(err)
		}
	}
}

// TestEndlessWords: a child may say much on stderr, but not for ever.
func TestEndlessWords(t *testing.T) {
	for _, test := range []struct {
		octets int
		broken bool
	}{{lastWords, false}, {maxWords, false}, {2 * maxWords, true}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := &child{stderr: r, words: make(chan []byte, 1)}
		go func() {
			w.Write(bytes.Repeat([]byte("\n"), test.octets))
			w.Close()
		}()
		if err := c.hear(); errors.Is(err, errProtocol) != test.broken {
			t.Errorf("%d octets: %v", test.octets, err)
		}
		r.Close()
		if lines := (death{words: <-c.words}).lines(); len(lines) != maxLines+1 {
			t.Errorf("%d lines", len(lines))
		}
	}
}

// TestLogChangesHands: what this process created is given away, and nothing
// that was there before.
func TestLogChangesHands(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]uint32{there: 0, filepath.Join(dir, "new"): 61234} {
		l, err := openLog(path, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.give(61234, 61234); err != nil {
			t.Error(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(l.fd, &st); err != nil || st.Uid != want || st.Gid != want {
			t.Errorf("%s belongs to %d:%d, want %d, %v", path, st.Uid, st.Gid, want, err)
		}
		unix.Close(l.fd)
	}
}

// TestLogFIFO: a FIFO without a reader does not stop the parent.
func TestLogFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := openLog(path, "")
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, unix.ENXIO) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for a reader")
	}
}
