package name

import (
	"fmt"
	"strings"
	"testing"
)

// wire makes a wire form of labels, without looking at them.
func wire(labels ...string) []byte {
	var b []byte
	for _, l := range labels {
		b = append(b, byte(len(l)))
		b = append(b, l...)
	}
	return append(b, 0)
}

func mustName(t *testing.T, labels ...string) Name {
	t.Helper()
	n, err := FromWire(wire(labels...))
	if err != nil {
		t.Fatalf("%q: %v", labels, err)
	}
	return n
}

func TestValid(t *testing.T) {
	longest := wire(strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63), strings.Repeat("d", 61))
	if len(longest) != MaxWire {
		t.Fatalf("the longest name has %d octets", len(longest))
	}
	for _, test := range []struct {
		what  string
		wire  string
		valid bool
	}{
		{"nothing", "", false},
		{"root", "\x00", true},
		{"one label", "\x01a\x00", true},
		{"two labels", "\x01a\x02bc\x00", true},
		{"longest", string(longest), true},
		{"one octet more", string(wire(strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63), strings.Repeat("d", 62))), false},
		{"longest label", string(wire(strings.Repeat("a", 63))), true},
		{"label of 64", "\x40" + strings.Repeat("a", 64) + "\x00", false},
		{"no root", "\x01a", false},
		{"only a length", "\x05", false},
		{"label to the very end", "\x02ab", false},
		{"octets after the root", "\x01a\x00\x00", false},
		{"root twice", "\x00\x00", false},
		{"compression pointer", "\x01a\xc0\x00", false},
		{"pointer alone", "\xc0\x00", false},
		{"upper case", "\x01A\x00", false},
		{"upper case later", "\x03abZ\x00", false},
		{"octets beyond ASCII", "\x03\x80\xff\x00\x00", true},
		{"dot in a label", "\x03a.b\x00", true},
		{"@ and [ beside the letters", "\x02@[\x00", true},
	} {
		if got := Name(test.wire).Valid(); got != test.valid {
			t.Errorf("%s: valid is %t", test.what, got)
		}
	}
}

// TestDotInLabel: a label that holds a dot never equals two labels, in
// whatever way the two names are compared.
func TestDotInLabel(t *testing.T) {
	one := mustName(t, "evil.example", "com")
	two := mustName(t, "evil", "example", "com")
	example := mustName(t, "example", "com")
	if one == two {
		t.Error("one label with a dot equals two labels")
	}
	if one.Below(example) || one.Below(two) || two.Below(one) {
		t.Error("a label with a dot counts as two labels below a zone")
	}
	if !two.Below(example) {
		t.Error("two labels are not below the zone")
	}
	if one.String() == two.String() {
		t.Errorf("both are shown as %q", one)
	}
	if one.Labels() != 2 || two.Labels() != 3 {
		t.Errorf("labels: %d and %d", one.Labels(), two.Labels())
	}
}

func TestBelow(t *testing.T) {
	com, example := mustName(t, "com"), mustName(t, "example", "com")
	for _, test := range []struct {
		n, zone Name
		below   bool
	}{
		{example, example, true},
		{mustName(t, "a", "example", "com"), example, true},
		{mustName(t, "A", "b", "EXAMPLE", "Com"), example, true},
		{mustName(t, "xexample", "com"), example, false},
		{mustName(t, "example", "com", "evil"), example, false},
		{mustName(t, "example"), example, false},
		{com, example, false},
		{example, com, true},
		{example, Root, true},
		{Root, Root, true},
		{Root, com, false},
		// The zone's wire form is a suffix of the name's, but inside a label.
		{mustName(t, "a\x07example\x03com"), example, false},
	} {
		if got := test.n.Below(test.zone); got != test.below {
			t.Errorf("%s below %s: %t", test.n, test.zone, got)
		}
	}
}

