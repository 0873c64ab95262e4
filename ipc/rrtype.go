package ipc

import "strconv"

// typeNames are the record types that people ask for (IANA "DNS Resource
// Record (RR) TYPEs"); all others are shown as TYPEn (RFC 3597 section 5).
var typeNames = map[uint16]string{
	1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 10: "NULL", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA",
	33: "SRV", 35: "NAPTR", 39: "DNAME", 41: "OPT", 43: "DS", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 50: "NSEC3",
	52: "TLSA", 64: "SVCB", 65: "HTTPS", 250: "TSIG", 255: "ANY", 257: "CAA",
}

// The record types that the daemon itself asks for.
const (
	TypeA    = 1
	TypePTR  = 12
	TypeAAAA = 28
)

// TypeName is a record type's mnemonic, for people.
func TypeName(t uint16) string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return "TYPE" + strconv.Itoa(int(t))
}
