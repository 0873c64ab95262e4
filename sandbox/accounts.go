package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

const (
	// defaultAccount is what a package or an administrator creates for us.
	defaultAccount = "egress-eddie"
	// nobody is the uid and gid of processes that share nothing but being
	// nobody; any of them could kill ours (and it is the kernel's overflow id).
	nobody = 65534
	// The ids that systemd hands out to services without an account
	// (systemd.exec(5), DynamicUser=): nothing on disk belongs to them.
	firstDynamic = 61184
	lastDynamic  = 65519
	// maxID is the highest id; the one above means "no change" to setresuid.
	maxID = 1<<32 - 2
)

// accountFiles is where accounts and processes are looked up. Only files:
// without cgo no name service can be asked, and at the daemon's start none
// may answer yet.
type accountFiles struct {
	passwd, group, proc string
}

var systemAccounts = accountFiles{passwd: "/etc/passwd", group: "/etc/group", proc: "/proc"}

// account is one line of passwd or group.
type account struct {
	name string
	uid  int // passwd only
	gid  int
}

// identity chooses the uid and gid for what the operator asked: a name, a
// number, or nothing.
func (f accountFiles) identity(user string) (uid, gid int, err error) {
	users, err := readAccounts(f.passwd, 4)
	if err != nil {
		return 0, 0, err
	}
	groups, err := readAccounts(f.group, 3)
	if err != nil {
		return 0, 0, err
	}
	if user == "" {
		if _, ok := findName(users, defaultAccount); !ok {
			return f.dynamic(users, groups)
		}
		user = defaultAccount
	}
	uid, gid, err = named(user, users, groups)
	if err != nil {
		return 0, 0, err
	}
	if uid == 0 || gid == 0 || uid == nobody || gid == nobody {
		return 0, 0, exit.WithHint(exit.Usage, "give an account of its own, or leave it out",
			"user %q is uid %d, gid %d: neither root nor nobody will do", user, uid, gid)
	}
	return uid, gid, nil
}

// named looks a name or a number up. A number without an account is its own
// group, unless that is a group of somebody else.
func named(user string, users, groups []account) (uid, gid int, err error) {
	if a, ok := findName(users, user); ok {
		return a.uid, a.gid, nil
	}
	id, err := strconv.ParseUint(user, 10, 32)
	if err != nil || id > maxID {
		return 0, 0, exit.Errorf(exit.Usage, "user %q: no such account", user)
	}
	for _, a := range users {
		if a.uid == int(id) {
			return a.uid, a.gid, nil
		}
	}
	for _, g := range groups {
		if g.gid == int(id) {
			return 0, 0, exit.Errorf(exit.Usage, "user %q: no such account, and group %d is %q", user, id, g.name)
		}
	}
	return int(id), int(id), nil
}

// dynamic is a number that is no account's, no group's and no process's.
func (f accountFiles) dynamic(users, groups []account) (uid, gid int, err error) {
	used, err := f.idsOfProcesses()
	if err != nil {
		return 0, 0, err
	}
	for _, a := range users {
		used[a.uid], used[a.gid] = true, true
	}
	for _, g := range groups {
		used[g.gid] = true
	}
	for id := firstDynamic; id <= lastDynamic; id++ {
		if !used[id] {
			return id, id, nil
		}
	}
	return 0, 0, exit.WithHint(exit.Usage, "create the account "+defaultAccount,
		"every uid from %d to %d is in use", firstDynamic, lastDynamic)
}

// idsOfProcesses is every uid and gid that some process has in any role. A
// process that ends while we look is no fault; one that starts with the same
// number after it is what an account prevents.
func (f accountFiles) idsOfProcesses() (map[int]bool, error) {
	entries, err := os.ReadDir(f.proc)
	if err != nil {
		return nil, exit.Errorf(exit.Software, "processes: %w", err)
	}
	used := make(map[int]bool)
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		status, err := readStatus(filepath.Join(f.proc, e.Name(), "status"))
		if err != nil {
			continue
		}
		for _, field := range []string{"Uid", "Gid", "Groups"} {
			for _, id := range strings.Fields(status[field]) {
				if n, err := strconv.Atoi(id); err == nil {
					used[n] = true
				}
			}
		}
	}
	return used, nil
}

// readStatus is a process's or thread's status file, by field.
func readStatus(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields, nil
}

// readAccounts reads passwd(5) (fields is 4: the gid is the last of interest)
// or group(5) (3). A file that does not exist has no accounts; lines that
// make no sense are skipped, as the C library does.
func readAccounts(path string, fields int) ([]account, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, exit.Errorf(exit.Software, "accounts: %w", err)
	}
	var accounts []account
	for line := range strings.Lines(string(text)) {
		parts := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(parts) < fields || strings.HasPrefix(line, "#") {
			continue
		}
		uid, err1 := strconv.ParseUint(parts[2], 10, 32)
		gid, err2 := strconv.ParseUint(parts[fields-1], 10, 32)
		if err1 == nil && err2 == nil {
			accounts = append(accounts, account{name: parts[0], uid: int(uid), gid: int(gid)})
		}
	}
	return accounts, nil
}

func findName(accounts []account, name string) (account, bool) {
	for _, a := range accounts {
		if a.name == name {
			return a, true
		}
	}
	return account{}, false
}
