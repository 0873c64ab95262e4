package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// logLine is one line of the daemon's JSON log.
type logLine struct {
	Level   string    `json:"@level"`
	Message string    `json:"@message"`
	Module  string    `json:"@module"`
	Time    time.Time `json:"@timestamp"`

	Filter  string `json:"filter"`
	Name    string `json:"name"`
	Type    string `json:"type"`
	Src     string `json:"src"`
	Dst     string `json:"dst"`
	UID     *int   `json:"uid"` // nil where the kernel does not name it
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	Granted string `json:"granted"`
	Learnt  string `json:"learnt"`
	Refused string `json:"refused"`

	text string // as it was written
}

// logWatch collects the log as it is written.
type logWatch struct {
	mu     sync.Mutex
	lines  []logLine
	ended  bool
	wakeup chan struct{} // closed when lines or ended change
}

// watchLog reads a log until all who write to it are gone.
func watchLog(r io.Reader) *logWatch {
	w := &logWatch{wakeup: make(chan struct{})}
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			w.add(parseLine(s.Text()))
		}
		w.change(func() { w.ended = true })
	}()
	return w
}

// parseLine reads one line. One that is not JSON keeps only its text.
func parseLine(text string) logLine {
	var l logLine
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		l = logLine{Level: "error", Message: "not a log line"}
	}
	l.text = text
	return l
}

func (w *logWatch) add(l logLine) { w.change(func() { w.lines = append(w.lines, l) }) }

func (w *logWatch) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.wakeup)
	w.wakeup = make(chan struct{})
}

// mark is how many lines there are: since gives those that come after it.
func (w *logWatch) mark() int { return len(w.since(0)) }

func (w *logWatch) since(mark int) []logLine {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lines[mark:len(w.lines):len(w.lines)]
}

// wait blocks until enough says yes to the lines after mark, the log has
// ended, or time is up, and gives those lines whichever it was.
func (w *logWatch) wait(ctx context.Context, mark int, limit time.Duration, enough func([]logLine) bool) []logLine {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		w.mu.Lock()
		ended, wakeup := w.ended, w.wakeup
		w.mu.Unlock()
		lines := w.since(mark)
		if ended || enough(lines) {
			return lines
		}
		select {
		case <-wakeup:
		case <-ctx.Done():
			return w.since(mark)
		}
	}
}

// end waits for the log's end: nobody holds it any more.
func (w *logWatch) end(limit time.Duration) error {
	w.wait(context.Background(), 0, limit, func([]logLine) bool { return false })
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		return fmt.Errorf("a process of the tree still holds the log after %v", limit)
	}
	return nil
}
