//go:build !race

package sandbox

import "golang.org/x/sys/unix"

// arm64's stat has a name of its own.
func init() {
	forbidden = append(forbidden,
		call{what: "fstatat", trap: unix.SYS_FSTATAT, args: [6]uintptr{minus(100), at(&passwd[0]), at(&scratch)}})
}
