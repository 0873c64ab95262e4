package ipc

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// pass sends an honest policy item with so many descriptors beside it.
func pass(t *testing.T, fd int, packet []byte, fds ...int) {
	t.Helper()
	if err := unix.Sendmsg(fd, packet, unix.UnixRights(fds...), nil, 0); err != nil {
		t.Fatal(err)
	}
}

func TestDescriptor(t *testing.T) {
	a, b := pair(t, false, false)
	r := NewPolicyReceiver(b)
	f, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	item := PolicyItem{Kind: PolicyLog}
	if err := NewPolicySender(a).SendWith(&item, int(f.Fd())); err != nil {
		t.Fatal(err)
	}
	m, fd, err := r.RecvWith()
	if err != nil || m.Kind != PolicyLog || fd < 0 {
		t.Fatalf("%+v, %d, %v", m, fd, err)
	}
	if _, err := unix.Write(fd, []byte("through")); err != nil {
		t.Error(err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v: the descriptor would be inherited", flags, err)
	}
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(f.Name()); err != nil || string(text) != "through" {
		t.Errorf("%q, %v", text, err)
	}

	// None beside it is -1 and no error.
	if err := NewPolicySender(a).Send(&item); err != nil {
		t.Fatal(err)
	}
	if m, fd, err := r.RecvWith(); err != nil || m.Kind != PolicyLog || fd != -1 {
		t.Errorf("%+v, %d, %v", m, fd, err)
	}
}

// TestDescriptorsRefused: no message that is refused leaves a descriptor
// behind.
func TestDescriptorsRefused(t *testing.T) {
	item := PolicyItem{Kind: PolicyLog}
	honest := frame(t, NewPolicySender(-1), item)
	for _, test := range []struct {
		what   string
		packet []byte
		fds    []int
	}{
		{"two", honest, []int{0, 1}},
		{"three", honest, []int{0, 1, 2}},
		{"two hundred", honest, make([]int, 200)},
		{"one with an oversize frame", make([]byte, MaxFrame+1), []int{0}},
		{"two with an oversize frame", make([]byte, MaxFrame+1), []int{0, 1}},
	} {
		t.Run(test.what, func(t *testing.T) {
			a, b := pair(t, false, false)
			r := NewPolicyReceiver(b)
			before := openFiles(t)
			pass(t, a, test.packet, test.fds...)
			m, fd, err := r.RecvWith()
			if err == nil || fd != -1 {
				t.Errorf("%+v, %d, %v", m, fd, err)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors, before it was %d", after, before)
			}
		})
	}
}

// TestDescriptorRefusedMessage: with a message that is refused the descriptor
// is handed to the caller, who closes it.
func TestDescriptorRefusedMessage(t *testing.T) {
	a, b := pair(t, false, false)
	r := NewPolicyReceiver(b)
	pass(t, a, []byte("nonsense"), 0)
	m, fd, err := r.RecvWith()
	if err == nil || m != nil || fd < 0 {
		t.Fatalf("%+v, %d, %v", m, fd, err)
	}
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
}

// TestDescriptorNoRoom: without a free number the kernel cuts the control
// message; that is an error and not "no descriptor".
func TestDescriptorNoRoom(t *testing.T) {
	a, b := pair(t, false, false)
	r := NewPolicyReceiver(b)
	pass(t, a, frame(t, NewPolicySender(-1), PolicyItem{Kind: PolicyLog}), 0)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
	m, fd, err := r.RecvWith()
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &old, nil); err != nil {
		t.Fatal(err)
	}
	if err == nil || fd != -1 {
		t.Errorf("%+v, %d, %v", m, fd, err)
	}
}
