package main

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// trafficAttacks are those of an owned trafficworker: on the allowlist, to
// which one edge goes and one comes from, and on the parent.
var trafficAttacks = framed(ipc.FDUnknown, map[string]attack{
	"unknown-filter":  unknown(99, web8),
	"unknown-special": unknown(1, "\xa9\xfe\xa9\xfe"),
	"unknown-private": unknown(1, "\x0a\x01\x02\x03"),
	"unknown-none":    unknown(1, web8[:3]),
	"unknown-mapped":  unknown(1, strings.Repeat("\x00", 10)+"\xff\xff"+web8),
	"unknown-plain":   unknown(0, web8), // of a filter that looks nothing up
	"unknown-edge":    func(*moment) error { return ipc.NewLookupSender(ipc.FDUnknown).Send(&anyLookup[0]) },
	"unknown-flood":   floodUnknown(false),
	"unknown-deaf":    floodUnknown(true),

	"grants-back": func(*moment) error { return raw(ipc.FDGrants, []byte("grant me")) },

	"accept": func(m *moment) error { return raw(ipc.FDVerdicts, acceptRecord(m.queue.Handle, m.id)) },
	"ids":    ids,
	"flood":  floodVerdicts,

	"handle-none":     judged(func(r []byte) []byte { return append(make([]byte, 4), r[4:]...) }),
	"handle-response": foreign(1),
	"handle-request":  foreign(3),
	"handle-never":    foreign(1 << 20),
	// One foreign verdict behind good ones: nothing of the packet is carried.
	"handle-last": func(m *moment) error {
		return raw(ipc.FDVerdicts, append(acceptRecord(m.queue.Handle, m.id), acceptRecord(3, 1)...))
	},

	"verdict-0":   judged(func(r []byte) []byte { r[8] = 0; return r }),
	"verdict-3":   judged(func(r []byte) []byte { r[8] = 3; return r }),
	"verdict-4":   judged(func(r []byte) []byte { r[8] = 4; return r }), // NF_REPEAT
	"verdict-255": judged(func(r []byte) []byte { r[8] = 255; return r }),
	"stray":       judged(func(r []byte) []byte { r[11] = 1; return r }),
	"odd":         judged(func(r []byte) []byte { return append(r, 0) }),
	"cut":         judged(func(r []byte) []byte { return r[:11] }),
	"65":          judged(func(r []byte) []byte { return bytes.Repeat(r, ipc.MaxVerdicts+1) }),
	"large":       judged(func(r []byte) []byte { return bytes.Repeat(r, 5000) }),
	"nothing":     judged(func(r []byte) []byte { return nil }),
})

func acceptRecord(handle, id uint32) []byte {
	return ipc.AppendVerdict(nil, ipc.VerdictRecord{Handle: handle, ID: id, Verdict: ipc.Accept})
}

// judged sends a changed verdict for the packet.
func judged(change func(record []byte) []byte) attack {
	return func(m *moment) error { return raw(ipc.FDVerdicts, change(acceptRecord(m.queue.Handle, m.id))) }
}

// foreign accepts the first packet of a queue that is not its own.
func foreign(handle uint32) attack {
	return func(*moment) error { return raw(ipc.FDVerdicts, acceptRecord(handle, 1)) }
}

// ids drops the packet and then accepts it, and a thousand that were never
// queued.
func ids(m *moment) error {
	if err := m.honest(); err != nil {
		return err
	}
	for i := range uint32(1000) {
		if err := verdicts(ipc.VerdictRecord{Handle: m.queue.Handle, ID: m.id + i, Verdict: ipc.Accept}); err != nil {
			return err
		}
	}
	return nil
}

// floodVerdicts gives verdicts for packets that were never queued, without end.
func floodVerdicts(m *moment) error {
	packet := bytes.Repeat(acceptRecord(m.queue.Handle, 1<<30), ipc.MaxVerdicts)
	for {
		if err := raw(ipc.FDVerdicts, packet); err != nil {
			return err
		}
	}
}

// unknown has the allowlist look an address up for a filter.
func unknown(filter uint32, address string) attack {
	return func(m *moment) error {
		if err := unknowns.Send(&ipc.Unknown{Filter: filter, Address: ipc.Address(address)}); err != nil {
			return err
		}
		return m.honest()
	}
}

// floodUnknown does so without end, each time with another address. What comes
// back is taken, or with deaf it is not.
func floodUnknown(deaf bool) attack {
	return func(*moment) error {
		grants := ipc.NewGrantReceiver(ipc.FDGrants)
		u := ipc.Unknown{Filter: 1}
		for i := uint32(0); ; i++ {
			u.Address = ipc.Address(binary.BigEndian.AppendUint32(nil, 11<<24+i))
			for err := ipc.ErrWouldBlock; err == ipc.ErrWouldBlock; {
				if err = unknowns.Send(&u); err != nil && err != ipc.ErrWouldBlock {
					return err
				}
				for more := !deaf && (err != nil || i%32 == 0); more; {
					_, none := grants.Recv()
					more = none == nil
				}
			}
		}
	}
}
