package parent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// named is JOURNAL_STREAM for a descriptor.
func named(t *testing.T, fd int) journalStream {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatal(err)
	}
	return journalStream(fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
}

// The journal is the very socket that the variable names, whatever number it
// has, and not what stands in its place since.
func TestJournalStream(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	t.Setenv("JOURNAL_STREAM", string(named(t, fds[0])))
	j := takeJournalStream()
	if value, ok := os.LookupEnv("JOURNAL_STREAM"); ok {
		t.Errorf("JOURNAL_STREAM=%q is still in the environment", value)
	}
	again, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again)
	for fd, want := range map[int]bool{fds[0]: true, again: true, fds[1]: false, 1 << 20: false} {
		if j.is(fd) != want {
			t.Errorf("descriptor %d: %t", fd, !want)
		}
	}
	for _, other := range []journalStream{"", "0:0", "nonsense", j + "0", j[1:]} {
		if other.is(fds[0]) {
			t.Errorf("%q is taken for %q", other, j)
		}
	}
}

// A path never is the journal: after it was opened again it would be another
// file, and the children would not know.
func TestJournalHasNoPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	l, err := openLog(path, named(t, int(file.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.fd)
	if l.journal {
		t.Error("it is taken for the journal")
	}
	l, err = openLog("stderr", named(t, unix.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.fd)
	if !l.journal {
		t.Error("standard error is not")
	}
}

// The last words are errors, each line of them, where the journal hears them,
// and plain text for everybody else.
func TestLastWordsToTheJournal(t *testing.T) {
	if w := journalStream("0:0").stderr(); w != os.Stderr {
		t.Errorf("%T", w)
	}
	if w, ok := named(t, unix.Stderr).stderr().(errorLines); !ok || w.w != os.Stderr {
		t.Errorf("%T", w)
	}
	var heard strings.Builder
	complain(errorLines{&heard}, errors.New("one\ntwo"))
	if got, want := heard.String(), "<3>egress-eddie: one\n<3>two\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
