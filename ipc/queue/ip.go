package queue

import "github.com/capnspacehook/egress-eddie/ipc"

// IPVersion is what a packet is, by its version nibble: 4, 6, or 0 for neither.
// It is 0 too where the ethertype by which the kernel handles the packet
// (include/uapi/linux/if_ether.h; 0 where it gives none) contradicts it: a raw
// socket of one family sends headers of the other, or of none, unchecked
// (raw_send_hdrinc in net/ipv4/raw.c), to where no header says.
func IPVersion(ethertype uint16, packet []byte) int {
	const etherIPv4, etherIPv6 = 0x0800, 0x86dd
	if len(packet) == 0 {
		return 0
	}
	switch version := packet[0] >> 4; {
	case version == 4 && (ethertype == etherIPv4 || ethertype == 0):
		return 4
	case version == 6 && (ethertype == etherIPv6 || ethertype == 0):
		return 6
	}
	return 0
}

// Option types of RFC 791 section 3.1.
const (
	optionEnd   = 0   // End of Option List
	optionNop   = 1   // No Operation
	optionLoose = 131 // Loose Source and Record Route
	optionHard  = 137 // Strict Source and Record Route
)

// IPv4Options judges the options of an IPv4 header. It refuses source routes:
// such a packet goes on from the address that it names as its destination, and
// an unprivileged socket may set them.
func IPv4Options(options []byte) ipc.Reason {
	for len(options) > 0 {
		switch options[0] {
		case optionEnd:
			return ipc.ReasonNone
		case optionNop:
			options = options[1:]
			continue
		case optionLoose, optionHard:
			return ipc.ReasonSourceRoute
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return ipc.ReasonNotIP
		}
		options = options[options[1]:]
	}
	return ipc.ReasonNone
}
