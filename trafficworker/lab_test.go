package trafficworker

import (
	"bufio"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/queue"
)

// lab is a worker on its real descriptors, with the other ends of them. Only
// the packets do not come from a queue, and time passes when the test says so,
// if it does.
type lab struct {
	t        *testing.T
	w        *worker
	ends     map[int]int // by the worker's
	holder   *ipc.Sender[ipc.Grants]
	asked    *ipc.Receiver[ipc.Unknown, *ipc.Unknown]
	log      *os.File
	now      ipc.Instant
	id       uint32
	verdicts map[uint32]ipc.Verdict // of all packets so far
	closed   bool
	// As the worker's last line says: packets that waited, and addresses asked about.
	waited, lookedUp int
}

// labNow is long after the boot, when a bucket is full.
const labNow = ipc.Instant(time.Hour)

// newLab has a queue for each filter, in order.
func newLab(t *testing.T, filters ...ipc.Filter) *lab {
	t.Helper()
	l := &lab{t: t, ends: map[int]int{}, verdicts: map[uint32]ipc.Verdict{}, now: labNow}
	l.edge(ipc.FDControl, false, true)
	l.edge(ipc.FDVerdicts, false, true)
	l.edge(ipc.FDGrants, true, true)
	l.edge(ipc.FDUnknown, true, true)
	var err error
	if l.log, err = os.CreateTemp(t.TempDir(), "log"); err != nil {
		t.Fatal(err)
	}
	l.reserve(ipc.FDLog, int(l.log.Fd()))
	l.holder = ipc.NewGrantSender(l.ends[ipc.FDGrants])
	l.asked = ipc.NewUnknownReceiver(l.ends[ipc.FDUnknown])
	if l.w, err = newWorker(l.policy(filters)); err != nil {
		t.Fatal(err)
	}
	l.w.table.told, l.w.judges = true, true // what was open before: nothing
	t.Cleanup(l.close)
	return l
}

func (l *lab) policy(filters []ipc.Filter) *ipc.Policy {
	p := &ipc.Policy{Settings: ipc.Settings{JSON: true, Debug: true}}
	for i, f := range filters {
		f.Index = uint32(i)
		p.Filters = append(p.Filters, f)
		p.Queues = append(p.Queues, ipc.Queue{Handle: uint32(i + 1), Slot: uint32(i), Number: uint16(i + 100), Kind: ipc.QueueTraffic, Filter: uint32(i)})
	}
	return p
}

// timed has time stand still until the test lets it pass.
func (l *lab) timed() *lab {
	l.w.now = func() ipc.Instant { return l.now }
	return l
}

func (l *lab) edge(fd int, nonblock, otherNonblock bool) {
	l.t.Helper()
	ours, theirs, err := ipc.Pair(nonblock, otherNonblock)
	if err != nil {
		l.t.Fatal(err)
	}
	l.reserve(fd, ours)
	unix.Close(ours)
	l.ends[fd] = theirs
}

// reserve puts a copy of a descriptor where the worker has it. Once there, a
// number stays taken: the runtime must not come by it.
func (l *lab) reserve(fd, is int) {
	if err := unix.Dup3(is, fd, unix.O_CLOEXEC); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) hangUp(fd int) {
	unix.Close(l.ends[fd])
	delete(l.ends, fd)
}

func (l *lab) close() {
	if l.closed {
		return
	}
	l.closed = true
	l.w.Close()
	for fd := range l.ends {
		l.hangUp(fd)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		l.t.Fatal(err)
	}
	defer null.Close()
	for fd := ipc.FDControl; fd <= ipc.FDUnknown; fd++ {
		l.reserve(fd, int(null.Fd()))
	}
}

// lines closes the worker and counts its lines about packets by reason.
func (l *lab) lines() map[string]int {
	l.t.Helper()
	l.close()
	defer l.log.Close()
	if _, err := l.log.Seek(0, 0); err != nil {
		l.t.Fatal(err)
	}
	reasons := map[string]int{}
	for s := bufio.NewScanner(l.log); s.Scan(); {
		var line struct {
			Message string `json:"@message"`
			Reason  string
			Verdict string
			Waited  int
			Asked   int `json:"looked_up"`
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			l.t.Fatal(err)
		}
		switch line.Message {
		case "traffic":
			reasons[line.Verdict+": "+line.Reason]++
		case "read in all":
			l.waited, l.lookedUp = line.Waited, line.Asked
		}
	}
	return reasons
}

