package sandbox

import (
	"fmt"
	"os"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Report is what a running tree is, as /proc shows it, against what the
// profiles say that it must be.
type Report struct {
	OK          bool  `json:"ok"`
	Parent      int   `json:"parent"`
	LandlockABI int   `json:"landlockABI"` // of the kernel, 0 for none: /proc does not show who is under it
	SameBinary  bool  `json:"sameBinary"`  // the tree runs the program that asks
	Processes   []Row `json:"processes"`
}

// Row is one process.
type Row struct {
	Role        ipc.Role        `json:"role"` // "" for one that is none of the tree's
	PID         int             `json:"pid"`
	Threads     []Thread        `json:"threads"`
	Namespaces  []NamespaceSeen `json:"namespaces"`
	UIDMap      string          `json:"uidMap"` // of its user namespace, as the reader's sees it
	GIDMap      string          `json:"gidMap"`
	Root        int             `json:"rootEntries"`
	Mounts      int             `json:"mounts"`
	Descriptors []Descriptor    `json:"descriptors"`
	Limits      []LimitSeen     `json:"limits"`
	Dumpable    bool            `json:"dumpable"`
	Deviations  []string        `json:"deviations"` // empty: all is as it should be
	queues      int
	in          Isolation
}

// Thread is what Linux keeps for each thread. The sets are in hexadecimal.
type Thread struct {
	TID         int    `json:"tid"`
	Niceness    int    `json:"niceness"`
	UID         string `json:"uid"` // one number where all four are the same
	GID         string `json:"gid"`
	Groups      string `json:"groups"`
	Inheritable string `json:"inheritable"`
	Permitted   string `json:"permitted"`
	Effective   string `json:"effective"`
	Bounding    string `json:"bounding"`
	Ambient     string `json:"ambient"`
	NoNewPrivs  string `json:"noNewPrivs"`
	Seccomp     string `json:"seccomp"` // 0 none, 1 strict, 2 filter
	Filters     string `json:"seccompFilters"`
}

// NamespaceSeen is a namespace of a process, compared with the others of the tree.
type NamespaceSeen struct {
	Name   string `json:"name"`
	ID     string `json:"id"`
	Shared string `json:"sharedWith,omitempty"` // the role of another process of the tree
}

// Descriptor is an open descriptor.
type Descriptor struct {
	Number int    `json:"number"`
	Kind   string `json:"kind"`
	Target string `json:"target"` // as /proc/PID/fd has it
	flags  int    // with which it was opened
}

// LimitSeen is a resource limit that the profile of a child sets.
type LimitSeen struct {
	Name string `json:"name"`
	Soft string `json:"soft"`
	Hard string `json:"hard"`
}

// Audit looks at the running tree with that parent, or with 0 at the only one
// that runs. It reads /proc and changes nothing. What deviates is in the
// report. The error is an *exit.Error: 69 when no tree is there, 64 when
// there are several to choose from, 77 without the permission to look.
//
// NB: the role and the number of queues come from the command line of a
// process, which it can overwrite. Nothing else that is compared does, so a
// process that lies about them deviates from what it claims to be.
func Audit(parent int) (*Report, error) {
	t, err := find(parent)
	if err != nil {
		return nil, err
	}
	r := &Report{Parent: t.parent, SameBinary: sameFile("/proc/self/exe", procPath(t.parent, "exe"))}
	if abi, _, err := landlockVersion(); err == nil {
		r.LandlockABI = abi
	}
	for _, p := range t.all() {
		row, err := look(p, everything)
		if err != nil {
			return nil, lookError(p.pid, err)
		}
		r.Processes = append(r.Processes, row)
	}
	r.judge()
	return r, nil
}

func procPath(pid int, file string) string { return fmt.Sprintf("/proc/%d/%s", pid, file) }

// sameFile: the same program, whatever its path is where the process lives.
func sameFile(a, b string) bool {
	ai, err1 := os.Stat(a)
	bi, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(ai, bi)
}
