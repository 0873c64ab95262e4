// Package allowlist is the holder: which DNS request may leave, which response
// answers it, and which addresses and names that opens.
//
// It has two parts. Engine is the judgement, holder (holder.go) the loop of the
// process around it, which reads the facts, asks the clock, hands the grants to
// the trafficworker and the verdicts to the parent, and writes the log.
//
// The Engine may: keep the policy, the pending requests, the names learnt from
// answers and the grants, and say what shall become of a packet that a
// dnsworker described.
//
// The Engine must never: do I/O, start a goroutine, read a clock, or act on half a
// message. The present is handed in as an ipc.Instant; the same facts at the
// same instants give the same verdicts. Response validates everything and
// changes nothing but that the pending request is used up; Commit then learns
// all of it or, when the grants could not be handed over, NotSent nothing.
//
// TCP connections are known here from both sides: the request parser tells of a
// SYN, the response parser of the SYN-ACK that confirms it. Data passes in
// between, until something of that direction was refused. After that nothing of
// the direction passes, whatever a parser says: to it, what was told is decided.
// No connection begins in the place of one that was confirmed and is in use (its
// last segment passed within 5 s), so that a copy of that one's SYN-ACK which is
// still under way confirms nothing. Who has raw sockets, and a copy that is under
// way for longer, can have the server read two queries as others.
//
// When a neighbour was started again (edges.go) nothing of an open connection
// passes any more, and a trafficworker is told all that is open. A neighbour that
// breaks the protocol is accused, and not listened to until another has its place.
//
// What the daemon asks for itself (cachedHostnames, lookupUnknownIPs) is decided
// here and asked by the resolver, which is told one question at a time and has no
// way to say anything. Its question and the answer come here as everybody's do,
// by the parsers, and only questions that are under way pass its queue.
//
// It reads: facts from the two dnsworkers, which have passed Validate and are
// believed no further. Either parser may be owned by an attacker. Whoever owns
// the request parser can have requests of any name accepted but gets no answer
// paired to what was never asked; whoever owns the response parser can have
// addresses of his choice granted to a filter that has a request pending.
// What bounds that: the pending request, the bounds of a fact, no special
// addresses, and the log. From the trafficworker it takes unknown addresses: owned,
// that one has 20 a second looked up for each filter that looks them up.
//
// When its process dies all state dies with it: nothing is granted any more,
// no pending request can be answered, and every packet is dropped.
package allowlist
