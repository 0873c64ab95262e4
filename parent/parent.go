package parent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/ipc/logging"
	"github.com/capnspacehook/egress-eddie/parent/config"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

// Main runs the parent with the arguments after the program's name and
// returns the exit status. NB: the caller must be the main goroutine, locked
// to the main thread.
func Main(args []string) int {
	if len(args) > 0 && commands[args[0]] != nil {
		return mainOf(commands[args[0]], args[1:])
	}
	journal := takeJournalStream()
	stderr := journal.stderr()
	o, err := parseCommandLine(args, os.Stdout)
	if errors.Is(err, errHelp) {
		return 0
	}
	if err == nil && o.version {
		fmt.Println("egress-eddie " + version())
		return 0
	}
	if err == nil {
		err = run(o, journal, stderr)
	}
	if err != nil {
		complain(stderr, err)
	}
	return exit.Code(err)
}

// complainFor is how long the last words to people may take.
const complainFor = 200 * time.Millisecond

// complain says what is wrong to people. It does not wait for them: standard
// error may be the very pipe that nobody reads.
func complain(w io.Writer, err error) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		fmt.Fprintf(w, "egress-eddie: %v\n", err)
	}()
	select {
	case <-said:
	case <-time.After(complainFor):
	}
}

// run is the life of the parent from top to bottom.
func run(o options, journal journalStream, stderr io.Writer) error {
	s := listen() // first: a large configuration takes seconds to read
	c, err := load(o)
	if err != nil || o.test {
		return err
	}
	if sandbox.BuiltWithCgo {
		// AllThreadsSyscall refuses to work beside cgo's threads.
		return exit.Errorf(exit.Software, "built with cgo: rebuild with CGO_ENABLED=0")
	}
	target, err := openLog(o.log, journal)
	if err != nil {
		return err
	}
	json := o.logFormat == "json" || o.logFormat == "" && !target.terminal()
	d := &daemon{
		options: o,
		read:    make(chan reading, 1),
		config:  c,
		json:    json,
		target:  target,
		log: logging.New(target.fd, logging.Options{
			Process: string(ipc.RoleParent), JSON: json, Debug: o.debug, Journal: target.journal,
		}),
	}
	err = d.run(s)
	if err != nil {
		d.log.Error("stopped", "error", oneLine(err), "status", exit.Code(err))
	}
	if closeErr := d.log.Close(500 * time.Millisecond); closeErr != nil {
		complain(stderr, closeErr) // lost lines are no other way to end
	}
	return err
}

// load reads the configuration. With -t that is all, and its findings go to
// people. Else a lack of DNS servers in resolv.conf is no fault of the
// configuration that a service manager must not try again: at boot the network
// names them later, and may wait for the filter.
func load(o options) (*config.Config, error) {
	c, err := config.ParseConfig(o.config)
	if err != nil {
		return nil, err
	}
	if err := c.SetServers(readAgain); err != nil {
		if !o.test {
			err = &exit.Error{Code: exit.Unavailable, Err: err}
		}
		return nil, err
	}
	if o.test {
		for _, w := range c.Warnings {
			fmt.Fprintf(os.Stderr, "egress-eddie: warning: %s\n", w)
		}
		fmt.Printf("%s: ok\n", o.config)
	}
	return c, nil
}

// daemon is the running parent.
type daemon struct {
	options options
	config  *config.Config
	json    bool
	target  *logTarget
	log     *logging.Logger

	notify  *notifier
	kernel  *kernelLog
	drops   *kernelDrops
	tree    tree
	rotated bool // SIGUSR1 came before the log could be handed to anyone
	changed bool // SIGHUP came before there was a policy to change
	reload  *reload
	read    chan reading

	policies map[ipc.Role]*ipc.Policy // of those that may be started again
	deaths   map[ipc.Role][]time.Time // within deathsWithin
	checked  time.Duration            // when checkChildren was called last, by monotonic

	starts, accusations int // how often a child was started again, and the holder has accused one
}

// readyFor is how long the children may take to build their cells, loadFor
// then to take their policy.
const (
	readyFor = 5 * time.Second
	loadFor  = 30 * time.Second
)

