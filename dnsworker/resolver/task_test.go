package resolver

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// pair is a connection or an exchange of datagrams between two ends here.
func pair(t *testing.T, kind int) (ours, theirs int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

func sampleTask(fd int, proto uint8) *task {
	t := newTask(&ipc.Lookup{Name: "\x01a\x00", Type: ipc.TypeA, Until: ipc.Now().Add(time.Minute)}, ipc.Now(), fd)
	t.socket.Proto = proto
	t.begin()
	return t
}

// TestPartialWrite: what finds no room is sent later, all of it and once.
func TestPartialWrite(t *testing.T) {
	ours, theirs := pair(t, unix.SOCK_STREAM)
	task := sampleTask(ours, ipc.ProtoTCP)
	task.unsent = make([]byte, 1<<20)
	for i := range task.unsent {
		task.unsent[i] = byte(i >> 8 * 7)
	}
	want := bytes.Clone(task.unsent)
	var got []byte
	buf := make([]byte, 1<<16)
	parts := 0
	for all := false; !all; parts++ {
		var err error
		if all, err = task.send(); err != nil {
			t.Fatal(err)
		}
		for n := 1; n > 0; {
			if n, _ = unix.Read(theirs, buf); n > 0 {
				got = append(got, buf[:n]...)
			}
		}
	}
	if parts < 2 || !bytes.Equal(got, want) {
		t.Errorf("%d octets of %d came in %d parts", len(got), len(want), parts)
	}
	unix.Close(theirs)
	task.unsent = want
	if all, err := task.send(); all || err != unix.EPIPE {
		t.Errorf("without the other end: %t, %v", all, err)
	}
}

// TestDatagramsAtOnce: of one socket no more is taken at a time.
func TestDatagramsAtOnce(t *testing.T) {
	more := make(chan func([]byte), 1)
	fd := among(t, serve(t, func(_ []byte, reply func([]byte)) { more <- reply }, nil))(ipc.Socket{Proto: ipc.ProtoUDP})
	defer unix.Close(fd)
	task := sampleTask(fd, ipc.ProtoUDP)
	if all, err := task.send(); !all || err != nil {
		t.Fatal(all, err)
	}
	reply := <-more
	const sent = 2*datagramsAtOnce + 1
	for i := range sent {
		reply(make([]byte, i)) // on a loopback it is there when this returns
	}
	buf := make([]byte, readSize)
	for round := 1; round <= 4; round++ {
		if r := task.read(buf); r != nothing {
			t.Fatal(r)
		}
		if want := min(sent, round*datagramsAtOnce); task.ignored != want {
			t.Errorf("%d after the round %d, should be %d", task.ignored, round, want)
		}
	}
}

// TestFloodEnds: a socket with too much that answers nothing is given up.
func TestFloodEnds(t *testing.T) {
	task := sampleTask(-1, ipc.ProtoUDP)
	for range maxIgnored {
		if r := task.take([]byte("nonsense")); r != nothing {
			t.Fatal(r)
		}
	}
	if r := task.take([]byte("nonsense")); r != failed {
		t.Error(r)
	}
	task.begin()
	if r := task.take([]byte("nonsense")); r != nothing {
		t.Error("on the next socket: ", r)
	}
}

// TestReplySplit: an answer over TCP may come in any two parts.
func TestReplySplit(t *testing.T) {
	task := sampleTask(-1, ipc.ProtoTCP)
	for _, message := range [][]byte{answerTo(t, task.query), append(answerTo(t, task.query), make([]byte, 1000)...)} {
		whole := framed(message)
		for at := 1; at < len(whole); at++ {
			var r reply
			if got := r.take(task.query, whole[:at]); got != nothing {
				t.Fatalf("the first %d octets: %d", at, got)
			}
			if got := r.take(task.query, whole[at:]); got != answered {
				t.Fatalf("split at %d: %d", at, got)
			}
		}
	}
}

// TestQuery: the longest name there is, and what is in a query's other fields.
func TestQuery(t *testing.T) {
	long := bytes.Repeat([]byte("\x3f"+string(bytes.Repeat([]byte("a"), 63))), 3)
	long = append(append(append(long, 61), bytes.Repeat([]byte("b"), 61)...), 0)
	q := newQuery(&ipc.Lookup{Name: "", Type: ipc.TypePTR})
	if want := "000001000001000000000000" + "000c0001"; fmt.Sprintf("%x", q) != want {
		t.Errorf("%x, should be %s", q, want)
	}
	q = newQuery(&ipc.Lookup{Name: nameOf(t, long), Type: ipc.TypeAAAA})
	if len(q) != maxQuery {
		t.Errorf("the longest query has %d octets", len(q))
	}
	renew(q)
	var r reply
	if got := r.take(q, framed(answerTo(t, q))); got != answered {
		t.Errorf("its answer is %d", got)
	}
}

// TestNextConnection: what came over one connection is no part of the answer
// over the next.
func TestNextConnection(t *testing.T) {
	task := sampleTask(-1, ipc.ProtoTCP)
	if r := task.take(framed(answerTo(t, task.query))[:9]); r != nothing {
		t.Fatal(r)
	}
	task.begin()
	if r := task.take(framed(answerTo(t, task.query))); r != answered {
		t.Error(r)
	}
}

// TestLateSocket: a socket that comes for a lookup which has ended, or is over,
// is closed before anything goes out.
func TestLateSocket(t *testing.T) {
	for _, stage := range []stage{asked, ended} {
		ours, theirs := pair(t, unix.SOCK_DGRAM)
		fd, err := unix.FcntlInt(uintptr(ours), unix.F_DUPFD_CLOEXEC, 100)
		if err != nil {
			t.Fatal(err)
		}
		task := sampleTask(ipc.FDSockets+7, ipc.ProtoUDP)
		task.stage, task.until = stage, ipc.Now()
		w := &worker{owed: []request{{task.socket, task}}}
		if stage == asked {
			w.tasks[7] = task
		}
		if err := w.TakeSocket(task.socket, fd); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("stage %d: the socket is open", stage)
		}
		if n, err := unix.Read(theirs, make([]byte, maxQuery)); err != unix.EAGAIN {
			t.Errorf("stage %d: %d octets went out, %v", stage, n, err)
		}
		if task.stage != ended || w.tasks[7] != nil || len(w.owed) != 0 {
			t.Errorf("stage %d: %+v", stage, task)
		}
	}
}

// TestOverBefore: a lookup that has ended before it came takes nobody's place.
func TestOverBefore(t *testing.T) {
	ours, theirs := pair(t, unix.SOCK_SEQPACKET)
	w := &worker{lookups: ipc.NewLookupReceiver(ours)}
	for i := range w.tasks {
		w.tasks[i] = sampleTask(ipc.FDSockets+i, ipc.ProtoUDP)
	}
	before := w.tasks
	if err := ipc.NewLookupSender(theirs).Send(&ipc.Lookup{Name: "\x01b\x00", Type: ipc.TypeA, Until: ipc.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := w.takeLookups(); err != nil || w.tasks != before {
		t.Error("it has a task: ", err)
	}
}
