//go:build cgo && !race

package sandbox

// BuiltWithCgo says that this binary was built with cgo and without the race
// detector. In such a binary syscall.AllThreadsSyscall always fails, so no
// restriction can be put on every thread: it must refuse to run.
const BuiltWithCgo = true
