package main_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// segment is a TCP segment as no kernel would send it.
type segment struct {
	seq, ack uint32
	flags    tcpFlags
	data     []byte
	small    bool // a SYN of small segments
}

type tcpFlags uint8

const (
	flagFIN tcpFlags = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG

	synAck  = flagSYN | flagACK
	pushAck = flagPSH | flagACK
)

func (s segment) packet(t *testing.T, from, to netip.AddrPort) []byte {
	t.Helper()
	tcp := &layers.TCP{SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), Seq: s.seq, Ack: s.ack, Window: 1000,
		FIN: s.flags&flagFIN != 0, SYN: s.flags&flagSYN != 0, RST: s.flags&flagRST != 0,
		PSH: s.flags&flagPSH != 0, ACK: s.flags&flagACK != 0, URG: s.flags&flagURG != 0}
	if s.flags == flagSYN { // without a segment size there is one cookie and not several
		tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 180}}}
		if s.small {
			tcp.Options[0].OptionData = []byte{2, 24}
		}
	}
	var ip ipLayer = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	if to.Addr().Is6() {
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, options, ip, tcp, gopacket.Payload(s.data)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// forger writes segments into a connection that the kernel made, from where
// the kernel is in its two streams.
type forger struct {
	*stream
	lab      *lab
	from, to netip.AddrPort
	seq, ack uint32
}

func (l *lab) forger(t *testing.T, f family) *forger {
	t.Helper()
	s := l.dns(t, f)
	g := &forger{stream: s, lab: l, from: netip.MustParseAddrPort(s.LocalAddr().String()), to: f.dns()}
	raw, err := s.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		// TCP_REPAIR of tcp(7) tells, and TCP_REPAIR_OFF_NO_WP sends nothing.
		const on, offSilently, receiveQueue, sendQueue = 1, -1, 1, 2
		set := func(option, value int) {
			if err := unix.SetsockoptInt(int(fd), unix.SOL_TCP, option, value); err != nil {
				failed = err
			}
		}
		get := func(queue int) uint32 {
			set(unix.TCP_REPAIR_QUEUE, queue)
			n, err := unix.GetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_QUEUE_SEQ)
			if err != nil {
				failed = err
			}
			return uint32(n)
		}
		set(unix.TCP_REPAIR, on)
		g.seq, g.ack = get(sendQueue), get(receiveQueue)
		set(unix.TCP_REPAIR, offSilently)
	})
	if err != nil || failed != nil {
		t.Fatalf("TCP_REPAIR: %v, %v", err, failed)
	}
	return g
}

// send sends octets as what stands at a place of the client's stream.
func (g *forger) send(at int, data []byte, more ...tcpFlags) {
	g.t.Helper()
	s := segment{seq: g.seq + uint32(at), ack: g.ack, flags: pushAck, data: data}
	for _, f := range more {
		s.flags |= f
	}
	g.lab.client.sendRaw(g.t, s.packet(g.t, g.from, g.to))
}

func (g *forger) dropped(f family, reason string) {
	g.t.Helper()
	g.lab.daemon.sees(g.t, eventRequest, fields{"src": g.from, "queue": dnsQueue(0, f), "verdict": "drop", "reason": reason})
}

// decided waits until what f sends came to the queue, and nothing waits there
// any more. The log shows a drop for the same reason only once.
func (g *forger) decided(f family, send func()) {
	g.t.Helper()
	before := g.lab.queued(g.t, dnsQueue(0, f))
	send()
	if !eventually(func() bool {
		return g.lab.queued(g.t, dnsQueue(0, f)) > before && g.lab.waits(g.t, dnsQueue(0, f)) == 0
	}) {
		g.t.Error("nothing came to the queue, or it stays there")
	}
}

