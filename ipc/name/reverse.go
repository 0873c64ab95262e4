package name

import (
	"net/netip"
	"strconv"
)

// Reverse is the name whose PTR records name an address (RFC 1035 section 3.5,
// RFC 3596 section 2.5). An IPv4-mapped address is looked up as IPv4.
func Reverse(a netip.Addr) Name {
	a = a.Unmap()
	var wire []byte
	label := func(text string) {
		wire = append(wire, byte(len(text)))
		wire = append(wire, text...)
	}
	octets := a.AsSlice()
	for i := len(octets) - 1; i >= 0; i-- {
		if a.Is4() {
			label(strconv.Itoa(int(octets[i])))
			continue
		}
		label(strconv.FormatUint(uint64(octets[i]&0xf), 16))
		label(strconv.FormatUint(uint64(octets[i]>>4), 16))
	}
	if a.Is4() {
		label("in-addr")
	} else {
		label("ip6")
	}
	label("arpa")
	return Name(append(wire, 0))
}
