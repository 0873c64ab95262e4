// Package sandbox builds the cells: everything that takes power away from a
// process of the tree, and the proof that it is gone.
//
// The parent calls DropPrivileges first, then LockParent, and only then starts
// children with ChildAttr, so that it can start others at any time. It looks at
// them with Verify when they say that they are ready, before it hands out work. A
// child calls Enter before it does anything else, and reads nothing from anybody
// before Enter returned.
//
// A child inherits the parent's filter and Landlock domain. So the parent's list
// has all in it that any child needs to build its cell and to work (startrules.go),
// and its domain denies no file-system right, with which nothing could be mounted.
//
// The layers of a child's cell, each of which alone would stop most attacks:
// its own user, pid, mount, net, ipc and uts namespaces; an empty read-only
// root; exactly the descriptors of its role; resource limits; Landlock; no
// capability in any set of any thread, and no way to get one back; a seccomp
// list of its own, which kills the process at any call that is not on it.
//
// Every mechanism is one file. Which role gets what is one table, in
// profiles.go. There is no best effort: what cannot be applied, or does not
// read back as applied, is an error that names the step, and the process must
// exit with it. The one exception is stated in landlock.go: rights that the
// kernel does not know yet are left to the other layers.
//
// Why all of it goes on every thread: Linux keeps credentials, no_new_privs,
// Landlock domains and seccomp filters per thread, and a Go program has
// several before main starts. syscall.AllThreadsSyscall makes a call on each
// of them, and the runtime ends the process if they do not all get the same
// result, so its one result speaks for every thread (threads.go).
package sandbox
