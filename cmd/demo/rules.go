package main

import (
	_ "embed"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/parent/config"
)

//go:embed default.toml
var defaultConfig string

// uids are the users of the machine, by the filter that is theirs. They need
// no account.
var uids = map[string]int{"dev": 59001, "ci": 59002}

// loadConfig is the embedded configuration as the daemon reads it, and a file
// in memory that holds it: nothing is written to the disk.
func loadConfig() (*config.Config, *os.File, error) {
	fd, err := unix.MemfdCreate("default.toml", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "default.toml")
	if _, err := file.WriteString(defaultConfig); err != nil {
		return nil, nil, err
	}
	c, err := config.ParseConfig(fmt.Sprintf("/proc/self/fd/%d", fd))
	return c, file, err
}

// rules4 and rules6 are the input of iptables-restore and ip6tables-restore.
func rules4(c *config.Config) string {
	return rules(c, func(q config.QueuePair) uint16 { return q.IPv4 })
}

func rules6(c *config.Config) string {
	return rules(c, func(q config.QueuePair) uint16 { return q.IPv6 })
}

func rules(c *config.Config, family func(config.QueuePair) uint16) string {
	var b strings.Builder
	b.WriteString("*filter\n")
	for _, protocol := range []string{"udp", "tcp"} {
		fmt.Fprintf(&b, "-A INPUT -p %s --sport 53 -m conntrack --ctstate ESTABLISHED -j NFQUEUE --queue-num %d\n",
			protocol, family(c.InboundDNSQueue))
	}
	for _, f := range c.Filters {
		user := fmt.Sprintf("-A OUTPUT -m owner --uid-owner %d", uids[f.Name])
		for _, protocol := range []string{"udp", "tcp"} {
			fmt.Fprintf(&b, "%s -p %s --dport 53 -j NFQUEUE --queue-num %d\n", user, protocol, family(f.DNSQueue))
		}
		fmt.Fprintf(&b, "%s -m conntrack --ctstate NEW -j NFQUEUE --queue-num %d\n", user, family(f.TrafficQueue))
		fmt.Fprintf(&b, "%s -m conntrack --ctstate INVALID -j DROP\n", user)
	}
	// What the kernel sends for sockets that were closed belongs to no user.
	fmt.Fprintf(&b, "-A OUTPUT -p tcp --dport 53 -m owner ! --socket-exists -j NFQUEUE --queue-num %d\n", family(c.Filters[0].DNSQueue))
	b.WriteString("COMMIT\n")
	return b.String()
}

// setRules sets the rules of both families on the machine.
func (n *namespaces) setRules(c *config.Config) error {
	if err := n.runIn(n.machine, rules4(c), "iptables-restore"); err != nil {
		return err
	}
	return n.runIn(n.machine, rules6(c), "ip6tables-restore")
}
