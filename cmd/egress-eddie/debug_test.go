package main_test

import (
	"debug/buildinfo"
	"slices"
	"strings"
	"testing"
)

// TestDebugSettings: the two settings that cells cannot do without are in the
// built file. Without decoratemappings=0 every process dies when its heap
// grows, on kernels that let memory be named; without containermaxprocs=0 the
// runtime keeps the descriptors of its cgroup.
func TestDebugSettings(t *testing.T) {
	info, err := buildinfo.ReadFile(builtBinary)
	if err != nil {
		t.Fatal(err)
	}
	var settings []string
	for _, s := range info.Settings {
		if s.Key == "DefaultGODEBUG" {
			settings = strings.Split(s.Value, ",")
		}
	}
	for _, want := range []string{"decoratemappings=0", "containermaxprocs=0"} {
		if !slices.Contains(settings, want) {
			t.Errorf("%s is not among %v", want, settings)
		}
	}
}
