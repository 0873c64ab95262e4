// Package ipc is everything that two processes of the tree share: the
// numbers of their descriptors, the messages of every edge with the checks a
// receiver makes, and the sockets that carry them.
//
// Edges are SEQPACKET socketpairs that the parent makes before it starts a
// child, so authority is the channel a message came by, never a field in it.
// One packet is one message:
//
//	dnsworker-requests  -> allowlist      RequestFact   gob
//	dnsworker-responses -> allowlist      ResponseFact  gob
//	allowlist           -> trafficworker  Grants        gob
//	trafficworker       -> allowlist      Unknown       gob
//	allowlist           -> resolver       Lookup        gob
//	allowlist           -> parent         VerdictRecord fixed size, DNS queues only
//	trafficworker       -> parent         VerdictRecord fixed size, traffic queues only
//	every child         -> parent         Signal        fixed size
//	resolver            -> parent         Socket        fixed size
//	parent              -> every child    PolicyItem    gob, and descriptors
//
// The parent decodes nothing that a child says: what goes up has a fixed
// size. gob is not hardened against a hostile peer, so a Receiver never lets
// one define a type, and bounds every frame before gob sees it (codec.go).
package ipc
