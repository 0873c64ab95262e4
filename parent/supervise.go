package parent

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// signals are those that mean something. Each has a channel of its own with
// room for one: more of the same mean the same, and a storm of one does not
// push another out.
type signals struct{ stop, rotate, reload chan os.Signal }

// listen asks for them. Children are in sessions of their own, so Ctrl-C
// reaches the parent alone.
func listen() signals {
	s := signals{make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan os.Signal, 1)}
	signal.Notify(s.stop, unix.SIGTERM, unix.SIGINT)
	signal.Notify(s.rotate, unix.SIGUSR1)
	signal.Notify(s.reload, unix.SIGHUP)
	signal.Ignore(unix.SIGPIPE)
	return s
}

// errStopped says that a signal asked for the end.
var errStopped = errors.New("stopped by a signal")

// await waits until every child has said the signal.
func (d *daemon) await(what ipc.Signal, limit time.Duration, s signals) error {
	missing := map[*child]bool{}
	for _, c := range d.tree.children {
		missing[c] = true
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for len(missing) > 0 {
		select {
		case e := <-d.tree.events:
			if e.signal != what || e.err != nil || e.died != nil {
				return d.failure(e)
			}
			if !missing[e.child] {
				return exit.Errorf(exit.Software, "%s: %w: signal %d twice", e.child.role, errProtocol, what)
			}
			delete(missing, e.child)
		case <-s.stop:
			return errStopped
		case <-s.rotate:
			d.rotated = true // the children that hold the log cannot take it yet
		case <-s.reload:
			d.changed = true
		case <-timeout.C:
			for c := range missing {
				return exit.Errorf(exit.Software, "%s: did not come up within %v", c.role, limit)
			}
		}
	}
	return nil
}

// supervise runs until a signal asks for the end (errStopped) or a child dies
// or misbehaves.
func (d *daemon) supervise(s signals) error {
	for _, c := range d.tree.children {
		c.stage = working
	}
	d.heardOfAll()
	d.checked = monotonic()
	if d.rotated {
		d.reopenLog()
	}
	if d.changed {
		d.startReload()
	}
	tick, check := time.NewTicker(time.Second), time.NewTicker(checkEvery)
	defer tick.Stop()
	defer check.Stop()
	beats, stopBeats := d.notify.beats()
	defer stopBeats()
	for {
		select {
		case e := <-d.tree.events:
			if err := d.hears(e); err != nil {
				return err
			}
		case err := <-d.tree.gates.failed:
			return exit.Errorf(exit.Software, "verdicts: %w", err)
		case <-s.stop:
			return errStopped
		case <-s.rotate:
			d.reopenLog()
		case <-s.reload:
			d.startReload()
		case r := <-d.read:
			d.haveRead(r)
		case <-d.reload.expired():
			if err := d.tooLong(); err != nil {
				return err
			}
		case <-check.C:
			d.handOverEdges()
			if err := d.checkChildren(); err != nil {
				return err
			}
		case <-tick.C:
			d.reportDrops()
			d.handOverLog()
			d.told(d.notify.flush())
		case <-beats:
			d.told(d.notify.alive())
		}
	}
}

func (d *daemon) reportDrops() {
	err := d.drops.poll(func(queue uint16, dropped uint64) {
		d.log.Warn("the kernel dropped packets that did not fit", "queue", queue, "packets", dropped)
	})
	if err != nil {
		d.log.Warn("packets that the kernel itself drops can no longer be counted", "error", err.Error())
		d.drops.fd = -1
	}
}

// reopenLog opens the log file again and gives it to whoever holds the log.
func (d *daemon) reopenLog() {
	if err := d.target.reopen(); err != nil {
		d.log.Error("the log file could not be opened again, the old one is kept", "error", err.Error())
		return
	}
	if d.target.path == "" {
		return
	}
	for _, c := range d.tree.children {
		c.owedLog = judgeKinds[c.role] != nil // who gives no verdict holds no log
	}
	d.handOverLog()
}

// handOverLog gives the log to the children that are owed it. One whose
// control socket has no room now, as in a reload, gets it a second later.
func (d *daemon) handOverLog() {
	owed, left := 0, 0
	for _, c := range d.tree.children {
		if !c.owedLog || c.dead || c.stage != working { // which then was born with it
			continue
		}
		owed++
		item := ipc.PolicyItem{Kind: ipc.PolicyLog}
		switch err := ipc.NewPolicySender(c.control).SendWith(&item, d.target.fd); {
		case errors.Is(err, ipc.ErrWouldBlock):
			left++
			continue
		case err != nil: // it is dying, which is heard of next
			d.log.Error("the new log file could not be handed over", "role", string(c.role), "error", err.Error())
		}
		c.owedLog = false
	}
	if owed > 0 && left == 0 {
		d.log.Info("log file opened again")
	}
}

// failure turns what a child did into the error that ends the tree.
func (d *daemon) failure(e event) error {
	switch {
	case e.died != nil && e.err == nil:
		e.child.dead = true
		return deathError(e.child, e.died, d.mourn(e.child, e.died))
	case e.err != nil:
		return exit.Errorf(exit.Software, "%s (pid %d): %w", e.child.role, e.child.pid, e.err)
	}
	return exit.Errorf(exit.Software, "%s (pid %d): %w: signal %d out of turn", e.child.role, e.child.pid, errProtocol, e.signal)
}

const (
	// stopFor is how long children may take to write their last log lines.
	stopFor = 700 * time.Millisecond
	// killFor is how long the kernel may take to end what was killed.
	killFor = 300 * time.Millisecond
)

// end closes the filter, then ends every child: politely when the end was
// asked for, at once when a child died. It returns the error to exit with.
func (d *daemon) end(cause error) error {
	err := cause
	if errors.Is(cause, errStopped) {
		err = nil
	}
	d.told(d.notify.say(stateStopping))
	if shutErr := d.tree.shutFilter(); shutErr != nil {
		d.log.Error("the queues could not be emptied, closing them does it", "error", shutErr.Error())
	}
	living := map[*child]bool{}
	for _, c := range d.tree.children {
		if c.dead {
			continue
		}
		living[c] = true
		// The end of its control socket is how a child learns of the end.
		if shutErr := unix.Shutdown(c.control, unix.SHUT_RDWR); shutErr != nil && err == nil {
			err = fmt.Errorf("%s: shutdown: %w", c.role, shutErr)
		}
	}
	limit := stopFor
	if err != nil {
		limit = 0
	}
	d.awaitDeaths(living, limit)
	for c := range living {
		if killErr := c.kill(); killErr != nil {
			d.log.Error("could not end a child", "role", string(c.role), "error", killErr.Error())
		}
	}
	d.awaitDeaths(living, killFor)
	if err == nil {
		d.log.Info("stopped")
	}
	return err
}

// awaitDeaths waits for children to be gone, and removes them from
// living. The one whose death was the cause may be reported already.
func (d *daemon) awaitDeaths(living map[*child]bool, limit time.Duration) {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for len(living) > 0 {
		select {
		case e := <-d.tree.events:
			if e.died != nil {
				delete(living, e.child)
			}
		case <-timeout.C:
			return
		}
	}
}
