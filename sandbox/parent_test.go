//go:build !race

package sandbox

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLockedParentWorks(t *testing.T) {
	for _, s := range []start{startRoot, startAmbient} {
		for act, want := range map[string]string{
			"honest":        "signal: killed",
			"second thread": "all threads under the list",
		} {
			r := runParent(t, s, parentPlan{Act: act, Lock: true})
			if r.Result != want {
				t.Errorf("%s, %s: %q, should be %q", s, act, r.Result, want)
			}
		}
	}
}

func TestLockedParentPanics(t *testing.T) {
	status, stderr := failParent(t, parentCommand(startRoot, parentPlan{Act: "panic", Lock: true}))
	if status != "exit 2" || !strings.Contains(stderr, "panic: boom\n\ngoroutine ") {
		t.Errorf("%s: %s", status, stderr)
	}
}

// forbiddenToParent are calls beyond those that are forbidden to everybody.
var forbiddenToParent = []call{
	{what: "parent: open to write", trap: unix.SYS_OPENAT, args: [6]uintptr{minus(100), at(&passwd[0]), unix.O_RDWR}},
	{what: "parent: open to read and append", trap: unix.SYS_OPENAT, args: [6]uintptr{minus(100), at(&passwd[0]), unix.O_RDWR | unix.O_APPEND}},
	{what: "parent: open to overwrite", trap: unix.SYS_OPENAT, args: [6]uintptr{minus(100), at(&passwd[0]), unix.O_WRONLY}},
	{what: "parent: open to truncate", trap: unix.SYS_OPENAT, args: [6]uintptr{minus(100), at(&passwd[0]), unix.O_WRONLY | unix.O_APPEND | unix.O_TRUNC}},
	{what: "parent: open beside a directory", trap: unix.SYS_OPENAT, args: [6]uintptr{3, at(&passwd[0]), unix.O_WRONLY | unix.O_APPEND}},
	{what: "parent: fcntl set owner", trap: unix.SYS_FCNTL, args: [6]uintptr{1, unix.F_SETOWN, 1}},
	{what: "parent: tgkill another", trap: unix.SYS_TGKILL, args: [6]uintptr{1, 1, 0}},
	{what: "parent: unlink", trap: unix.SYS_UNLINKAT, args: [6]uintptr{minus(100), at(&passwd[0])}},
}

func init() {
	for _, list := range [][]call{forbidden, forbiddenToParent} {
		for i := range list {
			c := &list[i]
			parentActs[c.what] = now(func() string { return c.act() })
		}
	}
}

// parentMay are calls of the children's list that the parent's has too.
var parentMay = map[string]bool{
	"openat": true, "open the root": true, // to read, as the configuration
	"sendmsg": true, "write on a queue": true, "write on the poller": true, "read on standard error": true,
	"read a queue": true, "read 202, the number of futex": true, "read 9, the number of mmap": true,
	"epoll_pwait elsewhere": true, "dup3 over control": true, "dup3 of a queue over the log": true, "dup3 of an edge over the log": true, "close of control": true,
	"dup3 over a queue": true, "shutdown": true, "pidfd_send_signal": true,
	"epoll_ctl on the runtime's poller": true, "epoll_ctl modifies": true,
}

// TestParentMay: that list is exact.
func TestParentMay(t *testing.T) {
	rules := parentRules(native, 4711)
	for _, c := range slices.Concat(forbidden, forbiddenToParent, swept) {
		d := seccompData{number: uint32(c.trap), arch: uint32(native.info.ID)}
		for i, a := range c.args {
			d.args[i] = uint64(a)
		}
		if may := c.do == nil && d.expect(native, rules) == unix.SECCOMP_RET_ALLOW; may != parentMay[c.what] {
			t.Errorf("%s: the parent may: %t", c.what, may)
		}
	}
}

// TestHostileParent is the matrix for the parent.
func TestHostileParent(t *testing.T) {
	t.Parallel()
	tried := len(swept)
	for _, c := range slices.Concat(forbidden, forbiddenToParent) {
		if parentMay[c.what] {
			continue
		}
		tried++
		status, stderr := failParent(t, parentCommand(startRoot, parentPlan{Act: c.what, Lock: true}))
		if status != "SIGSYS" || stderr != "acting\n" {
			t.Errorf("%s: %s, %q, should have died of SIGSYS", c.what, status, stderr)
		}
	}
	checkSwept(t, runParent(t, startRoot, parentPlan{Act: "swept"}).Result)
	t.Logf("%d attempts", tried)
}
