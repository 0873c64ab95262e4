package main

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// The log of one good visit to shop.example.com from port 4000, by dev.
const (
	requestLine  = `{"@message":"dns request","filter":"dev","name":"shop.example.com","src":"192.0.2.1:4000","dst":"192.0.2.53:53","verdict":"accept"}`
	responseLine = `{"@message":"dns response","filter":"dev","name":"shop.example.com","src":"192.0.2.53:53","dst":"192.0.2.1:4000","verdict":"accept","granted":"198.51.100.30","learnt":"edge1.cdn.net"}`
	trafficLine  = `{"@message":"traffic","filter":"dev","src":"192.0.2.1","dst":"198.51.100.30","uid":59001,"verdict":"accept"}`
	forgedLine   = `{"@message":"dns response","name":"shop.example.com","src":"192.0.2.53:53","dst":"192.0.2.1:4000","verdict":"drop","reason":"no pending request"}`
)

func shop() scene {
	return allowed("", "shop.example.com").with(func(s *scene) { s.target = "edge1.cdn.net" })
}

func shopSeen() sight {
	a := netip.MustParseAddr("198.51.100.30")
	return sight{Port: 4000, Answer: a, Target: "edge1.cdn.net.", Dialled: a, Page: 200}
}

func parsed(lines ...string) []logLine {
	var all []logLine
	for _, l := range lines {
		all = append(all, parseLine(l))
	}
	return all
}

func TestVisitorAndLogAgree(t *testing.T) {
	s, seen := shop(), shopSeen()
	e := gather(&s, &seen, parsed(requestLine, responseLine, trafficLine))
	if !e.complete(&s) {
		t.Error("not complete")
	}
	if got := disagreements(&s, &seen, &e); len(got) > 0 {
		t.Errorf("disagreements: %q", got)
	}
	if e.last() == nil || e.last() != e.traffic {
		t.Error("the connection did not decide")
	}
}

// Every lie of one of the three must be noticed, and named.
func TestDisagreements(t *testing.T) {
	replace := func(line, from, to string) string {
		if !strings.Contains(line, from) {
			t.Fatalf("%q is not in %s", from, line)
		}
		return strings.ReplaceAll(line, from, to)
	}
	for _, tc := range []struct {
		name  string
		lines []string
		scene func(*scene)
		seen  func(*sight)
		want  string
	}{
		{"the question is not in the log", []string{responseLine, trafficLine}, nil, nil, "question: expected accept, the log says nothing"},
		{"nor the connection", []string{requestLine, responseLine}, nil, nil, "connection: expected accept, the log says nothing"},
		{"dropped and answered", []string{requestLine, replace(responseLine, "accept", "drop"), trafficLine}, nil, nil,
			"the log let one through is false"},
		{"accepted and no answer", []string{requestLine, responseLine, trafficLine}, nil,
			func(s *sight) { s.Answer = netip.Addr{} }, "the visitor got an answer is false"},
		{"dropped and connected", []string{requestLine, responseLine, replace(trafficLine, "accept", "drop")}, nil, nil,
			"the log let it connect is false"},
		{"accepted and not connected", []string{requestLine, responseLine, trafficLine}, nil, func(s *sight) { s.Page = 0 },
			"the visitor got a page is false"},
		{"another filter", []string{requestLine, responseLine, replace(trafficLine, `"dev"`, `"ci"`)}, nil, nil,
			`connection: judged by filter "ci", expected "dev"`},
		{"another reason", []string{replace(requestLine, `"accept"`, `"drop","reason":"no question"`)},
			func(s *scene) { s.request = dropped(ipc.ReasonNameNotAllowed) }, nil,
			"question: expected drop (name not allowed), the log says drop (no question)"},
		{"another address granted", []string{requestLine, replace(responseLine, "198.51.100.30", "203.0.113.66"), trafficLine}, nil, nil,
			`the log says "203.0.113.66"`},
		{"more addresses granted", []string{requestLine, replace(responseLine, "198.51.100.30", "198.51.100.30 203.0.113.66"), trafficLine}, nil, nil,
			`the log says "198.51.100.30 203.0.113.66"`},
		{"special address granted", []string{requestLine, responseLine, trafficLine}, func(s *scene) { s.refused = true }, nil, "expected granted \"\""},
		{"alias not learnt", []string{requestLine, replace(responseLine, "edge1.cdn.net", "edge2.cdn.net"), trafficLine}, nil, nil,
			"expected edge1.cdn.net to be opened"},
		{"another answer", []string{requestLine, responseLine, trafficLine}, nil,
			func(s *sight) { s.Answer = netip.MustParseAddr("203.0.113.66") }, "the visitor got 203.0.113.66"},
		{"a forged answer came through", []string{requestLine, responseLine, trafficLine}, nil, func(s *sight) { s.Strays = 1 },
			"1 packets reached the visitor"},
		{"a forged answer nobody expected", []string{requestLine, forgedLine, responseLine, trafficLine}, nil, nil,
			"forged answer: expected nothing"},
		{"the forged answer is missing", []string{requestLine, responseLine, trafficLine},
			func(s *scene) { s.forged = dropped(ipc.ReasonNoRequest) }, nil, "forged answer: expected drop"},
		{"the honest answer is dropped too", []string{requestLine, forgedLine, strings.Replace(responseLine, "accept", "drop", 1)}, nil, nil,
			"\nanswer: expected accept, the log says drop"},
		{"the visitor failed", []string{requestLine, responseLine, trafficLine}, nil, func(s *sight) { s.Trouble = "no route" }, "no route"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, seen := shop(), shopSeen()
			if tc.scene != nil {
				tc.scene(&s)
			}
			if tc.seen != nil {
				tc.seen(&seen)
			}
			e := gather(&s, &seen, parsed(tc.lines...))
			if got := strings.Join(disagreements(&s, &seen, &e), "\n"); !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q in it", got, tc.want)
			}
		})
	}
}

