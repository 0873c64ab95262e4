package main_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// mutants makes packets for one queue: honest DNS messages of every record
// type in honest headers, in which something then changes, mostly.
type mutants struct {
	t        *testing.T
	f        family
	response bool
	random   *rand.Rand
	honest   [][]byte
}

// everyType is a record of every type that a parser knows, and of some that
// it passes over.
var everyType = []string{
	"A 198.51.100.201", "AAAA 2001:db8:1::c9", "CNAME a.example.net.", "DNAME example.org.", "SRV 1 2 443 srv.example.org.",
	"MX 10 mx.example.org.", "NS ns.example.org.", "SOA ns.example.org. root.example.org. 1 2 3 4 5", `TXT "some text" "more"`,
	"PTR host.example.org.", "RRSIG A 8 2 60 20300101000000 20200101000000 1 example.com. c2lnbmF0dXJl",
	"HTTPS 1 . alpn=h2,h3 port=8443 ipv4hint=198.51.100.202 ipv6hint=2001:db8:1::ca",
	"SVCB 2 svc.example.org. mandatory=alpn alpn=h2 ipv4hint=198.51.100.203,198.51.100.204", "HTTPS 0 alias.example.org.",
}

// newMutants are those of a seed: the same packets for the same one.
func newMutants(t *testing.T, f family, response bool, seed uint64) *mutants {
	m := &mutants{t: t, f: f, response: response, random: rand.New(rand.NewPCG(seed, uint64(f.bits)))}
	all := new(dns.Msg)
	for _, text := range everyType {
		rr := rrs(t, "www.example.com. 60 IN "+text)
		m.add(question("www.example.com", rr[0].Header().Rrtype), rr)
		all.Answer = append(all.Answer, rr...)
	}
	m.add(question("www.example.com", dns.TypeANY), all.Answer)
	m.honest = append(m.honest, pointerChain(response))
	return m
}

// add adds a question, or the answer to it: bare, compressed, with OPT, and
// signed.
func (m *mutants) add(q *dns.Msg, answer []dns.RR) {
	msg := q
	if m.response {
		msg = new(dns.Msg).SetReply(q)
		msg.Answer = answer
		msg.Ns = rrs(m.t, "example.com. 60 IN SOA ns.example.com. root.example.com. 1 2 3 4 5")
	}
	for i := range 4 {
		msg.Compress = i > 0
		if i == 2 {
			msg.SetEdns0(1232, true)
			msg.IsEdns0().Option = ednsOptions()
		}
		if i == 3 {
			msg.SetTsig("key.test.", dns.HmacSHA256, 300, 1)
		}
		// Question and answer of one number belong together.
		msg.Id = uint16(len(m.honest))
		m.honest = append(m.honest, pack(m.t, msg))
	}
}

// pointerChain is a message of 100 records whose names each point at the one
// before.
func pointerChain(response bool) []byte {
	b := header(0x100, 1, 100, 0, 0)
	if response {
		b = header(0x8180, 1, 100, 0, 0)
	}
	b = append(b, asks("www", "example", "com")...)
	last := 12
	for range 100 {
		at := len(b)
		b = append(b, 1, 'x', 0xc0|byte(last>>8), byte(last), 0, 2, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 12)
		last = at
	}
	return b
}

// next is another packet. One in four is honest.
func (m *mutants) next() []byte {
	i := m.random.IntN(len(m.honest))
	msg := m.honest[i]
	spoilt := m.random.IntN(4)
	if spoilt > 0 {
		msg = m.message(msg)
	}
	client, server := netip.AddrPortFrom(m.f.client, uint16(30000+i)), m.f.dns()
	from, to := client, server
	if m.response {
		from, to = server, client
	}
	if !m.f.v6 {
		return m.headers(datagram(m.t, from, to, msg), 20, spoilt)
	}
	var extensions []extension
	if spoilt == 1 {
		extensions = m.extensions()
	}
	return m.headers(datagram6(m.t, from, to, msg, extensions...), 40, spoilt)
}

func (m *mutants) message(honest []byte) []byte {
	if m.random.IntN(50) == 0 {
		return garbage(m.random, honest, m.random.IntN(1400))
	}
	b := bytes.Clone(honest)
	for range 1 + m.random.IntN(3) {
		if len(b) > 0 {
			b = m.change(b)
		}
	}
	return b[:min(len(b), 8000)]
}

// change is one mutation of a message.
func (m *mutants) change(b []byte) []byte {
	at := m.random.IntN(len(b))
	end := at + m.random.IntN(len(b)-at)
	switch m.random.IntN(9) {
	case 0:
		b[at] = byte(m.random.Uint32())
	case 1:
		b[at] ^= 1 << m.random.IntN(8)
	case 2: // a pointer, anywhere
		copy(b[at:], binary.BigEndian.AppendUint16(nil, 0xc000|uint16(m.random.IntN(len(b)+8))))
	case 3: // a count, mostly a small one
		if len(b) >= 12 {
			b[5+2*m.random.IntN(4)] = byte(m.random.IntN(1 << m.random.IntN(9)))
		}
	case 4:
		b = b[:at]
	case 5:
		b = append(b, garbage(m.random, nil, m.random.IntN(64))...)
	case 6: // a part twice
		b = slices.Insert(b, at, b[at:end]...)
	case 7: // a part missing
		b = slices.Delete(b, at, end)
	default: // a part of another message
		other := m.honest[m.random.IntN(len(m.honest))]
		copy(b[at:], other[m.random.IntN(len(other)):])
	}
	return b
}

// extensions are headers of any kind, length and content.
func (m *mutants) extensions() (list []extension) {
	kinds := []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_DSTOPTS, unix.IPPROTO_AH,
		unix.IPPROTO_NONE, unix.IPPROTO_TCP, byte(m.random.Uint32())}
	for range 1 + m.random.IntN(3) {
		words := m.random.IntN(3)
		rest := garbage(m.random, nil, 8*words+7)
		if m.random.IntN(4) > 0 {
			rest[0] = byte(words)
		}
		list = append(list, extension{kinds[m.random.IntN(len(kinds))], rest})
	}
	return list
}

// headers changes something in the headers of a packet, if it is to be spoilt
// there: options that an IPv4 packet had not, an octet, the lengths.
func (m *mutants) headers(packet []byte, size, spoilt int) []byte {
	if spoilt != 2 {
		return packet
	}
	switch m.random.IntN(3) {
	case 0:
		if words := m.random.IntN(11); size == 20 {
			packet[0] += byte(words)
			packet = slices.Insert(packet, size, garbage(m.random, nil, 4*words)...)
		}
	case 1:
		packet[m.random.IntN(size+8)] = byte(m.random.Uint32())
	default:
		packet = packet[:size+m.random.IntN(len(packet)-size)]
	}
	return packet
}
