package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// style is how a piece of text stands out on a terminal.
type style string

// Styles: ECMA-48 select graphic rendition.
const (
	plain style = ""
	bold  style = "\x1b[1m"
	dim   style = "\x1b[2m"
	red   style = "\x1b[31m"
	green style = "\x1b[32m"
	reset       = "\x1b[0m"
)

// paper is where the demo prints. Colours only where a person looks at them.
type paper struct {
	w      io.Writer
	colour bool
	err    error // of the first write that failed
}

func newPaper(f *os.File) *paper {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return &paper{w: f, colour: err == nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (p *paper) styled(s style, text string) string {
	if !p.colour || s == plain || text == "" {
		return text
	}
	return string(s) + text + reset
}

// line prints one line.
func (p *paper) line(s style, format string, args ...any) {
	text := p.styled(s, fmt.Sprintf(format, args...))
	if _, err := io.WriteString(p.w, text+"\n"); err != nil && p.err == nil {
		p.err = err
	}
}

// column is one column of a table.
type column struct {
	title string
	width int
	right bool // aligned to the right
}

// cell is one text of a row.
type cell struct {
	text  string
	style style
}

// table prints rows as they come, in columns of fixed width.
type table struct {
	paper   *paper
	columns []column
}

func (t *table) head() {
	cells := make([]cell, len(t.columns))
	for i, c := range t.columns {
		cells[i] = cell{c.title, bold}
	}
	t.row(cells...)
}

// row prints one row. A text that is too long is shown whole and pushes the
// others to the right: nothing is hidden for the sake of looks.
func (t *table) row(cells ...cell) {
	var b strings.Builder
	for i, c := range cells {
		pad := strings.Repeat(" ", max(0, t.columns[i].width-utf8.RuneCountInString(c.text)))
		text := t.paper.styled(c.style, c.text)
		b.WriteByte(' ')
		switch {
		case t.columns[i].right:
			b.WriteString(pad + text)
		case i == len(cells)-1:
			b.WriteString(text) // no blanks at the end
		default:
			b.WriteString(text + pad)
		}
	}
	t.paper.line(plain, "%s", strings.TrimRight(b.String(), " "))
}
