package main_test

import (
	"slices"
	"strings"
	"testing"
)

// mounts are the options of what the process sees mounted, by path. Of several
// at one path the last is on top.
func (l *systemdLab) mounts(t *testing.T, pid string) map[string][]string {
	t.Helper()
	mounts := map[string][]string{}
	for line := range strings.Lines(l.must(t, "cat", "/proc/"+pid+"/mounts")) {
		fields := strings.Fields(line)
		mounts[fields[1]] = strings.Split(fields[3], ",")
	}
	return mounts
}

// incoming is where the service manager may mount something for a service. It
// is empty and read-only.
const incoming = "/run/systemd/incoming"

// unitSeesNoFiles: what takes over the parent finds nothing to run, nowhere to
// write, and in the host's usual directories nothing to read.
func unitSeesNoFiles(t *testing.T, l *systemdLab) {
	pid := l.property(t, "MainPID")
	for path, options := range l.mounts(t, pid) {
		if path != "/usr/bin/egress-eddie" && path != incoming && !slices.Contains(options, "noexec") {
			t.Errorf("%s can hold programs: %v", path, options)
		}
		if path != "/proc" && path != "/dev/pts" && !slices.Contains(options, "ro") {
			t.Errorf("%s can be written: %v", path, options)
		}
	}
	for _, dir := range []string{"", "tmp", "var", "var/tmp", "dev", "dev/shm", "run", "etc", "etc/egress-eddie", "usr/bin"} {
		out, status := l.run(t, nil, "touch", "/proc/"+pid+"/root/"+dir+"/file")
		if status == 0 || !strings.Contains(out, "Read-only file system") {
			t.Errorf("/%s: root can make a file in it: %s", dir, out)
		}
	}
	for dir, want := range map[string]string{
		"etc": "egress-eddie", "usr": "bin", "usr/bin": "egress-eddie", "var": "tmp",
		"var/tmp": "", "tmp": "", "home": "", "root": "", "srv": "", "opt": "", "boot": "",
		"run": "systemd", "run/systemd": "incoming\nnotify", incoming: "",
	} {
		if got := strings.TrimSpace(l.must(t, "ls", "-A", "/proc/"+pid+"/root/"+dir)); got != want {
			t.Errorf("/%s holds %q, should hold %q", dir, got, want)
		}
	}
}
