package parent

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// gates carries the verdicts of all children that give any, on one thread: the
// parent's main one. A service manager can put that thread, and no other that the
// runtime makes, before everybody else on the machine (the unit's Nice=).
type gates struct {
	wakes, woken int // a pipe: an octet has run look at added, its end is the end of run

	mu    sync.Mutex
	added []*watchedGate // that run does not serve yet

	failed chan error // what run could not go on with
}

type watchedGate struct {
	*gate
	ended func(error)   // called once, with nil for the socket's end
	over  chan struct{} // closed when no verdict of it will be carried any more
}

// newGates is for no gate yet. NB: while a pipe may still be made.
func newGates() (*gates, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	return &gates{woken: fds[0], wakes: fds[1], failed: make(chan error, 1)}, nil
}

// add is for a gate that run is to serve, from any goroutine.
func (gs *gates) add(g *gate, ended func(error)) (*watchedGate, error) {
	w := &watchedGate{g, ended, make(chan struct{})}
	gs.mu.Lock()
	gs.added = append(gs.added, w)
	gs.mu.Unlock()
	_, err := unix.Write(gs.wakes, []byte{0})
	return w, err
}

// stop ends run, from any goroutine. It is called once.
func (gs *gates) stop() error { return unix.Close(gs.wakes) }

// run carries verdicts until stop, a packet of each gate in turn. A gate that
// has ended is no longer served; the others are.
func (gs *gates) run() {
	var served []*watchedGate
	for {
		polls := []unix.PollFd{{Fd: int32(gs.woken), Events: unix.POLLIN}}
		for _, g := range served {
			polls = append(polls, unix.PollFd{Fd: int32(g.fd), Events: unix.POLLIN})
		}
		added, err := gs.serve(served, polls)
		if err != nil {
			gs.failed <- err
			return
		}
		if added == nil {
			return
		}
		left := added
		for i, g := range served {
			if polls[1+i].Fd >= 0 {
				left = append(left, g)
			}
		}
		served = left
	}
}

// serve carries verdicts until there are other gates to serve, which it
// returns, or until stop: nil. It takes those that have ended out of polls.
func (gs *gates) serve(served []*watchedGate, polls []unix.PollFd) ([]*watchedGate, error) {
	for {
		_, err := unix.Ppoll(polls, nil, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ppoll: %w", err)
		}
		if polls[0].Revents != 0 {
			return gs.new()
		}
		for i, g := range served {
			if polls[1+i].Revents == 0 {
				continue
			}
			if err := g.one(); err != nil {
				polls[1+i].Fd = -1 // which the kernel passes over
				g.end(err)
			}
		}
	}
}

func (w *watchedGate) end(err error) {
	close(w.over)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	w.ended(err)
}

// new is what was added, nil for stop.
func (gs *gates) new() ([]*watchedGate, error) {
	var octets [64]byte
	n, err := unix.Read(gs.woken, octets[:])
	if err != nil && err != unix.EINTR {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	if n == 0 && err == nil {
		return nil, nil
	}
	gs.mu.Lock()
	defer gs.mu.Unlock()
	added := append([]*watchedGate{}, gs.added...)
	gs.added = nil
	return added, nil
}
