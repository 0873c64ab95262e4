package config

import (
	"github.com/capnspacehook/egress-eddie/ipc"
)

// checkQueues checks the rules between the queues of the whole file.
func checkQueues(raw *rawConfig, r *report) {
	if !raw.inbound.Set() && !raw.inbound.bad {
		r.fail(raw.inbound.spot, "must be set")
	}
	all := []*rawQueue{&raw.inbound, &raw.self}
	for i := range raw.filters {
		all = append(all, &raw.filters[i].dns, &raw.filters[i].traffic)
	}
	for _, q := range all {
		checkFamilies(q, &raw.inbound, r)
	}
	checkNumbers(all, r)
}

// checkFamilies: a queue that is set covers exactly the families that
// inboundDNSQueue covers; of the others no response would ever be seen.
func checkFamilies(q, inbound *rawQueue, r *report) {
	if !q.Set() || !inbound.Set() || q.bad || inbound.bad {
		return
	}
	checkFamily(q.at4, keyIPv4, q.IPv4 != 0, inbound.IPv4 != 0, r)
	checkFamily(q.at6, keyIPv6, q.IPv6 != 0, inbound.IPv6 != 0, r)
}

func checkFamily(at spot, family string, set, covered bool, r *report) {
	switch {
	case set && !covered:
		r.fail(at, "must not be set when inboundDNSQueue.%s is not", family)
	case !set && covered:
		r.fail(at, "must be set when inboundDNSQueue.%s is", family)
	}
}

// checkNumbers: no number is used twice anywhere, and the numbers in all are
// not more than a child holds.
func checkNumbers(all []*rawQueue, r *report) {
	first := make(map[uint16]spot)
	total := 0
	use := func(number uint16, at spot) {
		if number == 0 {
			return
		}
		total++
		if other, again := first[number]; again {
			r.fail(at, "queue %d is already %s", number, other.phrase())
			return
		}
		first[number] = at
	}
	for _, q := range all {
		use(q.IPv4, q.at4)
		if q.IPv6 != 0 && q.IPv6 == q.IPv4 {
			r.fail(q.spot, "ipv4 and ipv6 must differ, both are queue %d", q.IPv4)
			continue
		}
		use(q.IPv6, q.at6)
	}
	if total > ipc.MaxQueues {
		r.fail(spot{}, "%d queues in all, more than %d", total, ipc.MaxQueues)
	}
}
