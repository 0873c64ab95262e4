package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// ttl is what answers say of themselves, in seconds.
const ttl = 60

// resolverMain is the Internet's DNS: two honest addresses and an attacker's.
func resolverMain([]string) error {
	for _, address := range []string{resolver4, resolver6, evilResolver} {
		server := netip.MustParseAddr(address)
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, 53)))
		if err != nil {
			return err
		}
		go serveDNS(conn, server)
	}
	if err := become(helperUID); err != nil {
		return err
	}
	return sayReady()
}

func serveDNS(conn *net.UDPConn, server netip.Addr) {
	buf := make([]byte, 1500)
	for {
		n, client, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(failed)
		}
		var query dnsmessage.Message
		if err := query.Unpack(buf[:n]); err != nil || len(query.Questions) != 1 {
			continue // nobody here sends such a thing
		}
		replies, err := answers(server, query)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		for _, reply := range replies {
			if _, err := conn.WriteToUDPAddrPort(reply, client); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
}

// answers are the packets that come back for a question, in their order: a
// forged one first where the zone says so.
func answers(server netip.Addr, query dnsmessage.Message) ([][]byte, error) {
	name := strings.TrimSuffix(query.Questions[0].Name.String(), ".")
	r, known := find(server, name)
	var packets [][]byte
	if r.forged != "" {
		forged := query
		forged.ID ^= 1
		packet, err := answer(forged, record{a: r.forged}, true)
		if err != nil {
			return nil, err
		}
		packets = append(packets, packet)
	}
	packet, err := answer(query, r, known)
	if err != nil {
		return nil, err
	}
	return append(packets, packet), nil
}

func answer(query dnsmessage.Message, r record, known bool) ([]byte, error) {
	q := query.Questions[0]
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, RecursionDesired: true, RecursionAvailable: true},
		Questions: query.Questions,
	}
	if !known {
		m.RCode = dnsmessage.RCodeNameError
		return m.Pack()
	}
	owner := q.Name
	add := func(t dnsmessage.Type, body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: owner, Type: t, Class: dnsmessage.ClassINET, TTL: ttl},
			Body:   body,
		})
	}
	if r.cname != "" {
		target, err := dnsmessage.NewName(r.cname + ".")
		if err != nil {
			return nil, err
		}
		add(dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: target})
		owner = target
	}
	switch {
	case q.Type == dnsmessage.TypeA && r.a != "":
		add(q.Type, &dnsmessage.AResource{A: netip.MustParseAddr(r.a).As4()})
	case q.Type == dnsmessage.TypeAAAA && r.aaaa != "":
		add(q.Type, &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(r.aaaa).As16()})
	}
	return m.Pack()
}
