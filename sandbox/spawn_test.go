package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// left are the children that were left to themselves.
var left []Started

// firstWord waits for every child on its control socket.
const firstWord = "policy"

// startChild starts a child with exactly the descriptors of its role, and
// waits for its end.
func startChild(c childPlan, uid, gid int) (outcome, error) {
	o := outcome{Plan: c}
	p, err := profileOf(c.Role, c.Queues)
	if err != nil {
		return o, err
	}
	files := make([]uintptr, ipc.FDQueues+c.Queues)
	for i := range files {
		files[i] = ^uintptr(0)
	}
	peers := map[int]int{}
	for _, fd := range p.held() {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return o, err
		}
		// Away from the numbers that files will be given.
		if pair[0], err = unix.FcntlInt(uintptr(pair[0]), unix.F_DUPFD_CLOEXEC, 100); err != nil {
			return o, err
		}
		peers[fd], files[fd] = pair[0], uintptr(pair[1])
	}
	if p.passes != nil {
		err = sendSockets(peers[ipc.FDControl])
	} else {
		_, err = unix.Write(peers[ipc.FDControl], []byte(firstWord))
	}
	if err != nil {
		return o, err
	}
	if c.Given != 0 {
		given, err := unix.FcntlInt(uintptr(c.Given), unix.F_DUPFD_CLOEXEC, 100)
		if err := errors.Join(err, unix.Close(int(files[ipc.FDQueues]))); err != nil {
			return o, err
		}
		files[ipc.FDQueues] = uintptr(given)
	}
	var errPipe [2]int
	if err := unix.Pipe2(errPipe[:], unix.O_CLOEXEC); err != nil {
		return o, err
	}
	files[ipc.FDStderr] = uintptr(errPipe[1])
	if c.Build == buildStrays {
		files[1] = files[ipc.FDControl]
		files[12] = files[ipc.FDControl]
		files = append(files, files[ipc.FDControl], ^uintptr(0), files[ipc.FDControl])
	}
	if err := SetDumpable(true); err != nil {
		return o, err
	}
	in := Isolated
	if c.Build == buildShared {
		in = Shared
	}
	attr := ChildAttr(uid, gid, in)
	if f, ok := flaws[c.Build]; ok {
		attr.Cloneflags &^= f.notOwn
		if f.asRoot {
			attr.UidMappings[0].ContainerID, attr.GidMappings[0].ContainerID = 0, 0
			attr.Credential = &syscall.Credential{NoSetGroups: true}
		}
	}
	args := []string{"egress-eddie", string(c.Role), strconv.Itoa(c.Queues)}
	if in == Shared {
		args = append(args, SharedWord)
	}
	fork := func() (err error) {
		o.PID, err = syscall.ForkExec("/proc/self/exe", append(args, mustJSON(c)), &syscall.ProcAttr{
			Env: append([]string{"SECRET=1"}, c.Env...), Files: files, Sys: attr,
		})
		return err
	}
	if flaws[c.Build].ahead {
		err = fork()
	} else {
		err = fromBehind(fork)
	}
	if err := errors.Join(err, SetDumpable(false)); err != nil {
		return o, fmt.Errorf("start: %w", err)
	}
	for fd, child := range files {
		if child != ^uintptr(0) && (fd < ipc.FDQueues+c.Queues) && fd != 1 && fd != 12 {
			if err := unix.Close(int(child)); err != nil {
				return o, err
			}
		}
	}
	if c.Leave {
		left = append(left, Started{Role: c.Role, Queues: c.Queues, PID: o.PID})
		return o, readReady(peers[ipc.FDControl])
	}
	defer func() {
		for _, fd := range peers {
			_ = unix.Close(fd)
		}
	}()
	return o, o.watch(peers[ipc.FDControl], errPipe[0])
}

// fromBehind forks on a thread that stands behind the main one and never ends.
func fromBehind(fork func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := StandBehind()
		if err == nil {
			err = fork()
		}
		done <- err
		select {}
	}()
	return <-done
}

