package main

import (
	"os"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
)

func TestParseQueues(t *testing.T) {
	got, err := parseQueues("    1  31539     0 2 65531     2     0        7  1\n 1001 3262788371     3 2    60     0     4        9  1\n")
	if want := (queueTotals{queued: 16, waiting: 3, lost: 6}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, text := range []string{"1 2 3\n", "1 2 x 4 5 6 7 8 9\n"} {
		if _, err := parseQueues(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestCapabilities(t *testing.T) {
	for hex, want := range map[string]string{
		"0000000000000000": "none",
		"0000000000001000": "net_admin",
		"0000000000200100": "setpcap,sys_admin",
		"0000010000000001": "chown,checkpoint_restore",
		"8000000000000000": "cap_63",
	} {
		if got, err := capabilities(hex); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", hex, got, err, want)
		}
	}
	if _, err := capabilities("all"); err == nil {
		t.Error("nonsense was read")
	}
}

func TestReadProcess(t *testing.T) {
	p, err := readProcess(os.Getpid(), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if p.uid != "0" || len(p.own) != 0 || p.rootEntries == 0 || p.descriptors < 3 {
		t.Errorf("read of this process, which is root: %+v", p)
	}
}

func TestTreeFaults(t *testing.T) {
	good := func() []process {
		tree := []process{{role: ipc.RoleParent, uid: "61184", capabilities: "net_admin", noNewPrivs: "1", seccomp: "2"}}
		for _, role := range ipc.Children {
			tree = append(tree, process{role: role, uid: "61184", capabilities: "none", noNewPrivs: "1", seccomp: "2", own: namespaceKinds})
		}
		return tree
	}
	if got := treeFaults(good()); len(got) > 0 {
		t.Errorf("a good tree: %q", got)
	}
	for name, change := range map[string]func([]process) []process{
		"is root":                 func(t []process) []process { t[1].uid = "0"; return t },
		"parent: capabilities":    func(t []process) []process { t[0].capabilities = "net_admin,net_raw"; return t },
		"allowlist: capabilities": func(t []process) []process { t[1].capabilities = "net_admin"; return t },
		"no_new_privs":            func(t []process) []process { t[2].noNewPrivs = "0"; return t },
		"seccomp mode":            func(t []process) []process { t[0].seccomp = "0"; return t },
		"shares namespaces":       func(t []process) []process { t[3].own = namespaceKinds[1:]; return t },
		"its root holds":          func(t []process) []process { t[4].rootEntries = 1; return t },
		"0 processes are":         func(t []process) []process { return t[:4] },
		"2 processes are":         func(t []process) []process { return append(t, t[4]) },
		"no process of the tree":  func(t []process) []process { t[2].role = "sh"; return t },
	} {
		if got := strings.Join(treeFaults(change(good())), "\n"); !strings.Contains(got, name) {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