func TestParent(t *testing.T) {
	n := mustName(t, "a", "b", "c")
	for _, want := range []string{"b.c", "c", "."} {
		parent, ok := n.Parent()
		if !ok || parent.String() != want {
			t.Fatalf("parent of %s is %s, %t", n, parent, ok)
		}
		n = parent
	}
	if parent, ok := n.Parent(); ok {
		t.Errorf("the root has the parent %q", parent)
	}
	if parent, ok := Name("").Parent(); ok {
		t.Errorf("no name has the parent %q", parent)
	}
}

func TestString(t *testing.T) {
	for _, test := range []struct {
		n    Name
		want string
	}{
		{Root, "."},
		{"", "(invalid)"},
		{"\x01A\x00", "(invalid)"},
		{mustName(t, "a.b", `c\d`, "e"), `a\.b.c\\d.e`},
		{mustName(t, "\x00\n\x1b \"\x7f\xff"), `\000\010\027\032\034\127\255`},
		{mustName(t, "_dns-sd~!"), "_dns-sd~!"},
	} {
		if got := test.n.String(); got != test.want {
			t.Errorf("%q: %s, not %s", string(test.n), got, test.want)
		}
	}
}

func TestParse(t *testing.T) {
	good := map[string]string{
		"example.com":           "\x07example\x03com\x00",
		"EXAMPLE.Com":           "\x07example\x03com\x00",
		"_x-1.y":                "\x04_x-1\x01y\x00",
		"c":                     "\x01c\x00",
		strings.Repeat("a", 63): "\x3f" + strings.Repeat("a", 63) + "\x00",
	}
	for text, want := range good {
		if n, err := Parse(text); err != nil || string(n) != want {
			t.Errorf("%q: %q, %v", text, n, err)
		}
	}
	bad := map[string]string{
		"":                              "empty",
		".":                             "dot",
		"a.":                            "dot",
		".a":                            "empty label",
		"a..b":                          "empty label",
		"a b":                           "' '",
		"*.a":                           "'*'",
		"a\x00b":                        `'\x00'`,
		`a\.b`:                          `'\\'`,
		"bücher.de":                     "'ü'",
		"a\xffb":                        "'\uFFFD'",
		"Kelvin\u212a":                  "'\u212a'", // folds to k under Unicode rules
		strings.Repeat("a", 64):         "64 octets",
		strings.Repeat("a.", 127):       "dot",
		strings.Repeat("ab.", 85):       "dot",
		"a" + strings.Repeat(".a", 127): "255",
	}
	for text, want := range bad {
		n, err := Parse(text)
		if err == nil || n != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want an error with %q", text, n, err, want)
		}
	}
}

// The oracle: labels as a slice, every rule spelt out.

func oracleLabels(b []byte) ([]string, bool) {
	if len(b) > 255 {
		return nil, false
	}
	var labels []string
	for i := 0; ; {
		if i >= len(b) {
			return nil, false
		}
		l := int(b[i])
		if l == 0 {
			return labels, i+1 == len(b)
		}
		if l > 63 || i+1+l > len(b) {
			return nil, false
		}
		labels = append(labels, foldASCII(string(b[i+1:i+1+l])))
		i += 1 + l
	}
}

func foldASCII(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] >= 65 && b[i] <= 90 {
			b[i] += 32
		}
	}
	return string(b)
}

func oracleBelow(n, zone []string) bool {
	if len(n) < len(zone) {
		return false
	}
	for i := 1; i <= len(zone); i++ {
		if n[len(n)-i] != zone[len(zone)-i] {
			return false
		}
	}
	return true
}

// oracleUnescape reads presentation form back into labels (RFC 1035 section 5.1).
func oracleUnescape(text string) ([]string, error) {
	if text == "." {
		return nil, nil
	}
	var labels []string
	var label []byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '.':
			labels, label = append(labels, string(label)), nil
			continue
		case c < 33 || c > 126 || c == '"':
			return nil, fmt.Errorf("octet %d is not printable", c)
		case c != '\\':
		case i+1 < len(text) && (text[i+1] < '0' || text[i+1] > '9'):
			i++
			c = text[i]
		case i+3 < len(text):
			var v int
			if _, err := fmt.Sscanf(text[i+1:i+4], "%03d", &v); err != nil || v > 255 {
				return nil, fmt.Errorf("escape %q", text[i:i+4])
			}
			c, i = byte(v), i+3
		default:
			return nil, fmt.Errorf("escape cut short")
		}
		label = append(label, c)
	}
	return append(labels, string(label)), nil
}

