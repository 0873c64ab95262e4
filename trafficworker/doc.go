// Package trafficworker is the process that decides on every packet that is
// no DNS: it reads IP headers from the traffic queues, looks the far address
// up among the grants of the queue's filter, and tells the parent drop or
// accept.
//
// Where a filter has unknown addresses looked up, a packet to one waits for
// its verdict while the others pass by: the holder is told the address, and
// answers with grants, if a name leads there that the filter allows, and then
// with its word that this is all. A packet waits for 2 seconds at most, and
// few packets do at one time.
//
// It may read its queue sockets and its grants, write verdicts to the parent,
// unknown addresses to the holder, and lines to the log. It has no network, no
// files and no capabilities. It never sees a name or a DNS message.
//
// Owned, it can let any packet of the traffic queues pass, and drop any; it
// cannot give a verdict on a DNS packet (the parent takes those from the
// holder's socket only) or grant anything. All it can ask for is that the
// holder look an address up, which bounds that again.
//
// When it dies, no packet of its queues gets a verdict from anyone else: the
// parent drops what they hold, and starts another. That one reads no packet before
// the holder has told it all that is open, or two seconds have passed.
package trafficworker
