package sandbox

import (
	"strconv"

	"github.com/elastic/go-seccomp-bpf/arch"
)

// SyscallName is the name of a system call of this machine's architecture.
func SyscallName(number int) string {
	info, err := arch.GetInfo("")
	if err == nil {
		if name, ok := info.SyscallNumbers[number]; ok {
			return name
		}
	}
	return strconv.Itoa(number)
}
