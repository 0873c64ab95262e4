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

// edge is a socketpair between two children.
type edge struct {
	from, to           ipc.Role
	fd                 int
	fromPolls, toPolls bool
	buffer             int // octets that may wait on it; the kernel doubles that (socket(7))
}

// edges is the topology: every socketpair between two children, who has which
// end under which number, and whether that end is polled.
var edges = []edge{
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
	again  bool       // it has been dead for long enough: start another
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

// open makes the edge, which from writes to.
func (e *edge) open() (from, to int, err error) {
	from, to, err = ipc.Pair(e.fromPolls, e.toPolls)
	if err != nil {
		return -1, -1, err
	}
	if err := unix.SetsockoptInt(from, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, e.buffer); err != nil {
		return -1, -1, errors.Join(fmt.Errorf("SO_SNDBUFFORCE: %w", err), unix.Close(from), unix.Close(to))
	}
	return from, to, nil
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
	for i := range edges {
		e := &edges[i]
		a, b, err := e.open()
		if err != nil {
			return err
		}
		theirs = append(theirs, a, b)
		files[e.from][e.fd], files[e.to][e.fd] = a, b
	}
	for _, role := range t.roles() {
		c, err := t.spawn(role, files[role], log)
		if err != nil {
			return err
		}
		t.children = append(t.children, c)
	}
	return nil
}

// spawn starts a child with these edges, and its verdict socket if it gives
// any. NB: on the starter's thread.
func (t *tree) spawn(role ipc.Role, files map[int]int, log *logTarget) (*child, error) {
	ours := -1
	if judgeKinds[role] != nil {
		theirs, end, err := ipc.Pair(false, false)
		if err != nil {
			return nil, err
		}
		defer unix.Close(theirs)
		files[ipc.FDVerdicts], files[ipc.FDLog], ours = theirs, log.fd, end
	}
	c, err := spawn(role, t.identity, files, t.sockets(role))
	if err != nil {
		if ours >= 0 {
			err = errors.Join(err, unix.Close(ours))
		}
		return nil, err
	}
	c.verdicts = ours
	return c, nil
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

// verify looks at children from outside, which have said Ready and have no work
// yet: what says that its cell stands is believed by nobody.
func (t *tree) verify(children ...*child) error {
	if sandbox.RaceBuild || t.identity.in == sandbox.Shared {
		return nil // not confined, or not to be seen: both are said at the start
	}
	var started []sandbox.Started
	for _, c := range children {
		started = append(started, sandbox.Started{Role: c.role, Queues: len(t.sockets(c.role)), PID: c.pid})
	}
	return t.starter.do(func() error { return sandbox.Verify(started) })
}

// watch listens to a child from now on; what it hears comes as events.
func (t *tree) watch(c *child) (err error) {
	c.busy.Add(1)
	go t.watchWords(c)
	go t.watchDeath(c)
	go t.watchControl(c)
	if c.verdicts >= 0 {
		c.gate, err = t.gates.add(newGate(c.verdicts, judgeKinds[c.role], t.queues, &t.shut), t.gateEnds(c))
	}
	return err
}

func (t *tree) watchDeath(c *child) {
	d, err := c.wait()
	close(c.gone)
	c.busy.Wait()
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

// signsAtOnce are the signs of life that one child may have given before any was
// read: while this process is stopped they wait in the socket, which has room for
// fewer.
const signsAtOnce = 1024

func (t *tree) watchControl(c *child) {
	defer c.busy.Done()
	signs := ipc.Bucket{PerSecond: 2 * int(time.Second/ipc.AliveEvery), Burst: signsAtOnce}
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
		if s == ipc.SignalAlive {
			c.heard.Store(int64(monotonic()))
			if _, ok := signs.Take(ipc.Now()); ok {
				continue
			}
			err = errors.New("alive without end")
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
