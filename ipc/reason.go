package ipc

import "iter"

// Reason says why a packet was dropped, or why an accepted one grants
// nothing. It crosses edges as a number, so that no child can put words of
// its own into the log. The zero value is ReasonNone.
type Reason uint8

// The reasons. Append only before reasonEnd; every one has a text below.
const (
	ReasonNone Reason = iota

	// What the packet is (found by a dnsworker).
	ReasonNotIP           // neither IPv4 nor IPv6, or a header that contradicts itself
	ReasonCutShort        // the kernel copied less than the packet, or the packet is shorter than it says
	ReasonFragment        // an IP fragment: its ports cannot be believed
	ReasonSuperPacket     // a segmentation-offload packet: several datagrams on the wire
	ReasonNotUDP          // another transport than UDP and TCP
	ReasonBadUDP          // UDP length that disagrees with the packet
	ReasonMappedPacket    // an IPv6 packet to or from ::ffff:0:0/96
	ReasonExtensionHeader // an IPv6 extension header that cannot be walked, or a routing header

	// What the DNS message is (found by a dnsworker).
	ReasonBadMessage       // not a DNS message: cut short, bad name, bad pointer
	ReasonTrailingBytes    // bytes after the message
	ReasonBadLabel         // a label that holds a dot or a NUL
	ReasonNotQuery         // a response on a request queue
	ReasonNotResponse      // a query on a response queue
	ReasonOpcode           // an opcode other than QUERY
	ReasonNoQuestion       // a message without a question
	ReasonTooManyQuestions // more questions than MaxQuestions
	ReasonSections         // answer, authority or unexpected additional records in a request
	ReasonClass            // a class other than IN
	ReasonBadRecord        // a known record type whose data has the wrong form
	ReasonTooManyOwners    // more owners than a chain can have
	ReasonTooManyRecords   // more addresses or targets than a fact holds

	// What the policy says (found by the allowlist holder).
	ReasonNameNotAllowed
	ReasonResolverNotTrusted
	ReasonNoRequest     // a response nobody asked for, used up, too late, or by another key
	ReasonInterface     // a response from another interface than its request left by
	ReasonConnState     // the kernel's connection state does not fit
	ReasonForeignAnswer // an answer that does not belong to the question
	ReasonPendingFull   // too many requests without an answer
	ReasonPendingOther  // the same request is pending for another filter
	ReasonGrantNotSent  // the grant could not be handed over at once

	// What the traffic verdict is (found by the trafficworker).
	ReasonNoGrant     // no live grant for the address
	ReasonPrerouting  // the hook is before the routing decision
	ReasonUnknownHook // a hook that says nothing about the direction
	ReasonSourceRoute // a source route: the packet does not end at its destination
	ReasonNoPorts     // no live grant for all ports, and the packet's cannot be read

	// More of the policy (found by the allowlist holder).
	ReasonQueryType // a record type that the filter does not allow

	// What a TCP segment is (found by a dnsworker, where not said otherwise).
	ReasonBadTCP          // a TCP header that contradicts itself, or urgent data
	ReasonSynData         // data in a segment that opens a connection (TCP Fast Open)
	ReasonNoConnection    // its connection was not seen to begin, or had to make room (also found by the holder)
	ReasonOutOfOrder      // something before it is missing, or it is older than what is remembered
	ReasonOverlap         // octets that differ from those that came before
	ReasonRepeated        // a copy of what is held, or of a SYN after data
	ReasonTooManySegments // a message in more segments, or a segment with more messages, than are held
	ReasonHeldTooLong     // the rest of its message did not come
	ReasonConnRefused     // something before it in its connection was refused (also found by the holder)

	// What the daemon asks for itself.
	ReasonNotLookedUp    // a question on selfDNSQueue that is no lookup under way (found by the holder)
	ReasonLookedUp       // no allowed name leads to the address (found by the trafficworker)
	ReasonLookupTime     // no answer in time (found by the trafficworker)
	ReasonTooManyLookups // too many packets or addresses wait already (found by the trafficworker)

	// More of a TCP segment (found by the holder).
	ReasonNumbers         // it acknowledges what did not pass
	ReasonEarly           // it could begin a stream at another place than its SYN said
	ReasonConnectionsFull // too many connections that are in use
	// More of what the daemon asks for itself.
	ReasonLookupOver // a question on selfDNSQueue that was a lookup under way, or a late answer to it (found by the holder)
	// More of a TCP segment (found by the holder).
	ReasonInUse // it begins a connection in place of one that is in use

	reasonEnd
)

