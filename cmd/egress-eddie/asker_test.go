package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// asker is a client's UDP socket. It is not connected: it would take a
// response from anyone, so what does not come was dropped on its way.
type asker struct {
	t    *testing.T
	conn *net.UDPConn
	at   netip.AddrPort
}

func (n *netns) asker(t *testing.T, from netip.Addr) *asker {
	t.Helper()
	return n.askerAs(t, 0, from)
}

// askerAs is a socket of another user, as the firewall's owner match sees it.
func (n *netns) askerAs(t *testing.T, uid int, from netip.Addr) *asker {
	t.Helper()
	var conn *net.UDPConn
	n.inside(t, func() (err error) {
		if err := unix.Setfsuid(uid); err != nil { // of this thread only
			return err
		}
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return &asker{t, conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()}
}

// question is a query as an ordinary program makes it.
func question(name string, record uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(dns.Fqdn(name), record)
}

// typeOf is the number of the family's address record.
func typeOf(f family) uint16 { return pick(f, dns.TypeA, dns.TypeAAAA) }

func (a *asker) send(to netip.AddrPort, m *dns.Msg) { a.t.Helper(); a.sendWire(to, pack(a.t, m)) }

func (a *asker) sendWire(to netip.AddrPort, wire []byte) {
	a.t.Helper()
	if _, err := a.conn.WriteToUDPAddrPort(wire, to); err != nil {
		a.t.Errorf("sending: %v", err)
	}
}

// receive waits for the next datagram.
func (a *asker) receive() ([]byte, netip.AddrPort) {
	a.t.Helper()
	a.conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 1<<16)
	n, from, err := a.conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		a.t.Fatalf("no answer: %v", err)
	}
	return buf[:n], from
}

// answer waits for the next datagram, which must be the answer to a question.
func (a *asker) answer(m *dns.Msg) *dns.Msg {
	a.t.Helper()
	wire, _ := a.receive()
	got := new(dns.Msg)
	if err := got.Unpack(wire); err != nil {
		a.t.Fatalf("answer to %s: %v", m.Question[0].Name, err)
	}
	if got.Id != m.Id {
		a.t.Fatalf("answer to another question than %s: %v", m.Question[0].Name, got)
	}
	return got
}

// nothing requires that nothing (more) came. NB: only after something that
// shows that it would be here by now.
func (a *asker) nothing() {
	a.t.Helper()
	a.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	buf := make([]byte, 1<<16)
	n, from, err := a.conn.ReadFromUDPAddrPort(buf)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		a.t.Errorf("%d octets came from %v (%v): %x", n, from, err, buf[:n])
	}
}

// ask asks one question and returns the answer.
func (a *asker) ask(to netip.AddrPort, name string, record uint16) *dns.Msg {
	a.t.Helper()
	m := question(name, record)
	a.send(to, m)
	return a.answer(m)
}

// resolves asks as the filtered host and requires exactly these addresses or
// names in the answer.
func (l *lab) resolves(t *testing.T, f family, name string, record uint16, want ...any) {
	t.Helper()
	sameData(t, l.client.asker(t, f.client).ask(f.dns(), name, record), want...)
}

// sameData requires that the answer section holds exactly this data, in any order.
func sameData(t *testing.T, m *dns.Msg, want ...any) {
	t.Helper()
	missing := map[string]int{}
	for _, w := range want {
		missing[fmt.Sprint(w)]++
	}
	for _, rr := range m.Answer {
		missing[data(rr)]--
	}
	for text, n := range missing {
		if n != 0 {
			t.Errorf("answer holds %d too few of %s (want %v):\n%v", n, text, want, m)
		}
	}
}

// data is a record without its header.
func data(rr dns.RR) string { return strings.TrimPrefix(rr.String(), rr.Header().String()) }

// isRefused asks as the filtered host for a name that is not allowed.
func (l *lab) isRefused(t *testing.T, f family, name string, record uint16) {
	t.Helper()
	a := l.client.asker(t, f.client)
	a.send(f.dns(), question(name, record))
	l.daemon.sees(t, eventRequest, fields{"name": name, "type": dns.TypeToString[record], "verdict": "drop", "reason": "name not allowed"})
	a.nothing()
}

// dig asks with dig(1) and returns what +short shows, or false when no answer
// came within the seconds.
func (n *netns) dig(t *testing.T, uid uint32, server netip.Addr, seconds int, args ...string) ([]string, bool) {
	t.Helper()
	args = append([]string{"-r", "+short", "+tries=1", fmt.Sprint("+time=", seconds), "@" + server.String()}, args...)
	out, status := n.run(t, as(uid, exec.Command("dig", args...)))
	switch status {
	case 0:
		return strings.Fields(out), true
	case 9: // no reply from any server
		return nil, false
	}
	t.Fatalf("dig %v: status %d: %s", args, status, out)
	return nil, false
}

// dnsmasq is a running dnsmasq of the server's namespace.
type dnsmasq struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (d *dnsmasq) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.Write(b)
}

// asked reports whether a question for exactly this name came.
func (d *dnsmasq) asked(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Contains(d.out.String(), "] "+name+" from ")
}

// dnsmasq starts it at the resolvers' addresses, with an address for
// ready.test and what the arguments say.
func (l *lab) dnsmasq(args ...string) *dnsmasq {
	l.t.Helper()
	return l.dnsmasqAt(l.server, []netip.Addr{families[0].resolver, families[0].other, families[1].resolver, families[1].other}, args...)
}

func (l *lab) dnsmasqAt(n *netns, at []netip.Addr, args ...string) *dnsmasq {
	l.t.Helper()
	d := &dnsmasq{}
	fixed := []string{"--conf-file=/dev/null", "--keep-in-foreground", "--user=root", "--pid-file=", "--no-resolv",
		"--no-hosts", "--bind-interfaces", "--log-queries", "--log-facility=-", "--address=/ready.test/192.0.2.53"}
	for _, a := range at {
		fixed = append(fixed, "--listen-address="+a.String())
	}
	cmd := exec.Command("dnsmasq", append(fixed, args...)...)
	cmd.Stdout, cmd.Stderr = d, d
	// It forks for every TCP connection, and such a child waits for minutes.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := n.start(cmd, true); err != nil {
		l.t.Fatalf("dnsmasq: %v", err)
	}
	l.t.Cleanup(func() {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		cmd.Wait()
		if l.t.Failed() {
			l.t.Logf("dnsmasq:\n%s", d.out.String())
		}
	})
	for _, a := range at {
		l.awaitDNS(n, a)
	}
	return d
}

// awaitDNS waits until a server answers on its own machine.
func (l *lab) awaitDNS(n *netns, at netip.Addr) {
	l.t.Helper()
	a := n.asker(l.t, at)
	buf := make([]byte, 512)
	answered := func() bool {
		a.sendWire(netip.AddrPortFrom(at, 53), pack(l.t, question("ready.test", dns.TypeA)))
		a.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := a.conn.Read(buf)
		return err == nil
	}
	if !eventually(answered) {
		l.t.Fatalf("dnsmasq does not answer at %v", at)
	}
}