// packetTo is a packet to an address, and a port there unless it is the zero
// one.
func packetTo(a netip.Addr, port ipc.Port) []byte {
	b, proto, to, ports := ip4(), 9, 16, 20
	if a.Is6() {
		b, proto, to, ports = ip6(0), 6, 24, 40
	}
	b = with(b, to, a.AsSlice()...)
	if port.Number == 0 {
		return with(b, proto, 1)
	}
	return with(with(b, proto, port.Proto), ports+2, byte(port.Number>>8), byte(port.Number))
}

// send has packets in one batch from the queue of a filter, and returns the id
// of the first one.
func (l *lab) send(filter int, payloads ...[]byte) uint32 {
	l.t.Helper()
	var packets []queue.Packet
	for _, b := range payloads {
		l.id++
		packets = append(packets, queue.Packet{ID: l.id, Hook: queue.HookOutput, Payload: b})
	}
	if err := l.w.batch(&l.w.queues[filter], packets); err != nil {
		l.t.Fatal(err)
	}
	return l.id + 1 - uint32(len(packets))
}

func (l *lab) sendTo(filter int, address string) uint32 {
	l.t.Helper()
	return l.send(filter, packetTo(netip.MustParseAddr(address), tcp443))
}

// tell has the holder say something, and the worker read it.
func (l *lab) tell(messages ...ipc.Grants) {
	l.t.Helper()
	for i := range messages {
		if err := l.holder.Send(&messages[i]); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := l.w.Ready(ipc.FDGrants); err != nil {
		l.t.Fatal(err)
	}
}

// about is a message about one address.
func about(kind ipc.GrantsKind, filter uint32, until ipc.Instant, address string) ipc.Grants {
	g := ipc.Grants{Kind: kind, Filter: filter, Until: until}
	if netip.MustParseAddr(address).Is4() {
		g.V4 = octets(address)
	} else {
		g.V6 = octets(address)
	}
	return g
}

// decided is what verdicts there are since the last look, by id.
func (l *lab) decided() map[uint32]ipc.Verdict {
	l.t.Helper()
	now := map[uint32]ipc.Verdict{}
	b := make([]byte, ipc.MaxFrame)
	for {
		n, err := ipc.RecvPacket(l.ends[ipc.FDVerdicts], b)
		if errors.Is(err, ipc.ErrWouldBlock) {
			return now
		} else if err != nil {
			l.t.Fatal(err)
		}
		records, err := ipc.ParseVerdicts(b[:n], nil)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, r := range records {
			if _, twice := l.verdicts[r.ID]; twice || r.ID == 0 || r.ID > l.id {
				l.t.Fatalf("a verdict for packet %d of %d, twice: %t", r.ID, l.id, twice)
			}
			l.verdicts[r.ID], now[r.ID] = r.Verdict, r.Verdict
		}
	}
}

// want requires exactly these verdicts since the last look.
func (l *lab) want(what string, want map[uint32]ipc.Verdict) {
	l.t.Helper()
	if got := l.decided(); !maps.Equal(got, want) {
		l.t.Errorf("%s: verdicts %v, want %v", what, got, want)
	}
}

// questions are what the holder has been asked since the last look.
func (l *lab) questions() (all []place) {
	l.t.Helper()
	for {
		u, err := l.asked.Recv()
		if errors.Is(err, ipc.ErrWouldBlock) {
			return all
		} else if err != nil {
			l.t.Fatal(err)
		}
		a, _ := u.Address.Addr()
		all = append(all, place{u.Filter, a})
	}
}

// signals are what the parent has been told since the last look.
func (l *lab) signals() (all []ipc.Signal) {
	l.t.Helper()
	b := make([]byte, ipc.SignalSize+1)
	for {
		n, err := ipc.RecvPacket(l.ends[ipc.FDControl], b)
		if errors.Is(err, ipc.ErrWouldBlock) {
			return all
		} else if err != nil {
			l.t.Fatal(err)
		}
		s, err := ipc.ParseSignal(b[:n])
		if err != nil {
			l.t.Fatal(err)
		}
		if s != ipc.SignalAlive { // which comes when it does
			all = append(all, s)
		}
	}
}
