package config

import (
	_ "embed"
	"strings"
)

// suffixRules is the public suffix list (publicsuffix.org, MPL 2.0), ICANN's
// part and the private one, as golang.org/x/net/publicsuffix has it: the test
// that compares the two writes the file (-update). That package itself is not
// used, because it links net/http into every process of the tree.
//
// A line is a name in ASCII and nothing: the name is a suffix; " *": every
// name right below it is one; " !": it is none, whatever the line above it in
// the tree of names says.
// NB: lines are sorted by name, bytewise; the search depends on it.
//
//go:embed suffixes.txt
var suffixRules string

// isPublicSuffix reports whether the name text, in lower case, or every
// name right below it, is a suffix by an explicit rule. The list's default
// rule, by which every single label is one, does not count: localhost and
// internal are nobody's registry.
func isPublicSuffix(text string) bool {
	if flag, listed := suffixRule(text); listed {
		return flag != "!"
	}
	_, parent, _ := strings.Cut(text, ".")
	flag, _ := suffixRule(parent)
	return flag == "*"
}

// suffixRule finds the line of a name.
func suffixRule(text string) (flag string, listed bool) {
	rest := suffixRules
	for rest != "" {
		start := strings.LastIndexByte(rest[:len(rest)/2], '\n') + 1
		end := start + strings.IndexByte(rest[start:], '\n')
		found, flag, _ := strings.Cut(rest[start:end], " ")
		switch order := strings.Compare(text, found); {
		case order == 0:
			return flag, true
		case order < 0:
			rest = rest[:start]
		default:
			rest = rest[end+1:]
		}
	}
	return "", false
}
