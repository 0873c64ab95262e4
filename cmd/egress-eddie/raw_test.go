package main_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// datagram is a whole IP packet with a UDP datagram in it, from anyone.
func datagram(t *testing.T, from, to netip.AddrPort, payload []byte) []byte {
	t.Helper()
	if to.Addr().Is6() {
		return datagram6(t, from, to, payload)
	}
	return serialize(t, from, to, payload, &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP,
		SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()})
}

// datagram6 is that over IPv6, with extension headers (which name the one
// after them as UDP, or each other) between the two.
func datagram6(t *testing.T, from, to netip.AddrPort, payload []byte, extensions ...extension) []byte {
	t.Helper()
	packet := serialize(t, from, to, payload, &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP,
		SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()})
	head, body := packet[:40:40], packet[40:]
	next := head[6]
	for _, e := range slices.Backward(extensions) {
		body = append(append([]byte{next}, e.rest...), body...)
		next = e.number
	}
	head[6] = next
	binary.BigEndian.PutUint16(head[4:], uint16(len(body)))
	return append(head, body...)
}

// extension is an IPv6 extension header: its number, and what follows its
// first octet, so that all of it is a multiple of eight octets.
type extension struct {
	number byte
	rest   []byte
}

type ipLayer interface {
	gopacket.SerializableLayer
	gopacket.NetworkLayer
}

func serialize(t *testing.T, from, to netip.AddrPort, payload []byte, ip ipLayer) []byte {
	t.Helper()
	udp := &layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port())}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, options, ip, udp, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// sendFrame sends an IP packet out of an interface to its neighbour at an
// address, past everything that the sender's own routes would do with it.
func (n *netns) sendFrame(t *testing.T, device string, neighbour net.HardwareAddr, packet []byte) {
	t.Helper()
	protocol := uint16(unix.ETH_P_IP)
	if packet[0]>>4 == 6 {
		protocol = unix.ETH_P_IPV6
	}
	n.inside(t, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		to := &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Halen: uint8(len(neighbour))}
		copy(to.Addr[:], neighbour)
		dev, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		to.Ifindex = dev.Index
		return unix.Sendto(fd, packet, 0, to)
	})
}

// sendRaw sends an IP packet, header and all, as a local program with
// CAP_NET_RAW does: through OUTPUT.
func (n *netns) sendRaw(t *testing.T, packet []byte) {
	t.Helper()
	n.inside(t, func() error {
		domain, to := unix.AF_INET, unix.Sockaddr(nil)
		if packet[0]>>4 == 6 {
			domain, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(packet[24:40])}
		} else {
			to = &unix.SockaddrInet4{Addr: [4]byte(packet[16:20])}
		}
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, packet, 0, to)
	})
}

// hardwareAddr is that of an interface.
func (n *netns) hardwareAddr(t *testing.T, device string) net.HardwareAddr {
	t.Helper()
	var address net.HardwareAddr
	n.inside(t, func() error {
		dev, err := net.InterfaceByName(device)
		if err == nil {
			address = dev.HardwareAddr
		}
		return err
	})
	return address
}

// freeBind lets a socket be bound to an address that is only routed here.
func freeBind(_, _ string, c syscall.RawConn) error {
	var err error
	if controlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
	}); controlErr != nil {
		return controlErr
	}
	return err
}

// options sets the IP options of what is sent from now on.
func (a *asker) options(options []byte) {
	a.t.Helper()
	raw, err := a.conn.SyscallConn()
	if err != nil {
		a.t.Fatal(err)
	}
	if controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptString(int(fd), unix.SOL_IP, unix.IP_OPTIONS, string(options))
	}); controlErr != nil || err != nil {
		a.t.Fatalf("IP_OPTIONS: %v %v", controlErr, err)
	}
}

// receives requires that the next datagram is this one.
func receives(t *testing.T, conn *net.UDPConn, want string) {
	t.Helper()
	if got, _ := (&asker{t: t, conn: conn}).receive(); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