// Lines of another question, port, address or user must not count.
func TestOtherLinesDoNotCount(t *testing.T) {
	s, seen := shop(), shopSeen()
	var others []string
	for _, change := range []struct{ line, from, to string }{
		{requestLine, ":4000", ":4001"},
		{requestLine, "shop.", "chop."},
		{responseLine, ":4000", ":4001"},
		{responseLine, "shop.example", "chop.example"},
		{trafficLine, "198.51.100.30", "198.51.100.31"},
		{trafficLine, "59001", "59002"},
		{requestLine, "dns request", "dns request: and 4 more in 10 s"},
	} {
		others = append(others, strings.ReplaceAll(change.line, change.from, change.to))
	}
	if e := gather(&s, &seen, parsed(others...)); e != (evidence{}) {
		t.Errorf("counted: %+v", e)
	}
}

func TestForgedAndHonestAnswer(t *testing.T) {
	s, seen := shop(), shopSeen()
	s.forged = dropped(ipc.ReasonNoRequest)
	for _, lines := range [][]string{
		{requestLine, forgedLine, responseLine, trafficLine},
		{requestLine, responseLine, forgedLine, trafficLine},
	} {
		e := gather(&s, &seen, parsed(lines...))
		if got := disagreements(&s, &seen, &e); len(got) > 0 {
			t.Errorf("disagreements: %q", got)
		}
	}
}

// The daemon folds repeats of a decision: a story that repeats one would wait
// in vain for its line.
func TestNoTwoScenesAreTheSameDecision(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range story() {
		key := strings.ToLower(s.visit.Name) + s.visit.Address + s.traffic.String()
		if seen[key] {
			t.Errorf("%s appears twice", s.name())
		}
		seen[key] = true
	}
}

func TestLogWatch(t *testing.T) {
	r, w := io.Pipe()
	log := watchLog(r)
	write := func(text string) {
		if _, err := io.WriteString(w, text); err != nil {
			t.Error(err)
		}
	}
	write(`{"@message":"one","@timestamp":"2026-01-02T03:04:05.678901Z","uid":7}` + "\n")
	one := log.wait(t.Context(), 0, time.Minute, func(l []logLine) bool { return len(l) == 1 })
	if l := one[0]; l.Message != "one" || l.UID == nil || *l.UID != 7 || l.Time.Nanosecond() != 678901000 {
		t.Errorf("read %+v", l)
	}
	mark := log.mark()
	go write("not json\n")
	if l := log.wait(t.Context(), mark, time.Minute, func(l []logLine) bool { return len(l) > 0 }); l[0].Level != "error" || l[0].text != "not json" {
		t.Errorf("read %+v", l)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := log.wait(ctx, mark+1, time.Minute, func([]logLine) bool { return false }); len(got) != 0 {
		t.Errorf("after the mark: %+v", got)
	}
	if err := log.end(time.Millisecond); err == nil {
		t.Error("the log is open, and its end was seen")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := log.end(time.Minute); err != nil {
		t.Error(err)
	}
}
