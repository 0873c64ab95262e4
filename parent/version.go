package parent

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version and Commit are set by the linker (see the Makefile); a binary that
// `go install` made knows them from its build information.
var (
	Version string
	Commit  string
)

func version() string {
	v, c := Version, Commit
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			if c == "" && s.Key == "vcs.revision" {
				c = s.Value
			}
		}
	}
	if v == "" {
		v = "(devel)"
	}
	if c == "" {
		c = "commit unknown"
	}
	return fmt.Sprintf("%s (%s, %s)", v, c, runtime.Version())
}
