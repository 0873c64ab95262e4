package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// replaceable are the roles that are started again alone.
var replaceable = []ipc.Role{ipc.RoleTraffic, ipc.RoleRequests, ipc.RoleResponses, ipc.RoleResolver}

// againWithin is how long the tree may take from a death, on a machine that
// others use too, until all works as before.
const againWithin = 3 * time.Second

// A child killed in the middle of a flood that gives all of them work: another
// takes its place, while the others work on. What was open stays open without that
// anybody asks again, nothing else is ever let through, and no packet is left.
func TestKilledChild(t *testing.T) {
	for _, role := range replaceable {
		for _, f := range families {
			t.Run(fmt.Sprint(role, " ", f.name), func(t *testing.T) {
				l := openedWith(t, f, role)
				l.daemon.mayLogErrors = true
				tr := l.flood(t, f, f.web(1), f.web(2))
				tr.flows(t)
				before := l.daemon.processes(t)
				for death := 1; death <= 3; death++ {
					p := l.daemon.processes(t)
					dead := kill(t, p.children[role])
					l.daemon.sees(t, "died", fields{"role": string(role), "pid": p.children[role], "how": "signal SIGKILL"})
					traffic := tr.flowsAfter(t, dead)
					asked := time.Now()
					l.asksUntilAnswered(t, f, "example.com")
					t.Logf("traffic %v after the death, an answer %v", traffic, time.Since(dead))
					if took := time.Since(dead); took > againWithin {
						t.Errorf("all works again %v after the death (%v of it for an answer)", took, time.Since(asked))
					}
					l.daemon.sees(t, "will be started again", fields{"role": string(role), "deaths": death})
					if !eventually(func() bool { return l.daemon.count("started again") == death }) {
						t.Fatal("it is not started again")
					}
				}
				after := l.daemon.processes(t)
				for _, other := range after.roles() {
					if (after.children[other] == before.children[other]) != (other != role) {
						t.Errorf("%s was process %d and is %d", other, before.children[other], after.children[other])
					}
				}
				tr.end()
				if tr.denied > 0 {
					t.Errorf("%d denied packets arrived", tr.denied)
				}
				if role != ipc.RoleResolver { // where it would be looked up
					l.isShut(t, f.web(3))
				}
				l.idle(t)
				if out, status := l.client.run(t, exec.Command(builtBinary, "audit", fmt.Sprint(after.parent))); status != 0 {
					t.Errorf("audit: %d\n%s", status, out)
				}
			})
		}
	}
}

// asksUntilAnswered asks as a client does: again after a while without an answer.
func (l *lab) asksUntilAnswered(t *testing.T, f family, name string) {
	t.Helper()
	a := l.client.asker(t, f.client)
	wire := pack(t, question(name, typeOf(f)))
	answer := make([]byte, 512)
	if !eventually(func() bool {
		a.sendWire(f.dns(), wire)
		a.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := a.conn.Read(answer)
		return err == nil
	}) {
		t.Error("no question is answered")
	}
}

// flowsAfter waits until a granted packet arrives that was sent after an
// instant, and returns how long after it.
func (tr *traffic) flowsAfter(t *testing.T, since time.Time) (first time.Duration) {
	t.Helper()
	if !eventually(func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		i := slices.IndexFunc(tr.granted, func(sent time.Time) bool { return sent.After(since) })
		if i >= 0 {
			first = tr.granted[i].Sub(since)
		}
		return i >= 0
	}) {
		t.Fatal("no granted packet arrives any more")
	}
	return first
}

// A child that is stopped holds its packets up for two seconds; then another
// takes its place, and what waited is dropped. With the holder the tree ends.
func TestStoppedChild(t *testing.T) {
	for _, role := range ipc.AllChildren {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			f := families[0]
			l := openedWith(t, f, role)
			l.daemon.mayLogErrors = true
			p := l.daemon.processes(t)
			tr := l.flood(t, f, f.web(1), f.web(2))
			tr.flows(t)
			stopped := time.Now()
			if err := unix.Kill(p.children[role], unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			if role == ipc.RoleAllowlist {
				l.daemon.expectExit(70)
				if !l.daemon.wait(t, againWithin+endsWithin) {
					t.Fatal("the tree runs on")
				}
				line := l.daemon.sees(t, "stopped", fields{"@level": "error", "status": 70})
				if !strings.HasPrefix(line.text("error"), fmt.Sprintf("allowlist (pid %d): silent for 2", p.children[role])) {
					t.Errorf("the log says %q", line.text("error"))
				}
				return
			}
			if role == ipc.RoleTraffic {
				l.held(t, trafficQueue(0, f), 50)
			}
			died := l.daemon.sees(t, "died", fields{"role": string(role), "pid": p.children[role]})
			if took := time.Since(stopped); !strings.HasPrefix(died.text("how"), "silent for 2") || took < ipc.AliveEvery || took > 2*againWithin {
				t.Errorf("after %v: %q", took, died.text("how"))
			}
			tr.flowsAfter(t, time.Now())
			l.asksUntilAnswered(t, f, "example.com")
			tr.end()
			l.idle(t)
		})
	}
}

