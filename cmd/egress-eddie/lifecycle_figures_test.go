package main_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// How much the figures are taken from.
const (
	figurePackets = 200_000
	figureQueries = 50_000
	inFlight      = 64
)

// BenchmarkFigures shows what 200,000 queued packets and 50,000 DNS queries
// do to the tree: how many were lost, what is left in the queues, how much
// memory each process has.
//
//	go test -run '^$' -bench Figures ./cmd/egress-eddie
func BenchmarkFigures(b *testing.B) {
	for b.Loop() {
		all := func(_, _ string) (bool, error) { return true, nil }
		if !testing.RunTests(all, []testing.InternalTest{{Name: "figures", F: figures}}) {
			b.FailNow()
		}
	}
}

func figures(t *testing.T) {
	f := families[0]
	l := newLab(t)
	l.parrot(t, f)
	log := filepath.Join(openDir(t), "log")
	cmd := exec.Command(builtBinary, "-l", log, "-log-format", "json", "-c", configFile(t, allowing("example.com").String()))
	l.daemon = startCommand(t, l.client, cmd)
	if !eventually(func() bool { text, _ := os.ReadFile(log); return strings.Contains(string(text), `"filtering"`) }) {
		t.Fatal("it does not come up")
	}
	p := l.daemon.processes(t)
	show(t, "at rest", p)
	l.rules(standardRules)

	answered, took := l.queries(t, f, figureQueries)
	fmt.Printf("dns: %d queries, %d answered, %d lost, %.0f/s\n", figureQueries, answered, figureQueries-answered, figureQueries/took.Seconds())
	l.showQueues(t)
	show(t, "after the queries", p)

	arrived, took := l.packets(t, f, figurePackets)
	fmt.Printf("traffic: %d packets, %d arrived, %d lost, %.0f/s\n", figurePackets, arrived, figurePackets-arrived, figurePackets/took.Seconds())
	l.showQueues(t)
	show(t, "after the packets", p)
	if arrived != figurePackets || answered != figureQueries {
		t.Error("something was lost")
	}
}

// parrot is a DNS server that answers every question with one address.
func (l *lab) parrot(t *testing.T, f family) {
	t.Helper()
	conn := l.server.listenUDP(t, netip.AddrPortFrom(f.resolver, 53))
	address := f.web(1).AsSlice()
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			buf[2], buf[3], buf[7] = 0x81, 0x80, 1 // QR, RD, RA, one answer
			record := append([]byte{0xc0, 12}, buf[n-4:n]...)
			record = append(record, 0, 0, 0, 60, 0, byte(len(address)))
			conn.WriteToUDPAddrPort(append(buf[:n:n], append(record, address...)...), from)
		}
	}()
}

// queries asks for that many names below example.com, in turn on some
// sockets, with at most inFlight of them unanswered.
func (l *lab) queries(t *testing.T, f family, count int) (answered int, took time.Duration) {
	t.Helper()
	const sockets = 4
	start := time.Now()
	results := make(chan int)
	for s := range sockets {
		a := l.client.asker(t, f.client)
		go func() {
			got, buf := 0, make([]byte, 512)
			receive := func() bool {
				a.conn.SetReadDeadline(time.Now().Add(time.Second))
				_, err := a.conn.Read(buf)
				got += map[bool]int{true: 1}[err == nil]
				return err == nil
			}
			for i := range count / sockets {
				m := question(fmt.Sprintf("n%d.s%d.example.com", i%1000, s), typeOf(f))
				m.Id = uint16(i)
				a.send(f.dns(), m)
				if i >= inFlight/sockets {
					receive()
				}
			}
			for range inFlight / sockets {
				receive()
			}
			results <- got
		}()
	}
	for range sockets {
		answered += <-results
	}
	return answered, time.Since(start)
}

// packets sends that many datagrams to the granted address, at most inFlight
// of them not yet there.
func (l *lab) packets(t *testing.T, f family, count int) (arrived int, took time.Duration) {
	t.Helper()
	server := l.server.listenUDP(t, netip.AddrPortFrom(f.web(1), floodPort))
	client := l.client.asker(t, f.client)
	var there atomic.Int64
	go func() {
		buf := make([]byte, 16)
		for {
			if _, err := server.Read(buf); err != nil {
				return
			}
			there.Add(1)
		}
	}()
	start := time.Now()
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.web(1), floodPort)).AddrPort()
	for i := range count {
		client.sendWire(to, binary.BigEndian.AppendUint64(nil, uint64(i)))
		for stuck := time.Now(); int64(i)-there.Load() >= inFlight && time.Since(stuck) < time.Second; {
			time.Sleep(10 * time.Microsecond)
		}
	}
	for stuck := time.Now(); there.Load() < int64(count) && time.Since(stuck) < time.Second; {
		time.Sleep(100 * time.Microsecond)
	}
	return int(there.Load()), time.Since(start)
}

func (l *lab) showQueues(t *testing.T) {
	t.Helper()
	for _, q := range l.client.queues(t) {
		if q.last > 0 {
			fmt.Printf("  queue %-5d packets %-7d left waiting %d, dropped by the kernel %d\n", q.number, q.last, q.waiting, q.dropped+q.lost)
		}
	}
}

// show prints the memory of every process, in KiB: resident, and its share of
// what several of them have in common.
func show(t *testing.T, when string, p processes) {
	t.Helper()
	total := 0
	for i, pid := range p.all() {
		role := ipc.RoleParent
		if i > 0 {
			role = p.roles()[i-1]
		}
		pss := kibibytes(t, pid, "smaps_rollup", "Pss:")
		total += pss
		fmt.Printf("  %-20s VmRSS %6d KiB, Pss %6d KiB, threads %d\n", role, kibibytes(t, pid, "status", "VmRSS:"), pss, len(threads(t, pid)))
	}
	fmt.Printf("  %s: Pss of all %d KiB\n", when, total)
}

func kibibytes(t *testing.T, pid int, file, key string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in %s of %d", key, file, pid)
	return 0
}
