package main

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// anybody is what any owned role may try.
var anybody = map[string]attack{
	"mute": func(*moment) error { mute = true; return nil },

	// The cell: a verdict of its own for the packet that is really queued.
	"write-verdict": func(m *moment) error {
		_, err := unix.Write(m.socket(), m.acceptMessage())
		return fmt.Errorf("a verdict was written: %v", err)
	},
	"sendto-verdict": func(m *moment) error {
		err := unix.Sendto(m.socket(), m.acceptMessage(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return fmt.Errorf("a verdict was sent: %v", err)
	},

	// The control socket.
	"signal-ready":   func(*moment) error { return raw(ipc.FDControl, ipc.AppendSignal(nil, ipc.SignalReady)) },
	"signal-loaded":  func(*moment) error { return raw(ipc.FDControl, ipc.AppendSignal(nil, ipc.SignalLoaded)) },
	"signal-force":   func(*moment) error { return raw(ipc.FDControl, ipc.AppendSignal(nil, ipc.SignalInForce)) },
	"signal-0":       func(*moment) error { return raw(ipc.FDControl, make([]byte, ipc.SignalSize)) },
	"signal-long":    func(*moment) error { return raw(ipc.FDControl, make([]byte, 1000)) },
	"signal-short":   func(*moment) error { return raw(ipc.FDControl, []byte{1}) },
	"signal-nothing": func(*moment) error { return raw(ipc.FDControl, nil) },
	"signal-million": func(*moment) error {
		for range 1_000_000 {
			if err := raw(ipc.FDControl, ipc.AppendSignal(nil, ipc.SignalLoaded)); err != nil {
				return err
			}
		}
		return nil
	},
	"policy-up": func(m *moment) error {
		item := m.policy.Items()[0]
		return ipc.NewPolicySender(ipc.FDControl).Send(&item)
	},

	// Standard error, of which the parent logs some when the child is dead.
	"stderr-flood": func(*moment) error {
		for {
			if _, err := unix.Write(ipc.FDStderr, make([]byte, 4096)); err != nil {
				return err
			}
		}
	},
	"stderr-escape": func(*moment) error {
		return errors.New("\x1b[2J\r\x1b]0;owned\a\n{\"@level\":\"info\",\"@message\":\"forged\"}")
	},

	// What there is only so much of.
	"descriptors": descriptors,
	"memory": func(*moment) error {
		for all := [][]byte{}; ; {
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
	},
	"threads": func(*moment) error {
		for range 1000 {
			go func() {
				runtime.LockOSThread()
				select {}
			}()
		}
		select {}
	},
	// As many as RLIMIT_NPROC leaves beside the runtime's own. Nothing is
	// locked and nothing collected, or the runtime would want still more.
	"spin": func(m *moment) error {
		debug.SetGCPercent(-1)
		runtime.GOMAXPROCS(spinners + 1)
		for range spinners {
			go func() {
				for {
				}
			}()
		}
		return m.honest()
	},
}

// descriptors takes all that it can get, lives on, and tells at its second
// moment.
func descriptors(m *moment) error {
	if exhausted != nil {
		return exhausted
	}
	for n := 0; exhausted == nil; n++ {
		if _, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			exhausted = fmt.Errorf("%d descriptors, then: %w", n, err)
		}
	}
	return m.honest()
}

var exhausted error

const spinners = 24

// raw writes one packet as it is, and waits for room.
func raw(fd int, packet []byte) error {
	for {
		if err := ipc.SendPacket(fd, packet); err != ipc.ErrWouldBlock {
			return err
		}
		runtime.Gosched()
	}
}

// frames are what no edge with gob on it must take.
var frames = map[string]func() []byte{
	"nothing":  func() []byte { return nil },
	"garbage":  func() []byte { return bytes.Repeat([]byte{0xa5}, 1000) },
	"half":     func() []byte { return []byte{100, 1, 2, 3} },
	"oversize": func() []byte { return make([]byte, ipc.MaxFrame+1) },
	"type": func() []byte {
		type Stranger struct{ A, B map[string][]int }
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(Stranger{}); err != nil {
			panic(err)
		}
		return b.Bytes()[:1+int(b.Bytes()[0])] // the definition, without the value
	},
}

// framed adds the frames to the attacks of a role on its edge.
func framed(fd int, attacks map[string]attack) map[string]attack {
	return framedAs("frame-", fd, attacks)
}

// framedAs is framed for a role with more than one edge.
func framedAs(prefix string, fd int, attacks map[string]attack) map[string]attack {
	for what, frame := range frames {
		attacks[prefix+what] = func(*moment) error { return raw(fd, frame()) }
	}
	attacks[prefix+"types"] = func(*moment) error {
		for range 100_000 {
			if err := raw(fd, frames["type"]()); err != nil {
				return err
			}
		}
		return nil
	}
	return attacks
}

// socket is the queue's, which the allowlist does not hold.
func (m *moment) socket() int { return ipc.FDQueues + int(m.queue.Slot) }

// acceptMessage is what the parent would send the kernel to let the packet
// pass (linux/netfilter/nfnetlink_queue.h).
func (m *moment) acceptMessage() []byte {
	const (
		verdict, header, accept = 3<<8 | 1, 2, 1 // NFQNL_MSG_VERDICT, NFQA_VERDICT_HDR, NF_ACCEPT
		length                  = 16 + 4 + 12
	)
	b := binary.NativeEndian.AppendUint32(nil, length)
	b = binary.NativeEndian.AppendUint16(b, verdict)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence, port
	b = binary.BigEndian.AppendUint16(append(b, 0, 0), m.queue.Number)
	b = binary.NativeEndian.AppendUint16(b, 12)
	b = binary.NativeEndian.AppendUint16(b, header)
	b = binary.BigEndian.AppendUint32(b, accept)
	return binary.BigEndian.AppendUint32(b, m.id)
}
