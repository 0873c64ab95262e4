package parent

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/parent/config"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

// reload is a change of policy, from SIGHUP until the trafficworker has said
// that it is in force. Nothing changes before the new file has been read and
// found right as a whole. Then, so that no packet is ever judged by half a
// policy:
//
//  1. the trafficworker takes the new one and keeps judging by the old;
//  2. the holder takes it, answers by it from then on, and tells the
//     trafficworker which grants are closed by it;
//  3. with the holder's word that this was all, the trafficworker judges by it.
//
// The parsers know no policy.
type reload struct {
	config  *config.Config // nil while it is being read
	missing map[signalOf]bool
	limit   *time.Timer
	again   bool // asked for once more meanwhile

	step    step
	waiting *child // a trafficworker that is dead, and whose successor shall have the new policy
}

// step is how far a reload has come.
type step uint8

const (
	stepReads   step = iota // the file, or waits until every child works
	stepTraffic             // the trafficworker takes it
	stepHolder              // the holder does, and tells the trafficworker
)

// holds reports whether a role must not be started again now: which policy it
// would have to have is not settled.
func (r *reload) holds(role ipc.Role) bool {
	return r != nil && r.step == stepHolder && role == ipc.RoleTraffic
}

// holderLoads reports whether everybody may be silent: the holder takes a policy
// that may have millions of names, and others wait for room to tell it something.
func (r *reload) holderLoads() bool {
	return r != nil && r.missing[signalOf{ipc.RoleAllowlist, ipc.SignalLoaded}]
}

// lost takes note of a death. Nothing is waited for from who is dead; over says
// that this was all.
func (r *reload) lost(role ipc.Role) (over bool) {
	if r == nil || role != ipc.RoleTraffic {
		return false
	}
	switch r.step {
	case stepTraffic: // its successor has the old policy, and is told anew
		r.step, r.missing = stepReads, nil
	case stepHolder: // its successor has the new one from the start
		delete(r.missing, signalOf{ipc.RoleTraffic, ipc.SignalInForce})
		return len(r.missing) == 0
	}
	return false
}

// signalOf is what is waited for, and from whom.
type signalOf struct {
	role   ipc.Role
	signal ipc.Signal
}

// reading is the outcome of reading the file.
type reading struct {
	config *config.Config
	err    error
}

// startReload begins a reload, or has it follow the one that is under way.
func (d *daemon) startReload() {
	if d.reload != nil {
		d.reload.again = true
		return
	}
	d.told(d.notify.say(reloading()))
	d.reload = &reload{limit: time.NewTimer(loadFor)}
	go func() { // it may be large, and the parent must hear of its children
		c, err := reread(d.options.config, d.tree.queues)
		if err == nil && d.tree.identity.in == sandbox.Shared && !c.NamespacesBestEffort {
			c, err = nil, errors.New(`sandbox.userNamespaces: the processes run without namespaces of their own: to forbid that needs a restart`)
		}
		d.read <- reading{c, err}
	}()
}

// expired is when a reload has taken too long, or never.
func (r *reload) expired() <-chan time.Time {
	if r == nil {
		return nil
	}
	return r.limit.C
}

// haveRead goes on with a file that is right.
func (d *daemon) haveRead(r reading) {
	if r.err != nil {
		d.log.Error("the configuration was not reloaded, the old one is in force", "error", oneLine(r.err))
		d.endReload(stateKept)
		return
	}
	for _, w := range r.config.Warnings {
		d.log.Warn(w)
	}
	d.reload.config = r.config
	d.goOnReloading()
}

// goOnReloading hands out a file that was read, when there is one and every
// child works.
func (d *daemon) goOnReloading() {
	if d.reload == nil || d.reload.config == nil || d.reload.step != stepReads || !d.tree.allWork() {
		return
	}
	d.reload.step = stepTraffic
	d.change(ipc.RoleTraffic, ipc.SignalLoaded)
}

// mostMistakes are shown of a file in a line of the log.
const mostMistakes = 20

