package sandbox

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// Text is the report in lines of at most 80 columns.
func (r *Report) Text() string {
	var b strings.Builder
	b.WriteString("PROCESS                 PID    UID THREADS NNP SECCOMP    DUMPABLE ROOT RESULT\n")
	for i := range r.Processes {
		r.Processes[i].text(&b)
	}
	b.WriteString("CAPS: inheritable/permitted/effective/bounding/ambient of every thread.\n")
	b.WriteString("NNP: no_new_privs. ROOT: entries in its root. Read from /proc.\n")
	fmt.Fprintf(&b, "Landlock: this kernel has ABI %d; who is under it does not show.\n", r.LandlockABI)
	if !r.SameBinary {
		b.WriteString("The tree runs another program than this one, with whose profile it is compared.\n")
	}
	return b.String()
}

func (row *Row) text(b *strings.Builder) {
	role, result := string(row.Role), "ok"
	if role == "" {
		role = "(unknown)"
	}
	if len(row.Deviations) > 0 {
		result = "WRONG"
	}
	dumpable := "no"
	if row.Dumpable {
		dumpable = "yes"
	}
	fmt.Fprintf(b, "%-19s %7d %6s %7d %-3s %-10s %-8s %4d %s\n", role, row.PID,
		row.combined(func(t *Thread) string { return t.UID }), len(row.Threads),
		row.combined(func(t *Thread) string { return map[string]string{"0": "no", "1": "yes"}[t.NoNewPrivs] }),
		row.combined((*Thread).seccomp), dumpable, row.Root, result)
	wrap(b, "  ", "  ", row.details())
	for _, d := range row.Deviations {
		wrap(b, "  ! ", "    ", pieces(d))
	}
}

// combined is the value of every thread, or "mixed".
func (row *Row) combined(of func(*Thread) string) string {
	first := of(&row.Threads[0])
	for i := range row.Threads {
		if of(&row.Threads[i]) != first {
			return "mixed"
		}
	}
	return first
}

func (t *Thread) seccomp() string {
	switch t.Seccomp {
	case "0":
		return "none"
	case "1":
		return "strict"
	}
	return "filter x" + t.Filters
}

// details are what does not fit the table, in pieces that stay together.
func (row *Row) details() (parts []string) {
	var caps []string
	for _, of := range []func(*Thread) string{
		func(t *Thread) string { return t.Inheritable },
		func(t *Thread) string { return t.Permitted },
		func(t *Thread) string { return t.Effective },
		func(t *Thread) string { return t.Bounding },
		func(t *Thread) string { return t.Ambient },
	} {
		caps = append(caps, shortCaps(row.combined(of)))
	}
	parts = append(parts, "caps "+strings.Join(caps, "/")+"  ")
	if row.Role != ipc.RoleParent {
		parts = append(parts, row.namespaceText("own", true), row.namespaceText("shared", false))
		for _, l := range row.Limits {
			parts = append(parts, l.Name+" "+l.text()+"  ")
		}
	}
	return append(parts, row.descriptorText()...)
}

func (row *Row) namespaceText(title string, own bool) string {
	var names []string
	for _, ns := range row.Namespaces {
		if (ns.Shared == "") == own {
			names = append(names, ns.Name)
		}
	}
	if names == nil {
		return ""
	}
	return title + " " + strings.Join(names, " ") + "  "
}

func (l *LimitSeen) text() string {
	if n, err := strconv.ParseUint(l.Soft, 10, 64); err == nil && l.Soft == l.Hard {
		return size(n)
	}
	return l.Soft
}

// descriptorText is the descriptors by kind: "socket 3,5,16-17".
func (row *Row) descriptorText() (parts []string) {
	byKind := map[string][]int{}
	var kinds []string
	for _, d := range row.Descriptors {
		if byKind[d.Kind] == nil {
			kinds = append(kinds, d.Kind)
		}
		byKind[d.Kind] = append(byKind[d.Kind], d.Number)
	}
	for _, kind := range kinds {
		parts = append(parts, breakable(kind+" "+numbers(byKind[kind]))...)
		parts[len(parts)-1] += "  "
	}
	return parts
}

// breakable keeps what fits a line together.
func breakable(text string) []string {
	if len(text) < columns/2 {
		return []string{text}
	}
	return strings.SplitAfter(text, ",")
}

// shortCaps shows a set by the names that matter here, else as it is.
func shortCaps(hex string) string {
	n, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return hex
	}
	if n == 0 {
		return "-"
	}
	var names []string
	for _, bit := range slices.Sorted(maps.Keys(capabilityNames)) {
		if n&(1<<bit) != 0 {
			names, n = append(names, capabilityNames[bit]), n&^(1<<bit)
		}
	}
	if n != 0 {
		return strings.TrimLeft(hex, "0")
	}
	return strings.Join(names, "+")
}
