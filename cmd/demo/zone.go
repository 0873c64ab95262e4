package main

import (
	"net/netip"
	"strings"
)

// record is what the Internet's resolver knows of one name.
type record struct {
	a      string // IPv4 address
	aaaa   string // IPv6 address
	cname  string // another name of the zone that the addresses belong to
	forged string // an address that an attacker answers first, with a wrong id
}

// forgedAddress is where attackers want the visitor to go.
const forgedAddress = "203.0.113.66"

var zone = map[string]record{
	"example.com":          {a: "198.51.100.10"},
	"www.example.com":      {a: "198.51.100.11"},
	"api.example.com":      {a: "198.51.100.12"},
	"v6.example.com":       {aaaa: "2001:db8:80::10"},
	"shop.example.com":     {cname: "edge1.cdn.net"},
	"edge1.cdn.net":        {a: "198.51.100.30"},
	"edge2.cdn.net":        {a: "198.51.100.31"},
	"xexample.com":         {a: "203.0.113.10"},
	"example.com.evil.net": {a: "203.0.113.11"},
	"cGFzc3dk.x.evil.net":  {a: "203.0.113.12"},
	"meta.example.com":     {a: "169.254.169.254"},
	"bank.example.com":     {a: "198.51.100.40", forged: forgedAddress},
	"build.example.org":    {a: "198.51.100.50"},
}

// evilZone is what the attacker's own resolver says of any name.
var evilZone = record{a: forgedAddress}

// find looks a name up as it was asked, and follows one CNAME. The resolver
// keeps the case of the question, as DNS servers do.
func find(server netip.Addr, name string) (r record, ok bool) {
	if server == netip.MustParseAddr(evilResolver) {
		return evilZone, true
	}
	for known, r := range zone {
		if strings.EqualFold(known, name) {
			if r.cname != "" {
				target := zone[r.cname]
				r.a, r.aaaa = target.a, target.aaaa
			}
			return r, true
		}
	}
	return record{}, false
}
