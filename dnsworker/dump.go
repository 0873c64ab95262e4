package dnsworker

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

var flagNames = []struct {
	bit  uint16
	text string
}{{flagAA, " aa"}, {flagTC, " tc"}, {flagRD, " rd"}, {flagRA, " ra"}, {flagZ, " z"}, {flagAD, " ad"}, {flagCD, " cd"}}

// dumper writes a message as text of at most ipc.MaxDump octets: comments for
// header and sections, a line in master file form (RFC 1035 section 5) for
// each record. Octets of the message appear only through name.Name's
// escaping, as numbers or in hex.
type dumper struct {
	c   cursor
	out []byte
	cut bool
}

const dumpCut = "..."

// dump is msg as text, and empty if it cannot be walked to its end: half a
// text would look like a whole message. What follows the question of a
// truncated response is not walked and not shown.
func dump(msg *message) string {
	d := dumper{}
	d.c.start(msg.octets)
	d.header(msg)
	whole := d.questions(msg.qd)
	if msg.flags&flagTC == 0 {
		whole = whole && d.section("answer", msg.an) && d.section("authority", msg.ns) &&
			d.section("additional", msg.ar) && d.c.off == len(d.c.msg)
	}
	if !whole {
		return ""
	}
	return string(d.out)
}

// addf appends a line. What does not fit is cut off, and so is everything after it.
func (d *dumper) addf(format string, args ...any) {
	if d.cut {
		return
	}
	d.out = fmt.Appendf(d.out, format+"\n", args...)
	if len(d.out) > ipc.MaxDump {
		d.out = append(d.out[:ipc.MaxDump-len(dumpCut)], dumpCut...)
		d.cut = true
	}
}

func (d *dumper) header(msg *message) {
	kind, flags := "query", ""
	if msg.flags&flagQR != 0 {
		kind = "response"
	}
	for _, f := range flagNames {
		if msg.flags&f.bit != 0 {
			flags += f.text
		}
	}
	d.addf(";; %s, id %d, opcode %d, rcode %d, flags%s",
		kind, msg.id, msg.flags&maskOpcode>>11, msg.flags&maskRCode, flags)
}

func (d *dumper) questions(count int) bool {
	qs, _ := d.c.questions(count)
	if len(qs) != count {
		return false
	}
	for _, q := range qs {
		d.addf(";%s %s %s", nameText(q.Name), classText(q.Class), ipc.TypeName(q.Type))
	}
	return true
}

func (d *dumper) section(title string, count int) bool {
	if count > 0 {
		d.addf(";; %s", title)
	}
	for range count {
		r, ok := d.c.record()
		if !ok {
			return false
		}
		var owner name.Name
		if !d.cut {
			owner = name.Name(d.c.last())
		}
		// Outside IN a known type's number may mean other data (A in CH does).
		if known := r.class == classIN || r.typ == typeOPT; known && d.c.data(r) != ipc.ReasonNone {
			return false
		}
		if !d.cut {
			d.record(owner, r)
		}
		d.c.off = r.end
	}
	return true
}

func (d *dumper) record(owner name.Name, r record) {
	if r.typ == typeOPT {
		d.addf(";; EDNS version %d, udp %d, extended rcode %d, flags 0x%04x, options %s",
			r.ttl>>16&0xff, r.class, r.ttl>>24, r.ttl&0xffff, d.generic(r))
		return
	}
	d.addf("%s %d %s %s %s", nameText(owner), r.ttl, classText(r.class), ipc.TypeName(r.typ), d.dataText(r))
}

// dataText is r's data, which data has found good if the class is IN. The
// name in it, if any, is the one read last.
func (d *dumper) dataText(r record) string {
	if r.class != classIN {
		return d.generic(r)
	}
	data := d.c.msg[r.start:r.end]
	number := func(i int) int { return int(data[i])<<8 | int(data[i+1]) }
	switch r.typ {
	case typeA, typeAAAA:
		addr, _ := ipc.Address(data).Addr()
		if addr.IsValid() {
			return addr.String()
		}
	case typeNS, typeCNAME, typePTR, typeDNAME:
		return nameText(name.Name(d.c.last()))
	case typeMX:
		return fmt.Sprintf("%d %s", number(0), nameText(name.Name(d.c.last())))
	case typeSRV:
		return fmt.Sprintf("%d %d %d %s", number(0), number(2), number(4), nameText(name.Name(d.c.last())))
	case typeSOA:
		if soa, ok := d.soa(r); ok {
			return soa
		}
	}
	return d.generic(r)
}

// soa is an SOA's data (RFC 1035 section 3.3.13). It holds compressed names,
// so that its octets alone would say nothing.
func (d *dumper) soa(r record) (string, bool) {
	d.c.off = r.start
	if !d.c.readName() {
		return "", false
	}
	server := name.Name(d.c.last())
	if !d.c.readName() || d.c.off+20 != r.end {
		return "", false
	}
	mailbox := name.Name(d.c.last())
	return fmt.Sprintf("%s %s %d %d %d %d %d", nameText(server), nameText(mailbox),
		d.c.uint32(), d.c.uint32(), d.c.uint32(), d.c.uint32(), d.c.uint32()), true
}

// generic is data in the form of RFC 3597 section 5. More hex than a dump can
// hold is not made.
func (d *dumper) generic(r record) string {
	data := d.c.msg[r.start:min(r.end, r.start+ipc.MaxDump/2)]
	if len(data) == 0 {
		return `\# 0`
	}
	return fmt.Sprintf(`\# %d %s`, r.end-r.start, hex.EncodeToString(data))
}

func nameText(n name.Name) string {
	if n == name.Root {
		return "."
	}
	return n.String() + "."
}

func classText(c uint16) string {
	if c == classIN {
		return "IN"
	}
	return "CLASS" + strconv.Itoa(int(c))
}
