package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// logWithin is how long the daemon may take to write down what it decided.
const logWithin = 2 * time.Second

var visitColumns = []column{
	{title: " NAME ASKED", width: 21},
	{title: "ANSWER", width: 15},
	{title: "CONNECT", width: 7},
	{title: "VERDICT", width: 7},
	{title: "REASON", width: 20},
	{title: "MS", width: 4, right: true},
}

// name is what a scene is called in its row.
func (s *scene) name() string {
	if s.label != "" {
		return s.label
	}
	return s.visit.Name
}

// withDaemon plays the story.
func (s *stage) withDaemon(ctx context.Context) error {
	s.paper.line(plain, " Rules and daemon:   one visit after the other.")
	s.paper.line(plain, "")
	t := &table{paper: s.paper, columns: visitColumns}
	t.head()
	var answered time.Time
	for i := range s.scenes {
		scene := &s.scenes[i]
		if scene.title != "" {
			s.paper.line(dim, " %s", scene.title)
		}
		if err := pause(ctx, answered.Add(scene.after)); err != nil {
			return err
		}
		e, err := s.visit(ctx, t, scene)
		if err != nil {
			return err
		}
		if e.response != nil {
			answered = e.response.Time
		}
	}
	s.paper.line(dim, " MS: from the visitor's first packet to the last verdict in the daemon's log")
	return nil
}

// pause waits until an instant. One that has passed costs nothing.
func pause(ctx context.Context, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// visit plays one scene and prints what came of it.
func (s *stage) visit(ctx context.Context, t *table, scene *scene) (evidence, error) {
	mark := s.daemon.log.mark()
	sent, err := s.net.send(ctx, scene.user, scene.visit)
	if err != nil {
		return evidence{}, err
	}
	all, err := sent.wait()
	if err != nil {
		return evidence{}, err
	}
	seen := &all[0]
	lines := s.daemon.log.wait(ctx, mark, logWithin, func(lines []logLine) bool {
		e := gather(scene, seen, lines)
		return e.complete(scene)
	})
	e := gather(scene, seen, lines)
	if e.forged != nil {
		t.row(rowOf(scene.name(), "(forged)", "-", e.forged, seen)...)
	}
	t.row(rowOf(scene.name(), answerText(seen), connectText(seen), e.last(), seen)...)
	for _, d := range disagreements(scene, seen, &e) {
		s.fault("%s", d)
	}
	return e, nil
}

func rowOf(name, answer, connect string, decided *logLine, seen *sight) []cell {
	row := []cell{{" " + name, plain}, {answer, plain}, {connect, plain}}
	if decided == nil {
		return append(row, cell{"nothing", red}, cell{"not in the log", red}, cell{})
	}
	colour := red
	if accepted(decided) {
		colour = green
	}
	return append(row, cell{decided.Verdict, colour}, cell{decided.Reason, plain},
		cell{milliseconds(decided.Time.Sub(seen.Start)), dim})
}

func answerText(seen *sight) string {
	switch {
	case seen.Answer.IsValid():
		return seen.Answer.String()
	case seen.Dialled.IsValid():
		return seen.Dialled.String() // known without asking
	}
	return "-"
}

func connectText(seen *sight) string {
	switch {
	case !seen.Dialled.IsValid():
		return "-"
	case seen.Page == 0:
		return "timeout"
	}
	return fmt.Sprintf("%d %s", seen.Page, http.StatusText(seen.Page))
}

// milliseconds is a time in at most four characters, as long as it is short.
func milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms >= 99.95 {
		return fmt.Sprintf("%.0f", ms)
	}
	return fmt.Sprintf("%.1f", ms)
}

func netAddr(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return a
}

var processColumns = []column{
	{title: "PROCESS", width: 19},
	{title: "PID", width: 7, right: true},
	{title: "UID", width: 5, right: true},
	{title: "CAPABILITY", width: 10},
	{title: "NNP", width: 3},
	{title: "SECCOMP", width: 9},
	{title: "OWN NS", width: 6},
	{title: "ROOT", width: 4, right: true},
	{title: "FDS", width: 3, right: true},
}

// showTree shows the processes as they are at this moment.
func (s *stage) showTree(context.Context) error {
	tree, err := readTree(s.daemon.cmd.Process.Pid)
	if err != nil {
		return err
	}
	s.paper.line(plain, "")
	t := &table{paper: s.paper, columns: processColumns}
	t.head()
	for i := range tree {
		t.row(tree[i].row()...)
	}
	s.paper.line(dim, " Read from /proc, every thread. NNP: no_new_privs. ROOT: entries in its root.")
	s.paper.line(dim, " OWN NS: of %s, those not shared with the parent.", strings.Join(namespaceKinds, ", "))
	for _, f := range treeFaults(tree) {
		s.fault("%s", f)
	}
	return nil
}

func (p *process) row() []cell {
	noNewPrivs := "no"
	if p.noNewPrivs == "1" {
		noNewPrivs = "yes"
	}
	own := fmt.Sprintf("%d of %d", len(p.own), len(namespaceKinds))
	if len(p.own) == 0 {
		own = "none"
	}
	return []cell{
		{string(p.role), plain}, {fmt.Sprint(p.pid), plain}, {p.uid, plain}, {p.capabilities, plain}, {noNewPrivs, plain},
		{p.seccompText(), plain}, {own, plain}, {fmt.Sprint(p.rootEntries), plain}, {fmt.Sprint(p.descriptors), plain},
	}
}

// seccompText is the mode in the kernel's words, and how many filters stack.
func (p *process) seccompText() string {
	mode, ok := map[string]string{"0": "off", "1": "strict", "2": "filter"}[p.seccomp]
	if !ok {
		mode = "?" + p.seccomp
	}
	if p.filters != "" && p.seccomp == "2" {
		mode += " x" + p.filters
	}
	return mode
}

// showQueues shows the kernel's account, once nothing waits any more.
func (s *stage) showQueues(ctx context.Context) error {
	limit := time.Now().Add(logWithin)
	totals, err := readQueues()
	for err == nil && totals.waiting > 0 && time.Now().Before(limit) {
		if err = pause(ctx, time.Now().Add(10*time.Millisecond)); err == nil {
			totals, err = readQueues()
		}
	}
	if err != nil {
		return err
	}
	s.paper.line(plain, "")
	s.paper.line(plain, " %d packets judged, %d left in the queues, %d lost; filter open after %d ms.",
		totals.queued-totals.waiting, totals.waiting, totals.lost, s.daemon.opened.Milliseconds())
	if totals.queued == 0 || totals.waiting > 0 || totals.lost > 0 {
		s.fault("the kernel's account: %d packets queued, %d waiting, %d lost", totals.queued, totals.waiting, totals.lost)
	}
	return nil
}
