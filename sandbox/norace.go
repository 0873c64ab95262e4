//go:build !race

package sandbox

// RaceBuild says that this binary has the race detector, which needs cgo,
// which rules out calls on all threads: Enter then builds namespaces, the
// empty root and the limits of the process only, and DropPrivileges and
// LockParent drop nothing. It is for tests alone, and whoever runs it says so
// loudly in the log.
const RaceBuild = false
