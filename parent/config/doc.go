// Package config turns the configuration file (TOML) into a validated
// configuration.
//
// It runs in the parent, before anything is started: an operator's file is
// trusted to mean well, never to be right. What ParseConfig returns has passed
// every rule; nothing downstream checks a configuration again. A mistake is
// never repaired or guessed at: the file is refused, with all mistakes that
// could be found, one a line, each with the file, the line, the filter and the
// key. What is legal and hardly meant (a public suffix, a port that another
// entry opens anyway) is a warning, in the same form.
//
// The work is done in three passes. lines.go walks the raw text for the line
// of every key and entry, which the TOML library does not tell, and bounds the
// nesting before the library recurses. decode.go takes the values one by one
// into raw structures, so that one wrong type does not hide the other
// mistakes. The rest checks the rules that hold between the values: a value
// that is already reported as broken is marked so, and no rule draws a second
// complaint from it.
//
// Keys are matched exactly or, failing that, ignoring case, as the predecessor
// did. Filters are numbered from 0.
package config
