package allowlist

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// TestTick: what is due goes to the resolver, nothing waits for it, and the
// holder looks again soon, whatever is due when.
func TestTick(t *testing.T) {
	theirs, ours, err := ipc.Pair(false, true)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ours)
	h := &holder{engine: testEngine(t, askingPolicy()), lookups: ipc.NewLookupSender(ours)}
	if limit, err := h.Tick(); err != nil || limit <= 0 || limit > cachedFor {
		t.Errorf("with questions under way: %v, %v", limit, err)
	}
	r := ipc.NewLookupReceiver(theirs)
	for range 4 {
		if l, err := r.Recv(); err != nil || l.Until <= ipc.Now() {
			t.Errorf("%+v, %v", l, err)
		}
	}
	for _, c := range h.engine.lookups.cached { // all answered
		c.answered(ipc.Now(), h.engine.lookups, rcodeSuccess)
	}
	if limit, err := h.Tick(); err != nil || limit != lookAgain {
		t.Errorf("with nothing due for minutes: %v, %v", limit, err)
	}
	unix.Close(theirs)
	for _, c := range h.engine.lookups.cached {
		c.due = ipc.Now()
	}
	h.engine.lookups.next = 0
	if limit, err := h.Tick(); err != nil || limit > cachedFor {
		t.Errorf("with a resolver that is gone: %v, %v", limit, err)
	}

	h = &holder{engine: testEngine(t, testPolicy())}
	if limit, err := h.Tick(); err != nil || limit != ipc.Forever {
		t.Errorf("with nothing to ask: %v, %v", limit, err)
	}
}
