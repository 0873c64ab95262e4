package main_test

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// How many packets each parser gets.
const (
	testMutants = 20_000
	soakMutants = 2_000_000
)

// TestMutants gives the confined parsers of the running tree, through the real
// queues, packets of a fixed seed that were honest before something in them
// changed: none stays, every one gets one verdict, no process dies, and honest
// traffic flows.
func TestMutants(t *testing.T) {
	t.Parallel()
	t.Log(mutate(t, testMutants, 1))
}

// BenchmarkSoak is that for long. SOAK_SEED repeats a run.
//
//	go test -run '^$' -bench Soak -benchtime 1x ./cmd/egress-eddie
func BenchmarkSoak(b *testing.B) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		soak := func(t *testing.T) { fmt.Println(mutate(t, soakMutants, seed)) }
		all := func(_, _ string) (bool, error) { return true, nil }
		if !testing.RunTests(all, []testing.InternalTest{{Name: fmt.Sprintf("soak of SOAK_SEED=%d", seed), F: soak}}) {
			b.FailNow()
		}
	}
}

// The marks by which a packet comes to the queue that it is for, whatever its
// headers say.
const (
	markRequest  = 1
	markResponse = 2
)

func mutate(t *testing.T, packets int, seed uint64) (figures string) {
	t.Helper()
	l := newLab(t)
	for _, n := range []*netns{l.client, l.server} {
		n.ip(t, "link set eth0 mtu 65535")
	}
	l.start(allowing("example.com"))
	p := l.daemon.processes(t)
	checkCells(t, p, 2)
	l.rules(func(f family) []string {
		return []string{
			fmt.Sprintf("-A OUTPUT -m mark --mark %d -j NFQUEUE --queue-num %d", markRequest, dnsQueue(0, f)),
			fmt.Sprintf("-A OUTPUT -m mark --mark %d -j NFQUEUE --queue-num %d", markResponse, inboundQueue(f)),
		}
	})
	start := time.Now()
	sent := l.sendMutants(t, packets/len(families), seed)
	l.idle(t)
	took := time.Since(start)

	total := l.arrived(t, sent)
	if total < 2*packets*19/20 { // the kernel refuses few
		t.Errorf("only %d packets were sent", total)
	}
	if now := l.daemon.processes(t); !reflect.DeepEqual(now, p) {
		t.Errorf("the processes were %+v and are %+v", p, now)
	}
	if t.Failed() {
		return ""
	}
	l.honest(t)
	requests, responses, dropped := l.decided(t)
	// One in four is honest, but in a long run those before it have used up what
	// room there is for pending requests.
	if requests < packets/100 || responses < packets/500 {
		t.Errorf("only %d requests and %d responses were good", requests, responses)
	}
	return fmt.Sprintf("%d mutated packets in %v, %.0f/s; accepted %d requests and %d responses, dropped %d",
		total, took.Round(time.Millisecond), float64(total)/took.Seconds(), requests, responses, dropped)
}

// arrived requires that every packet that was sent came to its queue, and says
// how many that were.
func (l *lab) arrived(t *testing.T, sent map[int]int) (total int) {
	t.Helper()
	for queue, n := range sent {
		if got := l.queued(t, queue); got != n {
			t.Errorf("queue %d had %d packets of %d sent", queue, got, n)
		}
		total += n
	}
	return total
}

// sendMutants sends that many packets to each DNS queue of each family, and
// returns how many the kernel took, by queue. Requests and responses take
// turns, so that there are always some that belong together.
func (l *lab) sendMutants(t *testing.T, packets int, seed uint64) map[int]int {
	t.Helper()
	var streams sync.WaitGroup
	sent := map[int]*int{}
	for _, f := range families {
		requests := &mutantStream{mutants: newMutants(t, f, false, seed), fd: l.client.rawSocket(t, f, markRequest)}
		responses := &mutantStream{mutants: newMutants(t, f, true, seed), fd: l.client.rawSocket(t, f, markResponse)}
		sent[dnsQueue(0, f)], sent[inboundQueue(f)] = &requests.sent, &responses.sent
		streams.Go(func() {
			for range packets {
				if !requests.send() || !responses.send() {
					return
				}
			}
		})
	}
	streams.Wait()
	counts := map[int]int{}
	for queue, n := range sent {
		counts[queue] = *n
	}
	return counts
}

// mutantStream is mutants on their way to a queue.
type mutantStream struct {
	*mutants
	fd   int
	sent int // those that the kernel took
}

// rawSocket sends whole IP packets, marked.
func (n *netns) rawSocket(t *testing.T, f family, mark int) (fd int) {
	t.Helper()
	n.inside(t, func() (err error) {
		fd, err = unix.Socket(pick(f, unix.AF_INET, unix.AF_INET6), unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
		return err
	})
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
		t.Fatal(err)
	}
	return fd
}

// send sends another packet. One without a verdict counts against the socket,
// so that no queue ever gets more than it has room for, and what is overdue is
// an error of the sender. The kernel refuses those of IPv4 whose header says
// that it is longer than they are.
func (s *mutantStream) send() bool {
	to := unix.Sockaddr(&unix.SockaddrInet6{Addr: s.f.resolver.As16()})
	if !s.f.v6 {
		to = &unix.SockaddrInet4{Addr: s.f.resolver.As4()}
	}
	packet := s.next()
	err := unix.Sendto(s.fd, packet, 0, to)
	for err == unix.EAGAIN || err == unix.EINTR {
		room := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
		if n, pollErr := unix.Poll(room, int(patience.Milliseconds())); n == 0 && pollErr == nil {
			break
		}
		err = unix.Sendto(s.fd, packet, 0, to)
	}
	switch {
	case err == nil:
		s.sent++
	case err != unix.EINVAL || s.f.v6:
		s.t.Errorf("after %d packets of %s, response %v: %v: %x", s.sent, s.f.name, s.response, err, packet)
		return false
	}
	return true
}

// honest requires that the daemon still does what it is for. What it logs of
// questions is bounded after a flood, so the resolver says what it was asked.
func (l *lab) honest(t *testing.T) {
	t.Helper()
	for _, f := range families {
		r := l.resolver(f.resolver, webZone(f))
		l.rules(standardRules)
		l.client.asker(t, f.client).send(f.dns(), question("denied.test", typeOf(f)))
		l.resolves(t, f, "w1.example.com", typeOf(f), f.web(1))
		l.reaches(t, f.web(1))
		l.isShut(t, f.web(3))
		if r.asked("denied.test") > 0 {
			t.Error("a question for another name left the host")
		}
	}
}

// decided ends the daemon and requires that it decided every packet that its
// DNS queues ever had, and none twice.
func (l *lab) decided(t *testing.T) (requests, responses, dropped int) {
	t.Helper()
	l.idle(t)
	want := 0
	for _, f := range families {
		want += l.queued(t, dnsQueue(0, f)) + l.queued(t, inboundQueue(f))
	}
	l.daemon.expectExit(0)
	if err := l.daemon.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	all := l.daemon.sees(t, "decided in all", nil)
	requests, responses = count(all, "requests"), count(all, "responses")
	for key := range all {
		if strings.HasPrefix(key, "dropped: ") {
			dropped += count(all, key)
		}
	}
	// A mutant may have become a segment without data, of a connection that is not known.
	if decided := requests + responses + count(all, "segments") + dropped; decided != want {
		t.Errorf("the queues had %d packets, decided were %d: %v", want, decided, all)
	}
	return requests, responses, dropped
}
