package config

import (
	"fmt"
	"strconv"
	"strings"
)

// maxDepth bounds the parts of a dotted key and, together, the arrays and
// inline tables inside each other. A legal file needs three of each; the TOML
// library recurses, and a Go stack that overflows cannot be recovered.
const maxDepth = 16

// maxKey bounds one part of a key in octets; the longest legal one has 22.
// The library copies a key's whole path for every value below it.
const maxKey = 256

var (
	errDeep    = fmt.Errorf("nested deeper than %d levels", maxDepth)
	errLongKey = fmt.Errorf("a key longer than %d octets", maxKey)
)

// place is where a key was written. entries are the lines of its array's
// entries, if it holds an array.
type place struct {
	line    int
	entries []int32
}

// places maps the path of a key to its place. A path is the key's parts as
// written joined with pathSep; the i-th table of an array has "[i]" after its
// key.
//
// NB: places serve messages only. Text that is not TOML gives some places or
// none; nothing may be decided by them.
type places map[string]place

const pathSep = "\x00"

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + pathSep + key
}

func indexed(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// entryLine is the line of entry i of an array, or its key's own line.
func (p place) entryLine(i int) int {
	if i < len(p.entries) {
		return int(p.entries[i])
	}
	return p.line
}

type walker struct {
	text   string
	at     int
	line   int
	places places
	tables map[string]int // how often each [[table]] was opened
}

// findLines walks a text without judging it. The line returned with an error
// is where the walk ended.
func findLines(text string) (places, int, error) {
	w := &walker{
		text:   strings.TrimPrefix(text, "\xef\xbb\xbf"), // a byte order mark, as the library does
		line:   1,
		places: make(places),
		tables: make(map[string]int),
	}
	table := ""
	for {
		w.skipBlank()
		c, ok := w.peek()
		if !ok {
			return w.places, w.line, nil
		}
		var err error
		if c == '[' {
			table, err = w.header()
		} else {
			err = w.pair(table, 0)
		}
		if err != nil {
			return w.places, w.line, err
		}
	}
}

func (w *walker) peek() (byte, bool) {
	if w.at >= len(w.text) {
		return 0, false
	}
	return w.text[w.at], true
}

// accept consumes c if it comes next.
func (w *walker) accept(c byte) bool {
	if next, ok := w.peek(); !ok || next != c {
		return false
	}
	w.at++
	return true
}

// giveUp ends the walk: the text is not TOML, the library will say so.
func (w *walker) giveUp() { w.at = len(w.text) }

func (w *walker) skipSpace() {
	for w.accept(' ') || w.accept('\t') {
	}
}

// skipBlank skips spaces, line ends and comments.
func (w *walker) skipBlank() {
	for {
		c, ok := w.peek()
		switch {
		case ok && (c == ' ' || c == '\t' || c == '\r'):
			w.at++
		case ok && c == '\n':
			w.at++
			w.line++
		case ok && c == '#':
			w.skipTo("\n")
		default:
			return
		}
	}
}

func (w *walker) skipTo(stops string) {
	i := strings.IndexAny(w.text[w.at:], stops)
	if i < 0 {
		w.giveUp()
		return
	}
	w.at += i
}

func (w *walker) note(path string, line int) {
	if _, ok := w.places[path]; !ok && path != "" {
		w.places[path] = place{line: line}
	}
}
