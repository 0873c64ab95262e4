package sandbox

import "github.com/elastic/go-seccomp-bpf/arch"

var native = machine{info: arch.AARCH64, clone: 0x50f00, fileStatus: "fstatat"}
