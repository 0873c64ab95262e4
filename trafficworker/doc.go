// Package trafficworker is the process that decides on every packet that is
// no DNS: it reads IP headers from the traffic queues, looks the far address
// up among the grants of the queue's filter, and tells the parent drop or
// accept.
//
// It may read its queue sockets and its grants, write verdicts to the parent
// and lines to the log. It has no network, no files and no capabilities. It
// never sees a name or a DNS message.
//
// Owned, it can let any packet of the traffic queues pass, and drop any; it
// cannot give a verdict on a DNS packet (the parent takes those from the
// holder's socket only), grant anything, or ask anything of anyone.
//
// When it dies, no packet of its queues gets a verdict from anyone else: the
// parent drops what they hold.
package trafficworker
