package parent

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

const reloadUsage = `Usage: egress-eddie reload PID

Has the running tree whose parent is process PID read its configuration again,
as SIGHUP does. Its log says what came of it.

Exit status: 0 asked, 64 usage, 69 there is no such process, or it is another
program, 77 missing privilege.
`

// reloadCommand is kill(1) for a service that sees no program but this one.
// PID is not looked for: nobody but root sees a tree that runs as a service.
func reloadCommand(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("reload", flag.ContinueOnError)
	rest, err := parseFlags(fs, args, reloadUsage, out)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return commandError(fs, "the process id of the parent is missing")
	}
	pid, err := strconv.Atoi(rest[0])
	if err != nil || pid < 2 { // 1, 0 and below would be the init process, or groups and everybody
		return commandError(fs, "%q is no process id", rest[0])
	}
	if other := notThisProgram(pid); other != "" {
		return exit.Errorf(exit.Unavailable, "process %d is not the parent of a running tree but %s", pid, other)
	}
	switch err := unix.Kill(pid, unix.SIGHUP); {
	case errors.Is(err, unix.ESRCH):
		return exit.Errorf(exit.Unavailable, "process %d: %w", pid, err)
	case err != nil:
		return exit.Errorf(exit.NoPerm, "process %d: %w", pid, err)
	}
	return nil
}

// notThisProgram is what a process runs instead, "" if it is this program's
// parent or cannot be seen.
func notThisProgram(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) == 0 {
		return ""
	}
	args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	child := len(args) > 1 && slices.Contains(ipc.AllChildren, ipc.Role(args[1]))
	if filepath.Base(args[0]) == "egress-eddie" && !child {
		return ""
	}
	return fmt.Sprintf("%q", strings.Join(args[:min(len(args), 2)], " "))
}
