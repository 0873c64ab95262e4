package logging

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// queueLength bounds the entries that wait for the writing goroutine.
const queueLength = 4096

// Options say how a process logs.
type Options struct {
	Process string // the role, shown in every line
	JSON    bool   // one JSON object a line instead of text
	Debug   bool   // show debug lines
	Journal bool   // the descriptor is the journal's, which wants a priority before each line
}

// Logger is the log of one process. Its methods never block, except Close.
type Logger struct {
	debug   bool
	entries chan entry
	// opened are the decisions that opened or refused an address or a name.
	// They have a queue of their own, so that questions without end cannot
	// push them out of the log.
	opened  chan entry
	lost    atomic.Uint64 // entries that found their queue full, lines that could not be written
	done    chan struct{}
	stopped chan struct{}
}

// entry is a plain line, or a decision.
type entry struct {
	level    hclog.Level
	message  string
	fields   []any
	decision *Decision
}

// New logs to descriptor fd, which stays the caller's and may be replaced
// (dup3) at any time: every line is one write.
func New(fd int, o Options) *Logger {
	l := &Logger{
		debug:   o.Debug,
		entries: make(chan entry, queueLength),
		opened:  make(chan entry, queueLength),
		done:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	level := hclog.Info
	if o.Debug {
		level = hclog.Debug
	}
	out := hclog.New(&hclog.LoggerOptions{
		Name:       o.Process,
		Level:      level,
		Output:     &descriptor{fd: fd, journal: o.Journal, lost: &l.lost},
		JSONFormat: o.JSON,
		// UTC: the zone's file cannot be opened in a cell.
		TimeFn: func() time.Time { return time.Now().UTC() },
	})
	go l.write(out)
	return l
}

// descriptor writes to a descriptor without os.File, whose methods make
// system calls that no cell allows. hclog does not look at a write's error: a
// full disk or a reader that went away costs lines, counted here, and no
// verdict.
type descriptor struct {
	fd      int
	journal bool
	lost    *atomic.Uint64
}

// LevelWrite is what hclog calls, with one whole line, or several if a value
// has some. Still it is one write.
func (d *descriptor) LevelWrite(level hclog.Level, b []byte) (int, error) {
	if d.journal {
		b = Prefixed(priority(level), b)
	}
	return d.Write(b)
}

func (d *descriptor) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n, err := unix.Write(d.fd, rest)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			d.lost.Add(1)
			return len(b) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(b), nil
}

// Enabled reports whether debug lines are shown: ask before making one.
func (l *Logger) Enabled() bool { return l.debug }

// Info, Warn and Error log one plain line with key-value fields. Info is what
// an operator may want to know.
func (l *Logger) Info(message string, fields ...any) { l.plain(hclog.Info, message, fields) }

// Warn logs what an operator should look at.
func (l *Logger) Warn(message string, fields ...any) { l.plain(hclog.Warn, message, fields) }

// Error logs what ends a process or harms the service.
func (l *Logger) Error(message string, fields ...any) { l.plain(hclog.Error, message, fields) }

func (l *Logger) plain(level hclog.Level, message string, fields []any) {
	l.push(l.entries, entry{level: level, message: message, fields: fields})
}

// Decide logs a decision. Accepted traffic is only for debug: see Enabled.
func (l *Logger) Decide(d *Decision) {
	queue := l.entries
	if d.opens() {
		queue = l.opened
	}
	l.push(queue, entry{decision: d})
}

func (l *Logger) push(queue chan<- entry, e entry) {
	select {
	case queue <- e:
	default:
		l.lost.Add(1)
	}
}

// Close writes what waits and what was folded, for at most limit, and ends
// the goroutine. Entries pushed afterwards are lost.
func (l *Logger) Close(limit time.Duration) error {
	close(l.done)
	select {
	case <-l.stopped:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("the log did not take its last lines within %v", limit)
	}
}

func (l *Logger) write(out hclog.Logger) {
	defer close(l.stopped)
	folds := newFolder(out)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case e := <-l.opened:
			folds.entry(e)
		case e := <-l.entries:
			folds.entry(e)
		case <-tick.C:
			folds.tick(time.Now())
			l.reportLost(out)
		case <-l.done:
			l.drain(folds)
			l.reportLost(out)
			return
		}
	}
}

func (l *Logger) drain(folds *folder) {
	for {
		select {
		case e := <-l.opened:
			folds.entry(e)
		case e := <-l.entries:
			folds.entry(e)
		default:
			folds.flush()
			return
		}
	}
}

func (l *Logger) reportLost(out hclog.Logger) {
	if n := l.lost.Swap(0); n > 0 {
		out.Warn("log lines lost: the log is full, gone, or slower than the decisions", "lines", n)
	}
}
