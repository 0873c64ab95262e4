// Package dnsworker is the process that reads DNS packets. It runs twice: as
// "requests" for the queues with DNS requests and as "responses" for those
// with DNS responses, in two processes that know nothing of each other, so
// that whoever owns one parser still cannot pair a request with a response.
//
// What it may do: read packets from queue sockets that the parent opened, and
// tell the allowlist holder of each. It decides nothing:
// a verdict sent on a queue socket is refused by the kernel and the attempt
// forbidden by the cell, and a fact is checked again by the holder.
//
// What it must never do: send a verdict, open anything, log, keep state from
// one packet to the next but the octets of a TCP stream, or say words of its
// own; what is wrong with a packet crosses the edge as an ipc.Reason.
//
// When it dies no verdict is lost to "accept": its packets get no fact, hence
// no accept. A panic in the parser is a bug and ends the process, with its
// trace on the pipe to the parent; it is not recovered from, or nobody would
// ever learn of it.
//
// # The parser
//
// Parser is pure: bytes in, a fact out, no I/O and no goroutines. It uses the
// core of gopacket with layers of its own. gopacket/layers must not be
// imported outside tests: its init costs every process of this binary about
// 8 MiB and 7 ms, and it guesses payloads by port number. Here a port number
// never decides anything, since resolvers may listen on any.
//
// Nothing of a packet is believed before it is checked, and the checks are
// exact: every octet of a packet belongs to an IP header, a UDP header or one
// DNS message (RFC 1035 section 4.1), or the packet is dropped. The exception
// is the part of a truncated response (TC) after its question, which nobody
// acts on: resolvers cut there as they please.
//
// # Streams
//
// DNS over TCP (RFC 7766) is put together here, one direction in each process,
// since one connection's segments may come by several queues. A stream begins
// with a SYN or SYN-ACK, takes octets in order only (a segment beyond a gap is
// dropped, TCP sends it again), and takes nothing that differs from what came
// before. No octet of a query but its length leaves before the query is allowed:
// its segments wait in the kernel's queue, without a fact, for two seconds at
// most. The holder learns of a segment with all messages that it completes, and
// of the earlier ones that they decide.
//
// A client whose kernel has sent ten segments of one query, or that finishes a
// query after its kernel took the first part for lost, does not get on: what is held is
// not acknowledged, so no more is sent. Queries fit one segment.
//
// Who opens a stream with a false SYN can only spoil his own connection: the
// holder lets data pass when the server has confirmed that very SYN.
//
// # Bounds
//
// One packet is at most 64 KiB. There are at most 2,048 streams of requests and
// 16,384 of responses, of 64 MiB together, shared by filters (requests; the resolver
// is as one more) or by the interfaces between which they pass (responses), of which
// no client has more than a quarter. A stream has at most
// 2 GiB: its numbers never come round. At most 1,024 packets of a filter are held
// in the queue. Without the rule's --ctstate ESTABLISHED, who forges SYN-ACKs by the
// servers' own interface can have honest ones forgotten. Compression pointers lead strictly
// backwards, at most maxHops in a name, and all names of a message together may
// cost maxWork, so that no arrangement of them keeps the parser busy for more than
// a few milliseconds. What a fact may hold is bounded in package ipc, and so is
// what a Parser keeps between packets.
package dnsworker
