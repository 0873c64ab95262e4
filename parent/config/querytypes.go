package config

import (
	"slices"
	"strconv"
	"strings"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// checkTypes parses the record types that may be asked for, ascending. An
// empty list is refused: it could be read as "none" or as "all".
func checkTypes(list *rawList, r *report) []uint16 {
	if list.set && !list.used() {
		r.fail(list.spot, "must name a type, or be left out to allow every type")
	}
	if len(list.entries) == 0 {
		return nil
	}
	mnemonics := typeMnemonics()
	first := make(map[uint16]int)
	var types []uint16
	for i, text := range list.entries {
		t, ok := parseType(text, mnemonics)
		at, again := first[t]
		switch {
		case !ok:
			r.fail(list.entry(i), `%s is not a record type such as "AAAA" or "TYPE65"`, quote(text))
		case again:
			r.fail(list.entry(i), "%s is listed twice%s", quote(text), onLine(list.lines[at]))
		default:
			first[t] = i
			types = append(types, t)
		}
	}
	if len(types) > ipc.MaxQueryTypes {
		r.fail(list.spot, "names %d types; at most %d can be listed", len(types), ipc.MaxQueryTypes)
	}
	slices.Sort(types)
	return types
}

// genericType stands before the number of a type (RFC 3597 section 5).
const genericType = "TYPE"

// parseType reads a mnemonic or TYPEn, in any case.
func parseType(text string, mnemonics map[string]uint16) (uint16, bool) {
	text = strings.ToUpper(text)
	if t, ok := mnemonics[text]; ok {
		return t, true
	}
	digits, ok := strings.CutPrefix(text, genericType)
	n, err := strconv.ParseUint(digits, 10, 16)
	// 0 is reserved, and no question has it.
	return uint16(n), ok && err == nil && n > 0
}

// typeMnemonics are the mnemonics that the log uses, and those of the zone
// transfers, which only a filter that names them lets out.
func typeMnemonics() map[string]uint16 {
	mnemonics := map[string]uint16{"IXFR": 251, "AXFR": 252}
	for t := range 1 << 16 {
		if text := ipc.TypeName(uint16(t)); !strings.HasPrefix(text, genericType) {
			mnemonics[text] = uint16(t)
		}
	}
	return mnemonics
}
