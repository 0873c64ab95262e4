package main

import (
	"bytes"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// trafficAttacks are those of an owned trafficworker, on the parent but for
// the first.
var trafficAttacks = map[string]attack{
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
}

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
