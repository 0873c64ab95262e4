package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/capnspacehook/egress-eddie/ipc/logging"
)

// evidence is what the daemon's log says of one visit; nil where it is silent.
type evidence struct {
	request, response, forged, traffic *logLine
}

// gather picks the lines that are about a visit: by the name and the
// visitor's own port, or by the address it connected to.
func gather(s *scene, seen *sight, lines []logLine) evidence {
	var e evidence
	for i := range lines {
		l := &lines[i]
		switch l.Message {
		case logging.EventRequest:
			if strings.EqualFold(l.Name, s.visit.Name) && portOf(l.Src) == seen.Port {
				e.request = l
			}
		case logging.EventResponse:
			if strings.EqualFold(l.Name, s.visit.Name) && portOf(l.Dst) == seen.Port {
				e.addResponse(l)
			}
		case logging.EventTraffic:
			ofUser := l.UID == nil || *l.UID == uids[s.user]
			if seen.Dialled.IsValid() && l.Dst == seen.Dialled.String() && ofUser {
				e.traffic = l
			}
		}
	}
	return e
}

// addResponse tells an answer that was let through from one that was not. The
// line of the forged one bears no mark but its verdict.
func (e *evidence) addResponse(l *logLine) {
	if l.Verdict == passes.verdict.String() || e.forged != nil {
		e.response = l
		return
	}
	e.forged = l
}

// complete reports whether every line that the scene needs is there.
func (e *evidence) complete(s *scene) bool {
	for _, p := range pairs(s, e) {
		if p.want != (outcome{}) && p.got == nil {
			return false
		}
	}
	return true
}

// last is the line that decided the visit.
func (e *evidence) last() *logLine {
	for _, l := range []*logLine{e.traffic, e.response, e.request} {
		if l != nil {
			return l
		}
	}
	return nil
}

type pair struct {
	what string
	want outcome
	got  *logLine
}

func pairs(s *scene, e *evidence) []pair {
	return []pair{
		{"question", s.request, e.request},
		{"forged answer", s.forged, e.forged},
		{"answer", s.response, e.response},
		{"connection", s.traffic, e.traffic},
	}
}

// disagreements is everything in which the story, the log and the visitor
// tell different tales. None is what is wanted.
func disagreements(s *scene, seen *sight, e *evidence) []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, p := range pairs(s, e) {
		if got := describe(p.got); got != p.want.String() {
			say("%s: expected %s, the log says %s", p.what, p.want, got)
		}
		if p.got != nil && p.what != "forged answer" && p.got.Filter != s.user {
			say("%s: judged by filter %q, expected %q", p.what, p.got.Filter, s.user)
		}
	}
	if seen.Trouble != "" {
		say("the visitor failed: %s", seen.Trouble)
	}
	if seen.Strays > 0 {
		say("%d packets reached the visitor that do not answer its question", seen.Strays)
	}
	if let := accepted(e.response); let != seen.Answer.IsValid() {
		say("the visitor got an answer is %v, the log let one through is %v", seen.Answer.IsValid(), let)
	}
	if let := accepted(e.traffic); let != seen.through() {
		say("the visitor got a page is %v, the log let it connect is %v", seen.through(), let)
	}
	if s.response == passes {
		all = append(all, wrongAnswer(s, seen, e)...)
	}
	return all
}

// wrongAnswer checks what an answer says and what it opened.
func wrongAnswer(s *scene, seen *sight, e *evidence) []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	r, _ := find(netAddr(s.visit.Server), s.visit.Name)
	want := r.a
	if s.visit.IPv6 {
		want = r.aaaa
	}
	if seen.Answer.String() != want {
		say("the visitor got %v, the resolver's answer is %s", seen.Answer, want)
	}
	if strings.TrimSuffix(seen.Target, ".") != s.target {
		say("the visitor saw the alias %q, expected %q", seen.Target, s.target)
	}
	if e.response == nil {
		return all
	}
	granted, refused := want, ""
	if s.refused {
		granted, refused = "", want
	}
	if e.response.Granted != granted || e.response.Refused != refused {
		say("expected granted %q, refused %q; the log says %q and %q", granted, refused, e.response.Granted, e.response.Refused)
	}
	if s.target != "" && !slices.Contains(strings.Fields(e.response.Learnt), s.target) {
		say("expected %s to be opened for questions, the log says %q", s.target, e.response.Learnt)
	}
	return all
}

func accepted(l *logLine) bool { return l != nil && l.Verdict == passes.verdict.String() }

func (o outcome) String() string {
	switch {
	case o == outcome{}:
		return "nothing"
	case o == passes:
		return o.verdict.String()
	}
	return o.verdict.String() + " (" + o.reason.String() + ")"
}

// describe is a line in the words of outcome.String.
func describe(l *logLine) string {
	switch {
	case l == nil:
		return "nothing"
	case l.Reason == "":
		return l.Verdict
	}
	return l.Verdict + " (" + l.Reason + ")"
}

// portOf is the port of an endpoint in the log, 0 where there is none.
func portOf(endpoint string) uint16 {
	_, text, err := net.SplitHostPort(endpoint)
	if err != nil {
		return 0
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(port)
}
