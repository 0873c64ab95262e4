package parent

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

// edges is the topology: every socketpair between two children, who has which
// end under which number, and whether that end is polled.
var edges = []struct {
	from, to           ipc.Role
	fd                 int
	fromPolls, toPolls bool
	buffer             int // octets that may wait on it; the kernel doubles that (socket(7))
}{
	{ipc.RoleRequests, ipc.RoleAllowlist, ipc.FDRequests, false, true, ipc.EdgeBuffer},
	{ipc.RoleResponses, ipc.RoleAllowlist, ipc.FDResponses, false, true, ipc.EdgeBuffer},
	// The holder never waits for the trafficworker: no room is a drop, so here
	// is room for as long as a busy machine may keep the trafficworker waiting.
	{ipc.RoleAllowlist, ipc.RoleTraffic, ipc.FDGrants, true, true, ipc.GrantBuffer},
	// Neither waits for the other here: no room is a packet dropped, or a
	// question asked later.
	{ipc.RoleTraffic, ipc.RoleAllowlist, ipc.FDUnknown, true, true, ipc.EdgeBuffer},
	{ipc.RoleAllowlist, ipc.RoleResolver, ipc.FDLookups, true, true, ipc.EdgeBuffer},
}

// tree is all started processes and what the parent holds of them.
type tree struct {
	children []*child
	identity identity
	queues   []*openQueue
	servers  *serverSockets // nil without a resolver
	starter  starter
	gates    *gates
	events   chan event
	shut     atomic.Bool
}

// event is what a goroutine of the parent tells the main one.
type event struct {
	child  *child
	signal ipc.Signal // what it said, or 0
	died   *death     // how it ended, or nil
	err    error      // what it did wrong, or nil
}

// roles are the children of this tree.
func (t *tree) roles() []ipc.Role {
	if t.servers == nil {
		return ipc.Children
	}
	return ipc.AllChildren
}

// start starts every child with its edges. NB: on the starter's thread.
func (t *tree) start(log *logTarget) error {
	files := map[ipc.Role]map[int]int{}
	for _, role := range ipc.AllChildren {
		files[role] = map[int]int{}
	}
	var theirs []int
	defer func() {
		for _, fd := range theirs {
			unix.Close(fd)
		}
	}()
	for _, e := range edges {
		a, b, err := ipc.Pair(e.fromPolls, e.toPolls)
		if err != nil {
			return err
		}
		theirs = append(theirs, a, b)
		if err := unix.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, e.buffer); err != nil {
			return fmt.Errorf("SO_SNDBUFFORCE: %w", err)
		}
		files[e.from][e.fd], files[e.to][e.fd] = a, b
	}
	verdicts := map[ipc.Role]int{}
	for role := range judgeKinds {
		a, b, err := ipc.Pair(false, false)
		if err != nil {
			return err
		}
		theirs = append(theirs, a)
		files[role][ipc.FDVerdicts], files[role][ipc.FDLog] = a, log.fd
		verdicts[role] = b
	}
	for _, role := range t.roles() {
		c, err := spawn(role, t.identity, files[role], t.sockets(role))
		if err != nil {
			return err
		}
		if fd, ok := verdicts[role]; ok {
			c.verdicts = fd
		}
		t.children = append(t.children, c)
	}
	return nil
}

// sockets are the queue sockets that a role reads, in the order of their slots.
func (t *tree) sockets(role ipc.Role) []int {
	var fds []int
	for _, kind := range readKinds[role] {
		for _, q := range t.queues {
			if q.Kind == kind {
				fds = append(fds, q.fd)
			}
		}
	}
	return fds
}

// verify looks at every child from outside, once all have said Ready and before any has
// work: what says that its cell stands is believed by nobody.
func (t *tree) verify() error {
	return t.starter.do(func() error { return t.verifyChildren(t.children) })
}

func (t *tree) verifyChildren(children []*child) error {
	if sandbox.RaceBuild || t.identity.in == sandbox.Shared {
		return nil // not confined, or not to be seen: both are said at the start
	}
	var started []sandbox.Started
	for _, c := range children {
		started = append(started, sandbox.Started{Role: c.role, Queues: len(t.sockets(c.role)), PID: c.pid})
	}
	return sandbox.Verify(started)
}

