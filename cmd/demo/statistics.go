package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// queueStatistics is the kernel's own account of the queues of the namespace
// of the process's main thread.
const queueStatistics = "/proc/net/netfilter/nfnetlink_queue"

// queueTotals sums up all queues.
type queueTotals struct {
	queued, waiting, lost uint64
}

// readQueues reads the account as it is now.
func readQueues() (queueTotals, error) {
	text, err := os.ReadFile(queueStatistics)
	if err != nil {
		return queueTotals{}, err
	}
	return parseQueues(string(text))
}

// parseQueues reads lines of queue, port id, waiting, copy mode, copy range,
// dropped for a full queue, dropped for a full socket, last packet id, 1
// (net/netfilter/nfnetlink_queue.c, seq_show). Ids count from 1, so that the
// last one is the number of packets.
func parseQueues(text string) (queueTotals, error) {
	var t queueTotals
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			return t, fmt.Errorf("%s: unknown line %q", queueStatistics, line)
		}
		for i, sum := range map[int]*uint64{2: &t.waiting, 5: &t.lost, 6: &t.lost, 7: &t.queued} {
			n, err := strconv.ParseUint(fields[i], 10, 64)
			if err != nil {
				return t, fmt.Errorf("%s: %w", queueStatistics, err)
			}
			*sum += n
		}
	}
	return t, nil
}
