package parent

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

// commands are the first arguments that start no tree.
var commands = map[string]func(args []string, out io.Writer) error{
	"profile": profileCommand,
	"audit":   auditCommand,
	"reload":  reloadCommand,
}

// mainOf is Main for a command.
func mainOf(command func([]string, io.Writer) error, args []string) int {
	err := command(args, os.Stdout)
	if errors.Is(err, errHelp) {
		return 0
	}
	if err != nil {
		complain(os.Stderr, err)
	}
	return exit.Code(err)
}

const profileUsage = `Usage: egress-eddie profile [-format F] [-queues N] [-lookups] [ROLE]

Prints what the cell of a role is made of, and why, without ROLE of all:
parent, allowlist, trafficworker, dnsworker-requests, dnsworker-responses,
resolver.

  -format F   text, json, or bpf for the system call filter as it is loaded
              (default text)
  -queues N   show roles that read queues with N of them (default 2)
  -lookups    show the parent as it is with selfDNSQueue, when there is a
              resolver whose sockets it makes
`

const auditUsage = `Usage: egress-eddie audit [-json] [PID]

Compares the running tree with what its profiles say, from /proc; PID is the
parent's, when more than one tree runs. Run it as root.

Exit status: 0 all is as it should be, 64 usage, 69 nothing is running, 70
something deviates, 77 missing privilege.
`

// parseFlags reads the flags of a command and at most one argument, in any
// order.
func parseFlags(fs *flag.FlagSet, args []string, help string, out io.Writer) (rest []string, err error) {
	fs.SetOutput(io.Discard)
	for {
		switch err := fs.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprint(out, help)
			return nil, errHelp
		case err != nil:
			return nil, commandError(fs, "%v", err)
		case fs.NArg() == 0 && len(rest) > 1:
			return nil, commandError(fs, "unexpected argument %q", rest[1])
		case fs.NArg() == 0:
			return rest, nil
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
}

func commandError(fs *flag.FlagSet, format string, args ...any) error {
	return exit.WithHint(exit.Usage, "egress-eddie "+fs.Name()+" -h shows how it is used", format, args...)
}

func profileCommand(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("profile", flag.ContinueOnError)
	format := fs.String("format", "text", "")
	queues := fs.Int("queues", 2, "")
	lookups := fs.Bool("lookups", false, "")
	rest, err := parseFlags(fs, args, profileUsage, out)
	if err != nil {
		return err
	}
	roles := append([]ipc.Role{ipc.RoleParent}, ipc.AllChildren...)
	switch {
	case *format != "text" && *format != "json" && *format != "bpf":
		return commandError(fs, "-format %q: must be text, json or bpf", *format)
	case *queues < 1 || *queues > ipc.MaxQueues:
		return commandError(fs, "-queues %d: must be 1 to %d", *queues, ipc.MaxQueues)
	case len(rest) == 1 && !slices.Contains(roles, ipc.Role(rest[0])):
		return commandError(fs, "there is no role %q", rest[0])
	case len(rest) == 1:
		roles = []ipc.Role{ipc.Role(rest[0])}
	}
	var all []*sandbox.Description
	for _, role := range roles {
		d, err := sandbox.Describe(role, *queues, *lookups)
		if err != nil {
			return err
		}
		all = append(all, d)
	}
	return printProfiles(all, *format, out)
}

func printProfiles(all []*sandbox.Description, format string, out io.Writer) error {
	if format == "json" {
		return printJSON(all, out)
	}
	for i, d := range all {
		text := d.Text()
		if format == "bpf" {
			text = d.Program()
		}
		if i > 0 {
			text = "\n" + text
		}
		if _, err := io.WriteString(out, text); err != nil {
			return err
		}
	}
	return nil
}

func printJSON(v any, out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