// watch listens to every child from now on; what it hears comes as events.
func (t *tree) watch() {
	for _, c := range t.children {
		go t.watchWords(c)
		go t.watchDeath(c)
		go t.watchControl(c)
		if c.verdicts >= 0 {
			t.gates.add(newGate(c.verdicts, judgeKinds[c.role], t.queues, &t.shut), t.gateEnds(c))
		}
	}
}

func (t *tree) watchDeath(c *child) {
	d, err := c.wait()
	close(c.gone)
	t.events <- event{child: c, died: &d, err: err}
}

func (t *tree) watchWords(c *child) {
	if err := c.hear(); err != nil {
		t.events <- event{child: c, err: err}
	}
}

// watchEnd is called when a socket of a child has reached its end: either it
// is about to be found dead, or it closed what an honest one never closes.
func (t *tree) watchEnd(c *child, what string) {
	select {
	case <-c.gone:
	case <-time.After(dyingFor):
		t.events <- event{child: c, err: fmt.Errorf("%w: it closed its %s", errProtocol, what)}
	}
}

// dyingFor is how long a process may take from the end of its sockets to its
// own.
const dyingFor = time.Second

func (t *tree) watchControl(c *child) {
	size, sockets := ipc.SignalSize, ipc.NewPolicySender(c.control)
	if c.role == ipc.RoleResolver {
		size = ipc.SocketSize
	}
	buf := make([]byte, size+1)
	for {
		n, err := ipc.RecvPacket(c.control, buf)
		if errors.Is(err, io.EOF) {
			t.watchEnd(c, "control socket")
			return
		}
		if c.role == ipc.RoleResolver && n == ipc.SocketSize {
			if err := t.servers.answer(c, sockets, buf[:n]); err != nil {
				t.events <- event{child: c, err: fmt.Errorf("control: %w", err)}
				return
			}
			continue
		}
		var s ipc.Signal
		if err == nil {
			s, err = ipc.ParseSignal(buf[:n])
		}
		if err != nil {
			t.events <- event{child: c, err: fmt.Errorf("control: %w: %w", errProtocol, err)}
			return
		}
		t.events <- event{child: c, signal: s}
	}
}

// gateEnds is called on the thread that carries verdicts, and does not wait.
func (t *tree) gateEnds(c *child) func(error) {
	return func(err error) {
		go func() {
			if err == nil {
				t.watchEnd(c, "verdict socket")
				return
			}
			t.events <- event{child: c, err: err}
		}()
	}
}

// openFilter lets packets in. NB: only when every child has its policy.
func (t *tree) openFilter() error {
	for _, q := range t.queues {
		if err := q.open(); err != nil {
			return fmt.Errorf("queue %d: %w", q.Number, err)
		}
	}
	if t.servers != nil {
		close(t.servers.open)
	}
	return nil
}

// shutFilter makes the kernel drop everything from now on, first of all that
// happens at any end. An error changes nothing for the caller: the sockets
// are closed next, and a closed queue drops too.
func (t *tree) shutFilter() error {
	t.shut.Store(true)
	var errs []error
	for _, q := range t.queues {
		if err := q.shut(); err != nil {
			errs = append(errs, fmt.Errorf("queue %d: %w", q.Number, err))
		}
	}
	return errors.Join(errs...)
}

// spawnTree closes this process's cell and starts all children in it. With
// bestEffort it first tries whether they can have namespaces of their own; the
// error why not is returned beside a tree that does without.
func (t *tree) spawnTree(log *logTarget, bestEffort bool) (shared, err error) {
	if t.gates, err = newGates(); err != nil {
		return nil, err
	}
	if t.starter, err = newStarter(); err != nil {
		return nil, err
	}
	if bestEffort {
		err := t.starter.do(func() error { return t.chooseIsolation(&shared) })
		if err != nil {
			return nil, err
		}
	}
	if err := sandbox.LockParent(t.servers != nil, t.identity.in); err != nil {
		return shared, err
	}
	return shared, t.starter.do(func() error { return t.start(log) })
}

// chooseIsolation: only what forbids namespaces makes children do without. A
// passing shortage, which somebody may have made, does not.
func (t *tree) chooseIsolation(shared *error) error {
	forbidden, err := sandbox.ProbeNamespaces(t.identity.uid, t.identity.gid)
	if forbidden {
		t.identity.in, *shared = sandbox.Shared, err
		return nil
	}
	return err
}
