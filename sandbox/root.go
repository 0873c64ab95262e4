package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mountPoint is where the new root is mounted before it becomes the root: a
// directory that exists wherever /proc/self/exe could be executed, and that
// nothing later in the cell needs.
const mountPoint = "/proc"

// emptyRoot is a tmpfs that holds its own root directory and has no room for
// anything else. (A size of 0 would mean no limit.)
const emptyRoot = "size=4k,nr_inodes=1,mode=0555"

// The two kinds of mounts there are: what is mounted already becomes the
// child's own; the empty root.
const (
	privateFlags = unix.MS_REC | unix.MS_PRIVATE
	rootFlags    = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
)

// privateMounts keeps what follows from showing in the host's mounts. It is
// also the first thing for which the child needs its capabilities.
func privateMounts() error {
	err := unix.Mount("", "/", "", privateFlags, "")
	if err == unix.EPERM || err == unix.EACCES {
		return fmt.Errorf("%w: it gives no capabilities in user namespaces: %w", errLacks, err)
	}
	return err
}

func mountEmptyRoot() error {
	if err := unix.Mount("tmpfs", mountPoint, "tmpfs", rootFlags, emptyRoot); err != nil {
		return err
	}
	return unix.Chdir(mountPoint)
}

// pivotRoot puts the old root on top of the new one, at the same place: this
// needs no directory for it (pivot_root(2), "pivot_root(".", ".")").
func pivotRoot() error { return unix.PivotRoot(".", ".") }

// detachOldRoot lets go of the host's file system, and looks.
func detachOldRoot() error {
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs("/", &fs); err != nil {
		return err
	}
	if fs.Type != unix.TMPFS_MAGIC || fs.Flags&unix.ST_RDONLY == 0 {
		return bug("the root is of type %#x with flags %#x", fs.Type, fs.Flags)
	}
	// The old root, were it still there, would lie on top of the new one:
	// invisible at "/", and found at "/..".
	for _, path := range []string{"/", "/.."} {
		if err := proveEmpty(path); err != nil {
			return err
		}
	}
	return nil
}

func proveEmpty(path string) error {
	dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	names, err := readNames(dir)
	if closeErr := unix.Close(dir); err == nil {
		err = closeErr
	}
	if err == nil && len(names) != 0 {
		err = bug("%s holds %q", path, names)
	}
	return err
}
