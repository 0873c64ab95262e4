package main

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestRowsStayInTheirColumns(t *testing.T) {
	for _, tc := range []struct {
		name   string
		colour bool
		cells  []cell
		want   string
	}{
		{"head", false, nil, " NAME   MS LAST\n"},
		{"plain when piped", false, []cell{{"a", red}, {"7", dim}, {"end", plain}}, " a       7 end\n"},
		{"no blanks at the end", false, []cell{{"a", plain}, {"", plain}, {"", plain}}, " a\n"},
		{"too long is shown whole", false, []cell{{"abcdefgh", plain}, {"123", plain}, {"x", plain}}, " abcdefgh 123 x\n"},
		{"padding is not coloured", true, []cell{{"ab", red}, {"7", dim}, {"x", plain}},
			" \x1b[31mab\x1b[0m      \x1b[2m7\x1b[0m x\n"},
		{"width is counted in characters", false, []cell{{"äöü", plain}, {"1", plain}, {"x", plain}}, " äöü     1 x\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b bytes.Buffer
			tab := &table{paper: &paper{w: &b, colour: tc.colour}, columns: []column{
				{title: "NAME", width: 5}, {title: "MS", width: 3, right: true}, {title: "LAST", width: 4},
			}}
			if tc.cells == nil {
				tab.head()
			} else {
				tab.row(tc.cells...)
			}
			if got := b.String(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// A terminal of the usual width must do, whatever the story holds.
func TestColumnsFitEightyCharacters(t *testing.T) {
	for name, columns := range map[string][]column{"visits": visitColumns, "processes": processColumns} {
		total := 0
		for _, c := range columns {
			total += 1 + c.width
			if len(c.title) > c.width {
				t.Errorf("%s: title %q is wider than its column", name, c.title)
			}
		}
		if total > 80 {
			t.Errorf("%s: %d characters wide", name, total)
		}
	}
	for _, s := range story() {
		if len(s.name())+1 > visitColumns[0].width {
			t.Errorf("%q does not fit its column", s.name())
		}
		if len(s.title)+1 > 80 {
			t.Errorf("%q does not fit a line", s.title)
		}
		for _, o := range []outcome{s.request, s.response, s.traffic, s.forged} {
			if len(o.reason.String()) > visitColumns[4].width {
				t.Errorf("%q does not fit its column", o.reason)
			}
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestPaperKeepsTheFirstFailure(t *testing.T) {
	p := &paper{w: brokenPipe{}}
	p.line(plain, "x")
	if p.err == nil {
		t.Error("a line was lost and nobody knows")
	}
}

func TestMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                         "0.0",
		1234 * time.Microsecond:   "1.2",
		99940 * time.Microsecond:  "99.9",
		99960 * time.Microsecond:  "100",
		2345600 * time.Nanosecond: "2.3",
		1234 * time.Millisecond:   "1234",
	} {
		if got := milliseconds(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
