package parent

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/ipc/logging"
	"github.com/capnspacehook/egress-eddie/parent/config"
)

const twoFilters = `inboundDNSQueue.ipv4 = 1
[[filters]]
name = "a"
dnsQueue.ipv4 = 10
trafficQueue.ipv4 = 11
allowAnswersFor = "5m"
allowedHostnames = ["a.example"]
[[filters]]
name = "b"
dnsQueue.ipv4 = 20
allowAllHostnames = true
`

// asking is twoFilters with a question of the daemon's own.
var asking = "resolvers = [\"192.0.2.53\"]\nselfDNSQueue.ipv4 = 2\n" + strings.Replace(twoFilters, "allowAnswersFor", "cachedHostnames = [\"x.y\"]\nreCacheEvery = \"1h\"\nallowAnswersFor", 1)

// openOf are the queues of a configuration as they would be open.
func openOf(t *testing.T, text string) (queues []*openQueue) {
	t.Helper()
	c, err := config.Parse([]byte(text), "f")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queuesOf(c) {
		queues = append(queues, &openQueue{Queue: q, fd: -1})
	}
	return queues
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestReread: a file that fits the open queues is taken, its filters in the
// order of those that run; any other is refused with the reason.
func TestReread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.toml")
	queues := openOf(t, twoFilters)
	head, rest, _ := strings.Cut(twoFilters, "[[filters]]\n")
	a, b, _ := strings.Cut(rest, "[[filters]]\n")
	swapped := head + "[[filters]]\n" + strings.Replace(b, `"b"`, `"renamed"`, 1) + "[[filters]]\n" + strings.Replace(a, `"a.example"`, `"c.example"`, 1)
	write(t, path, swapped)
	c, err := reread(path, queues)
	if err != nil || c.Filters[0].Name != "a" || c.Filters[1].Name != "renamed" || c.Filters[0].AllowedHostnames[0] != "c.example" {
		t.Errorf("%+v, %v", c, err)
	}
	for what, test := range map[string]struct{ text, want string }{
		"not TOML":       {"a = ", "f.toml:1: not TOML"},
		"a mistake":      {strings.Replace(twoFilters, `"5m"`, `"soon"`, 1), `filter "a": allowAnswersFor: "soon" is not a duration`},
		"its own":        {asking, "the queues differ: own dns request queue 2 is not one of those that are open; other queues need a restart"},
		"a number":       {strings.Replace(twoFilters, "= 11", "= 12", 1), `the queues differ: traffic queue 12 of filter "a" is not one of those that are open; other queues need a restart`},
		"a queue less":   {strings.Replace(twoFilters, "[[filters]]\nname = \"b\"\ndnsQueue.ipv4 = 20\nallowAllHostnames = true\n", "", 1), "the queues differ: no dns request queue 20 any more; other queues need a restart"},
		"a filter more":  {twoFilters + "[[filters]]\nname = \"c\"\ndnsQueue.ipv4 = 30\nallowAllHostnames = true\n", `the queues differ: dns request queue 30 of filter "c" is not one of those`},
		"queues swapped": {strings.NewReplacer("= 10", "= 20", "= 20", "= 10").Replace(twoFilters), "the queues differ: "},
		"inbound":        {strings.Replace(twoFilters, "ipv4 = 1\n", "ipv4 = 2\n", 1), `the queues differ: dns response queue 2 is not`},
	} {
		write(t, path, test.text)
		if c, err := reread(path, queues); c != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", what, err, test.want)
		}
	}
	if _, err := reread(path+"x", queues); err == nil || !strings.Contains(err.Error(), "configuration: "+path+"x: no such file") {
		t.Error(err)
	}
	if _, err := readAgain("/dev/zero"); err != nil {
		t.Errorf("a file without an end: %v", err)
	}
}

// TestRereadAsking: the queues of the daemon's own questions are no filter's.
func TestRereadAsking(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.toml")
	queues := openOf(t, asking)
	head, rest, _ := strings.Cut(asking, "[[filters]]\n")
	a, b, _ := strings.Cut(rest, "[[filters]]\n")
	swapped := head + "[[filters]]\n" + b + "[[filters]]\n" + a
	write(t, path, strings.Replace(swapped, `"1h"`, `"2h"`, 1))
	c, err := reread(path, queues)
	if err != nil || c.Filters[0].Name != "a" || c.Filters[0].ReCacheEvery != 2*time.Hour || len(c.Servers) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	// A filter that takes the number of such a queue is another one, and comes last.
	taken := strings.NewReplacer("selfDNSQueue.ipv4 = 2\n", "selfDNSQueue.ipv4 = 3\n", "= 20\n", "= 2\n").Replace(swapped)
	for what, test := range map[string]struct{ text, want string }{
		"another":    {strings.Replace(asking, "= 2\n", "= 3\n", 1), "the queues differ: own dns request queue 3 is not one of those that are open; other queues need a restart"},
		"none":       {twoFilters, `the queues differ: dns request queue 10 of filter "a" is not one of those that are open; other queues need a restart`},
		"a filter's": {taken, "the queues differ: own dns request queue 3 is not"},
	} {
		write(t, path, test.text)
		if c, err := reread(path, queues); c != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", what, err, test.want)
		}
	}
	c, err = config.Parse([]byte(taken), "f")
	if err != nil {
		t.Fatal(err)
	}
	if fit(c, queues) == nil || c.Filters[0].Name != "a" || c.Filters[1].Name != "b" {
		t.Errorf("%q comes first", c.Filters[0].Name)
	}
}

