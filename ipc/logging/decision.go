package logging

import (
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

// Decision is one verdict and what it was about. What is not known stays zero.
type Decision struct {
	Event     string // EventRequest, EventResponse or EventTraffic
	Filter    string
	Queue     uint16
	Questions []ipc.Question
	Src, Dst  netip.AddrPort // port 0 is left out: only addresses were read
	UID       uint32
	HasUID    bool
	Verdict   ipc.Verdict
	Reason    ipc.Reason

	Granted []netip.Addr // addresses that the response opened
	Learnt  []name.Name  // names that the response opened for questions
	Refused []netip.Addr // special addresses that the response did not open
	For     string       // how long
	Dump    string       // the whole message (-f)
}

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
		add("type", joinQuestions(d.Questions, func(q ipc.Question) string { return TypeName(q.Type) }))
	}
	if d.Src.Addr().IsValid() {
		add("src", endpoint(d.Src))
		add("dst", endpoint(d.Dst))
	}
	if d.HasUID {
		add("uid", d.UID)
	}
	add("verdict", d.Verdict.String())
	if d.Reason != ipc.ReasonNone {
		add("reason", d.Reason.String())
	}
	if len(d.Granted) > 0 {
		add("granted", joinStringers(d.Granted))
	}
	if len(d.Learnt) > 0 {
		add("learnt", joinStringers(d.Learnt))
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

// foldKey is what makes two decisions the same one. The sender's port is left
// out: every retry has another.
type foldKey struct {
	event   string
	filter  string
	queue   uint16
	verdict ipc.Verdict
	reason  ipc.Reason
	subject string
	opened  string
}

func (d *Decision) key() foldKey {
	k := foldKey{event: d.Event, filter: d.Filter, queue: d.Queue, verdict: d.Verdict, reason: d.Reason}
	k.opened = joinStringers(d.Granted) + " " + joinStringers(d.Learnt)
	switch {
	case len(d.Questions) > 0:
		k.subject = string(d.Questions[0].Name)
	case d.Dst.Addr().IsValid():
		k.subject = d.Dst.Addr().String()
	}
	return k
}