func readReady(control int) error {
	buf := make([]byte, 64)
	n, err := unix.Read(control, buf)
	if err == nil && string(buf[:n]) != "ready" {
		err = fmt.Errorf("not ready but %q", buf[:n])
	}
	return err
}

// watch reads what the child says until its end, and its standard error at
// the same time: a trace that does not fit the pipe would keep it from dying.
func (o *outcome) watch(control, stderr int) error {
	trace := make(chan string)
	go func() {
		text, _ := io.ReadAll(os.NewFile(uintptr(stderr), "stderr"))
		trace <- string(text)
	}()
	said, err := o.listen(control)
	if err != nil {
		return err
	}
	o.Stderr = <-trace
	var status unix.WaitStatus
	if _, err := unix.Wait4(o.PID, &status, 0, nil); err != nil {
		return err
	}
	switch {
	case status.Signaled():
		o.Result = unix.SignalName(status.Signal())
	case status.ExitStatus() != 0:
		o.Result = "exit " + strconv.Itoa(status.ExitStatus())
	default:
		o.Result = strings.Join(said, " ")
	}
	return nil
}

// listen is what the child says on its control socket.
func (o *outcome) listen(control int) (said []string, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(control, buf)
		// ECONNRESET: it left something unread; what it said is still to come.
		if err == unix.EINTR || err == unix.ECONNRESET {
			continue
		}
		if err == nil && n == 0 {
			return said, nil
		}
		if err != nil {
			return nil, err
		}
		switch text := string(buf[:n]); text {
		case "ready":
			o.Ready = true
		case "terminate me":
			if err := unix.Kill(o.PID, unix.SIGTERM); err != nil {
				return nil, err
			}
		case "stop me":
			if err := stopAndContinue(o.PID); err != nil {
				return nil, err
			}
			o.Stops++
		default:
			said = append(said, text)
		}
	}
}

// stopAndContinue stops a process, waits until it has stopped, and lets it go
// on. What a death leaves to be waited for stays there.
func stopAndContinue(pid int) error {
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		return err
	}
	const cldStopped = 5 // CLD_STOPPED
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return err
		}
	}
	if info.Code != cldStopped {
		return errors.New("it ended instead of stopping")
	}
	time.Sleep(30 * time.Millisecond) // sleeps and waits run out meanwhile
	return unix.Kill(pid, unix.SIGCONT)
}

// childMain never uses package os for output: its files ask fcntl first.
func childMain(text string) {
	var c childPlan
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		childFails(err)
	}
	var err error
	switch c.Build {
	case buildEnter, buildStrays:
		err = Enter(c.Role, c.Queues, Isolated)
	case buildShared:
		err = Enter(c.Role, c.Queues, Shared)
	case buildCell, buildNaming:
		p, profileErr := profileOf(c.Role, c.Queues)
		if profileErr != nil {
			childFails(profileErr)
		}
		steps := p.cell()
		if c.Build == buildNaming {
			p.rules = append(p.rules, allow("prctl", "the runtime names its memory", is(0, unix.PR_SET_VMA)))
			steps = append(steps, p.lock()...)
		}
		err = run(steps, childFault)
	default:
		if f, ok := flaws[c.Build]; ok {
			err = enterFlawed(f, c)
		}
	}
	if err != nil {
		childFails(err)
	}
	say("ready")
	act, ok := childActs[c.Act]
	if !ok {
		childFails(fmt.Errorf("no act %q", c.Act))
	}
	say(act(c))
	os.Exit(0)
}

func childFails(err error) {
	_, _ = unix.Write(ipc.FDStderr, []byte(err.Error()))
	os.Exit(exit.Code(err))
}

func say(text string) {
	if _, err := unix.Write(ipc.FDControl, []byte(text)); err != nil {
		os.Exit(99)
	}
}
