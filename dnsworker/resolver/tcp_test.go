package resolver

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// octetWise writes b in segments of one octet.
func octetWise(c net.Conn, b []byte) {
	for i := range b { // TCP_NODELAY is Go's default
		if _, err := c.Write(b[i : i+1]); err != nil {
			return
		}
	}
}

// long is an answer of as many octets as fit the length: what follows the
// question is not looked at, and read all the same.
func long(t *testing.T, q []byte) []byte {
	return append(answerTo(t, q), make([]byte, 65535-len(answerTo(t, q)))...)
}

// TestTCP: a truncated answer has the same server asked over TCP, and an
// answer there ends the lookup however it comes.
func TestTCP(t *testing.T) {
	t.Parallel()
	for what, send := range map[string]func(net.Conn, []byte){
		"at once":        func(c net.Conn, q []byte) { _, _ = c.Write(framed(answerTo(t, q))) },
		"octet by octet": func(c net.Conn, q []byte) { octetWise(c, framed(answerTo(t, q))) },
		"longest":        func(c net.Conn, q []byte) { _, _ = c.Write(framed(long(t, q))) },
		"no such name":   func(c net.Conn, q []byte) { _, _ = c.Write(framed(replyTo(t, q, rcode(dns.RcodeNameError)))) },
		"and more":       func(c net.Conn, q []byte) { _, _ = c.Write(append(framed(answerTo(t, q)), 0, 1, 2)) },
		"with a pause": func(c net.Conn, q []byte) {
			b := framed(answerTo(t, q))
			_, _ = c.Write(b[:1])
			time.Sleep(udpTime + soon)
			_, _ = c.Write(b[1:])
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			over := make(chan []byte, 1)
			ended := make(chan error, 1)
			udp := make(chan []byte, 1)
			s := serve(t, func(q []byte, reply func([]byte)) {
				udp <- q
				reply(replyTo(t, q, tooLong))
			}, func(c net.Conn) {
				q := received(c)
				over <- q
				send(c, q)
				_, err := c.Read(make([]byte, 1))
				ended <- err
			})
			l := newLab(t, among(t, s, dead(t)))
			l.ask("www.example.com", ipc.TypeA, patience)
			l.request(ipc.ProtoUDP, 0)
			l.request(ipc.ProtoTCP, 0)
			first, second := <-udp, <-over
			if second == nil || !slices.Equal(first[2:], second[2:]) || slices.Equal(first[:2], second[:2]) {
				t.Errorf("asked %x and then %x", first, second)
			}
			if err := <-ended; err == nil {
				t.Error("more than a query came")
			} else if what != "and more" && err.Error() != "EOF" { // what is not read resets the connection
				t.Error(err)
			}
			l.comesTo(0, soon)
			l.quiet(soon)
		})
	}
}

// TestTCPFails: anything else has the next server asked, when the time is up
// if nothing tells before.
func TestTCPFails(t *testing.T) {
	t.Parallel()
	stall := func(c net.Conn) { received(c) }
	for what, test := range map[string]struct {
		do    func(net.Conn)
		after time.Duration
	}{
		"closed at once":    {func(net.Conn) {}, 0},
		"reset":             {func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, 0},
		"closed after that": {func(c net.Conn) { received(c) }, 0},
		"closed in it": {func(c net.Conn) {
			b := framed(answerTo(t, received(c)))
			_, _ = c.Write(b[:len(b)-1])
		}, 0},
		"no octets": {func(c net.Conn) { received(c); _, _ = c.Write(framed(nil)); stall(c) }, 0},
		"one octet": {func(c net.Conn) { received(c); _, _ = c.Write([]byte{0, 1, 1}); stall(c) }, 0},
		"wrong": {func(c net.Conn) {
			if q := received(c); q != nil {
				_, _ = c.Write(framed(wrong(t, q)["another id"]))
			}
			stall(c)
		}, 0},
		"truncated again": {func(c net.Conn) { _, _ = c.Write(framed(replyTo(t, received(c), tooLong))); stall(c) }, 0},
		"SERVFAIL":        {func(c net.Conn) { _, _ = c.Write(framed(replyTo(t, received(c), rcode(2)))); stall(c) }, 0},
		"silent":          {func(c net.Conn) { received(c); stall(c) }, tcpTime},
		"a length alone":  {func(c net.Conn) { received(c); _, _ = c.Write([]byte{0, 40}); stall(c) }, tcpTime},
		"without end": {func(c net.Conn) { // one octet at a time is no reason to wait longer
			b := framed(answerTo(t, received(c)))
			for i := range b {
				_, _ = c.Write(b[i : i+1])
				time.Sleep(4 * tcpTime / time.Duration(len(b)))
			}
		}, tcpTime},
		"all but the last": {func(c net.Conn) { b := framed(long(t, received(c))); _, _ = c.Write(b[:len(b)-1]); stall(c) }, tcpTime},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := serve(t, always(t, tooLong), test.do)
			l := newLab(t, among(t, s, honest(t)))
			l.ask("www.example.com", ipc.TypeA, patience)
			l.request(ipc.ProtoUDP, 0)
			tcp, next := l.request(ipc.ProtoTCP, 0), l.request(ipc.ProtoUDP, 1)
			if after := next.at.Sub(tcp.at); after < max(test.after, firstPause) || after > test.after+soon {
				t.Errorf("the next server is asked after %v", after)
			}
			l.comesTo(0, soon)
			l.quiet(soon)
		})
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		s := serve(t, always(t, tooLong), nil)
		s.tcp = refusing().tcp
		l := newLab(t, among(t, s, honest(t)))
		l.ask("www.example.com", ipc.TypeA, patience)
		l.request(ipc.ProtoUDP, 0)
		l.request(ipc.ProtoTCP, 0)
		l.request(ipc.ProtoUDP, 1)
		l.comesTo(0, soon)
		l.quiet(soon)
	})
}
