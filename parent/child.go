package parent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

// maxWords is how much a child may say on stderr, in octets: many times the
// longest trace. Only one that was taken over says more.
const maxWords = 1 << 20

// lastWords is how much of a dead child's stderr is logged, in octets.
const lastWords = 64 << 10

// child is one started process of the tree.
type child struct {
	role     ipc.Role
	pid      int
	pidfd    int
	control  int // our end of its control socket, -1 when closed
	verdicts int // our end of its verdict socket, -1 for a role that gives none

	stderr *os.File    // our end of its stderr pipe
	words  chan []byte // what it said there, once it is gone

	owedLog bool // it has not been given the log that took the old one's place

	stage stage
	due   time.Time    // by when it must have reached the next stage
	heard atomic.Int64 // when it last said that it is alive, by clock
	wrong error        // for what it is being ended
	gate  *watchedGate // nil for a role that gives no verdicts
	ends  []edgeEnd    // of its edges, for neighbours that do not have them yet

	busy    sync.WaitGroup // who listens to it
	sending sync.WaitGroup // who sends it something: for supervise alone to add to and wait for
	gone    chan struct{}  // closed when it is dead
	dead    bool           // its death has been taken note of
}

// stage is how far a child has come.
type stage uint8

const (
	building stage = iota // its cell
	loading               // its policy
	working
)

// edgeEnd is the end of an edge that a neighbour shall have under a number. It
// is closed when it was handed over.
type edgeEnd struct {
	of     ipc.Role
	number int
	fd     int
}

// identity is what all children have in common.
type identity struct {
	uid, gid int
	in       sandbox.Isolation
}

// commandLine shows people what a child is, and tells the child.
func (id identity) commandLine(role ipc.Role, queues int) []string {
	args := []string{"egress-eddie", string(role), strconv.Itoa(queues)}
	if id.in == sandbox.Shared {
		args = append(args, sandbox.SharedWord)
	}
	return args
}

// noFile leaves a descriptor number of a child closed (syscall.ProcAttr).
const noFile = ^uintptr(0)

// spawn starts a child of this binary with exactly the descriptors in files
// (by the number they shall have) and its queue sockets. The caller must be
// on the starter's thread: see sandbox.ChildAttr.
func spawn(role ipc.Role, id identity, files map[int]int, queues []int) (*child, error) {
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer errWrite.Close()
	theirs, ours, err := controlPair()
	if err != nil {
		return nil, errors.Join(err, errRead.Close())
	}
	defer unix.Close(theirs)
	c := &child{role: role, control: ours, verdicts: -1, stderr: errRead, words: make(chan []byte, 1), gone: make(chan struct{})}

	attr := sandbox.ChildAttr(id.uid, id.gid, id.in)
	attr.PidFD = &c.pidfd
	files[ipc.FDStderr], files[ipc.FDControl] = int(errWrite.Fd()), theirs
	c.pid, _, err = syscall.StartProcess("/proc/self/exe",
		id.commandLine(role, len(queues)),
		&syscall.ProcAttr{Env: []string{}, Files: layout(files, queues), Sys: attr})
	if err != nil {
		return nil, errors.Join(startError(role, err), errRead.Close(), unix.Close(ours))
	}
	return c, nil
}

// controlBuffer is the send buffer of either end of a control socket in octets;
// the kernel doubles it. The most that must fit is ipc.MaxLookups sockets that
// the resolver has asked for, before it takes the first, and as many requests.
// Either takes 766 octets (measured: 278 of both fit 212,992), which comes to
// 98,048.
const controlBuffer = 1024 * ipc.MaxLookups

// controlPair makes a control socket. NB: giveRoom needs CAP_NET_ADMIN.
func controlPair() (theirs, ours int, err error) {
	theirs, ours, err = ipc.Pair(false, false)
	if err != nil {
		return -1, -1, err
	}
	if err := giveRoom(theirs, ours); err != nil {
		return -1, -1, errors.Join(err, unix.Close(theirs), unix.Close(ours))
	}
	return theirs, ours, nil
}

// giveRoom gives ends of a control socket their send buffers, whatever the
// host's default is: with a small one the parent would find no room for what an
// honest resolver asked for, and end it.
func giveRoom(ends ...int) error {
	for _, fd := range ends {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, controlBuffer); err != nil {
			return fmt.Errorf("SO_SNDBUFFORCE: %w", err)
		}
	}
	return nil
}

// layout is the descriptor table of a child.
func layout(files map[int]int, queues []int) []uintptr {
	size := ipc.FDQueues + len(queues)
	table := make([]uintptr, size)
	for i := range table {
		table[i] = noFile
	}
	for number, fd := range files {
		table[number] = uintptr(fd)
	}
	for i, fd := range queues {
		table[ipc.FDQueues+i] = uintptr(fd)
	}
	return table
}

// release closes what this process has of a child that is dead. NB: when nobody
// begins to use it any more.
func (c *child) release() {
	c.sending.Wait()
	fds := []int{c.control, c.pidfd}
	if c.gate != nil {
		<-c.gate.over
		fds = append(fds, c.verdicts)
	}
	for _, e := range c.ends {
		fds = append(fds, e.fd)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	c.stderr.Close()
	c.control, c.pidfd, c.verdicts, c.ends = -1, -1, -1, nil
}

// kill ends the child at once. A child that is gone already is no error.
func (c *child) kill() error {
	err := unix.PidfdSendSignal(c.pidfd, unix.SIGKILL, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// wait blocks until the child is dead and says how it died.
func (c *child) wait() (death, error) {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(c.pid, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return death{}, fmt.Errorf("wait4: %w", err)
		}
		return death{status: status, words: <-c.words}, nil
	}
}

// hear reads what the child says on stderr until it is gone. It keeps the
// beginning and throws the rest away, so that a child whose trace is long does
// not wait for room; but it does not listen for ever.
func (c *child) hear() error {
	words, err := io.ReadAll(io.LimitReader(c.stderr, lastWords))
	more := int64(0)
	if err == nil {
		more, err = io.Copy(io.Discard, io.LimitReader(c.stderr, maxWords))
	}
	if err != nil {
		words = append(words, "\n(reading stderr: "+err.Error()+")"...)
	}
	c.words <- words
	if more == maxWords {
		return fmt.Errorf("%w: more than %d octets on stderr", errProtocol, maxWords)
	}
	return nil
}
