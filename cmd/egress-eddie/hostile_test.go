package main_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// The tests of files hostile_* run the real tree with one process owned by an
// attacker (testdata/hostile): real parent, cells, queues, rules and
// neighbours. They are what the table in SECURITY.md stands on. All are of one
// address family: no process tells them apart by anything but the queue.

// goPort is the destination port that sets off an owned trafficworker, and
// where there is one an owned resolver: who is asked about the address.
const goPort = 666

var hostileBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(builtBinary), "hostile")
	out, err := build(path, "./testdata/hostile")
	if err != nil {
		err = fmt.Errorf("building the stand-ins: %w\n%s", err, out)
	}
	return path, err
})

// owned is a lab with a process in an attacker's hands.
type owned struct {
	*lab
	f        family
	role     ipc.Role
	resolver *resolver
	asker    *asker
	target   *asker // listens at web server 2, which nobody was granted
	p        processes
}

// ownedConfig has the handles that the stand-ins name: 1 and 2 are the
// response queues, 3 and 4 the request queues of filter 0, 5 and 6 its traffic
// queues. Filter 1 allows all names, and so grants nothing.
func ownedConfig() config {
	return config{resolvers: []any{families[0].resolver}, filters: []filter{{allowed: []string{"example.com"}}, {}}}
}

// askingConfig has the handles 1 and 2 for the response queues, 3 and 4 for
// the daemon's own requests, 5 and 6 for the requests of filter 0. Of the cached
// names the second is never answered, so that it is nearly always asked for.
// Filter 1 looks unknown addresses up; its traffic is what goes to goPort.
func askingConfig() config {
	return asking(families[0],
		filter{allowed: []string{"example.com"}, cached: []string{"cdn.test", "held.cdn.test"}},
		filter{allowed: []string{"example.com"}, more: "lookupUnknownIPs = true\n"})
}

// configWith is a configuration of a tree with that role in it.
func configWith(role ipc.Role) config {
	if role == ipc.RoleResolver {
		return askingConfig()
	}
	return ownedConfig()
}

func ownedAskingRules(f family) []string {
	return append([]string{fmt.Sprintf("-A OUTPUT -p udp --dport %d -j NFQUEUE --queue-num %d", goPort, trafficQueue(1, f))}, askingRules(f)...)
}

// ownedLab starts a tree of which a role does what attack says once it is set
// off. The resolver answers every question with web server 1, and says that
// web server 2 has the name that sets off.
func ownedLab(t *testing.T, role ipc.Role, attack string, c config, options ...string) *owned {
	t.Helper()
	f := families[0]
	l := newLab(t)
	o := &owned{lab: l, f: f, role: role, asker: l.client.asker(t, f.client)}
	o.resolver = l.resolver(f.resolver, func(q *query) {
		if !strings.HasPrefix(strings.TrimPrefix(q.name(), "go."), "held.") {
			o.reply(q)
		}
	})
	o.target = &asker{t: t, conn: l.server.listenUDP(t, netip.AddrPortFrom(f.web(2), goPort))}
	if c.self { // what it asks at once shall come by its queue
		l.rules(ownedAskingRules)
	}
	l.startBinary(standIn(t, role, attack), c, options...)
	if !c.self {
		l.rules(standardRules)
	}
	o.p = l.daemon.processes(t)
	return o
}

