package parent

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

func TestPauses(t *testing.T) {
	for deaths, want := range map[int]time.Duration{1: 10 * time.Millisecond, 2: 20 * time.Millisecond, 9: 2560 * time.Millisecond, 10: 5 * time.Second, 1 << 40: 5 * time.Second} {
		if got := pauseAfter(deaths); got != want {
			t.Errorf("after %d deaths: %v, not %v", deaths, got, want)
		}
	}
}

// TestCheckChildren: who works must say that it is alive, and who starts must get
// there in time; but nobody pays for a look that comes late, or for a policy that
// takes long.
func TestCheckChildren(t *testing.T) {
	const soon, longAgo = time.Second, silentFor + time.Second
	loads := func(role ipc.Role, signal ipc.Signal) *reload {
		return &reload{missing: map[signalOf]bool{{role, signal}: true}}
	}
	for what, test := range map[string]struct {
		role   ipc.Role // the trafficworker, if nothing is said
		stage  stage
		silent time.Duration
		due    time.Duration
		late   bool
		reload *reload
		want   string
	}{
		"alive":                 {stage: working, silent: soon},
		"silent":                {stage: working, silent: longAgo, want: "silent for 3s"},
		"silent, a late look":   {stage: working, silent: longAgo, late: true},
		"silent, and loads":     {role: ipc.RoleAllowlist, stage: working, silent: longAgo, reload: loads(ipc.RoleAllowlist, ipc.SignalLoaded)},
		"silent for its sake":   {stage: working, silent: longAgo, reload: loads(ipc.RoleAllowlist, ipc.SignalLoaded)},
		"silent, has loaded":    {role: ipc.RoleAllowlist, stage: working, silent: longAgo, reload: loads(ipc.RoleTraffic, ipc.SignalInForce), want: "silent"},
		"silent, loads little":  {stage: working, silent: longAgo, reload: loads(ipc.RoleTraffic, ipc.SignalLoaded), want: "silent"},
		"builds":                {stage: building, silent: longAgo, due: soon},
		"builds for too long":   {stage: building, due: -1, want: "did not come up in time"},
		"loads for too long":    {stage: loading, due: -1, want: "did not come up in time"},
		"too long, a late look": {stage: loading, due: -1, late: true},
	} {
		d, victim, holder, _ := reloader(t, twoFilters)
		if test.role == ipc.RoleAllowlist {
			victim = holder
		}
		d.reload = test.reload
		now := monotonic()
		if d.checked = now; test.late {
			d.checked = now - 5*checkEvery
		}
		for _, c := range d.tree.children {
			c.heard.Store(int64(now))
		}
		victim.stage, victim.due = test.stage, time.Now().Add(test.due)
		victim.heard.Store(int64(now - test.silent))
		if err := d.checkChildren(); err != nil {
			t.Fatal(err)
		}
		if got := victim.wrong; (got != nil) != (test.want != "") || got != nil && !strings.Contains(got.Error(), test.want) {
			t.Errorf("%s: %v, want %q", what, got, test.want)
		}
		if test.late { // and so not at the next look
			d.checked = monotonic()
			victim.stage = working
			if err := d.checkChildren(); err != nil || victim.wrong != nil {
				t.Errorf("%s: then %v, %v", what, err, victim.wrong)
			}
		}
		for _, c := range d.tree.children {
			if c != victim && c.wrong != nil {
				t.Errorf("%s: %s is ended: %v", what, c.role, c.wrong)
			}
		}
	}
}

// TestSignsOfLife: many that have waited are no fault, and without end they are.
func TestSignsOfLife(t *testing.T) {
	tr := &tree{events: make(chan event, 4)}
	c, theirs := mute(t, ipc.RoleTraffic)
	c.busy.Add(1)
	go tr.watchControl(c)
	alive := func(n int) error {
		for range n {
			if err := ipc.SendPacket(theirs, ipc.AppendSignal(nil, ipc.SignalAlive)); err != nil {
				return err
			}
		}
		return nil
	}
	began := monotonic()
	if err := alive(1000); err != nil {
		t.Fatal(err)
	}
	if err := ipc.SendPacket(theirs, ipc.AppendSignal(nil, ipc.SignalReady)); err != nil {
		t.Fatal(err)
	}
	if e := <-tr.events; e.err != nil || e.signal != ipc.SignalReady || time.Duration(c.heard.Load()) < began {
		t.Errorf("%+v, heard at %d", e, c.heard.Load())
	}
	done := make(chan error)
	go func() { done <- alive(signsAtOnce) }() // until nobody reads
	if e := <-tr.events; !errors.Is(e.err, errProtocol) {
		t.Errorf("%+v", e)
	}
	unix.Shutdown(c.control, unix.SHUT_RDWR)
	<-done // NB: its number is somebody else's next
	unix.Close(theirs)
}