var reasonText = [reasonEnd]string{
	ReasonNone:               "none",
	ReasonNotIP:              "not an IP packet",
	ReasonCutShort:           "packet cut short",
	ReasonFragment:           "IP fragment",
	ReasonSuperPacket:        "several datagrams in one packet",
	ReasonNotUDP:             "neither UDP nor TCP",
	ReasonBadUDP:             "bad UDP length",
	ReasonMappedPacket:       "IPv6 packet with an IPv4-mapped address",
	ReasonExtensionHeader:    "IPv6 extension headers not acceptable",
	ReasonBadMessage:         "not a DNS message",
	ReasonTrailingBytes:      "bytes after the DNS message",
	ReasonBadLabel:           "label with a dot or NUL",
	ReasonNotQuery:           "response on a request queue",
	ReasonNotResponse:        "query on a response queue",
	ReasonOpcode:             "opcode not QUERY",
	ReasonNoQuestion:         "no question",
	ReasonTooManyQuestions:   "too many questions",
	ReasonSections:           "unexpected records in a request",
	ReasonClass:              "class not IN",
	ReasonBadRecord:          "malformed record",
	ReasonTooManyOwners:      "too many owner names",
	ReasonTooManyRecords:     "too many records",
	ReasonNameNotAllowed:     "name not allowed",
	ReasonResolverNotTrusted: "resolver not trusted",
	ReasonNoRequest:          "no pending request",
	ReasonInterface:          "wrong interface",
	ReasonConnState:          "wrong connection state",
	ReasonForeignAnswer:      "answer does not belong to the question",
	ReasonPendingFull:        "too many pending requests",
	ReasonPendingOther:       "same request pending for another filter",
	ReasonGrantNotSent:       "grant could not be handed over",
	ReasonNoGrant:            "address not granted",
	ReasonPrerouting:         "hook PREROUTING is not supported",
	ReasonUnknownHook:        "unknown hook",
	ReasonSourceRoute:        "source route",
	ReasonNoPorts:            "address not granted for all ports, and the ports cannot be read",
	ReasonQueryType:          "record type not allowed",

	ReasonBadTCP:          "bad TCP header",
	ReasonSynData:         "data while the connection opens",
	ReasonNoConnection:    "connection not known",
	ReasonOutOfOrder:      "TCP segment out of order",
	ReasonOverlap:         "TCP segment contradicts an earlier one",
	ReasonRepeated:        "copy of an earlier TCP segment",
	ReasonTooManySegments: "too many TCP segments or messages at once",
	ReasonHeldTooLong:     "rest of the message did not come",
	ReasonConnRefused:     "connection was refused before",

	ReasonNotLookedUp:    "not a question that the daemon has to ask",
	ReasonLookedUp:       "address not granted, and its reverse lookup leads to no allowed name",
	ReasonLookupTime:     "address not granted, and its reverse lookup took too long",
	ReasonTooManyLookups: "address not granted, and too many reverse lookups",

	ReasonNumbers:         "TCP segment that acknowledges what did not pass",
	ReasonEarly:           "TCP segment before the server has acknowledged anything",
	ReasonConnectionsFull: "too many connections",
	ReasonLookupOver:      "lookup that is over",
	ReasonInUse:           "ports of a TCP connection in use",
}

// Reasons are all of them but ReasonNone.
func Reasons() iter.Seq[Reason] {
	return func(yield func(Reason) bool) {
		for r := ReasonNone + 1; r < reasonEnd && yield(r); r++ {
		}
	}
}

// Valid reports whether r is a reason of the table, ReasonNone included.
func (r Reason) Valid() bool { return r < reasonEnd }

func (r Reason) String() string {
	if !r.Valid() {
		return "invalid reason"
	}
	return reasonText[r]
}
