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

// pidfds are theirs.
var pidfds = map[int]int{}

// firstWord waits for every child on its control socket.
const firstWord = "policy"

// starter is a thread that starts children, as the real parent's does. ahead is
// another one, which does not stand behind the main one. NB: both are there before
// the parent locks itself, as each thread then has a Landlock domain of its own.
var starter, ahead chan func()

func newStarters() error {
	var err1, err2 error
	starter, err1 = newStarter(StandBehind)
	ahead, err2 = newStarter(func() error { return nil })
	return errors.Join(err1, err2)
}

func newStarter(prepare func() error) (chan func(), error) {
	work, ready := make(chan func()), make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks it
		ready <- prepare()
		for f := range work {
			f()
		}
	}()
	return work, <-ready
}

// onThread runs f there, with the process dumpable for that long.
func onThread(thread chan func(), f func() error) error {
	done := make(chan error)
	thread <- func() {
		err := SetDumpable(true)
		if err == nil {
			err = f()
		}
		done <- errors.Join(err, SetDumpable(false))
	}
	return <-done
}

// startChild starts a child with exactly the descriptors of its role, and
// waits for its end.
func startChild(c childPlan, sockets []int, uid, gid int, in Isolation) (outcome, error) {
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
	var theirs []int
	for _, fd := range p.held() {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return o, err
		}
		peers[fd], files[fd] = pair[0], uintptr(pair[1])
		theirs = append(theirs, pair[1])
	}
	if len(sockets) > 0 {
		err = sendSockets(peers[ipc.FDControl], sockets)
	} else {
		_, err = unix.Write(peers[ipc.FDControl], []byte(firstWord))
	}
	if err != nil {
		return o, err
	}
	if c.Given != 0 {
		files[ipc.FDQueues] = uintptr(c.Given)
	}
	var errPipe [2]int
	if err := unix.Pipe2(errPipe[:], unix.O_CLOEXEC); err != nil {
		return o, err
	}
	theirs, files[ipc.FDStderr] = append(theirs, errPipe[1]), uintptr(errPipe[1])
	if c.Build == buildStrays {
		files[1] = files[ipc.FDControl]
		files[12] = files[ipc.FDControl]
		files = append(files, files[ipc.FDControl], ^uintptr(0), files[ipc.FDControl])
	}
	o.PID, o.pidfd, err = fork(c, files, uid, gid, in)
	if err != nil {
		return o, fmt.Errorf("start: %w", err)
	}
	for _, fd := range theirs {
		if err := unix.Close(fd); err != nil {
			return o, err
		}
	}
	if c.Leave {
		left = append(left, Started{Role: c.Role, Queues: c.Queues, PID: o.PID})
		pidfds[o.PID] = o.pidfd
		return o, readReady(peers[ipc.FDControl])
	}
	defer func() {
		_ = unix.Close(o.pidfd)
		for _, fd := range peers {
			_ = unix.Close(fd)
		}
	}()
	return o, o.watch(peers[ipc.FDControl], errPipe[0])
}

// fork starts the process.
func fork(c childPlan, files []uintptr, uid, gid int, in Isolation) (pid, pidfd int, err error) {
	attr, thread := ChildAttr(uid, gid, in), starter
	attr.PidFD = &pidfd
	if f, ok := flaws[c.Build]; ok {
		attr.Cloneflags &^= f.notOwn
		if f.asRoot {
			attr.UidMappings[0].ContainerID, attr.GidMappings[0].ContainerID = 0, 0
			attr.Credential = &syscall.Credential{NoSetGroups: true}
		}
		if f.ahead {
			thread = ahead
		}
	}
	args := []string{"egress-eddie", string(c.Role), strconv.Itoa(c.Queues)}
	if in == Shared {
		args = append(args, SharedWord)
	}
	err = onThread(thread, func() (err error) {
		pid, _, err = syscall.StartProcess("/proc/self/exe", append(args, mustJSON(c)), &syscall.ProcAttr{
			Env: append([]string{"SECRET=1"}, c.Env...), Files: files, Sys: attr,
		})
		return err
	})
	return pid, pidfd, err
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
			if err := o.signal(unix.SIGTERM); err != nil {
				return nil, err
			}
		case "stop me":
			if err := stopAndContinue(o.PID, o.signal); err != nil {
				return nil, err
			}
			o.Stops++
		default:
			said = append(said, text)
		}
	}
}

func (o *outcome) signal(s unix.Signal) error { return unix.PidfdSendSignal(o.pidfd, s, nil, 0) }

// stopAndContinue stops a process, waits until it has stopped, and lets it go
// on.
func stopAndContinue(pid int, signal func(unix.Signal) error) error {
	if err := signal(unix.SIGSTOP); err != nil {
		return err
	}
	for {
		status, err := readStatus(procPath(pid, "status"))
		if err != nil {
			return err
		}
		if strings.HasPrefix(status["State"], "T") {
			break
		}
		if strings.HasPrefix(status["State"], "Z") {
			return errors.New("it ended instead of stopping")
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(30 * time.Millisecond) // sleeps and waits run out meanwhile
	return signal(unix.SIGCONT)
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
