package parent

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// queueStatistics is where the kernel counts what it dropped by itself
// (net/netfilter/nfnetlink_queue.c, seq_show). Only root may open it, so it is
// opened before privileges are dropped and read from then on. /proc/net would
// be the same, but is not there where a service sees only processes
// (ProcSubset=pid).
const queueStatistics = "/proc/thread-self/net/netfilter/nfnetlink_queue"

// kernelDrops follows how many packets the kernel dropped before a reader
// could see them: no room in the queue, or in the socket.
type kernelDrops struct {
	fd   int // -1 where it cannot be read
	buf  []byte
	seen map[uint16]uint64
}

func openKernelDrops(queues []*openQueue) *kernelDrops {
	fd, err := unix.Open(queueStatistics, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = -1
	}
	k := &kernelDrops{fd: fd, seen: map[uint16]uint64{}, buf: make([]byte, 64<<10)}
	for _, q := range queues {
		k.seen[q.Number] = 0
	}
	return k
}

// poll calls report for every queue of ours whose count has risen.
func (k *kernelDrops) poll(report func(queue uint16, dropped uint64)) error {
	if k.fd < 0 {
		return nil
	}
	text, err := k.read()
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		number, total, ok := parseStatistics(line)
		if !ok {
			continue
		}
		if before, ours := k.seen[number]; ours && total > before {
			report(number, total-before)
			k.seen[number] = total
		}
	}
	return nil
}

func (k *kernelDrops) read() (string, error) {
	var text strings.Builder
	for {
		n, err := unix.Pread(k.fd, k.buf, int64(text.Len()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", queueStatistics, err)
		}
		if n == 0 {
			return text.String(), nil
		}
		text.Write(k.buf[:n])
	}
}

// parseStatistics reads one line: queue, port, waiting, copy mode, copy
// range, dropped for a full queue, dropped for a full socket, last id, 1.
func parseStatistics(line string) (queue uint16, dropped uint64, ok bool) {
	f := strings.Fields(line)
	if len(f) < 8 {
		return 0, 0, false
	}
	number, err := strconv.ParseUint(f[0], 10, 16)
	full, err1 := strconv.ParseUint(f[5], 10, 64)
	lost, err2 := strconv.ParseUint(f[6], 10, 64)
	return uint16(number), full + lost, err == nil && err1 == nil && err2 == nil
}
