package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// spot is where a mistake is, in the words of a message.
type spot struct {
	who  string // `filter "x"`, `filter #0`, or nothing for the top level
	key  string // the key with its tables, or nothing
	line int    // from 1; 0 is unknown
}

// phrase is s inside a sentence.
func (s spot) phrase() string {
	text := s.key
	if s.who != "" {
		text += " of " + s.who
	}
	return text + onLine(s.line)
}

// onLine says where something else is, as far as that is known.
func onLine(line int) string {
	if line == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d)", line)
}

type mistake struct {
	line int
	text string
}

// maxWarnings bounds the warnings about single entries: each is a line in the
// log at every start, and a list may have a million.
const maxWarnings = 100

// report gathers the mistakes of one file, and the warnings about what may not
// be meant.
type report struct {
	file     string
	mistakes []mistake
	warnings []string
	unshown  int // warnings beyond maxWarnings
}

// fail adds a mistake.
func (r *report) fail(at spot, format string, args ...any) {
	r.mistakes = append(r.mistakes, mistake{at.line, r.line(at, format, args)})
}

// warn adds a warning.
func (r *report) warn(at spot, format string, args ...any) {
	if len(r.warnings) == maxWarnings {
		r.unshown++
		return
	}
	r.warnings = append(r.warnings, r.line(at, format, args))
}

// warned is all warnings.
func (r *report) warned() []string {
	if r.unshown == 0 {
		return r.warnings
	}
	return append(r.warnings, fmt.Sprintf("%s: %d more warnings like these", r.file, r.unshown))
}

// line is a finding with where it is.
func (r *report) line(at spot, format string, args []any) string {
	var b strings.Builder
	b.WriteString(r.file)
	if at.line > 0 {
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(at.line))
	}
	for _, part := range []string{at.who, at.key} {
		if part != "" {
			b.WriteString(": ")
			b.WriteString(part)
		}
	}
	b.WriteString(": ")
	fmt.Fprintf(&b, format, args...)
	return b.String()
}

// err is all mistakes in the order of their lines, or nil.
func (r *report) err() error {
	if len(r.mistakes) == 0 {
		return nil
	}
	slices.SortStableFunc(r.mistakes, func(a, b mistake) int { return a.line - b.line })
	texts := make([]string, len(r.mistakes))
	for i, m := range r.mistakes {
		texts[i] = m.text
	}
	return &exit.Error{Code: exit.Config, Err: errors.New(strings.Join(texts, "\n"))}
}

// maxShown bounds how much of an operator's value a message repeats, in
// octets. The longest legal name fits.
const maxShown = 300

// quote is a value of the file as a message shows it.
func quote(s string) string {
	if len(s) > maxShown {
		return strconv.Quote(s[:maxShown]) + "..."
	}
	return strconv.Quote(s)
}

// short is a text of the library's, which may repeat a value of any length.
func short(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + "..."
	}
	return printable(s)
}

// printable keeps a text on one line and terminals safe.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return unicode.ReplacementChar
	}, s)
}
