package parent

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/parent/config"
)

// reread reads the configuration once more, under the parent's list, and fits
// it to the queues that are open. The file must be readable by the daemon's
// user, who at the first time was perhaps still root, and so must be resolv.conf
// if the configuration needs it.
func reread(path string, queues []*openQueue) (*config.Config, error) {
	text, err := readAgain(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %s: %w", path, err)
	}
	c, err := config.Parse(text, path)
	if err == nil {
		err = c.SetServers(readAgain)
	}
	if err == nil {
		err = fit(c, queues)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// readAgain reads a file without package os, whose files ask more of the
// kernel than the list allows. O_NONBLOCK: a FIFO must not hold it up.
func readAgain(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var text []byte
	for {
		text = slices.Grow(text, 64<<10)
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n == 0 || len(text) > config.MaxFile: // one octet more: Parse says that it is too long
			return text, nil
		default:
			text = text[:len(text)+n]
		}
	}
}

// fit puts the filters in the order of those that run, which is by their
// queues: a filter is the same filter as long as it has the same ones, whatever
// it is called. Queues cannot be changed while they are open.
func fit(c *config.Config, queues []*openQueue) error {
	places := map[uint16]int{} // of filters, by any of their queues
	open := make([]ipc.Queue, len(queues))
	for i, q := range queues {
		open[i] = q.Queue
		if ofFilter(q.Queue) {
			places[q.Number] = int(q.Filter)
		}
	}
	place := func(f config.FilterOptions) int {
		for _, number := range []uint16{f.DNSQueue.IPv4, f.DNSQueue.IPv6, f.TrafficQueue.IPv4, f.TrafficQueue.IPv6} {
			if i, known := places[number]; known {
				return i
			}
		}
		return len(places)
	}
	slices.SortStableFunc(c.Filters, func(a, b config.FilterOptions) int { return place(a) - place(b) })
	wanted := queuesOf(c)
	for i := range max(len(open), len(wanted)) {
		switch {
		case i >= len(wanted):
			return fmt.Errorf("the queues differ: no %s queue %d any more; %s", open[i].Kind, open[i].Number, needsRestart)
		case i >= len(open) || wanted[i] != open[i]:
			return fmt.Errorf("the queues differ: %s queue %d%s is not one of those that are open; %s",
				wanted[i].Kind, wanted[i].Number, whose(c, wanted[i]), needsRestart)
		}
	}
	return nil
}

const needsRestart = "other queues need a restart"

// ofFilter reports whether a queue belongs to one filter; the others say 0.
func ofFilter(q ipc.Queue) bool { return q.Kind == ipc.QueueRequests || q.Kind == ipc.QueueTraffic }

func whose(c *config.Config, q ipc.Queue) string {
	if !ofFilter(q) {
		return ""
	}
	return fmt.Sprintf(" of filter %q", c.Filters[q.Filter].Name)
}
