// Package name holds the one representation of a domain name that crosses
// the edges between processes: a sequence of labels, never a joined text.
//
// A Name is the uncompressed wire form of RFC 1035 section 3.1 with ASCII
// letters in lower case: a length octet before each label, the empty root
// label last. Two names are equal exactly when their bytes are, and a label
// that holds a dot cannot be taken for two labels. Text is for people:
// String escapes it, Parse reads what an administrator wrote.
//
// The zero value is no name at all and fails Valid.
package name

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of RFC 1035 section 2.3.4.
const (
	// MaxLabel is the longest label, in octets without its length octet.
	MaxLabel = 63
	// MaxWire is the longest name, in octets of wire form with the root label.
	MaxWire = 255
)

// Name is a domain name in lower-case wire form. Convert bytes from elsewhere
// only with FromWire, Parse, or a conversion followed by Valid.
type Name string

// Root is the name without labels.
const Root Name = "\x00"

var (
	errEmpty    = errors.New("empty name")
	errTooLong  = fmt.Errorf("longer than %d octets", MaxWire)
	errNotAName = errors.New("not the wire form of a name")
)

// Valid reports whether n is a well-formed wire name in lower case. Every
// receiver of a Name from another process calls it before anything else.
func (n Name) Valid() bool {
	if len(n) == 0 || len(n) > MaxWire {
		return false
	}
	for i := 0; i < len(n); {
		l := int(n[i])
		if l == 0 {
			return i == len(n)-1
		}
		if l > MaxLabel || i+1+l >= len(n) {
			return false
		}
		for _, c := range []byte(n[i+1 : i+1+l]) {
			if 'A' <= c && c <= 'Z' {
				return false
			}
		}
		i += 1 + l
	}
	return false
}

// FromWire makes a Name of an uncompressed wire form, folding ASCII case.
func FromWire(wire []byte) (Name, error) {
	n := Name(lower(wire))
	if !n.Valid() {
		return "", errNotAName
	}
	return n, nil
}

// Parent is n without its first label, and false for the root.
func (n Name) Parent() (Name, bool) {
	if len(n) < 2 {
		return "", false
	}
	return n[1+int(n[0]):], true
}

// Below reports whether n is zone itself or has zone as a label-wise suffix.
// Both must be Valid.
func (n Name) Below(zone Name) bool {
	for {
		if len(n) <= len(zone) {
			return n == zone
		}
		n = n[1+int(n[0]):]
	}
}

// Labels is the number of labels without the root.
func (n Name) Labels() int {
	count := 0
	for len(n) > 1 {
		n = n[1+int(n[0]):]
		count++
	}
	return count
}

// String is the presentation form of RFC 1035 section 5.1 without the final
// dot: a dot or backslash inside a label is escaped with a backslash, any
// octet outside printable ASCII, and the quote and space, as \DDD. It is safe
// to print. The root is ".", what is not Valid is shown as "(invalid)".
func (n Name) String() string {
	if !n.Valid() {
		return "(invalid)"
	}
	if n == Root {
		return "."
	}
	var b strings.Builder
	for rest := n; rest[0] != 0; rest = rest[1+int(rest[0]):] {
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		for _, c := range []byte(rest[1 : 1+int(rest[0])]) {
			switch {
			case c == '.' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c <= ' ' || c > '~' || c == '"':
				fmt.Fprintf(&b, "\\%03d", c)
			default:
				b.WriteByte(c)
			}
		}
	}
	return b.String()
}

// Parse reads a name as an administrator writes it in a configuration:
// labels of letters, digits, hyphens and underscores joined by single dots,
// without a final dot. Letters are folded to lower case. The error says what
// is wrong in words that fit after the quoted name.
func Parse(text string) (Name, error) {
	if text == "" {
		return "", errEmpty
	}
	if strings.HasSuffix(text, ".") {
		return "", errors.New("ends with a dot")
	}
	wire := make([]byte, 0, len(text)+2)
	for label := range strings.SplitSeq(text, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
		wire = append(wire, byte(len(label)))
		wire = append(wire, label...)
	}
	wire = append(wire, 0)
	if len(wire) > MaxWire {
		return "", errTooLong
	}
	return Name(lower(wire)), nil
}

func checkLabel(label string) error {
	if label == "" {
		return errors.New("has an empty label")
	}
	if len(label) > MaxLabel {
		return fmt.Errorf("has a label of %d octets, more than %d", len(label), MaxLabel)
	}
	for _, c := range label {
		ok := c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !ok {
			return fmt.Errorf("has the character %q", c)
		}
	}
	return nil
}

// lower folds ASCII letters. A length octet is at most 63, and 'A' is 65, so
// folding a whole wire form never changes a length.
func lower(wire []byte) []byte {
	out := make([]byte, len(wire))
	for i, c := range wire {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out[i] = c
	}
	return out
}
