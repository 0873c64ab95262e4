package sandbox

import (
	"fmt"
	"strings"

	"golang.org/x/net/bpf"
)

// columns is the width of all that is printed for people.
const columns = 80

// Text is the description in lines of at most 80 columns.
func (d *Description) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s: %d system calls\n", d.title(), d.Machine, len(d.Syscalls))
	if len(d.WithLookups) > 0 {
		wrap(&b, "", "  ", pieces("With selfDNSQueue more is allowed of: "+strings.Join(d.WithLookups, ", ")+"."))
	}
	exceptions := ", without exception:"
	if d.Lookups {
		exceptions = ":"
	}
	for _, section := range []struct {
		title string
		lines []Line
	}{
		{"Descriptors, and no other:", d.Descriptors},
		{"Resource limits, soft and hard:", d.Limits},
		{"Namespaces:", d.Namespaces},
		{"Capabilities:", d.Capabilities},
		{"Landlock, on a kernel that has the ABI" + exceptions, d.Landlock},
	} {
		if len(section.lines) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", section.title)
		for _, l := range section.lines {
			table(&b, fmt.Sprintf("  %-11s %-9s ", l.Name, l.Value), l.Reason)
		}
	}
	if len(d.Steps) > 0 {
		b.WriteString("\nBuilt in this order:\n")
		wrap(&b, "  ", "  ", strings.Split(strings.Join(d.Steps, ", |"), "|"))
	}
	b.WriteString("\nSystem calls, in this order; any other, and any other argument, kills:\n")
	for _, l := range d.Syscalls {
		name := l.Name
		if l.Zero {
			name += " = 0"
		}
		table(&b, fmt.Sprintf("  %-22s ", name), l.Reason)
		for _, when := range l.When {
			wrap(&b, "      ", "          ", pieces(when))
		}
	}
	return b.String()
}

// title is the role, and which of the two parents it is.
func (d *Description) title() string {
	if d.Lookups {
		return string(d.Role) + " with selfDNSQueue"
	}
	return string(d.Role)
}

// table writes a line whose last column is wrapped under itself.
func table(b *strings.Builder, head, text string) {
	wrap(b, head, strings.Repeat(" ", len(head)), pieces(text))
}

// pieces are where a text may be broken: behind a space or a bar of flags.
func pieces(text string) (parts []string) {
	for _, word := range strings.SplitAfter(text, " ") {
		parts = append(parts, strings.SplitAfter(word, "|")...)
	}
	return parts
}

// wrap writes pieces in lines that fit, the later ones behind indent. A piece
// that is wider than a line has one of its own.
func wrap(b *strings.Builder, head, indent string, pieces []string) {
	line := head
	for _, p := range pieces {
		if len(line)+len(strings.TrimRight(p, " ")) > columns && strings.TrimSpace(line) != "" && line != head {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent
		}
		line += p
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// Program is the filter as the kernel gets it, one instruction a line, with
// the names of the calls whose numbers it compares.
func (d *Description) Program() string {
	var b strings.Builder
	fmt.Fprintf(&b, "; %s on %s: %d instructions\n", d.title(), d.Machine, len(d.filter))
	number := false // the accumulator holds the number
	for i, ins := range d.filter {
		text, comment := fmt.Sprint(ins), ""
		switch ins := ins.(type) {
		case bpf.LoadAbsolute:
			number = ins.Off == offsetNumber
		case bpf.JumpIf:
			if number && ins.Cond == bpf.JumpEqual {
				comment = d.m.info.SyscallNumbers[int(ins.Val)]
			}
		case bpf.RetConstant:
			comment = map[uint32]string{kill.Val: "kill the process", permit.Val: "allow", answerZero.Val: "answer 0"}[ins.Val]
		}
		if comment != "" {
			text = fmt.Sprintf("%-24s ; %s", text, comment)
		}
		fmt.Fprintf(&b, "%4d  %s\n", i, text)
	}
	return b.String()
}