func (d *daemon) run(s signals) error {
	for _, w := range d.config.Warnings {
		d.log.Warn(w)
	}
	if sandbox.RaceBuild {
		d.log.Warn("built with the race detector: NOTHING IS CONFINED, this is for tests only")
	}
	if err := d.openEverything(); err != nil {
		return err
	}
	uid, gid, err := sandbox.DropPrivileges(d.options.user, d.target.give)
	if err != nil {
		return err
	}
	d.tree.events = make(chan event, 64)
	d.tree.identity = identity{uid: uid, gid: gid}
	if d.config.AsksItself() {
		d.tree.servers = newServerSockets(d.config.SelfMark, d.config.Servers, d.log)
	}
	shared, err := d.tree.spawnTree(d.target, d.config.NamespacesBestEffort)
	if shared != nil {
		why := sandbox.WhyForbidden()
		d.log.Error("NOT ISOLATED: user namespaces are forbidden here, the processes share those of the parent",
			"error", shared.Error(), "forbidden_by", strings.Join(why.By, "; "), "hint", why.Hint)
	}
	if err != nil {
		return d.end(err)
	}
	for _, c := range d.tree.children {
		if err := d.tree.watch(c); err != nil {
			return d.end(err)
		}
	}
	if err := d.await(ipc.SignalReady, readyFor, s); err != nil {
		return d.end(err)
	}
	if err := d.tree.verify(d.tree.children...); err != nil {
		return d.end(err)
	}
	d.sendPolicies()
	if err := d.await(ipc.SignalLoaded, loadFor, s); err != nil {
		return d.end(err)
	}
	if err := d.tree.openFilter(); err != nil {
		return d.end(err)
	}
	d.log.Info("filtering", "filters", len(d.config.Filters), "queues", len(d.tree.queues),
		"uid", uid, "version", version())
	// It may be as large as a file of a million names, and is not needed again.
	d.config = nil
	debug.FreeOSMemory()
	d.told(d.notify.say(stateReady))
	return d.end(d.filter(s))
}

// filter carries verdicts on this, the main thread, while another supervises.
func (d *daemon) filter(s signals) error {
	over := make(chan error, 1)
	go func() {
		err := d.supervise(s)
		over <- errors.Join(err, d.tree.gates.stop())
	}()
	d.tree.gates.run()
	return <-over
}

// openEverything opens all that needs the privileges that are dropped next.
func (d *daemon) openEverything() error {
	var err error
	if d.notify, err = openNotifier(); err != nil {
		return err
	}
	d.kernel = openKernelLog()
	queues, err := openQueues(queuesOf(d.config), func(text string, fields ...any) { d.log.Warn(text, fields...) })
	if err != nil {
		return err
	}
	d.tree.queues = queues
	d.drops = openKernelDrops(queues)
	if d.drops.fd < 0 {
		d.log.Info("packets that the kernel itself drops cannot be counted: no permission to read " + queueStatistics)
	}
	return nil
}

// told takes note that the service manager is gone, which ends nothing: the
// filter stands without it.
func (d *daemon) told(err error) {
	if err != nil {
		d.log.Warn("the service manager cannot be told anything any more", "error", err.Error())
	}
}

// sendPolicies has every child sent its policy by a goroutine of its own: a
// child that does not read must not keep the parent from hearing of anything
// else.
func (d *daemon) sendPolicies() {
	d.policies, d.deaths = map[ipc.Role]*ipc.Policy{}, map[ipc.Role][]time.Time{}
	for _, c := range d.tree.children {
		p := d.policyOf(c.role, d.config)
		if startsAgain(c.role) {
			d.policies[c.role] = p
		}
		d.send(c, p)
	}
}

func (d *daemon) policyOf(role ipc.Role, from *config.Config) *ipc.Policy {
	queues := make([]ipc.Queue, len(d.tree.queues))
	for i, q := range d.tree.queues {
		queues[i] = q.Queue
	}
	return policyFor(role, from, d.options, d.json, d.target.journal, queues)
}

func (d *daemon) send(c *child, policy *ipc.Policy) {
	c.sending.Add(1)
	go func() {
		err := sendItems(c, policy.Items())
		c.sending.Done()
		if err != nil {
			d.tree.events <- event{child: c, err: fmt.Errorf("sending the policy: %w", err)}
		}
	}()
}

// sendItems sends one child its policy. That it died meanwhile is no error
// here: its death, which is heard of next, says how and why.
func sendItems(c *child, items []ipc.PolicyItem) error {
	sender := ipc.NewPolicySender(c.control)
	for _, item := range items {
		if err := sender.Send(&item); errors.Is(err, unix.EPIPE) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}
