package parent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

func TestProfileCommand(t *testing.T) {
	all := append([]ipc.Role{ipc.RoleParent}, ipc.AllChildren...)
	run := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if err := profileCommand(args, &out); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		for line := range strings.Lines(out.String()) {
			if len(line) > 81 && !strings.Contains(strings.Join(args, " "), "json") {
				t.Errorf("%q: %q is wider than a screen", args, line)
			}
		}
		return out.String()
	}
	for _, role := range all {
		if text := run(string(role)); !strings.HasPrefix(text, string(role)+" on ") || strings.Count(text, " system calls\n") != 1 {
			t.Errorf("%s: %s", role, text)
		}
		if !strings.Contains(run(), "\n"+string(role)+" on ") && role != ipc.RoleParent {
			t.Errorf("%s is not among all", role)
		}
		if text := run("-format", "bpf", string(role)); !strings.HasPrefix(text, "; "+string(role)+" on ") || !strings.Contains(text, "; kill the process\n") {
			t.Errorf("%s: %s", role, text)
		}
	}
	var described []sandbox.Description
	if err := json.Unmarshal([]byte(run("-format=json")), &described); err != nil || len(described) != len(all) {
		t.Errorf("json: %d roles, %v", len(described), err)
	}
	for args, title := range map[string]string{
		"parent":                         "parent on ",
		"-lookups parent":                "parent with selfDNSQueue on ",
		"-lookups":                       "parent with selfDNSQueue on ",
		"-lookups resolver":              "resolver on ",
		"-format bpf -lookups parent":    "; parent with selfDNSQueue on ",
		"parent -lookups -format bpf":    "; parent with selfDNSQueue on ",
		"-lookups -format bpf allowlist": "; allowlist on ",
	} {
		text := run(strings.Fields(args)...)
		if !strings.HasPrefix(text, title) || strings.Contains(text, "setsockopt\n") != strings.HasPrefix(title, "; parent ") {
			t.Errorf("%q: %s", args, text)
		}
	}
	for _, lookups := range []bool{false, true} {
		text := run("-format", "json", fmt.Sprintf("-lookups=%t", lookups), "parent")
		if err := json.Unmarshal([]byte(text), &described); err != nil || described[0].Lookups != lookups ||
			strings.Contains(text, `or SO_MARK"`) != lookups || strings.Contains(text, `"connect_tcp to port 53"`) != lookups {
			t.Errorf("json with lookups %t: %v: %s", lookups, err, text)
		}
	}
	for _, args := range [][]string{{"trafficworker", "-queues", "7"}, {"-queues=7", "trafficworker"}} {
		if text := run(args...); !strings.Contains(text, "fd is 16 to 22\n") {
			t.Errorf("%q: %s", args, text)
		}
	}
}

func TestCommandUsage(t *testing.T) {
	for name, lines := range map[string][][]string{
		"profile": {{"nobody"}, {"-x"}, {"-format", "xml"}, {"-format"}, {"-queues", "0"}, {"-queues", "-1"}, {"-queues", "65536"}, {"allowlist", "parent"}, {""}},
		"reload":  {{}, {"x"}, {"0"}, {"1"}, {"-1"}, {"-x"}, {"2", "3"}, {""}},
		"audit":   {{"x"}, {"0"}, {"-1"}, {"1", "2"}, {"-yaml"}, {""}},
	} {
		for _, args := range lines {
			var out bytes.Buffer
			err := commands[name](args, &out)
			if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "egress-eddie "+name+" -h shows") || out.Len() > 0 {
				t.Errorf("%s %q: code %d, %v", name, args, exit.Code(err), err)
			}
		}
		var out bytes.Buffer
		if err := commands[name]([]string{"-h"}, &out); !errors.Is(err, errHelp) || !strings.HasPrefix(out.String(), "Usage: egress-eddie "+name) {
			t.Errorf("%s -h: %v: %s", name, err, out.String())
		}
	}
}

// TestReloadCommand signals a parent, and nothing else that can be seen.
func TestReloadCommand(t *testing.T) {
	// Where the tests run with the signal ignored, as under nohup, the stand-ins
	// would inherit that. One that is caught they do not.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"/usr/bin/egress-eddie"}, 0},
		{[]string{"cat"}, exit.Unavailable},
		{[]string{"egress-eddie", "allowlist", "-"}, exit.Unavailable},
	} {
		cmd := &exec.Cmd{Path: "/bin/cat", Args: c.args} // waits for its input, whatever it is called
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for line := []byte(nil); len(line) == 0; { // it is another program a moment before it has a name
			line, _ = os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
		}
		if err := reloadCommand([]string{strconv.Itoa(cmd.Process.Pid)}, io.Discard); exit.Code(err) != c.code {
			t.Errorf("%q: code %d, %v", c.args, exit.Code(err), err)
		}
		if c.code != 0 {
			stdin.Close()
		}
		cmd.Wait()
		if got := cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled(); got != (c.code == 0) {
			t.Errorf("%q: ended by a signal is %t", c.args, got)
		}
		stdin.Close()
	}
	if err := reloadCommand([]string{"1073741824"}, io.Discard); exit.Code(err) != exit.Unavailable {
		t.Errorf("no process: %v", err)
	}
}

// TestAuditVerdict: only a tree without deviation is good.
func TestAuditVerdict(t *testing.T) {
	if err := verdict(&sandbox.Report{OK: true}); err != nil {
		t.Error(err)
	}
	if err := verdict(&sandbox.Report{Processes: []sandbox.Row{{}, {Deviations: []string{"x"}}}}); exit.Code(err) != exit.Software || !strings.HasPrefix(err.Error(), "1 of 2 ") {
		t.Errorf("%v", err)
	}
}
