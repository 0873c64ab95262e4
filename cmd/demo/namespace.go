package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// The addresses are those set aside for documentation (RFC 5737, RFC 3849):
// even a packet that got out could not reach anybody.
const (
	resolver4    = "192.0.2.53"
	resolver6    = "2001:db8::53"
	evilResolver = "203.0.113.53"
)

// machineSetup and internetSetup are what ip does in each namespace. Whole
// networks are local to the Internet's side, so that its web server answers
// at every address of them: what the visitor cannot reach, the filter stopped.
const (
	machineSetup = `link set lo up
link add eddie0 address 02:00:00:00:00:01 type veth peer name internet0 address 02:00:00:00:00:02 netns %d
link set eddie0 addrgenmode none
addr add 192.0.2.1/24 dev eddie0
addr add 2001:db8::1/64 dev eddie0 nodad
link set eddie0 up
`
	internetSetup = `link set lo up
link set internet0 addrgenmode none
addr add 192.0.2.254/24 dev internet0
addr add 192.0.2.53/24 dev internet0
addr add 2001:db8::fe/64 dev internet0 nodad
addr add 2001:db8::53/64 dev internet0 nodad
addr add 203.0.113.53/32 dev lo
link set internet0 up
neigh add 2001:db8::1 lladdr 02:00:00:00:00:01 dev internet0 nud permanent
route add local 198.51.100.0/24 dev lo
route add local 203.0.113.0/24 dev lo
route add local 169.254.169.254/32 dev lo
route add local 2001:db8:80::/64 dev lo
route add local 2001:db8:bad::/64 dev lo
`
	// Routes need the other end to be up. The neighbours are told, not looked
	// for: a solicitation sent this early is lost, and the next comes a second
	// later (RFC 4861 section 10, RETRANS_TIMER).
	machineRoutes = `neigh add 2001:db8::fe lladdr 02:00:00:00:00:02 dev eddie0 nud permanent
neigh add 2001:db8::53 lladdr 02:00:00:00:00:02 dev eddie0 nud permanent
route add default via 192.0.2.254 dev eddie0
route add ::/0 via 2001:db8::fe dev eddie0
`
)

// namespaces are the two sides. Only these descriptors and the processes
// inside keep them alive.
type namespaces struct {
	machine, internet int
}

// newNamespaces moves the main thread into a new namespace, the machine's, and
// leaves the host's for good.
func newNamespaces() (*namespaces, error) {
	internet, err := newNamespace()
	if err != nil {
		return nil, err
	}
	machine, err := newNamespace()
	if err != nil {
		return nil, err
	}
	return &namespaces{machine: machine, internet: internet}, nil
}

func newNamespace() (int, error) {
	err := unix.Unshare(unix.CLONE_NEWNET)
	if errors.Is(err, unix.EPERM) {
		return 0, exit.WithHint(exit.NoPerm, "in a container: start it privileged, or give it CAP_SYS_ADMIN and CAP_NET_ADMIN",
			"making a network namespace: %w", err)
	}
	if err != nil {
		return 0, exit.Errorf(exit.Unavailable, "making a network namespace: %w", err)
	}
	return unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// startIn starts a program in a namespace. NB: on the main thread.
func (n *namespaces) startIn(ns int, cmd *exec.Cmd) error {
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("setns: %w", err)
	}
	err := cmd.Start()
	if back := unix.Setns(n.machine, unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("setns: %w", back))
	}
	return err
}

// runIn runs a system program to its end, with input as its stdin.
func (n *namespaces) runIn(ns int, input, name string, args ...string) error {
	var output strings.Builder
	cmd := exec.Command(systemProgram(name), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &output, &output
	err := n.startIn(ns, cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return exit.Errorf(exit.Unavailable, "%s: %w: %s", name, err, strings.TrimSpace(output.String()))
	}
	return nil
}

// systemProgram finds a program where root's shell would: sudo and su may
// leave a path without the sbin folders.
func systemProgram(name string) string {
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	return name
}

// connect joins the two by a veth pair. pid is any process on the Internet's
// side: ip finds a namespace without a name by a process in it.
func (n *namespaces) connect(pid int) error {
	if err := n.runIn(n.machine, fmt.Sprintf(machineSetup, pid), "ip", "-batch", "-"); err != nil {
		return err
	}
	if err := n.runIn(n.internet, internetSetup, "ip", "-batch", "-"); err != nil {
		return err
	}
	return n.runIn(n.machine, machineRoutes, "ip", "-batch", "-")
}
