package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
	"github.com/capnspacehook/egress-eddie/parent/config"
)

// stage is the running demo.
type stage struct {
	paper  *paper
	scenes []scene
	faults int // everything that was not as expected, and was said

	config  *config.Config
	file    *os.File // holds the configuration
	net     *namespaces
	helpers []*helper
	daemon  *daemon
}

// demo is the whole demo from top to bottom.
func demo(ctx context.Context, args []string) error {
	began := time.Now()
	binary, err := check(args)
	if err != nil {
		return err
	}
	s := &stage{paper: newPaper(os.Stdout), scenes: story()}
	err = s.play(ctx, binary)
	took, stopErr := s.stop()
	if ctx.Err() != nil {
		return stopErr
	}
	if err := errors.Join(err, stopErr); err != nil {
		s.lastWords()
		return err
	}
	s.finish(took, time.Since(began))
	if s.faults > 0 {
		return errFailed
	}
	return s.paper.err
}

// check finds out what would go wrong later in worse words.
func check(args []string) (binary string, err error) {
	if len(args) != 1 {
		return "", exit.Errorf(exit.Usage, "usage: demo PATH-OF-EGRESS-EDDIE (or simply: make demo)")
	}
	if os.Geteuid() != 0 {
		return "", exit.WithHint(exit.NoPerm, "run it as root:  sudo make demo",
			"this needs root: it makes network namespaces and firewall rules of its own, and leaves yours alone")
	}
	if binary, err = filepath.Abs(args[0]); err != nil {
		return "", err
	}
	info, err := os.Stat(binary)
	if err != nil {
		return "", exit.WithHint(exit.Usage, "build it first:  make build", "no Egress Eddie to show: %w", err)
	}
	if info.Mode()&0o001 == 0 {
		return "", exit.WithHint(exit.NoPerm, "chmod 755 "+binary,
			"%s is for its owner only, but the daemon stops being root and then starts itself again", binary)
	}
	return binary, nil
}

func (s *stage) play(ctx context.Context, binary string) error {
	s.paper.line(bold, " EGRESS EDDIE on a machine and an Internet of its own")
	s.paper.line(dim, " The real daemon, real packets, two network namespaces. Yours is not touched.")
	s.paper.line(plain, "")
	for _, act := range []func(context.Context) error{
		s.build,
		s.withoutRules,
		s.withoutDaemon,
		func(ctx context.Context) (err error) {
			s.daemon, err = s.net.startDaemon(ctx, binary, s.file, s.config)
			return err
		},
		s.withDaemon,
		s.showTree,
		s.showQueues,
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// build makes the namespaces and fills the Internet's side.
func (s *stage) build(context.Context) (err error) {
	if s.config, s.file, err = loadConfig(); err != nil {
		return err
	}
	if s.net, err = newNamespaces(); err != nil {
		return err
	}
	web, err := s.net.startHelper(s.net.internet, roleWeb)
	if err != nil {
		return err
	}
	s.helpers = append(s.helpers, web)
	if err := s.net.connect(web.cmd.Process.Pid); err != nil {
		return err
	}
	resolver, err := s.net.startHelper(s.net.internet, roleResolver)
	if err != nil {
		return err
	}
	s.helpers = append(s.helpers, resolver)
	return nil
}

// withoutRules makes every visit unfiltered. Had one of them no way to
// succeed, its refusal later would prove nothing.
func (s *stage) withoutRules(ctx context.Context) error {
	seen, err := s.net.sendAll(ctx, s.scenes, func(v *visit) { v.AnswerWithin, v.ConnectWithin = patience, patience })
	if err != nil {
		return err
	}
	through, strays, lies := 0, 0, 0
	for i := range seen {
		if seen[i].through() {
			through++
		} else {
			s.fault("%s: not reached although nothing filters: %s", s.scenes[i].name(), seen[i].Trouble)
		}
		strays += seen[i].Strays
		if s.scenes[i].forged != (outcome{}) {
			lies++
		}
	}
	if strays != lies {
		s.fault("%d forged answers reached the visitor, %d were sent", strays, lies)
	}
	s.paper.line(plain, " No rules:           %2d of %d visits get through; forged answers received: %d.", through, len(seen), strays)
	return nil
}

// withoutDaemon shows that the rules alone let nothing pass.
func (s *stage) withoutDaemon(ctx context.Context) error {
	if err := s.net.setRules(s.config); err != nil {
		return err
	}
	seen, err := s.net.sendAll(ctx, s.scenes, func(v *visit) { v.AnswerWithin, v.ConnectWithin = silence, silence })
	if err != nil {
		return err
	}
	through := 0
	for i := range seen {
		if seen[i].through() || seen[i].Answer.IsValid() || seen[i].Strays > 0 {
			through++
			s.fault("%s: passed without a daemon", s.scenes[i].name())
		}
	}
	s.paper.line(plain, " Rules, no daemon:   %2d of %d. Closed by default.", through, len(seen))
	return nil
}

// fault says what is not as expected. The demo goes on, and fails at its end.
func (s *stage) fault(format string, args ...any) {
	s.faults++
	s.paper.line(red, "   NOT AS EXPECTED: %s", fmt.Sprintf(format, args...))
}

// stop ends everything that was started, in the order in which nothing is
// ever open, and says how long the daemon took.
func (s *stage) stop() (took time.Duration, err error) {
	if s.daemon != nil {
		took, err = s.daemon.stop()
	}
	for _, h := range s.helpers {
		err = errors.Join(err, h.stop())
	}
	return took, err
}

// lastWords shows what the daemon said when the demo cannot go on.
func (s *stage) lastWords() {
	if s.daemon == nil {
		return
	}
	for _, line := range s.daemon.complaints() {
		s.paper.line(red, " the daemon says: %s", line)
	}
}

func (s *stage) finish(stopped, all time.Duration) {
	s.paper.line(plain, " Stopped on SIGTERM in %d ms with all its processes, exit status 0.", stopped.Milliseconds())
	s.paper.line(plain, "")
	if s.faults > 0 {
		s.paper.line(red, " FAILED: %d things are not as they should be.", s.faults)
		for _, line := range s.daemon.complaints() {
			s.paper.line(red, " the daemon says: %s", line)
		}
		return
	}
	s.paper.line(green, " All %d visits went as they should, in %.1f s. Nothing is left behind.", len(s.scenes), all.Seconds())
}
