package logging

import (
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/capnspacehook/egress-eddie/ipc"
)

const (
	// foldFor is how long repeats of one decision are counted before the count
	// is shown.
	foldFor = 10 * time.Second
	// maxFolds bounds the different decisions that are counted one by one.
	maxFolds = 4096
	// A flood of different decisions is shown as far as these go, and counted
	// beyond: so many lines at once, and so many a second for as long as it
	// lasts, which is 1.7 million a day. What opened or refused something has
	// lines of its own, so that questions and denials without end cannot push
	// it out of the log.
	quietAtOnce, quietPerSecond = 500, 20 // for each verdict
	opensAtOnce, opensPerSecond = 2000, 100
)

// fold counts the repeats of one decision.
type fold struct {
	decision *Decision
	since    time.Time
	count    uint64
}

// overflow is what is still told apart when a flood is only counted.
type overflow struct {
	event   string
	verdict ipc.Verdict
	reason  ipc.Reason
}

// folder is the state of the writing goroutine.
type folder struct {
	out   hclog.Logger
	folds map[foldKey]*fold
	quiet map[ipc.Verdict]int // lines used up by what opened nothing, by verdict
	opens int                 // lines used up by what opened or refused something
	over  map[overflow]uint64
	now   func() time.Time
}

func newFolder(out hclog.Logger) *folder {
	return &folder{
		out:   out,
		folds: map[foldKey]*fold{},
		quiet: map[ipc.Verdict]int{},
		over:  map[overflow]uint64{},
		now:   time.Now,
	}
}

func (f *folder) entry(e entry) {
	if e.decision == nil {
		f.out.Log(e.level, e.message, e.fields...)
		return
	}
	if d := e.decision; d.Event == EventTraffic && d.Verdict == ipc.Accept {
		f.out.Log(d.level(), d.Event, d.fields()...) // only with -d, where every packet is wanted
		return
	}
	f.decide(e.decision)
}

func (f *folder) decide(d *Decision) {
	key := d.key()
	if known := f.folds[key]; known != nil {
		known.count++
		return
	}
	if !f.room(d) {
		f.over[overflow{d.Event, d.Verdict, d.Reason}]++
		return
	}
	f.out.Log(d.level(), d.Event, d.fields()...)
	if len(f.folds) < maxFolds {
		// What was opened has been shown, and may be long.
		brief := *d
		brief.Granted, brief.Learnt, brief.Dump = nil, nil, ""
		f.folds[key] = &fold{decision: &brief, since: f.now()}
	}
}

// room uses up a line for a decision, if there is one.
func (f *folder) room(d *Decision) bool {
	if d.opens() {
		if f.opens == opensAtOnce {
			return false
		}
		f.opens++
		return true
	}
	if f.quiet[d.Verdict] == quietAtOnce {
		return false
	}
	f.quiet[d.Verdict]++
	return true
}

// tick shows the counts whose time is up. It is called once a second.
func (f *folder) tick(now time.Time) {
	f.opens = max(0, f.opens-opensPerSecond)
	for verdict, used := range f.quiet {
		f.quiet[verdict] = max(0, used-quietPerSecond)
	}
	for key, known := range f.folds {
		if now.Sub(known.since) >= foldFor {
			f.show(known, now)
			delete(f.folds, key)
		}
	}
	f.showOverflow()
}

// flush shows every count.
func (f *folder) flush() {
	now := f.now()
	for key, known := range f.folds {
		f.show(known, now)
		delete(f.folds, key)
	}
	f.showOverflow()
}

func (f *folder) show(known *fold, now time.Time) {
	if known.count == 0 {
		return
	}
	d := known.decision
	seconds := max(1, int(now.Sub(known.since).Round(time.Second).Seconds()))
	fields := append(d.fields(), "repeats", known.count)
	f.out.Log(d.level(), fmt.Sprintf("%s: and %d more in %d s", d.Event, known.count, seconds), fields...)
}

func (f *folder) showOverflow() {
	for what, count := range f.over {
		f.out.Warn(what.event+": more of the kind, not shown one by one",
			"verdict", what.verdict.String(), "reason", what.reason.String(), "repeats", count)
		delete(f.over, what)
	}
}
