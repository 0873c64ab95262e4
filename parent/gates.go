package parent

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// gates carries the verdicts of all children that give any, on one thread: the
// parent's main one. A service manager can put that thread, and no other that the
// runtime makes, before everybody else on the machine (the unit's Nice=).
type gates struct {
	polls []unix.PollFd // the first is quit, the others are those of watched
	gates []watchedGate
	ends  int // the pipe whose end is the end of run

	failed chan error // what run could not go on with
}

type watchedGate struct {
	*gate
	ended func(error) // called once, with nil for the socket's end
}

// newGates is for no gate yet. NB: while a pipe may still be made.
func newGates() (*gates, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	return &gates{polls: []unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}}, ends: fds[1], failed: make(chan error, 1)}, nil
}

// add is for a gate that run is to serve. NB: before run.
func (gs *gates) add(g *gate, ended func(error)) {
	gs.polls = append(gs.polls, unix.PollFd{Fd: int32(g.fd), Events: unix.POLLIN})
	gs.gates = append(gs.gates, watchedGate{g, ended})
}

// stop ends run, from any goroutine. It is called once.
func (gs *gates) stop() error { return unix.Close(gs.ends) }

// run carries verdicts until stop, a packet of each gate in turn. A gate that
// has ended is no longer served; the others are.
func (gs *gates) run() {
	for {
		_, err := unix.Ppoll(gs.polls, nil, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			gs.failed <- fmt.Errorf("ppoll: %w", err)
			return
		}
		if gs.polls[0].Revents != 0 {
			return
		}
		for i, g := range gs.gates {
			poll := &gs.polls[1+i]
			if poll.Revents == 0 {
				continue
			}
			if err := g.one(); err != nil {
				poll.Fd = -1 // which the kernel passes over
				if errors.Is(err, io.EOF) {
					err = nil
				}
				g.ended(err)
			}
		}
	}
}