// TestReloadMeetsDeath: what a reload waits for when the trafficworker dies in it,
// and which policy its successor gets.
func TestReloadMeetsDeath(t *testing.T) {
	changed := strings.Replace(twoFilters, `"a.example"`, `"c.example"`, 1)
	begin := func() (d *daemon, traffic, holder *child, sent map[*child]<-chan *ipc.Policy) {
		d, traffic, holder, sent = reloader(t, changed)
		d.startReload()
		return
	}
	// While the file is read: it is handed out when all work again.
	d, traffic, holder, sent := begin()
	traffic.dead = true
	if d.reload.lost(ipc.RoleTraffic) || d.reload.holds(ipc.RoleTraffic) {
		t.Error("while it is read a death changes something")
	}
	d.haveRead(<-d.read)
	if d.reload.step != stepReads || d.reload.config == nil {
		t.Error("it is handed out to who is dead")
	}
	traffic.dead, traffic.stage = false, loading
	says(t, d, traffic, ipc.SignalLoaded) // its first policy
	if <-sent[traffic]; d.reload.step != stepTraffic {
		t.Error("it is not handed out to who works")
	}
	// While the trafficworker takes it: its successor gets the old one, and is told anew.
	if d.reload.lost(ipc.RoleTraffic) || d.reload.holds(ipc.RoleTraffic) || d.reload.step != stepReads {
		t.Errorf("step %d", d.reload.step)
	}
	traffic.stage = loading
	says(t, d, traffic, ipc.SignalLoaded)
	<-sent[traffic]
	says(t, d, traffic, ipc.SignalLoaded)
	if <-sent[holder]; d.reload.step != stepHolder || !d.reload.holderLoads() {
		t.Errorf("step %d", d.reload.step)
	}
	// While the holder has it or not: the successor waits, and gets the new one.
	if d.reload.lost(ipc.RoleRequests) || d.reload.holds(ipc.RoleRequests) || d.reload.lost(ipc.RoleTraffic) || !d.reload.holds(ipc.RoleTraffic) {
		t.Error("whom it waits for")
	}
	traffic.dead = true
	if err := d.startAgain(traffic); err != nil || d.reload.waiting != traffic {
		t.Error("it does not wait: ", err)
	}
	d.reload.waiting = nil // there is nothing to start here
	old := d.policies[ipc.RoleTraffic]
	says(t, d, holder, ipc.SignalLoaded)
	if d.reload != nil || d.policies[ipc.RoleTraffic] == old {
		t.Error("it is not over")
	}

	// After the holder: nothing is left to wait for.
	d, traffic, holder, sent = begin()
	d.haveRead(<-d.read)
	<-sent[traffic]
	says(t, d, traffic, ipc.SignalLoaded)
	<-sent[holder]
	traffic.heard.Store(0)
	says(t, d, holder, ipc.SignalLoaded)
	if d.reload.holderLoads() || traffic.heard.Load() == 0 {
		t.Error("who was silent for the holder's sake pays for it")
	}
	if !d.reload.lost(ipc.RoleTraffic) {
		t.Error("it waits for who is dead")
	}
	if err := d.reloaded(); err != nil || d.reload != nil {
		t.Error("it is not over: ", err)
	}
}

// TestWordsOfTheDead: what comes from a child whose end is known is no news.
func TestWordsOfTheDead(t *testing.T) {
	d, traffic, _, _ := reloader(t, twoFilters)
	traffic.dead = true
	for _, e := range []event{{signal: ipc.SignalLoaded}, {err: errProtocol}, {err: os.ErrClosed}} {
		e.child = traffic
		if err := d.hears(e); err != nil || traffic.wrong != nil {
			t.Errorf("%+v: %v, %v", e, err, traffic.wrong)
		}
	}
	traffic.dead, traffic.wrong = false, errProtocol
	if err := d.hears(event{child: traffic, err: os.ErrClosed}); err != nil || traffic.wrong != errProtocol {
		t.Errorf("%v, %v", err, traffic.wrong)
	}
}

// TestReloadThatWaits: one that was handed to nobody, since not all work, ends
// without a change.
func TestReloadThatWaits(t *testing.T) {
	d, traffic, _, _ := reloader(t, twoFilters)
	traffic.dead = true
	d.startReload()
	d.haveRead(<-d.read)
	if err := d.tooLong(); err != nil || d.reload != nil {
		t.Errorf("%v, %+v", err, d.reload)
	}
}

// TestMourn: what a child did wrong is said, and what it died of if that was not
// this process.
func TestMourn(t *testing.T) {
	for _, test := range []struct {
		status unix.WaitStatus
		wrong  error
		want   string
	}{
		{status: 9, want: "signal SIGKILL"},
		{status: 9, wrong: errProtocol, want: "protocol error"},
		{status: 2 << 8, wrong: errProtocol, want: "protocol error; exit status 2"},
		{status: 11, wrong: errProtocol, want: "protocol error; signal SIGSEGV"},
	} {
		d, traffic, _, _ := reloader(t, twoFilters)
		traffic.wrong = test.wrong
		if got := d.mourn(traffic, &death{status: test.status}); got != test.want {
			t.Errorf("%#x, %v: %q, not %q", int(test.status), test.wrong, got, test.want)
		}
	}
}

// TestCannotBuild: that the kernel lacks something for a cell is final, and not
// because a child says so that has had one.
func TestCannotBuild(t *testing.T) {
	for s, final := range map[stage]bool{building: true, loading: false, working: false} {
		d, _, _, _ := reloader(t, twoFilters)
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer write.Close()
		c := &child{role: ipc.RoleTraffic, stage: s, control: -1, verdicts: -1, pidfd: -1, stderr: read}
		d.deaths[c.role] = nil
		d.tree.queues = nil
		err = d.fell(c, &death{status: exit.Unavailable << 8})
		if (err != nil) != final || final && exit.Code(err) != exit.Unavailable {
			t.Errorf("stage %d: %v", s, err)
		}
	}
}
