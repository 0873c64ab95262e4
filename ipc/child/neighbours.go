package child

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// neighbours tells the end of a neighbour from an empty packet of one, which
// reads the same: without that, whoever owns a neighbour could have it taken
// for dead, quietly and for good.
type neighbours struct {
	poller *ipc.Poller
	worker Worker
	silent map[int]bool // read nothing at all, with the peer perhaps alive
}

// ready has the worker read. A neighbour that has ended is not waited on any
// more, and it is for the parent to decide what follows.
func (n *neighbours) ready(e ipc.Event) error {
	if n.silent[e.FD] && !e.Ended { // it was not the end: there is more, of one that lives
		return n.broke(e.FD, &Broken{fmt.Errorf("descriptor %d: an empty packet", e.FD)})
	}
	err := n.worker.Ready(e.FD)
	if broken := (*Broken)(nil); errors.As(err, &broken) {
		return n.broke(e.FD, err)
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	if e.Ended {
		return n.poller.Remove(e.FD)
	}
	// The end may have come since the look, or it is an empty packet: the next
	// look, which comes at once after an end, shows it.
	n.silent[e.FD] = true
	return nil
}

// forget takes note that a descriptor's neighbour is gone and another will have
// its number. What was reported of the old one already is true of the new one too:
// perhaps there is something to read.
func (n *neighbours) forget(fd int) error {
	delete(n.silent, fd)
	if err := n.poller.Remove(fd); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return nil
}

// broke has who breaks the protocol not listened to any more, if another can
// take its place.
func (n *neighbours) broke(fd int, why error) error {
	taker, ok := n.worker.(EdgeTaker)
	if !ok || !slices.Contains(taker.Edges(), fd) {
		return why
	}
	if err := n.forget(fd); err != nil {
		return err
	}
	return taker.Broke(fd, why)
}
