package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

const somePasswd = `root:x:0:0:root:/root:/bin/sh
# comment:x:5:5::/:
toor:x:0:0::/:
nobody:x:65534:65534::/:
eddie:x:500:501::/:
wheel:x:502:0::/:
halfnobody:x:503:65534::/:
uidnobody:x:65534:504::/:
dyn:x:61184:61185::/:
broken:x:abc:1::/:
short:x
`

const someGroup = "root:x:0:\nusers:x:700:eddie\ndyn2:x:61186:\n"

func someAccounts(t *testing.T, passwd string, processes map[string]string) accountFiles {
	t.Helper()
	dir := t.TempDir()
	f := accountFiles{passwd: filepath.Join(dir, "passwd"), group: filepath.Join(dir, "group"), proc: filepath.Join(dir, "proc")}
	write := func(path, text string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(f.passwd, passwd)
	write(f.group, someGroup)
	write(filepath.Join(f.proc, "self", "status"), "Uid:\t61190\n")
	for pid, status := range processes {
		write(filepath.Join(f.proc, pid, "status"), status)
	}
	return f
}

func TestIdentity(t *testing.T) {
	processes := map[string]string{
		"17": "Name:\ta\nUid:\t1\t2\t3\t61187\nGid:\t1\t1\t1\t1\nGroups:\t\n",
		"18": "Uid:\t1\t1\t1\t1\nGid:\t1\t61188\t1\t1\nGroups:\t5 61189 7\n",
	}
	withDefault := somePasswd + "egress-eddie:x:900:901::/:\n"
	for _, c := range []struct {
		user, passwd string
		uid, gid     int
		fault        string
	}{
		{"", somePasswd, 61190, 61190, ""}, // the first that nothing uses
		{"", withDefault, 900, 901, ""},
		{"", somePasswd + "egress-eddie:x:0:0::/:\n", 0, 0, "neither root nor nobody"},
		{"eddie", somePasswd, 500, 501, ""},
		{"500", somePasswd, 500, 501, ""},
		{"1234", somePasswd, 1234, 1234, ""},
		{"700", somePasswd, 0, 0, `group 700 is "users"`},
		{"nobody", somePasswd, 0, 0, "neither root nor nobody"},
		{"65534", somePasswd, 0, 0, "neither root nor nobody"},
		{"halfnobody", somePasswd, 0, 0, "neither root nor nobody"},
		{"uidnobody", somePasswd, 0, 0, "neither root nor nobody"},
		{"root", somePasswd, 0, 0, "neither root nor nobody"},
		{"toor", somePasswd, 0, 0, "neither root nor nobody"},
		{"wheel", somePasswd, 0, 0, "neither root nor nobody"},
		{"0", somePasswd, 0, 0, "neither root nor nobody"},
		{"0", "", 0, 0, `group 0 is "root"`},
		{"4294967295", somePasswd, 0, 0, "no such account"},
		{"-1", somePasswd, 0, 0, "no such account"},
		{"# comment", somePasswd, 0, 0, "no such account"},
		{"broken", somePasswd, 0, 0, "no such account"},
		{"no one", somePasswd, 0, 0, `user "no one": no such account`},
	} {
		uid, gid, err := someAccounts(t, c.passwd, processes).identity(c.user)
		switch {
		case c.fault == "" && (err != nil || uid != c.uid || gid != c.gid):
			t.Errorf("%q: %d, %d, %v, should be %d, %d", c.user, uid, gid, err, c.uid, c.gid)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault) || exit.Code(err) != exit.Usage):
			t.Errorf("%q: %d, %d, %v (code %d), should be %q", c.user, uid, gid, err, exit.Code(err), c.fault)
		}
	}
}

func TestIdentityWithoutAccounts(t *testing.T) {
	f := someAccounts(t, "", nil)
	f.passwd, f.group = f.passwd+"-gone", f.group+"-gone"
	if uid, gid, err := f.identity(""); err != nil || uid != firstDynamic || gid != firstDynamic {
		t.Errorf("no account files: %d, %d, %v", uid, gid, err)
	}
	f.passwd = filepath.Dir(f.passwd) // a directory cannot be read
	if _, _, err := f.identity(""); exit.Code(err) != exit.Software {
		t.Errorf("unreadable account file: %v", err)
	}
}

func TestIdentityWhenAllAreTaken(t *testing.T) {
	var all strings.Builder
	for id := firstDynamic; id <= lastDynamic; id++ {
		fmt.Fprintf(&all, "u%d:x:%[1]d:%[1]d::/:\n", id)
	}
	if _, _, err := someAccounts(t, all.String(), nil).identity(""); exit.Code(err) != exit.Usage {
		t.Errorf("all ids taken: %v", err)
	}
}