// TestTCPSegments: segments out of order, again, with other octets in the
// place of earlier ones, urgent, with FIN, and with a SYN.
func TestTCPSegments(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		server := l.tcpServer(f.resolver, tcpZone(t, f))
		l.start(allowing("example.com"))
		l.rules(tcpRules)
		arrives := func(i int, want []byte) {
			t.Helper()
			if !eventually(func() bool { return bytes.Equal(server.got(i), want) }) {
				t.Errorf("by connection %d the server got %x, not %x", i, server.got(i), want)
			}
		}

		g := l.forger(t, f)
		wire := framed(t, wN(f, 1))
		g.send(20, wire[20:])
		g.dropped(f, "TCP segment out of order")
		g.send(0, wire[:20])
		g.send(0, wire[:20])
		g.dropped(f, "copy of an earlier TCP segment")
		g.send(16, wire[16:]) // overlaps what is held, and comes before the server has acknowledged anything
		g.dropped(f, "TCP segment before the server has acknowledged anything")
		g.send(0, wire[:20])
		arrives(0, wire[:20])
		eventually(func() bool { // as TCP sends again
			g.send(16, wire[16:])
			return bytes.Equal(server.got(0), wire)
		})
		arrives(0, wire)
		g.decided(f, func() { g.send(0, wire) })
		g.decided(f, func() { g.send(5, wire[5:]) })
		second := framed(t, wN(f, 2))
		g.send(len(wire), second, flagURG)
		g.dropped(f, "bad TCP header")
		g.send(len(wire), second)
		arrives(0, append(bytes.Clone(wire), second...))
		l.daemon.never(t, eventRequest, fields{"src": g.from, "reason": "TCP segment contradicts an earlier one"})

		other := bytes.Clone(wire)
		other[len(other)-1] ^= 1
		g.send(0, other)
		g.dropped(f, "TCP segment contradicts an earlier one")
		g.send(len(wire)+len(second), framed(t, wN(f, 3)))
		g.dropped(f, "connection was refused before")

		held := l.forger(t, f) // the other octets in what is held
		held.send(0, wire[:30])
		held.decided(f, func() { held.send(10, append(bytes.ToUpper(wire[10:30]), wire[30:]...)) })

		fin := l.forger(t, f)
		fin.send(0, wire, flagFIN)
		arrives(2, wire)
		fin.decided(f, func() { fin.send(len(wire)+1, second) })

		begin := l.forger(t, f)
		begin.send(-1, wire, flagSYN)
		begin.dropped(f, "data while the connection opens")
		open := segment{seq: 1, flags: flagSYN, data: wire}
		begin.decided(f, func() { l.client.sendRaw(t, open.packet(t, netip.AddrPortFrom(f.client, 4321), f.dns())) })

		wantOctets(t, server, 0, append(bytes.Clone(wire), second...))
		wantOctets(t, server, 1, nil)
		wantOctets(t, server, 2, wire)
		wantOctets(t, server, 3, nil)
		l.idle(t)
	})
}

// TestTCPSplice: a client with raw sockets begins its stream anew, for the
// filter alone: the server, which has half of an allowed query, would take
// what follows for the other half.
func TestTCPSplice(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		l := newLab(t)
		server := l.tcpServer(f.resolver, tcpZone(t, f))
		l.start(allowing("example.com"))
		l.rules(tcpRules)
		g := l.forger(t, f)
		wire := framed(t, wN(f, 1))
		g.send(0, wire)
		server.await(t, 0, "w1.example.com")
		begin := segment{seq: g.seq + uint32(len(wire)) - 1, flags: flagSYN}
		l.client.sendRaw(t, begin.packet(t, g.from, g.to))
		l.daemon.sees(t, eventRequest, fields{"src": g.from, "verdict": "drop", "reason": "ports of a TCP connection in use"})
		g.send(len(wire), framed(t, wN(f, 2)))
		l.daemon.sees(t, eventRequest, fields{"src": g.from, "name": "w2.example.com", "verdict": "drop", "reason": "connection was refused before"})
		wantOctets(t, server, 0, wire)
		l.idle(t)
	})
}
