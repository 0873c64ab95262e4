package logging

import (
	"bytes"

	"github.com/hashicorp/go-hclog"
)

// ErrorPriority is the priority of what ends a process, before each line on
// its way to the journal.
const ErrorPriority = "<3>"

// priority is the level as the journal reads it (sd-daemon(3)): it does not
// look into a line, and takes one without a priority for info.
func priority(level hclog.Level) string {
	switch level {
	case hclog.Error:
		return ErrorPriority
	case hclog.Warn:
		return "<4>"
	case hclog.Info:
		return "<6>"
	}
	return "<7>"
}

// Prefixed is text with a prefix before each of its lines: to the journal each
// is an entry, and one that began with what a peer chose could begin with a
// priority.
func Prefixed(prefix string, text []byte) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		out = append(append(out, prefix...), line...)
	}
	return out
}
