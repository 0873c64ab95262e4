package ipc

import (
	"testing"
	"time"
)

func TestLookupValidate(t *testing.T) {
	for what, spoil := range map[string]func(*Lookup){
		"no name":     func(l *Lookup) { l.Name = "" },
		"a text":      func(l *Lookup) { l.Name = "a.example" },
		"no end":      func(l *Lookup) { l.Until = 0 },
		"TXT":         func(l *Lookup) { l.Type = 16 },
		"no type":     func(l *Lookup) { l.Type = 0 },
		"before boot": func(l *Lookup) { l.Until = -1 },
	} {
		l := sampleLookup()
		spoil(&l)
		if l.Validate() == nil {
			t.Errorf("%s: valid", what)
		}
	}
	for _, a := range []Address{"", "abcde", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04"} {
		if u := (Unknown{Address: a}); u.Validate() == nil {
			t.Errorf("address %q: valid", a)
		}
	}
}

// TestBucket compares a bucket with the plain rule: in no stretch of time is
// taken more than Burst and what runs in meanwhile, and at that rate all is.
func TestBucket(t *testing.T) {
	b := Bucket{PerSecond: 20, Burst: 5}
	now := Instant(time.Hour)
	take := func(n int) (taken int) {
		for range n {
			if _, ok := b.Take(now); ok {
				taken++
			}
		}
		return taken
	}
	if n := take(100); n != 5 {
		t.Errorf("a full bucket gave %d", n)
	}
	if wait, ok := b.Take(now); ok || wait != 50*time.Millisecond {
		t.Errorf("an empty one gives in %v, %t", wait, ok)
	}
	now = now.Add(49 * time.Millisecond)
	if n := take(1); n != 0 {
		t.Error("one came 1 ms too early")
	}
	now = now.Add(time.Millisecond)
	if n := take(2); n != 1 {
		t.Errorf("%d after the time of one", n)
	}
	taken := 0
	for range 1000 { // ten seconds
		now = now.Add(10 * time.Millisecond)
		taken += take(3)
	}
	if taken != 200 {
		t.Errorf("%d in ten seconds, should be 200", taken)
	}
	now = now.Add(time.Hour)
	if n := take(100); n != 5 {
		t.Errorf("%d after an hour, more than it holds", n)
	}
}
