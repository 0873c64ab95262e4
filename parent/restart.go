package parent

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// startAgain starts a role in the place of a child that is dead.
func (d *daemon) startAgain(old *child) error {
	if d.reload.holds(old.role) {
		d.reload.waiting = old
		return nil
	}
	next, err := d.tree.restart(old.role, d.target)
	if err != nil { // for lack of memory, perhaps: that may be over the next time
		d.log.Error("could not be started again", "role", string(old.role), "error", err.Error())
		d.deaths[old.role] = append(d.deaths[old.role], time.Now())
		if n := len(d.deaths[old.role]); n < maxDeaths {
			d.startLater(old, pauseAfter(n))
			return nil
		}
		return exit.Errorf(exit.Software, "%s could not be started again: %w", old.role, err)
	}
	d.starts++
	next.due = time.Now().Add(readyFor)
	d.tree.children[slices.Index(d.tree.children, old)] = next
	return d.tree.watch(next)
}

// restart starts a role with new edges. The ends of its neighbours are the
// child's until they have them.
func (t *tree) restart(role ipc.Role, log *logTarget) (*child, error) {
	var theirs []int
	var ends []edgeEnd
	files := map[int]int{}
	for i := range edges {
		e := &edges[i]
		if e.from != role && e.to != role {
			continue
		}
		own, far, err := e.open()
		if err != nil {
			return nil, errors.Join(err, closeAll(theirs, ends))
		}
		neighbour := e.to
		if e.to == role {
			own, far, neighbour = far, own, e.from
		}
		files[e.fd], theirs, ends = own, append(theirs, own), append(ends, edgeEnd{neighbour, e.fd, far})
	}
	var c *child
	err := t.starter.do(func() (err error) {
		c, err = t.spawn(role, files, log)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, closeAll(theirs, ends))
	}
	c.ends = ends
	return c, closeAll(theirs, nil)
}

func closeAll(fds []int, ends []edgeEnd) (err error) {
	for _, e := range ends {
		fds = append(fds, e.fd)
	}
	for _, fd := range fds {
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}

// comesUp takes what a child says that is starting again.
func (d *daemon) comesUp(c *child, said ipc.Signal) error {
	switch {
	case c.stage == building && said == ipc.SignalReady:
		switch err := d.tree.verify(c); {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH):
			return nil // it is gone, which is heard of next, and how
		case err != nil:
			return d.endChild(c, err)
		}
		c.stage, c.due = loading, time.Now().Add(readyFor) // no policy of these has names
		d.handOverEdges()
		d.send(c, d.policies[c.role])
	case c.stage == loading && said == ipc.SignalLoaded:
		c.stage = working
		c.heard.Store(int64(monotonic()))
		d.log.Info("started again", "role", string(c.role), "pid", c.pid)
		d.goOnReloading()
	default:
		return d.endChild(c, fmt.Errorf("%w: signal %d out of turn", errProtocol, said))
	}
	return nil
}

// handOverEdges gives neighbours the ends of edges to children that were started
// again. One whose control socket has no room now, as in a reload, gets them a
// little later; what is written to the other end waits in the socket.
func (d *daemon) handOverEdges() {
	for _, c := range d.tree.children {
		for len(c.ends) > 0 && c.stage != building {
			e := c.ends[0]
			to := d.tree.child(e.of)
			item := ipc.PolicyItem{Kind: ipc.PolicyEdge, Edge: uint32(e.number)}
			err := ipc.NewPolicySender(to.control).SendWith(&item, e.fd)
			if errors.Is(err, ipc.ErrWouldBlock) {
				return
			}
			if err != nil { // it is dying, which is heard of next
				d.log.Error("a new edge could not be handed over", "role", string(e.of), "error", err.Error())
			}
			unix.Close(e.fd)
			c.ends = c.ends[1:]
		}
	}
}

// child is the present one of a role.
func (t *tree) child(role ipc.Role) *child {
	i := slices.IndexFunc(t.children, func(c *child) bool { return c.role == role })
	return t.children[i]
}

// allWork reports whether no child is dead or starting.
func (t *tree) allWork() bool {
	return !slices.ContainsFunc(t.children, func(c *child) bool { return c.dead || c.stage != working })
}