func same(a, b []string) bool {
	return strings.Join(a, "\x00\x00") == strings.Join(b, "\x00\x00") && len(a) == len(b)
}

func FuzzName(f *testing.F) {
	f.Add(wire("a", "b"), wire("b"))
	f.Add(wire("A.b", "c"), wire("b", "c"))
	f.Add(wire("xexample", "com"), wire("example", "com"))
	f.Add([]byte("\x01a\xc0\x00"), wire())
	f.Add([]byte{}, []byte{0, 0})
	f.Add(wire("a\x07example\x03com"), wire("example", "com"))
	f.Add(wire(strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63), strings.Repeat("d", 61)), wire("a"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		n, labels, ok := checkOne(t, a)
		zone, zoneLabels, zoneOK := checkOne(t, b)
		if !ok || !zoneOK {
			return
		}
		if got, want := n.Below(zone), oracleBelow(labels, zoneLabels); got != want {
			t.Errorf("%q below %q: %t", labels, zoneLabels, got)
		}
		if got, want := n == zone, same(labels, zoneLabels); got != want {
			t.Errorf("%q equals %q: %t", labels, zoneLabels, got)
		}
	})
}

func checkOne(t *testing.T, b []byte) (Name, []string, bool) {
	t.Helper()
	before := string(b)
	n, err := FromWire(b)
	labels, ok := oracleLabels(b)
	if string(b) != before {
		t.Fatalf("FromWire changed its argument %q", before)
	}
	if ok != (err == nil) {
		t.Fatalf("%q: %v, the oracle says %t", b, err, ok)
	}
	if got, want := Name(b).Valid(), ok && foldASCII(string(b)) == string(b); got != want {
		t.Fatalf("%q: valid is %t", b, got)
	}
	if !ok {
		if n != "" {
			t.Fatalf("%q: a name %q beside the error", b, n)
		}
		_ = Name(b).String() // must not panic
		return "", nil, false
	}
	if !n.Valid() || n.Labels() != len(labels) {
		t.Fatalf("%q: valid %t, %d labels", b, n.Valid(), n.Labels())
	}
	back, err := oracleUnescape(n.String())
	if err != nil || !same(back, labels) {
		t.Fatalf("%q is shown as %s, which reads %q, %v", labels, n, back, err)
	}
	if parent, ok := n.Parent(); ok != (len(labels) > 0) || ok && string(parent) != string(wire(labels[1:]...)) {
		t.Fatalf("parent of %q: %q, %t", labels, parent, ok)
	}
	return n, labels, true
}

// FuzzParse: what Parse takes, String gives back, and nothing else is taken.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"example.com", "A-b_c.D", "a..b", "a.", "", "a\x00", strings.Repeat("a", 64), strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 126) + "aa"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Parse(text)
		labels := strings.Split(text, ".")
		ok := len(text) > 0 && len(text) <= 253
		for _, l := range labels {
			ok = ok && l != "" && len(l) <= 63 &&
				strings.Trim(l, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
		}
		// Trim only looks at the ends.
		ok = ok && !strings.ContainsFunc(text, func(r rune) bool {
			return r > 126 || r < 33 || strings.ContainsRune(`!"#$%&'()*+,/:;<=>?@[\]^{|}~`+"`", r)
		})
		if ok != (err == nil) {
			t.Fatalf("%q: %v", text, err)
		}
		if ok && (!n.Valid() || n.String() != foldASCII(text)) {
			t.Fatalf("%q became %s", text, n)
		}
	})
}
