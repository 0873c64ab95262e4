package main_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// killed is the end of a child that seccomp killed for a system call. The
// kernel says which one only so many times a second, to all processes together
// (printk_ratelimit in kernel/audit.c).
func killed(role ipc.Role, name string, number int) end {
	return end{role, "died: killed by seccomp (SIGSYS): ", fmt.Sprintf("system call %s (%d)", name, number), ""}
}

// Every child of the real tree tries to let the packet pass that set it off,
// by the message that the parent would send. Those that read queues hold the
// very socket. The kernel kills it, and the packet does not get through.
func TestOwnedVerdict(t *testing.T) {
	t.Parallel()
	for _, role := range ipc.Children {
		for _, call := range []struct {
			name   string
			number int
		}{{"write", unix.SYS_WRITE}, {"sendto", unix.SYS_SENDTO}} {
			t.Run(fmt.Sprint(role, " ", call.name), func(t *testing.T) {
				t.Parallel()
				o := ownedLab(t, role, call.name+"-verdict", ownedConfig())
				o.setOff()
				o.falls(killed(role, call.name, call.number))
				if role == ipc.RoleResponses {
					o.asker.nothing()
					return
				}
				o.outside("go.example.com")
			})
		}
	}
}

// A child that says Ready and has no cell is found out by the parent before
// anything is handed to anybody.
func TestOwnedNoCell(t *testing.T) {
	t.Parallel()
	for _, role := range ipc.AllChildren {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			cmd := exec.Command(standIn(t, role, "no-cell"), "-c", configFile(t, configWith(role).String()), "-log-format", "json")
			l.daemon = startCommand(t, l.client, cmd)
			l.daemon.expectExit(70)
			if !l.daemon.wait(t, patience) {
				t.Fatal("the tree runs on")
			}
			line := l.daemon.sees(t, "stopped", fields{"@level": "error", "status": 70})
			if text := line.text("error"); !strings.HasPrefix(text, string(role)+" (pid ") ||
				!strings.Contains(text, " is not in its cell: ") || !strings.Contains(text, `number of filters is "1", should be "2"`) {
				t.Errorf("the log says %q", text)
			}
			l.daemon.never(t, "filtering", nil)
			if queues := l.client.queues(t); len(queues) != 0 {
				t.Errorf("queues are left: %+v", queues)
			}
		})
	}
}

// Last words are shown as text, whatever they hold: no line of the log is
// forged by them.
func TestOwnedLastWords(t *testing.T) {
	t.Parallel()
	o := ownedLab(t, ipc.RoleRequests, "stderr-escape", ownedConfig())
	o.setOff()
	o.falls(noticed(ipc.RoleRequests, `\x1b[2J\r\x1b]0;owned\a`))
	o.daemon.never(t, "forged", nil)
	if strings.ContainsRune(o.daemon.output(), 0x1b) {
		t.Error("an escape sequence reached the log")
	}
	o.outside("go.example.com")
}
