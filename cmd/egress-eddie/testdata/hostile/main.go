// Command hostile is the daemon with one process owned by an attacker: the
// real parent, the real rules and the real neighbours, and a stand-in for one
// role that is confined by that role's own cell and profile.
//
// A child has an empty environment and fixed arguments, and shall not get
// others for the sake of a test. Who is owned and what he does therefore stands
// in the name of the executable file: "dnsworker-requests:flood".
//
//go:debug decoratemappings=0
//go:debug containermaxprocs=0
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/dnsworker"
	"github.com/capnspacehook/egress-eddie/dnsworker/resolver"
	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/child"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/parent"
	"github.com/capnspacehook/egress-eddie/trafficworker"
	"github.com/capnspacehook/egress-eddie/trafficworker/allowlist"
)

func init() { runtime.LockOSThread() }

var roles = map[ipc.Role]func(args []string) int{
	ipc.RoleRequests:  dnsworker.MainRequests,
	ipc.RoleResponses: dnsworker.MainResponses,
	ipc.RoleAllowlist: allowlist.Main,
	ipc.RoleTraffic:   trafficworker.Main,
	ipc.RoleResolver:  resolver.Main,
}

func main() {
	if len(os.Args) > 1 {
		role := ipc.Role(os.Args[1])
		if main, ok := roles[role]; ok {
			if owned, what := order(); owned == role {
				main = standIn(role, what)
			}
			os.Exit(main(os.Args[2:]))
		}
	}
	os.Exit(parent.Main(os.Args[1:]))
}

// order reads who is owned and what he does. NB: before the cell, and without
// package os, whose files would start the runtime's poller (sandbox.Enter).
func order() (ipc.Role, string) {
	var path [4096]byte
	n, err := unix.Readlink("/proc/self/exe", path[:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile: ", err)
		os.Exit(exit.Software)
	}
	file := string(path[:n])
	role, what, _ := strings.Cut(file[strings.LastIndexByte(file, '/')+1:], ":")
	return ipc.Role(role), what
}

// noCell is to say Ready without a cell, before anybody could have noticed.
const noCell = "no-cell"

func claimCell([]string) int {
	if err := raw(ipc.FDControl, ipc.AppendSignal(nil, ipc.SignalReady)); err != nil {
		return exit.Software
	}
	for { // by a call that is on the parent's list, under which it is
		_ = unix.Nanosleep(&unix.Timespec{Sec: 3600}, nil)
	}
}

// standIn is the main function of an owned role. It goes the way of the real
// one: cell, Ready, policy, loop.
func standIn(role ipc.Role, what string) func(args []string) int {
	if what == noCell {
		return claimCell
	}
	attack := attacks[role][what]
	if attack == nil {
		attack = anybody[what]
	}
	return func(args []string) int {
		return child.Main(role, args, func(p *ipc.Policy) (child.Worker, error) {
			if attack == nil {
				return nil, fmt.Errorf("no attack %q", what)
			}
			go live()
			w := workers[role](p, attack)
			if role == ipc.RoleAllowlist { // or the trafficworker would not begin
				return w, toTraffic.Send(&ipc.Grants{Kind: ipc.GrantsAll})
			}
			return w, nil
		})
	}
}

// live says that it is alive, whatever else it does: who says nothing is ended.
func live() {
	for child.Tell(ipc.SignalAlive) == nil {
		time.Sleep(ipc.AliveEvery)
	}
}

var workers = map[ipc.Role]func(*ipc.Policy, attack) child.Worker{
	ipc.RoleRequests:  newReader,
	ipc.RoleResponses: newReader,
	ipc.RoleTraffic:   newReader,
	ipc.RoleAllowlist: newHolder,
	ipc.RoleResolver:  newInquirer,
}

var attacks = map[ipc.Role]map[string]attack{
	ipc.RoleRequests:  requestAttacks,
	ipc.RoleResponses: responseAttacks,
	ipc.RoleTraffic:   trafficAttacks,
	ipc.RoleAllowlist: holderAttacks,
	ipc.RoleResolver:  resolverAttacks,
}
