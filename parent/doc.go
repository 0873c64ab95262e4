// Package parent is the process that people start: it reads the
// configuration, owns the netfilter queues, starts every other process in its
// cell, and carries their verdicts to the kernel.
//
// It holds CAP_NET_ADMIN, because only it may send a verdict, and therefore
// does nothing that could be turned against it: it never sees a packet's
// bytes, decodes nothing that a child says (verdicts and signals have a fixed
// size), and imports neither a parser nor the policy.
//
// It reads verdicts from two children, their exits and their last words, and
// signals. It takes verdicts for DNS queues only from the allowlist holder's
// socket, and for traffic queues only from the trafficworker's.
//
// A child that has died it starts again, but for the holder, with whom it ends:
// see restart.go. That is why its own list is wide (sandbox.LockParent).
//
// The main thread carries verdicts and does nothing else; one goroutine hears of
// everything and acts on it (supervise.go, reload.go, restart.go); one thread starts
// children (starter.go); and each child has goroutines that listen to it (tree.go).
//
// When it dies its children die with it, the kernel closes the queues, drops
// what they hold, and drops what the rules send there afterwards.
package parent
