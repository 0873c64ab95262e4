package main_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// journalEntry is what journald made of one line that the service wrote.
type journalEntry struct {
	Message   string `json:"MESSAGE"`
	Priority  string `json:"PRIORITY"`
	Transport string `json:"_TRANSPORT"` // "stdout" for standard output and error

	line logLine // the message, if it is a log line
}

// entries are the lines that the service has written up to now.
func (l *systemdLab) entries(t *testing.T) (entries []journalEntry) {
	t.Helper()
	l.must(t, "journalctl", "--sync")
	for text := range strings.Lines(l.must(t, "journalctl", "--no-pager", "-o", "json", "-u", service)) {
		var e journalEntry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if e.Transport != "stdout" {
			continue // the service manager's own
		}
		if strings.HasPrefix(e.Message, "{") {
			if err := json.Unmarshal([]byte(e.Message), &e.line); err != nil {
				t.Errorf("%q is no log line: %v", e.Message, err)
			}
		}
		entries = append(entries, e)
	}
	return entries
}

// unitTellsTheJournal: every line of the parent and of the children that hold
// the log has its level as a priority, and the rest is the log line. What is
// said to people on standard error is an error.
func unitTellsTheJournal(t *testing.T, l *systemdLab) {
	priorities := map[string]string{"error": "3", "warn": "4", "info": "6"}
	kinds := map[string]func(journalEntry) bool{
		"denied question": func(e journalEntry) bool {
			return e.Priority == "4" && e.line.text("@module") == "allowlist" &&
				e.line.text("name") == "not.allowed.test" && e.line.text("verdict") == "drop" && e.line.text("type") == "A"
		},
		"accepted question": func(e journalEntry) bool {
			return e.Priority == "6" && e.line.text("@module") == "allowlist" && e.line.text("@message") == "dns request" &&
				e.line.text("name") == "example.com" && e.line.text("verdict") == "accept" && e.line.text("filter") != ""
		},
		"denied packet": func(e journalEntry) bool {
			return e.Priority == "4" && e.line.text("@module") == "trafficworker" && e.line.text("verdict") == "drop"
		},
		"death of a child": func(e journalEntry) bool {
			return e.Priority == "3" && e.line.text("@module") == "parent" && e.line.text("@message") == "died" && e.line.text("role") != ""
		},
		"start": func(e journalEntry) bool {
			return e.Priority == "6" && e.line.text("@module") == "parent" && e.line.text("@message") == "filtering"
		},
		"last words to people": func(e journalEntry) bool {
			return e.Priority == "3" && e.line == nil && strings.HasPrefix(e.Message, "egress-eddie: ")
		},
	}
	for _, e := range l.entries(t) {
		if strings.HasPrefix(e.Message, "<") {
			t.Errorf("a priority in the message: %q", e.Message)
		}
		want := "3" // what is no log line is said to people, who shall do something
		if e.line != nil {
			want = priorities[e.line.text("@level")]
		}
		if e.Priority != want {
			t.Errorf("priority %s for %s", e.Priority, e.Message)
		}
		for what, is := range kinds {
			if is(e) {
				delete(kinds, what)
			}
		}
	}
	for what := range kinds {
		t.Errorf("no line about: %s", what)
	}
}
