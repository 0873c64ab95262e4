package sandbox

import "github.com/elastic/go-seccomp-bpf/arch"

var native = machine{info: arch.X86_64, clone: 0xd0f00, x32: 0x40000000, startsWith: "arch_prctl"}
