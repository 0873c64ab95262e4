package parent

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc/logging"
)

// journalStream is device and inode of the socket by which the service manager
// has connected this process with the journal (JOURNAL_STREAM of
// systemd.exec(5)), or empty. That the variable is there says nothing: the
// output may have been sent elsewhere since.
type journalStream string

func takeJournalStream() journalStream { return journalStream(takeVariable("JOURNAL_STREAM")) }

// is reports whether the descriptor is that socket.
func (j journalStream) is(fd int) bool {
	var stat unix.Stat_t
	if j == "" || unix.Fstat(fd, &stat) != nil {
		return false
	}
	return string(j) == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// stderr is where the last words go. NB: as is.
func (j journalStream) stderr() io.Writer {
	if j.is(unix.Stderr) {
		return errorLines{os.Stderr}
	}
	return os.Stderr
}

// errorLines tells the journal that every line is an error.
type errorLines struct{ w io.Writer }

func (e errorLines) Write(b []byte) (int, error) {
	if _, err := e.w.Write(logging.Prefixed(logging.ErrorPriority, b)); err != nil {
		return 0, err
	}
	return len(b), nil
}