// standIn is the daemon of which a role does what attack says.
func standIn(t *testing.T, role ipc.Role, attack string) (path string) {
	t.Helper()
	binary, err := hostileBinary()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(openDir(t), string(role)+":"+attack)
	if err := os.Link(binary, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// reply answers a question.
func (o *owned) reply(q *query) {
	switch {
	case q.msg == nil || len(q.msg.Question) == 0: // what got out is looked at by the test
	case q.msg.Question[0].Qtype == typeOf(o.f):
		q.send(q.reply(fmt.Sprintf("%s 60 IN A %v", q.name(), o.f.web(1))))
	case q.name() == reverse(o.f.web(2)):
		q.send(q.reply(fmt.Sprintf("%s 60 IN PTR go.example.com.", q.name())))
	default:
		q.send(q.reply())
	}
}

// setOff begins the attack.
func (o *owned) setOff() {
	o.t.Helper()
	if o.role == ipc.RoleTraffic || o.role == ipc.RoleResolver {
		o.asker.sendWire(netip.AddrPortFrom(o.f.web(2), goPort), []byte("go"))
		return
	}
	o.ask("go.example.com")
}

// ask asks a question and does not wait for anything.
func (o *owned) ask(name string) { o.t.Helper(); o.asker.send(o.f.dns(), question(name, typeOf(o.f))) }

// answer is the next DNS message that the client gets.
func (o *owned) answer() *dns.Msg {
	o.t.Helper()
	wire, _ := o.asker.receive()
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		o.t.Fatal(err)
	}
	return m
}

// end is how a process ends for what an owned one did, and with the holder the
// whole tree.
type end struct {
	role ipc.Role // who is reported
	how  string   // and for what: what follows its name in the log
	says string   // in its last words, if it noticed the attack itself
	by   ipc.Role // who accused it of what says holds, if somebody did
}

// noticed is the end when a neighbour found the protocol broken and died of it.
func noticed(by ipc.Role, says string) end { return end{by, "died: exit status 70", says, ""} }

// accused is the end when the allowlist found the protocol broken.
func accused(role ipc.Role, says string) end {
	return end{role, "broke the protocol, says the allowlist", says, ipc.RoleAllowlist}
}

// broken is the end when the parent did.
func broken(by ipc.Role, what string) end { return end{by, "protocol error: " + what, "", ""} }

// ends requires that the tree ends by itself, with status 70 and the reason.
func (o *owned) ends(want end) {
	t := o.t
	t.Helper()
	o.daemon.expectExit(70)
	if !o.daemon.wait(t, patience) {
		t.Fatal("the tree runs on")
	}
	line := o.daemon.sees(t, "stopped", fields{"@level": "error", "status": 70})
	got, ok := strings.CutPrefix(line.text("error"), fmt.Sprintf("%s (pid %d)", want.role, o.p.children[want.role]))
	if !ok {
		t.Errorf("the log says %q, not %s", line.text("error"), want.role)
	}
	o.reported(want, strings.TrimLeft(got, ": "))
	o.p.goneWithin(t, patience)
	if queues := o.client.queues(t); len(queues) != 0 {
		t.Errorf("queues are left: %+v", queues)
	}
}

// falls requires that a process ends, for that reason, and that another takes its
// place. The holder's is not taken: the tree ends.
func (o *owned) falls(want end) {
	t := o.t
	t.Helper()
	if want.role == ipc.RoleAllowlist {
		o.ends(want)
		return
	}
	o.daemon.mayLogErrors = true
	died := o.daemon.sees(t, "died", fields{"@level": "error", "role": string(want.role), "pid": o.p.children[want.role]})
	o.daemon.sees(t, "started again", fields{"role": string(want.role)})
	want.how = strings.TrimPrefix(want.how, "died: ")
	o.reported(want, died.text("how"))
	o.stops()
}

// reported requires that the log says for what a process has ended.
func (o *owned) reported(want end, got string) {
	t := o.t
	t.Helper()
	if !strings.HasPrefix(got, want.how) {
		t.Errorf("the log says %q, not %s %q", got, want.role, want.how)
	}
	if want.by != "" {
		if line := o.daemon.sees(t, "broke the protocol", fields{"@module": string(want.by), "role": string(want.role)}); !strings.HasPrefix(line.text("error"), want.says) {
			t.Errorf("%s says %q, not %q", want.by, line.text("error"), want.says)
		}
		return
	}
	if strings.Contains(want.how, "SIGSYS") {
		if what := strings.TrimPrefix(got, want.how); what != want.says && !strings.HasPrefix(what, "the kernel log names the system call: ") {
			t.Errorf("the log says %q, not %q", what, want.says)
		}
	} else if want.says != "" && !o.saidLast(want.role, want.says) {
		t.Errorf("the last words of %s do not say %q", want.role, want.says)
	}
}

func (o *owned) saidLast(role ipc.Role, text string) bool {
	for _, line := range o.daemon.log() {
		if line.message() == "last words" && line.text("role") == string(role) && strings.Contains(line.text("line"), text) {
			return true
		}
	}
	return false
}

// stops requires that the tree ends in time when it is asked to, whatever an
// owned process is at. Other tests run beside it: endsWithin is for those alone.
func (o *owned) stops() {
	t := o.t
	t.Helper()
	o.daemon.expectExit(0)
	if err := unix.Kill(o.p.parent, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if !o.daemon.wait(t, 3*endsWithin) {
		t.Fatal("the tree runs on")
	}
	o.p.goneWithin(t, patience)
}

// outside requires that no question for a name left the host, and that
// nothing came to the client or to the address that is shut.
func (o *owned) outside(name string) {
	o.t.Helper()
	if n := o.resolver.asked(name); n > 0 {
		o.t.Errorf("%d questions for %s left the host", n, name)
	}
	o.asker.nothing()
	o.target.nothing()
}

// granted are the addresses that the log says were opened, and for whom.
func (d *daemon) granted() (lines []string) {
	for _, line := range d.log() {
		if addresses := line.text("granted"); addresses != "" {
			lines = append(lines, line.text("filter")+": "+addresses)
		}
	}
	return lines
}

// doom is an attack that ends the tree.
type doom struct {
	attack string
	end    end
}

// doomed runs each attack in a tree of its own. Nothing that waited for a
// verdict gets through, neither before nor after the end.
func doomed(t *testing.T, role ipc.Role, dooms []doom) {
	t.Parallel()
	for _, d := range dooms {
		t.Run(d.attack, func(t *testing.T) {
			t.Parallel()
			o := ownedLab(t, role, d.attack, ownedConfig())
			o.setOff()
			o.falls(d.end)
			if role == ipc.RoleResponses {
				o.asker.nothing() // the question was honest, and left
				return
			}
			o.outside("go.example.com")
			if lines := o.daemon.granted(); lines != nil {
				t.Errorf("granted: %q", lines)
			}
		})
	}
}
