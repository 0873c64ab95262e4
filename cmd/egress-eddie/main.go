// Command egress-eddie filters a host's outbound traffic by hostname.
//
// People start the parent. The parent starts this same binary again once for
// each process of the tree, with the role as its first argument; which package
// that runs is all that is decided here.
//
//go:debug decoratemappings=0
//go:debug containermaxprocs=0
package main

import (
	"os"
	"runtime"

	"github.com/capnspacehook/egress-eddie/dnsworker"
	"github.com/capnspacehook/egress-eddie/dnsworker/resolver"
	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/parent"
	"github.com/capnspacehook/egress-eddie/sandbox"
	"github.com/capnspacehook/egress-eddie/trafficworker"
	"github.com/capnspacehook/egress-eddie/trafficworker/allowlist"
)

func init() {
	// The parent carries verdicts on the main thread, which can be put before all
	// others: see parent.Main.
	runtime.LockOSThread()
}

// roles are the processes that only the parent starts.
var roles = map[ipc.Role]func(args []string) int{
	ipc.RoleRequests:  dnsworker.MainRequests,
	ipc.RoleResponses: dnsworker.MainResponses,
	ipc.RoleAllowlist: allowlist.Main,
	ipc.RoleTraffic:   trafficworker.Main,
	ipc.RoleResolver:  resolver.Main,
}

func main() {
	if len(os.Args) > 1 {
		if main, ok := roles[ipc.Role(os.Args[1])]; ok {
			os.Exit(main(os.Args[2:]))
		}
		if os.Args[1] == sandbox.ProbeWord {
			os.Exit(sandbox.Probe())
		}
	}
	os.Exit(parent.Main(os.Args[1:]))
}
