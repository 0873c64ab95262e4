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
		for _, lookups := range []bool{false, true} {
			for act, want := range map[string]string{
				"honest":        "signal: killed",
				"second thread": "all threads under the list",
			} {
				r := runParent(t, s, parentPlan{Act: act, Lock: true, Lookups: lookups})
				if r.Result != want {
					t.Errorf("%s, %s, lookups %t: %q, should be %q", s, act, lookups, r.Result, want)
				}
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
	{what: "parent: ppoll with a signal mask", trap: unix.SYS_PPOLL, args: [6]uintptr{at(&scratch), 0, 0, at(&scratch), 8}},
	{what: "parent: tgkill another", trap: unix.SYS_TGKILL, args: [6]uintptr{1, 1, 0}},
	{what: "parent: socket", trap: unix.SYS_SOCKET, args: [6]uintptr{unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK}},
	{what: "parent: setsockopt SO_MARK", trap: unix.SYS_SETSOCKOPT, args: [6]uintptr{3, unix.SOL_SOCKET, unix.SO_MARK, at(&scratch), 4}},
	{what: "parent: sendmsg that connects", trap: unix.SYS_SENDMSG, args: [6]uintptr{3, at(&scratch), unix.MSG_FASTOPEN | unix.MSG_DONTWAIT}},
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
	"write on a queue": true, "write on the poller": true, "read on standard error": true,
	"read a queue": true, "read 202, the number of futex": true, "read 9, the number of mmap": true,
	"ppoll": true, "epoll_pwait elsewhere": true, "dup3 over control": true, "dup3 of a queue over the log": true, "dup3 of an edge over the log": true, "close of control": true,
	"dup3 over a queue": true, "shutdown": true, "pidfd_send_signal": true,
	"epoll_ctl on the runtime's poller": true, "epoll_ctl modifies": true,
}

// parentMayWithLookups are those besides.
var parentMayWithLookups = map[string]bool{
	"connect": true, "parent: socket": true, "parent: setsockopt SO_MARK": true,
}

// TestParentMay: that list is exact.
func TestParentMay(t *testing.T) {
	for _, lookups := range []bool{false, true} {
		rules := parentRules(native, 4711, lookups, Isolated)
		for _, c := range slices.Concat(forbidden, forbiddenToParent, swept) {
			if may := c.do == nil && c.allowedBy(rules); may != mayParent(c.what, lookups) {
				t.Errorf("%s: the parent may, with lookups %t: %t", c.what, lookups, may)
			}
		}
	}
}

func mayParent(what string, lookups bool) bool {
	return parentMay[what] || lookups && parentMayWithLookups[what]
}

// TestHostileParent is the matrix for the parent.
func TestHostileParent(t *testing.T) {
	for act, lookups := range map[string]bool{"swept": false, "swept with lookups": true} {
		t.Run(act, func(t *testing.T) {
			t.Parallel()
			tried := len(swept)
			for _, c := range slices.Concat(forbidden, forbiddenToParent) {
				if mayParent(c.what, lookups) {
					continue
				}
				tried++
				status, stderr := failParent(t, parentCommand(startRoot, parentPlan{Act: c.what, Lock: true, Lookups: lookups}))
				if status != "SIGSYS" || stderr != "acting\n" {
					t.Errorf("%s: %s, %q, should have died of SIGSYS", c.what, status, stderr)
				}
			}
			checkSwept(t, runParent(t, startRoot, parentPlan{Act: act}).Result)
			t.Logf("%d attempts", tried)
		})
	}
}