// A parent that was stopped takes nobody for dead that it has not listened to.
func TestStoppedParent(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := opened(t, f)
	p := l.daemon.processes(t)
	for _, signal := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT} {
		if err := unix.Kill(p.parent, signal); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
	}
	l.daemon.never(t, "died", nil)
	l.reaches(t, f.web(1))
}

// A role that dies again and again ends the tree, which says so.
func TestDiesTooOften(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := opened(t, f)
	l.daemon.expectExit(70)
	p := l.daemon.processes(t)
	for death := 1; death <= 10; death++ {
		pid := 0
		if !eventually(func() bool {
			p, err := l.daemon.tryProcesses()
			pid = p.children[ipc.RoleTraffic]
			return err == nil && pid != 0 && running(pid)
		}) {
			t.Fatalf("no trafficworker after %d deaths", death-1)
		}
		kill(t, pid)
		l.daemon.sees(t, "died", fields{"pid": pid})
	}
	if !l.daemon.wait(t, endsWithin) {
		t.Fatal("the tree runs on")
	}
	line := l.daemon.sees(t, "stopped", fields{"@level": "error", "status": 70})
	if !strings.Contains(line.text("error"), "died for the 10th time within 1m0s: signal SIGKILL") {
		t.Errorf("the log says %q", line.text("error"))
	}
	var pauses []string
	for _, line := range l.daemon.log() {
		if line.message() == "will be started again" {
			pauses = append(pauses, line.text("in"))
		}
	}
	if want := "10ms 20ms 40ms 80ms 160ms 320ms 640ms 1.28s 2.56s"; strings.Join(pauses, " ") != want {
		t.Errorf("paused %v, want %s", pauses, want)
	}
	p.goneWithin(t, patience)
}

// A trafficworker that dies around a reload: whatever was in force when, the name
// that the file has lost is closed when the reload is done, and the other is open.
func TestKilledInReload(t *testing.T) {
	t.Parallel()
	f := families[0]
	random := rand.New(rand.NewPCG(1, 2))
	l := newLab(t)
	l.resolver(f.resolver, webZone(f))
	both, one := allowing("w1.example.com", "w2.example.com"), allowing("w1.example.com")
	file := l.startFrom(t, both)
	l.daemon.mayLogErrors = true
	l.rules(standardRules)
	for range 8 {
		l.reload(t, file, both.String(), "configuration reloaded")
		l.resolves(t, f, "w1.example.com", typeOf(f), f.web(1))
		l.resolves(t, f, "w2.example.com", typeOf(f), f.web(2))
		p := l.daemon.processes(t)
		after := time.Duration(random.IntN(6000)) * time.Microsecond
		time.AfterFunc(after, func() { unix.Kill(p.children[ipc.RoleTraffic], unix.SIGKILL) })
		l.reload(t, file, one.String(), "configuration reloaded")
		if !eventually(func() bool {
			return !running(p.children[ipc.RoleTraffic]) && l.daemon.count("died") == l.daemon.count("started again")
		}) {
			t.Fatal("the trafficworker is not started again")
		}
		l.isShut(t, f.web(2))
		l.reaches(t, f.web(1))
	}
}

// A successor that is stopped before it works: nothing waits longer for that than
// for one that worked.
func TestStoppedSuccessor(t *testing.T) {
	t.Parallel()
	f := families[0]
	l := opened(t, f)
	l.daemon.mayLogErrors = true
	tr := l.flood(t, f, f.web(1), f.web(2))
	tr.flows(t)
	old := l.daemon.processes(t).children[ipc.RoleTraffic]
	kill(t, old)
	pid := 0
	if !eventually(func() bool {
		p, err := l.daemon.tryProcesses()
		pid = p.children[ipc.RoleTraffic]
		return err == nil && pid != old
	}) {
		t.Fatal("it is not started again")
	}
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	l.held(t, trafficQueue(0, f), 20)
	tr.end()
	l.idle(t)
	if waited := time.Since(stopped); waited > againWithin {
		t.Errorf("packets waited for %v", waited)
	}
	if !eventually(func() bool { return l.daemon.count("died") == 2 && l.daemon.count("started again") >= 1 }) {
		t.Error("it is not taken for dead")
	}
	l.reaches(t, f.web(1))
}

// SIGUSR1 while a process is started again: it has the new log, or gets it when
// it works, and does not die of it.
func TestRotateInRestart(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	path := filepath.Join(openDir(t), "log")
	if err := os.Chown(filepath.Dir(path), ordinary, ordinary); err != nil {
		t.Fatal(err)
	}
	l.daemon = startCommand(t, l.client, exec.Command(builtBinary, "-u", fmt.Sprint(ordinary), "-l", path,
		"-c", configFile(t, allowing("example.com").String())))
	count := func(message string) int {
		text, _ := os.ReadFile(path)
		return strings.Count(string(text), `"@message":"`+message+`"`)
	}
	if !eventually(func() bool { return count("filtering") == 1 }) {
		t.Fatal("it does not come up")
	}
	for death := 1; death <= 3; death++ {
		p := l.daemon.processes(t)
		kill(t, p.children[ipc.RoleTraffic])
		if !eventually(func() bool {
			if err := unix.Kill(p.parent, unix.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			return count("started again") == death
		}) {
			t.Fatal("it is not started again")
		}
	}
	if n := count("died"); n != 3 {
		t.Errorf("%d deaths of 3 kills", n)
	}
}
