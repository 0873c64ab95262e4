package parent

import (
	"flag"
	"io"
	"strconv"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/sandbox"
)

func auditCommand(args []string, out io.Writer) error {
	fs := flag.NewFlagSet("audit", flag.ContinueOnError)
	asJSON := fs.Bool("json", false, "")
	rest, err := parseFlags(fs, args, auditUsage, out)
	if err != nil {
		return err
	}
	pid := 0
	if len(rest) == 1 {
		if pid, err = strconv.Atoi(rest[0]); err != nil || pid < 1 {
			return commandError(fs, "%q is no process id", rest[0])
		}
	}
	r, err := sandbox.Audit(pid)
	if err != nil {
		return err
	}
	if *asJSON {
		err = printJSON(r, out)
	} else {
		_, err = io.WriteString(out, r.Text())
	}
	if err != nil {
		return err
	}
	return verdict(r)
}

// verdict is nil for a tree that is as it should be.
func verdict(r *sandbox.Report) error {
	if r.OK {
		return nil
	}
	wrong := 0
	for _, row := range r.Processes {
		if len(row.Deviations) > 0 {
			wrong++
		}
	}
	return exit.Errorf(exit.Software, "%d of %d processes are not as they should be", wrong, len(r.Processes))
}
