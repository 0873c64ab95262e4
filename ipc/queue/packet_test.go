package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
	"unsafe"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// attr is one attribute as the kernel lays it out, padded to 4 octets.
func attr(kind uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// message is a netlink packet message of attributes; its length says what is
// there.
func message(attrs ...[]byte) []byte {
	body := bytes.Join(attrs, nil)
	b := binary.NativeEndian.AppendUint32(nil, uint32(20+len(body)))
	b = binary.NativeEndian.AppendUint16(b, msgPacket)
	b = append(b, make([]byte, 10)...) // flags, sequence, port
	b = append(b, 2, 0, 0, 1)          // AF_INET, version, queue
	return append(b, body...)
}

var header = attr(attrPacketHdr, 0x01, 0x02, 0x03, 0x04, 0x08, 0x00, 3)

func TestParse(t *testing.T) {
	var p Packet
	msg := message(header,
		attr(attrInDev, 0, 0, 0, 5), attr(attrOutDev, 0, 0, 1, 0), attr(attrUID, 0, 0, 3, 0xe8),
		attr(attrCTInfo, 0, 0, 0, 2), attr(attrCapLen, 0, 0, 5, 220), attr(attrSkbInfo, 0, 0, 0, 3),
		attr(99, 1, 2, 3), attr(attrPayload, []byte("payload")...))
	if err := p.parse(msg, false); err != nil {
		t.Fatal(err)
	}
	payload := p.Payload
	p.Payload = nil
	want := Packet{
		ID: 0x01020304, Protocol: 0x0800, Hook: HookOutput, InIf: 5, OutIf: 256, UID: 1000, HasUID: true,
		State: ipc.ConnNew, Length: 1500, GSO: true,
	}
	if string(payload) != "payload" || !reflect.DeepEqual(p, want) {
		t.Errorf("%q, %+v", payload, p)
	}
	// Nothing of it is left when the next message says less.
	if err := p.parse(message(header), false); err != nil || p.Payload != nil || p.HasUID || p.Length != 0 || p.GSO || p.State != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	// The flag bits of an attribute's type are no part of it.
	if err := p.parse(message(attr(attrPacketHdr|0x8000, header[4:11]...), attr(attrPayload|0x4000, 1)), false); err != nil || len(p.Payload) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestParseRefuses(t *testing.T) {
	good := message(header, attr(attrPayload, 1, 2, 3))
	set := func(at int, octets ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], octets)
		return b
	}
	errorMessage := set(4, 2, 0) // NLMSG_ERROR
	short := binary.NativeEndian.AppendUint32(nil, 19)
	far := binary.NativeEndian.AppendUint32(nil, uint32(len(good)+1))
	for what, test := range map[string]struct {
		msg  []byte
		want error
	}{
		"nothing":               {nil, errNotAPacket},
		"no nfgen header":       {good[:19], errNotAPacket},
		"another type":          {errorMessage, errNotAPacket},
		"length below headers":  {set(0, short...), errNotAPacket},
		"length beyond":         {set(0, far...), errNotAPacket},
		"length of gigabytes":   {set(0, 0xff, 0xff, 0xff, 0xff), errNotAPacket},
		"no attributes":         {message(), errNotAPacket},
		"no packet header":      {message(attr(attrPayload, 1)), errNotAPacket},
		"packet header cut":     {message(attr(attrPacketHdr, 0, 0, 0, 1, 8, 0)), errNotAPacket},
		"attribute of length 0": {message(header, []byte{0, 0, 10, 0}), errAttribute},
		"attribute of length 3": {message(header, []byte{3, 0, 10, 0}), errAttribute},
		"attribute beyond":      {message(header, []byte{9, 0, 10, 0, 1, 2, 3, 4}), errAttribute},
		"attribute of 65535":    {message(header, []byte{0xff, 0xff, 10, 0, 1, 2, 3, 4}), errAttribute},
	} {
		var p Packet
		if err := p.parse(test.msg, false); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestParseCut: of a message that did not fit the buffer the id is still
// known, so that the packet gets its verdict, and the packet says that it is
// not whole.
func TestParseCut(t *testing.T) {
	whole := message(header, attr(attrUID, 0, 0, 0, 1), attr(attrPayload, make([]byte, 3000)...))
	for _, size := range []int{500, len(whole) - 1, 20 + len(header), 20 + len(header) + 8, 20 + len(header) + 8 + 4} {
		var p Packet
		if err := p.parse(whole[:size], true); err != nil {
			t.Errorf("%d octets: %v", size, err)
			continue
		}
		if p.ID != 0x01020304 || p.Payload != nil || p.Length <= 0 {
			t.Errorf("%d octets: id %#x, payload %d, length %d", size, p.ID, len(p.Payload), p.Length)
		}
	}
	var p Packet
	if err := p.parse(whole[:20+len(header)-2], true); err == nil {
		t.Error("a message cut before its id has one")
	}
}

func TestConnState(t *testing.T) {
	for info, want := range map[uint32]ipc.ConnState{
		0: ipc.ConnEstablished, 3: ipc.ConnEstablished, 2: ipc.ConnNew,
		1: ipc.ConnOther, 4: ipc.ConnOther, 5: ipc.ConnOther, 7: ipc.ConnOther, 1<<32 - 1: ipc.ConnOther,
	} {
		var p Packet
		if err := p.parse(message(header, attr(attrCTInfo, binary.BigEndian.AppendUint32(nil, info)...)), false); err != nil || p.State != want {
			t.Errorf("info %d: %d, %v", info, p.State, err)
		}
	}
}

func TestHookString(t *testing.T) {
	if HookForward.String() != "FORWARD" || HookPrerouting.String() != "PREROUTING" || Hook(5).String() != "hook 5" || Hook(255).String() != "hook 255" {
		t.Error("hooks are not named")
	}
}

// FuzzParse: no panic, and a payload that lies within the message.
func FuzzParse(f *testing.F) {
	good := message(header, attr(attrPayload, 1, 2, 3), attr(attrUID, 0, 0, 0, 1))
	for _, cut := range []bool{false, true} {
		f.Add(good, uint16(0), cut)
		f.Add(good[:25], uint16(0), cut)
		f.Add(message(header, []byte{9, 0, 10, 0, 1, 2, 3, 4}), uint16(1), cut)
	}
	f.Fuzz(func(t *testing.T, data []byte, spare uint16, cut bool) {
		// A buffer that goes on behind the message, as the reader's does.
		buf := append(bytes.Clone(data), bytes.Repeat([]byte{0xee}, int(spare%512))...)
		for _, msg := range [][]byte{buf[:len(data)], message(data)} {
			var p Packet
			err := p.parse(msg, cut)
			if len(p.Payload) > 0 {
				start := uintptr(unsafe.Pointer(&msg[0]))
				first := uintptr(unsafe.Pointer(&p.Payload[0]))
				if first < start || first+uintptr(len(p.Payload)) > start+uintptr(len(msg)) {
					t.Fatalf("payload outside the message")
				}
			}
			if err == nil && cut && p.Length == 0 {
				t.Fatal("a cut message passes for whole")
			}
		}
	})
}
