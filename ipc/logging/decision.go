package logging

import (
	"hash/maphash"
	"net/netip"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// The messages of decision lines, by what was decided on.
const (
	EventRequest  = "dns request"
	EventResponse = "dns response"
	EventTraffic  = "traffic"
)

// namesInLine bounds the learnt names that a line shows: each may be of 255
// octets that take four characters, and opens no address.
const namesInLine = 16

// Decision is one verdict and what it was about. What is not known stays zero.
type Decision struct {
	Event     string // EventRequest, EventResponse or EventTraffic
	Filter    string
	Queue     uint16
	Questions []ipc.Question
	Src, Dst  netip.AddrPort // port 0 is left out: only addresses were read
	Port      ipc.Port       // of the address that was judged, where single ports count
	UID       uint32
	HasUID    bool
	Verdict   ipc.Verdict
	Reason    ipc.Reason
	// AllowedBy is the configured host name by which the first question is
	// allowed; ByAnswer that it is so only by way of an earlier answer.
	AllowedBy name.Name
	ByAnswer  bool

	Granted []Opened     // what the response opened
	Learnt  []name.Name  // names that the response opened for questions
	Refused []netip.Addr // special addresses that the response did not open
	For     string       // how long
	Dump    string       // the whole message (-f)
}

// Opened is an address and a port of it, or the zero one for all.
type Opened struct {
	Addr netip.Addr
	Port ipc.Port
}

// String is ADDRESS, or ADDRESS:PORT as in the configuration.
func (o Opened) String() string {
	switch {
	case o.Port == ipc.Port{}:
		return o.Addr.String()
	case o.Addr.Is6():
		return "[" + o.Addr.String() + "]:" + o.Port.String()
	}
	return o.Addr.String() + ":" + o.Port.String()
}

// opens reports whether the decision opened an address or a name, or refused
// a special address.
func (d *Decision) opens() bool { return len(d.Granted)+len(d.Learnt)+len(d.Refused) > 0 }

// level is warn for what is denied or refused, debug for accepted traffic,
// info for accepted DNS.
func (d *Decision) level() hclog.Level {
	switch {
	case d.Verdict != ipc.Accept || len(d.Refused) > 0:
		return hclog.Warn
	case d.Event == EventTraffic:
		return hclog.Debug
	}
	return hclog.Info
}

func (d *Decision) fields() []any {
	f := make([]any, 0, 32)
	add := func(key string, value any) { f = append(f, key, value) }
	if d.Filter != "" {
		add("filter", d.Filter)
	}
	add("queue", d.Queue)
	if len(d.Questions) > 0 {
		add("name", joinQuestions(d.Questions, func(q ipc.Question) string { return q.Name.String() }))
		add("type", joinQuestions(d.Questions, func(q ipc.Question) string { return ipc.TypeName(q.Type) }))
	}
	if d.Src.Addr().IsValid() {
		add("src", endpoint(d.Src))
		add("dst", endpoint(d.Dst))
	}
	if d.Port != (ipc.Port{}) {
		add("port", d.Port.String())
	}
	if d.HasUID {
		add("uid", d.UID)
	}
	add("verdict", d.Verdict.String())
	if d.Reason != ipc.ReasonNone {
		add("reason", d.Reason.String())
	}
	if d.AllowedBy != "" {
		add("allowed_by", d.AllowedBy.String())
	}
	if d.ByAnswer {
		add("by_answer", true)
	}
	if len(d.Granted) > 0 {
		add("granted", joinStringers(d.Granted))
	}
	if len(d.Learnt) > 0 {
		add("learnt", joinStringers(d.Learnt[:min(len(d.Learnt), namesInLine)]))
	}
	if len(d.Learnt) > namesInLine {
		add("learnt_more", len(d.Learnt)-namesInLine)
	}
	if len(d.Refused) > 0 {
		add("refused", joinStringers(d.Refused))
	}
	if d.For != "" {
		add("for", d.For)
	}
	if d.Dump != "" {
		add("message", d.Dump)
	}
	return f
}

func endpoint(ap netip.AddrPort) string {
	if ap.Port() == 0 {
		return ap.Addr().String()
	}
	return ap.String()
}

func joinQuestions(qs []ipc.Question, text func(ipc.Question) string) string {
	parts := make([]string, len(qs))
	for i, q := range qs {
		parts[i] = text(q)
	}
	return strings.Join(parts, " ")
}

func joinStringers[T interface{ String() string }](items []T) string {
	parts := make([]string, len(items))
	for i, item := range items {
		parts[i] = item.String()
	}
	return strings.Join(parts, " ")
}

// foldKey is what makes two decisions the same one: a hash, since what it is
// made of can be long and is the packet's own choice. Ports are left out: every
// retry has another.
type foldKey uint64

// seed keeps whoever writes the packets from making two decisions one.
var seed = maphash.MakeSeed()

func (d *Decision) key() foldKey {
	var h maphash.Hash
	h.SetSeed(seed)
	write := func(parts ...string) {
		for _, s := range parts {
			maphash.WriteComparable(&h, s)
		}
	}
	write(d.Event, d.Filter)
	maphash.WriteComparable(&h, d.Port)
	maphash.WriteComparable(&h, [6]uint32{
		uint32(d.Queue), uint32(d.Verdict), uint32(d.Reason), d.UID, b2u(d.HasUID), uint32(len(d.Questions)),
	})
	for _, q := range d.Questions {
		maphash.WriteComparable(&h, q)
	}
	if len(d.Questions) == 0 {
		maphash.WriteComparable(&h, [2]netip.Addr{d.Src.Addr(), d.Dst.Addr()})
	}
	for _, o := range d.Granted {
		maphash.WriteComparable(&h, o)
	}
	write("")
	for _, a := range d.Refused {
		maphash.WriteComparable(&h, a)
	}
	write("")
	for _, n := range d.Learnt {
		maphash.WriteComparable(&h, n)
	}
	return foldKey(h.Sum64())
}

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
