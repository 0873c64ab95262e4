package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Forbidden is why processes cannot have user namespaces here.
type Forbidden struct {
	By   []string // what forbids them, as far as it can be seen
	Hint string   // how to allow them, to this program alone where that can be
}

// WhyForbidden looks for what forbids user namespaces to this process. What
// it reads may itself be hidden (ProcSubset=pid), so By may be empty.
func WhyForbidden() Forbidden { return whyForbidden("/proc", ownFilters) }

// ownFilters is how many system call filters the process has put on itself.
var ownFilters int

// namespaceSysctls are those that can forbid the namespaces of a child, with
// the value that does and the mend. max_* are counted for each user.
var namespaceSysctls = []struct{ name, forbids, mend string }{
	{"user.max_user_namespaces", "0", sysctlMend},
	{"user.max_mnt_namespaces", "0", sysctlMend},
	{"user.max_pid_namespaces", "0", sysctlMend},
	{"user.max_net_namespaces", "0", sysctlMend},
	{"user.max_ipc_namespaces", "0", sysctlMend},
	{"user.max_uts_namespaces", "0", sysctlMend},
	// Debian's and Arch's kernels.
	{"kernel.unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1 (for every program: the kernel knows no exception)"},
	// Ubuntu's, from 23.10 on.
	{"kernel.apparmor_restrict_unprivileged_userns", "1", "load the AppArmor profile that comes with this program " +
		"(cmd/egress-eddie/apparmor/egress-eddie, into /etc/apparmor.d; then apparmor_parser -r), which allows them to it alone"},
}

const (
	sysctlMend = "raise it (sysctl -w, for every program: the kernel knows no exception; 16 are enough)"
	filterMend = "RestrictNamespaces= of the unit must have user mnt pid net ipc uts, and SystemCallFilter= mount, umount2 and pivot_root, " +
		"as in the unit that comes with this program; in a container it is for its runtime to allow them"
)

func whyForbidden(proc string, ownFilters int) (f Forbidden) {
	var mends []string
	found := func(by, mend string) {
		f.By = append(f.By, by)
		if !strings.Contains(strings.Join(mends, ""), mend) {
			mends = append(mends, mend)
		}
	}
	if _, err := os.Lstat(filepath.Join(proc, "self/ns/user")); errors.Is(err, fs.ErrNotExist) {
		found("the kernel has no user namespaces (CONFIG_USER_NS)", "use a kernel that has them")
	}
	for _, s := range namespaceSysctls {
		value, err := os.ReadFile(filepath.Join(proc, "sys", strings.ReplaceAll(s.name, ".", "/")))
		if err == nil && strings.TrimSpace(string(value)) == s.forbids {
			found("sysctl "+s.name+" is "+s.forbids, s.mend)
		}
	}
	// A filter that was there before ours: what it forbids cannot be seen.
	status, err := readStatus(filepath.Join(proc, "self/status"))
	if filters, _ := strconv.Atoi(status["Seccomp_filters"]); err == nil && filters > ownFilters {
		found("possibly a system call filter of who started this", filterMend)
	}
	if len(f.By) == 0 {
		mends = append(mends, "nothing that can be seen from here forbids them; in a chroot they are always forbidden")
	}
	f.Hint = strings.Join(mends, "\n")
	return f
}
