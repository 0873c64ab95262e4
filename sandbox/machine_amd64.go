package sandbox

import "github.com/elastic/go-seccomp-bpf/arch"

var native = machine{info: arch.X86_64, clone: 0xd0f00, x32: 0x40000000, fileStatus: "newfstatat",
	startsWith: "arch_prctl", startsWithWhat: 0x1002} // ARCH_SET_FS
