package parent

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// States of sd_notify(3).
const (
	stateReady    = "READY=1\nSTATUS=filtering"
	stateKept     = "READY=1\nSTATUS=filtering by the old configuration: the new one was refused, see the log"
	stateStopping = "STOPPING=1\nSTATUS="
	stateAlive    = "WATCHDOG=1"
)

// notifier tells the service manager how this process does. Its socket is
// connected before the privileges go, because afterwards nothing may make one;
// what is said later is written to it like to any descriptor.
//
// It never blocks: a service manager that does not listen must not stop the
// filter. What it did not take is said again at the next opportunity.
type notifier struct {
	fd   int           // -1 without a service manager, or with one that is gone
	beat time.Duration // between two signs of life, 0 for none
	owed []string      // what could not be said yet, in order
}

// fastestBeat bounds what a WATCHDOG_USEC of a few microseconds would cost.
const fastestBeat = 10 * time.Millisecond

// openNotifier connects to the socket that the environment names, and takes
// what it knows out of the environment. NB: before DropPrivileges.
func openNotifier() (*notifier, error) {
	n := &notifier{fd: -1}
	path := takeVariable("NOTIFY_SOCKET")
	limit, pid := takeVariable("WATCHDOG_USEC"), takeVariable("WATCHDOG_PID")
	if path == "" {
		return n, nil
	}
	if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") {
		return nil, exit.Errorf(exit.Usage, "NOTIFY_SOCKET %q: neither a path nor an abstract name", path)
	}
	var err error
	if n.beat, err = heartbeat(limit, pid, os.Getpid()); err != nil {
		return nil, err
	}
	// One end of a pair, and not socket(2): the service's unit forbids that for
	// this family. An end of datagrams may be connected to somebody else.
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: socketpair: %w", err)
	}
	fd := fds[0]
	defer unix.Close(fds[1])
	// A name that begins with '@' is abstract: package unix puts the 0 there.
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return nil, exit.Errorf(exit.Unavailable, "NOTIFY_SOCKET %q: %w", path, err)
	}
	n.fd = fd
	return n, nil
}

// monotonic is CLOCK_MONOTONIC, in which the service manager is told when a
// reload began.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // it cannot fail; a time long past would be taken for an old reload
	}
	return time.Duration(ts.Nano())
}

func takeVariable(name string) string {
	value := os.Getenv(name)
	os.Unsetenv(name)
	return value
}

// heartbeat is how often a process with this number must show that it lives:
// twice in the time after which it is taken for dead (sd_watchdog_enabled(3)),
// 0 if that is not asked of it. limit is in microseconds.
func heartbeat(limit, pid string, own int) (time.Duration, error) {
	if limit == "" || pid != "" && pid != strconv.Itoa(own) {
		return 0, nil
	}
	usec, err := strconv.ParseInt(limit, 10, 64)
	if err != nil || usec <= 0 || usec > int64(24*time.Hour/time.Microsecond) {
		return 0, exit.Errorf(exit.Usage, "WATCHDOG_USEC %q: must be microseconds, from 1 to a day", limit)
	}
	return max(time.Duration(usec)*time.Microsecond/2, fastestBeat), nil
}

// beats ticks whenever alive is due: never, if nobody waits for it.
func (n *notifier) beats() (ticks <-chan time.Time, stop func()) {
	if n.fd < 0 || n.beat == 0 {
		return nil, func() {}
	}
	t := time.NewTicker(n.beat)
	return t.C, t.Stop
}

// alive says what is still owed, and that this process lives.
func (n *notifier) alive() error {
	if slices.Contains(n.owed, stateAlive) {
		return n.flush()
	}
	return n.say(stateAlive)
}

// say tells the service manager a state. An error means that there is none
// any more to tell anything; it is returned once.
func (n *notifier) say(state string) error {
	if n.fd < 0 {
		return nil
	}
	n.owed = append(n.owed, state)
	return n.flush()
}

// flush says what is owed, as far as it is taken. The parent's list allows
// write(2) and nothing else that could say it.
func (n *notifier) flush() error {
	for len(n.owed) > 0 {
		_, err := unix.Write(n.fd, []byte(n.owed[0]))
		switch err {
		case nil:
			n.owed = n.owed[1:]
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS:
			return nil
		default:
			unix.Close(n.fd)
			n.fd, n.owed = -1, nil
			return fmt.Errorf("NOTIFY_SOCKET: %w", err)
		}
	}
	return nil
}
