package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/capnspacehook/egress-eddie/parent/config"
)

// daemon is the running Egress Eddie.
type daemon struct {
	cmd    *exec.Cmd
	log    *logWatch
	stderr strings.Builder
	guard  *helper
	opened time.Duration // from its start until the filter was open
}

const (
	openWithin = 10 * time.Second
	stopWithin = 3 * time.Second
)

// startDaemon starts the daemon on the machine and waits until it filters.
func (n *namespaces) startDaemon(ctx context.Context, binary string, file *os.File, c *config.Config) (*daemon, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	d := &daemon{log: watchLog(read)}
	d.cmd = exec.Command(binary, "-c", "/dev/stdin", "-l", "stdout", "-log-format", "json", "-d")
	d.cmd.Dir = "/"
	d.cmd.Env = []string{}
	d.cmd.Stdin, d.cmd.Stdout, d.cmd.Stderr = file, write, &d.stderr
	pidfd := -1
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd}
	began := time.Now()
	err = n.startIn(n.machine, d.cmd)
	if closeErr := write.Close(); err != nil || closeErr != nil {
		return nil, errors.Join(err, closeErr)
	}
	guarded := os.NewFile(uintptr(pidfd), "pidfd")
	d.guard, err = n.startHelper(n.machine, roleGuard, guarded)
	if err := errors.Join(err, guarded.Close()); err != nil {
		return d, err
	}
	lines := d.log.wait(ctx, 0, openWithin, func(lines []logLine) bool { return opened(lines) != nil })
	line := opened(lines)
	if line == nil {
		return d, errors.New("the daemon did not open the filter")
	}
	d.opened = line.Time.Sub(began)
	if want := len(c.Filters); !strings.Contains(line.text, fmt.Sprintf(`"filters":%d,`, want)) {
		return d, fmt.Errorf("the daemon does not say that it filters with %d filters: %s", want, line.text)
	}
	return d, nil
}

// opened is the line in which the parent says that packets are let in.
func opened(lines []logLine) *logLine {
	for i := range lines {
		if lines[i].Message == "filtering" {
			return &lines[i]
		}
	}
	return nil
}

// stop asks the daemon to end, and requires that it does so with status 0,
// soon, and with all its children.
func (d *daemon) stop() (time.Duration, error) {
	began := time.Now()
	err := d.cmd.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil // Wait says how
	}
	limit := time.AfterFunc(stopWithin, func() { _ = d.cmd.Process.Kill() })
	defer limit.Stop()
	if waitErr := d.cmd.Wait(); waitErr != nil {
		err = errors.Join(err, fmt.Errorf("the daemon: %w", waitErr))
	}
	err = errors.Join(err, d.log.end(stopWithin))
	took := time.Since(began)
	if d.guard != nil {
		err = errors.Join(err, d.guard.stop())
	}
	return took, err
}

// complaints is what the daemon said of trouble: its stderr and the errors in
// its log, of which the last one, "stopped", repeats what stderr says.
func (d *daemon) complaints() []string {
	var all []string
	for line := range strings.Lines(d.stderr.String()) {
		all = append(all, strings.TrimSpace(line))
	}
	for _, l := range d.log.since(0) {
		if l.Level == "error" && (l.Message != "stopped" || len(all) == 0) {
			all = append(all, l.text)
		}
	}
	return all
}