// reloader is a daemon with two children of which only the sockets exist,
// and with what they are sent.
func reloader(t *testing.T, text string) (d *daemon, traffic, holder *child, sent map[*child]<-chan *ipc.Policy) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.toml")
	write(t, path, text)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	d = &daemon{
		options: options{config: path},
		read:    make(chan reading, 1),
		notify:  &notifier{fd: -1},
		target:  &logTarget{fd: -1},

		policies: map[ipc.Role]*ipc.Policy{},
		deaths:   map[ipc.Role][]time.Time{},
		log:      logging.New(int(null.Fd()), logging.Options{}),
		tree:     tree{queues: openOf(t, twoFilters), events: make(chan event, 8)},
	}
	t.Cleanup(func() { d.log.Close(time.Second) })
	sent = map[*child]<-chan *ipc.Policy{}
	for _, role := range []ipc.Role{ipc.RoleTraffic, ipc.RoleAllowlist, ipc.RoleRequests} {
		c, theirs := mute(t, role)
		c.stage = working
		d.tree.children = append(d.tree.children, c)
		sent[c] = policies(t, theirs)
	}
	return d, d.tree.children[0], d.tree.children[1], sent
}

// policies are those that come over a child's end of its control socket.
func policies(t *testing.T, fd int) <-chan *ipc.Policy {
	out := make(chan *ipc.Policy, 4)
	go func() {
		defer unix.Close(fd)
		r := ipc.NewPolicyReceiver(fd)
		for p := new(ipc.Policy); ; {
			item, err := r.Recv()
			if err == io.EOF {
				return
			}
			complete := false
			if err == nil {
				complete, err = p.Add(item)
			}
			if err != nil {
				t.Error(err)
				return
			}
			if complete {
				out <- p
				p = new(ipc.Policy)
			}
		}
	}()
	return out
}

func says(t *testing.T, d *daemon, c *child, s ipc.Signal) {
	t.Helper()
	if err := d.hears(event{child: c, signal: s}); err != nil {
		t.Fatal(err)
	}
}

// TestReload: the order in which a new policy comes into force, and that it is
// done only when the trafficworker says so.
func TestReload(t *testing.T) {
	for _, order := range [][]ipc.Role{{ipc.RoleAllowlist, ipc.RoleTraffic}, {ipc.RoleTraffic, ipc.RoleAllowlist}} {
		d, traffic, holder, sent := reloader(t, strings.Replace(twoFilters, `"a.example"`, `"c.example"`, 1))
		d.startReload()
		d.startReload() // one more, to follow
		d.haveRead(<-d.read)
		if p := <-sent[traffic]; p.Filters[0].Name != "a" || len(p.Queues) != 1 {
			t.Errorf("%+v", p)
		}
		select {
		case <-sent[holder]:
			t.Fatal("the holder has it before the trafficworker took it")
		case <-time.After(20 * time.Millisecond):
		}
		says(t, d, traffic, ipc.SignalLoaded)
		if p := <-sent[holder]; len(p.Hostnames[0].Names) != 1 || p.Hostnames[0].Names[0].String() != "c.example" {
			t.Errorf("%+v", p)
		}
		for i, role := range order {
			if d.reload == nil || !d.reload.again {
				t.Fatalf("done after %d of 2", i)
			}
			if role == ipc.RoleTraffic {
				says(t, d, traffic, ipc.SignalInForce)
			} else {
				says(t, d, holder, ipc.SignalLoaded)
			}
		}
		if d.reload == nil || d.reload.again || d.reload.config != nil {
			t.Fatal("the one that was asked for meanwhile does not follow")
		}
		r := <-d.read
		d.haveRead(reading{err: os.ErrNotExist})
		if d.reload != nil || r.err != nil {
			t.Error("a faulty file does not end it")
		}
	}
}

// TestReloadProtocol: what a child says while it is not asked, twice, or in
// another's place ends it.
func TestReloadProtocol(t *testing.T) {
	signals := []ipc.Signal{ipc.SignalReady, ipc.SignalLoaded, ipc.SignalInForce}
	refuses := func(d *daemon, but ...signalOf) {
		t.Helper()
		for _, c := range d.tree.children {
			for _, s := range signals {
				if slices.Contains(but, signalOf{c.role, s}) {
					continue
				}
				says(t, d, c, s)
				if !errors.Is(c.wrong, errProtocol) || !strings.Contains(c.wrong.Error(), "out of turn") {
					t.Errorf("%s, signal %d: %v", c.role, s, c.wrong)
				}
				c.wrong = nil
			}
		}
	}
	d, traffic, holder, sent := reloader(t, twoFilters)
	refuses(d)
	d.startReload()
	refuses(d)
	d.haveRead(<-d.read)
	<-sent[traffic]
	refuses(d, signalOf{ipc.RoleTraffic, ipc.SignalLoaded})
	says(t, d, traffic, ipc.SignalLoaded)
	<-sent[holder]
	refuses(d, signalOf{ipc.RoleAllowlist, ipc.SignalLoaded}, signalOf{ipc.RoleTraffic, ipc.SignalInForce})
	if err := d.tooLong(); exit.Code(err) != exit.Software || !strings.Contains(err.Error(), "did not take a changed policy") {
		t.Error(err)
	}
	says(t, d, traffic, ipc.SignalInForce)
	refuses(d, signalOf{ipc.RoleAllowlist, ipc.SignalLoaded})
	says(t, d, holder, ipc.SignalLoaded)
	refuses(d)
}
