// Package resolver is the process that asks the daemon's own questions, for
// cachedHostnames and lookupUnknownIPs. It runs only where some filter uses one
// of these.
//
// What it may do: take lookups from the allowlist holder, ask the parent for
// connected sockets, and write one question to each and read until its answer
// is there. Which server a socket leads to is the parent's to say: here it is a
// number, and the next number is another server while there is one.
//
// What it must never do: grant anything, or tell anybody anything. It only
// causes questions. They leave by the same queues as everybody's, where the
// holder lets no other question of it pass than those it wants answered, and
// the holder learns of question and answer from the two dnsworkers. So no
// record of an answer is read here, only whether it answers the question, and
// whether it is worth asking another server. Nor has it a log.
//
// It reads: lookups, which have passed Validate; sockets, in the order in which
// they were asked for; and whatever servers send. Everything of the last is
// hostile. What does not match the question is passed over as if it had not
// come, and an answer over TCP is read to its end, of which only the beginning
// is kept: the response parser needs all of it, and a socket that is closed
// before would reset the connection.
//
// When it dies, nothing is looked up any more, so that what waits for an address
// is dropped and cached names run out. What the parent does then is the same as
// for every child.
//
// Whoever owns it can ask the questions that the holder allows just then, at
// servers of the configuration, and no others; can keep answers from coming
// about; and sees the names that are looked up.
//
// # Bounds
//
// At most ipc.MaxLookups lookups are under way, each with one socket and until
// its end, at most ipc.MaxLookupTime away; of more, that which ends first is
// given up. As many sockets may be owed by the parent. One lookup tries at most
// maxAttempts servers, each over UDP and then perhaps TCP, and waits after what
// failed at once, longer every time. Of one socket at most datagramsAtOnce are
// read before the others have their turn, and at most maxIgnored that answer
// nothing.
package resolver