// oneLine is an error of many lines as one, of bounded length.
func oneLine(err error) string {
	lines := strings.Split(err.Error(), "\n")
	if more := len(lines) - mostMistakes; more > 0 {
		lines = append(lines[:mostMistakes], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "; ")
}

// change sends a child the new policy, and waits for what comes of it.
func (d *daemon) change(role ipc.Role, signals ...ipc.Signal) {
	d.reload.missing = map[signalOf]bool{}
	for _, s := range signals {
		d.reload.missing[signalOf{role, s}] = true
	}
	d.send(d.tree.child(role), d.policyOf(role, d.reload.config))
}

// hears takes what has become of a child, or what it says: while it works
// nothing, but for what a reload waits for.
func (d *daemon) hears(e event) error {
	c := e.child
	what := signalOf{c.role, e.signal}
	switch {
	case e.again:
		return d.startAgain(c)
	case e.died != nil && e.err == nil:
		return d.fell(c, e.died)
	case e.died != nil: // the kernel does not say how
		return d.failure(e)
	case e.err != nil:
		return d.endChild(c, e.err)
	case c.dead || c.wrong != nil: // said before
		return nil
	case c.stage != working:
		return d.comesUp(c, e.signal)
	case c.role == ipc.RoleAllowlist && accusations[e.signal] != "":
		return d.accused(c, accusations[e.signal])
	case d.reload == nil || !d.reload.missing[what]:
		return d.endChild(c, fmt.Errorf("%w: signal %d out of turn", errProtocol, e.signal))
	}
	delete(d.reload.missing, what)
	d.heardOfAll() // who was silent for the holder's sake speaks from now on
	return d.reloads(what)
}

// reloads goes on after something that a reload has waited for.
func (d *daemon) reloads(what signalOf) error {
	switch {
	case len(d.reload.missing) > 0:
	case what.role == ipc.RoleTraffic && what.signal == ipc.SignalLoaded:
		d.log.Info("reloading: the trafficworker has the new policy, the holder is next")
		if d.tree.servers != nil { // NB: before the holder has anything asked by it
			d.tree.servers.change(d.reload.config.SelfMark, d.reload.config.Servers)
		}
		d.reload.step = stepHolder
		d.change(ipc.RoleAllowlist, ipc.SignalLoaded)
		d.reload.missing[signalOf{ipc.RoleTraffic, ipc.SignalInForce}] = true
	default:
		return d.reloaded()
	}
	return nil
}

// reloaded ends a reload. It is in force in the trafficworker, or there is none.
func (d *daemon) reloaded() error {
	r := d.reload
	d.policies[ipc.RoleTraffic] = d.policyOf(ipc.RoleTraffic, r.config)
	d.log.Info("configuration reloaded", "filters", len(r.config.Filters))
	d.endReload(stateReady)
	if r.waiting != nil {
		return d.startAgain(r.waiting)
	}
	return nil
}

func (d *daemon) endReload(state string) {
	again := d.reload.again
	d.reload.limit.Stop()
	d.reload = nil
	debug.FreeOSMemory()
	d.told(d.notify.say(state))
	if again {
		d.startReload()
	}
}

// tooLong is the error of a reload that a child does not answer. One that was
// handed to nobody, since not all work, has changed nothing.
func (d *daemon) tooLong() error {
	if d.reload.step == stepReads && d.reload.config != nil {
		d.log.Error("the configuration was not reloaded, the old one is in force",
			"error", fmt.Sprintf("not every process worked within %v", loadFor))
		d.endReload(stateKept)
		return nil
	}
	for what := range d.reload.missing {
		return exit.Errorf(exit.Software, "%s: did not take a changed policy within %v", what.role, loadFor)
	}
	return exit.Errorf(exit.Software, "the configuration could not be read within %v", loadFor)
}

// reloading is the state of sd_notify(3) that goes before READY=1.
func reloading() string {
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d\nSTATUS=reloading", monotonic()/time.Microsecond)
}
