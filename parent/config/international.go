package config

import (
	"fmt"
	"strings"

	"golang.org/x/net/idna"

	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// international is how clients map a name before they ask for it (UTS 46,
// nontransitional), so that what matches here is what they ask: letters fold,
// full-width dots separate, the bidi and joiner rules hold. Two of its rules
// are off: STD3, which forbids the underscores of _dmarc, and the one for
// hyphens in places 3 and 4, which real names have. name.Parse checks what
// comes out as strictly as a name in ASCII.
var international = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(),
	idna.StrictDomainName(false), idna.CheckHyphens(false))

// parseName reads a name in ASCII or Unicode. ASCII never takes part in any
// mapping: an old file means what it meant.
func parseName(text string) (name.Name, error) {
	if isASCII(text) {
		return name.Parse(text)
	}
	ascii, err := international.ToASCII(text)
	if err == nil {
		return name.Parse(ascii)
	}
	for label := range strings.SplitSeq(strings.ToLower(text), ".") {
		if !isALabel(label) {
			return "", fmt.Errorf("the label %s does not decode to an international name", quote(label))
		}
	}
	return "", fmt.Errorf("not an international name: %s", short(strings.TrimPrefix(err.Error(), "idna: ")))
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}

// aPrefix marks a label that is Unicode in ASCII's clothes (RFC 5890 section
// 2.3.2.1).
const aPrefix = "xn--"

// badALabel returns the first label of n that claims to be international and
// decodes to nothing that is. Files in ASCII may have it, and clients ask for
// it unchecked, so it is worth no more than a warning.
func badALabel(n name.Name) (label string, bad bool) {
	if !strings.Contains(string(n), aPrefix) {
		return "", false
	}
	for label := range strings.SplitSeq(n.String(), ".") {
		if !isALabel(label) {
			return label, true
		}
	}
	return "", false
}

// isALabel reports whether a label decodes, if it is one that should.
func isALabel(label string) bool {
	if !strings.HasPrefix(label, aPrefix) {
		return true
	}
	_, err := international.ToUnicode(label)
	return err == nil
}
