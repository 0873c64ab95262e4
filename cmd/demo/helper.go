package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// The processes that are this same binary: the first argument.
const (
	roleResolver = "resolver"
	roleWeb      = "web"
	roleVisitor  = "visitor"
	roleGuard    = "guard"
)

// helperUID is who the resolver and the web server are once they have their
// ports.
const helperUID = 59000

// helper is a running resolver, web server or guard. It lives until its stdin
// ends, which also happens when the demo is killed.
type helper struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr strings.Builder
}

// readyFor is how long a helper may take to say that it is ready.
const readyFor = 5 * time.Second

func self(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	// A group of its own: Ctrl-C is for the demo, which stops all in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// startHelper starts a role in a namespace and waits until it is ready.
func (n *namespaces) startHelper(ns int, role string, files ...*os.File) (*helper, error) {
	h := &helper{cmd: self(role)}
	h.cmd.ExtraFiles = files
	h.cmd.Stderr = &h.stderr
	stdin, err := h.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.stdin = stdin
	if err := n.startIn(ns, h.cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	said := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(stdout).ReadString('\n')
		said <- err
	}()
	select {
	case err = <-said:
	case <-time.After(readyFor):
		err = fmt.Errorf("not ready after %v", readyFor)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", role, errors.Join(err, h.stop()), strings.TrimSpace(h.stderr.String()))
	}
	return h, nil
}

// stop ends a helper and waits until it is gone.
func (h *helper) stop() error {
	closeErr := h.stdin.Close()
	limit := time.AfterFunc(readyFor, func() { _ = h.cmd.Process.Kill() })
	defer limit.Stop()
	return errors.Join(closeErr, h.cmd.Wait())
}

// sayReady is a helper's side: it says so, and waits for its end.
func sayReady() error {
	if _, err := fmt.Println("ready"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// become gives root up for good. A program starts as root and becomes who it
// is by itself because the binary may be out of that user's reach.
func become(uid int) error {
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(uid, uid, uid); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	if syscall.Setresuid(0, 0, 0) == nil {
		return errors.New("bug: root came back")
	}
	return nil
}
