package resolver

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// server is a DNS server; the zero address refuses.
type server struct{ udp, tcp netip.AddrPort }

// serve starts one. The functions answer a query, and a connection.
func serve(t *testing.T, udp func(query []byte, reply func([]byte)), tcp func(net.Conn)) server {
	t.Helper()
	var u net.PacketConn
	var s net.Listener
	err := inside(func() (err error) {
		if u, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return err
		}
		s, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close(); s.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			if udp != nil {
				udp(append([]byte(nil), buf[:n]...), func(b []byte) { _, _ = u.WriteTo(b, from) })
			}
		}
	}()
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if tcp != nil {
					tcp(c)
				}
			}()
		}
	}()
	return server{u.LocalAddr().(*net.UDPAddr).AddrPort(), s.Addr().(*net.TCPAddr).AddrPort()}
}

// dead never answers over UDP, and nothing listens at refusing's ports.
func dead(t *testing.T) server {
	return serve(t, nil, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
}

func refusing() server {
	at := netip.MustParseAddrPort("127.0.0.1:1")
	return server{at, at}
}

// honest answers.
func honest(t *testing.T) server {
	return serve(t, func(q []byte, reply func([]byte)) { reply(answerTo(t, q)) }, nil)
}

// among makes sockets as the parent does: to one of the servers.
func among(t *testing.T, servers ...server) func(ipc.Socket) int {
	return func(s ipc.Socket) int {
		to := servers[int(s.Server)%len(servers)]
		kind, at := unix.SOCK_DGRAM, to.udp
		if s.Proto == ipc.ProtoTCP {
			kind, at = unix.SOCK_STREAM, to.tcp
		}
		fd := -1
		err := inside(func() (err error) {
			fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			return err
		})
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
		}
		if err != nil && err != unix.EINPROGRESS {
			t.Errorf("socket %+v: %v", s, err)
		}
		return fd
	}
}

// replyTo is the independent library's answer to a query, changed by with. To
// one that never came (received) it is nothing.
func replyTo(t testing.TB, query []byte, with ...func(*dns.Msg)) []byte {
	if query == nil {
		return nil
	}
	var q dns.Msg
	if err := q.Unpack(query); err != nil {
		t.Errorf("the query %x: %v", query, err)
		return nil
	}
	m := new(dns.Msg).SetReply(&q)
	for _, change := range with {
		change(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Errorf("the answer: %v", err)
	}
	return b
}

func answerTo(t testing.TB, query []byte) []byte {
	return replyTo(t, query, func(m *dns.Msg) {
		if q := m.Question[0]; q.Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: q.Qclass, Ttl: 60}, A: net.IP{192, 0, 2, 7}}}
		}
	})
}

func tooLong(m *dns.Msg) { m.Truncated = true }

func rcode(r int) func(*dns.Msg) { return func(m *dns.Msg) { m.Rcode = r } }

// always is a server over UDP that changes its answers so.
func always(t *testing.T, with func(*dns.Msg)) func([]byte, func([]byte)) {
	return func(q []byte, reply func([]byte)) { reply(replyTo(t, q, with)) }
}

// framed is a message as it goes over TCP.
func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

// received is the query of a connection, nil if none comes.
func received(c net.Conn) []byte {
	length := make([]byte, 2)
	if _, err := io.ReadFull(c, length); err != nil {
		return nil
	}
	query := make([]byte, binary.BigEndian.Uint16(length))
	if _, err := io.ReadFull(c, query); err != nil {
		return nil
	}
	return query
}
