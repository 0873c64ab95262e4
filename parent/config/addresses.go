package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// maxAddresses bounds the entries of allowedAddresses of all filters together.
const maxAddresses = 1 << 16

// checkAddresses parses the addresses and networks that are always open.
func checkAddresses(list *rawList, r *report) []AllowedAddress {
	if len(list.entries) == 0 {
		return nil
	}
	networks := gather[netip.Prefix](list)
	for i, text := range list.entries {
		p, port, err := parseAddress(text)
		if err != nil {
			r.fail(list.entry(i), "%s is not valid: %v", quote(text), err)
			continue
		}
		networks.add(p, port, i, r)
	}
	addresses := make([]AllowedAddress, len(networks.keys))
	for i, p := range networks.keys {
		addresses[i] = AllowedAddress{Prefix: p, Ports: networks.ports(i, r)}
	}
	return addresses
}

var (
	errBracket   = errors.New(`IPv6 with a port is written "[2001:db8::/32]:443"`)
	errZone      = errors.New("it has a zone, which no packet carries")
	errNoAddress = errors.New("it is neither an IP address nor a network")
	errEvery     = errors.New("it opens every address")
	errSpecial   = errors.New("it holds multicast or unspecified addresses")
	errMapped    = errors.New("it holds more than the IPv4-mapped addresses")
)

// parseAddress reads an entry of allowedAddresses. The error fits after the
// quoted entry and a colon.
func parseAddress(text string) (p netip.Prefix, port ipc.Port, err error) {
	inside, bracketed := strings.CutPrefix(text, "[")
	switch {
	case bracketed:
		var rest string
		text, rest, _ = strings.Cut(inside, "]")
		if !strings.Contains(text, ":") || !strings.HasPrefix(rest, ":") {
			return p, port, errBracket
		}
		_, port, err = cutPort(rest)
	case strings.Count(text, ":") == 1:
		text, port, err = cutPort(text)
	}
	if err == nil {
		p, err = parsePrefix(text)
	}
	return p, port, err
}

// parsePrefix reads an address or a network in the form in which packets are
// compared with it.
func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "%") {
		return netip.Prefix{}, errZone
	}
	p, err := netip.ParsePrefix(text)
	if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case err != nil && strings.Count(text, ":") > 1 && strings.LastIndex(text, ":") > strings.Index(text, "/"):
		return p, errBracket
	case err != nil:
		return p, errNoAddress
	case p.Addr().Is4In6() && p.Bits() >= mapped.Bits():
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped.Bits())
	}
	return p, checkPrefix(p)
}

// special are the addresses that no network may hold. A network that is nearly
// everything holds one of them.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("::/128"), netip.MustParsePrefix("ff00::/8"),
}

// mapped are the IPv4 addresses in IPv6's clothes, which no packet is compared as.
var mapped = netip.MustParsePrefix("::ffff:0:0/96")

func checkPrefix(p netip.Prefix) error {
	switch {
	case p.Bits() == 0:
		return errEvery
	case p.Overlaps(mapped):
		return errMapped
	case p != p.Masked():
		return fmt.Errorf("it has bits beyond its length; %v is perhaps meant", p.Masked())
	}
	for _, s := range special {
		if p.Overlaps(s) {
			return errSpecial
		}
	}
	return nil
}
