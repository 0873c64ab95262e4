package parent

import (
	"errors"
	"fmt"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// silentFor is how long a child that works may be silent before it is taken for
// dead: it hangs, or somebody has stopped it. checkEvery is how often that is looked
// at.
const (
	silentFor  = 2 * time.Second
	checkEvery = 250 * time.Millisecond
)

// checkChildren ends those that take too long. A look that comes late itself
// says nothing: this process was stopped, or had no processor.
func (d *daemon) checkChildren() error {
	now, clock := time.Now(), monotonic()
	late := clock-d.checked > 4*checkEvery
	d.checked = clock
	if late {
		d.heardOfAll()
		return nil
	}
	for _, c := range d.tree.children {
		if deaths := d.deaths[c.role]; (c.dead || c.stage != working) && len(deaths) > 0 && now.Sub(deaths[len(deaths)-1]) > silentFor {
			if err := d.tree.dropHeld(c.role); err != nil { // or it would wait for a verdict
				return exit.Errorf(exit.Software, "%s: what waits for it: %w", c.role, err)
			}
		}
		wrong := error(nil)
		switch silent := clock - time.Duration(c.heard.Load()); {
		case c.dead:
		case c.stage != working && now.After(c.due):
			wrong = errors.New("did not come up in time")
		case c.stage == working && silent > silentFor && !d.reload.holderLoads():
			wrong = fmt.Errorf("silent for %v", silent.Round(checkEvery))
		}
		if wrong != nil {
			if err := d.endChild(c, wrong); err != nil {
				return err
			}
		}
	}
	return nil
}

// heardOfAll counts everybody's silence from now on.
func (d *daemon) heardOfAll() {
	now := int64(monotonic())
	for _, c := range d.tree.children {
		c.heard.Store(now)
	}
}

// accusations are what the holder says of neighbours.
var accusations = map[ipc.Signal]ipc.Role{
	ipc.SignalBrokeRequests:  ipc.RoleRequests,
	ipc.SignalBrokeResponses: ipc.RoleResponses,
	ipc.SignalBrokeTraffic:   ipc.RoleTraffic,
}

// accused ends a child that the holder has found to break the protocol. It need
// not be believed in this: a holder that lies only keeps itself from hearing, and
// one that does so without end is ended.
func (d *daemon) accused(holder *child, role ipc.Role) error {
	if d.accusations++; d.accusations > d.starts+len(accusations) {
		return d.endChild(holder, fmt.Errorf("%w: it accuses without end", errProtocol))
	}
	// What a dead one wrote may be read only now: then its successor is ended once.
	if c := d.tree.child(role); c.stage != building {
		return d.endChild(c, errors.New("broke the protocol, says the allowlist"))
	}
	return nil
}

// endChild ends a child for what it did wrong. What follows comes with its death.
func (d *daemon) endChild(c *child, wrong error) error {
	if c.dead || c.wrong != nil {
		return nil
	}
	c.wrong = wrong
	return c.kill()
}
