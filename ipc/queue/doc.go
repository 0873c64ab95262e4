// Package queue reads packets from a netfilter queue's netlink socket that
// the parent opened, bound and handed down.
//
// It only reads. A verdict needs CAP_NET_ADMIN in the network namespace's
// owner at the moment of sending (net/netfilter/nfnetlink.c), which no child
// has. The kernel is trusted; what it carries is not: the payload is handed
// on untouched. What both readers of IP headers must see the same way stands
// here too (ip.go).
package queue
