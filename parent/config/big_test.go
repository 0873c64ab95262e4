package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the processor time that this process has used, which a busy
// machine does not stretch as it does the time of day.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// A million names in one list, and half a million mistakes, take time in
// proportion. The bound is generous: one to two seconds are usual.
func TestMillionNames(t *testing.T) {
	const count = 1_000_000
	var good, bad strings.Builder
	good.WriteString(in + strings.Replace(one, list, "allowedHostnames = [\n", 1))
	bad.WriteString(good.String())
	for i := range count {
		fmt.Fprintf(&good, "\"host-%d.example.com\",\n", i)
		fmt.Fprintf(&bad, "\"host-%d.example.com\",\n", i/2)
	}
	good.WriteString("]\n")
	bad.WriteString("]\n")

	data := []byte(good.String())
	start := cpuTime(t)
	c, err := Parse(data, "f.toml")
	took := cpuTime(t) - start
	if err != nil {
		t.Fatalf("%.1000v", err)
	}
	t.Logf("a million names took %v", took)
	if took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if got := len(c.Filters[0].Hostnames); got != count {
		t.Errorf("%d names", got)
	}

	data = []byte(bad.String())
	start = cpuTime(t)
	_, err = Parse(data, "f.toml")
	took = cpuTime(t) - start
	if err == nil {
		t.Fatal("duplicates accepted")
	}
	text := err.Error()
	if got := strings.Count(text, "\n") + 1; got != count/2 {
		t.Errorf("%d mistakes", got)
	}
	const last = "f.toml:1000008: filter \"x\": allowedHostnames: \"host-499999.example.com\" is listed twice (line 1000007)"
	if !strings.HasSuffix(text, last) {
		t.Errorf("the last mistake is %q", text[max(0, len(text)-200):])
	}
	t.Logf("half a million mistakes took %v", took)
	if took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}
