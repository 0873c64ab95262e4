package sandbox

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// loadPhase is how long a load lasts with each number of processors. Every
// role and the parent bear three of them: a minute of load in all.
const loadPhase = 4 * time.Second

// stopsPerPhase is how often a load asks in each phase to be stopped.
const stopsPerPhase = 3

// work is one kind of what Go programs do to their runtime. step is done by
// that many goroutines, again and again.
type work struct {
	what       string
	goroutines int
	least      uint64 // in each phase, or nothing has been shown
	step       func()
}

var works = []work{
	{"garbage", 50, 50, makeGarbage},
	{"timers", 100, 500, useTimers},
	{"nil dereferences", 20, 100, dereferenceNil},
	{"panics", 20, 100, panicDeep},
	{"stack growths", 4, 20, growStack},
	// One, and slowly: an exiting thread counts towards RLIMIT_NPROC until it
	// is gone, and on a busy machine that takes a while.
	{"threads ended", 1, 5, endThread},
	{"system calls", 6, 20, sleepInKernel},
	{"big allocations", 1, 3, allocateBig},
}

// load does all of it at once, with the fewest and with more processors than
// production has, and says how often. In each phase it calls stop a few times.
func load(phase time.Duration, stop func()) string {
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	total := make([]uint64, len(works))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, processors := range []int{1, 2, 8} {
		runtime.GOMAXPROCS(processors)
		for i, n := range loadOnce(phase, stop) {
			if n < works[i].least {
				return fmt.Sprintf("with %d processors only %d %s", processors, n, works[i].what)
			}
			total[i] += n
		}
	}
	runtime.ReadMemStats(&after)
	var b strings.Builder
	for i := range works {
		fmt.Fprintf(&b, "%d %s, ", total[i], works[i].what)
	}
	return fmt.Sprintf("survived %s%d collections, %d MiB mapped", b.String(), after.NumGC-before.NumGC, after.Sys>>20)
}

// loadOnce lasts for the time given, and longer on a machine so busy that the
// least of each kind has not been done by then; but not for ever.
func loadOnce(phase time.Duration, stop func()) []uint64 {
	var (
		counts [16]atomic.Uint64
		end    atomic.Bool
		all    sync.WaitGroup
	)
	for i, w := range works {
		for range w.goroutines {
			all.Go(func() {
				for !end.Load() {
					w.step()
					counts[i].Add(1)
				}
			})
		}
	}
	start := time.Now()
	for range stopsPerPhase {
		time.Sleep(phase / (stopsPerPhase + 1))
		stop()
	}
	for time.Since(start) < phase || !done(counts[:]) && time.Since(start) < 10*phase {
		time.Sleep(10 * time.Millisecond)
	}
	end.Store(true)
	all.Wait()
	result := make([]uint64, len(works))
	for i := range result {
		result[i] = counts[i].Load()
	}
	return result
}

func done(counts []atomic.Uint64) bool {
	for i, w := range works {
		if counts[i].Load() < w.least {
			return false
		}
	}
	return true
}

func makeGarbage() {
	garbage := make([][]byte, 16)
	for i := range garbage {
		garbage[i] = make([]byte, 1+rand.IntN(64<<10))
	}
	time.Sleep(time.Duration(1+rand.IntN(7)) * time.Millisecond)
	runtime.KeepAlive(garbage)
}

func useTimers() {
	fired := make(chan bool, 1)
	time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, func() { fired <- true })
	never := time.NewTimer(time.Hour)
	<-fired
	never.Reset(time.Minute)
	never.Stop()
	tick := time.NewTicker(time.Millisecond)
	<-tick.C
	tick.Stop()
}

func dereferenceNil() {
	defer func() { _ = recover() }()
	var p *int
	time.Sleep(time.Millisecond)
	*p = 1
}

func panicDeep() {
	defer func() { _ = recover() }()
	time.Sleep(time.Millisecond)
	recurse(20, func() { panic("recovered") })
}

// growStack takes a new goroutine, whose stack is small, to 4 MiB.
func growStack() {
	grown := make(chan bool)
	go func() {
		recurse(4096, func() {})
		grown <- true
	}()
	<-grown
	time.Sleep(time.Millisecond)
}

// recurse calls last with so many KiB of stack below it.
//
//go:noinline
func recurse(depth int, last func()) byte {
	var frame [1024]byte
	frame[depth%len(frame)] = byte(depth)
	if depth == 0 {
		last()
		return frame[0]
	}
	return recurse(depth-1, last) + frame[depth/2%len(frame)]
}

// endThread: a goroutine that ends while locked takes its thread along.
func endThread() {
	ended := make(chan bool)
	go func() {
		runtime.LockOSThread()
		ended <- true
	}()
	<-ended
	time.Sleep(20 * time.Millisecond)
}

// sleepInKernel holds a thread, and is what SIGCONT restarts.
func sleepInKernel() {
	ts := unix.Timespec{Nsec: 20e6}
	_ = unix.Nanosleep(&ts, nil)
}

// allocateBig stays far from the dnsworkers' RLIMIT_DATA, which counts what the
// heap has mapped at its largest, with all gaps.
func allocateBig() {
	big := make([]byte, 16<<20)
	for i := 0; i < len(big); i += 4096 {
		big[i] = 1
	}
	runtime.KeepAlive(big)
	runtime.GC()
	debug.FreeOSMemory()
	time.Sleep(50 * time.Millisecond)
}

// panicUnderLoad panics in the middle of a load, with a trace of all
// goroutines, which is longer than a pipe holds.
func panicUnderLoad() {
	debug.SetTraceback("all")
	debug.SetGCPercent(1)
	runtime.GOMAXPROCS(8)
	loadOnce(2*time.Second, func() { // by when all goroutines are there
		go recurse(50, func() { panic("boom") })
		select {}
	})
}

// grow makes the heap larger than it has been.
func grow() string {
	var kept [][]byte
	for range 16 {
		block := make([]byte, 8<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
	}
	runtime.KeepAlive(kept)
	return "grown"
}
