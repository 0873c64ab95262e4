package config

import (
	"maps"
	"slices"
	"strings"
)

// table is one TOML table whose keys are taken one by one; what is left in
// the end is unknown.
type table struct {
	r      *report
	places places
	who    string // whose table, for messages
	path   string // where it is in places
	prefix string // what stands before its keys in messages, with the dot
	values map[string]any
	// spellings are the keys not yet taken, by their form in lower case.
	spellings map[string][]string
}

func newTable(r *report, p places, values map[string]any) *table {
	return (&table{r: r, places: p}).below("", values)
}

// below is the table at path with t's report and owner.
func (t *table) below(path string, values map[string]any) *table {
	sub := &table{r: t.r, places: t.places, who: t.who, path: path, values: values}
	sub.spellings = make(map[string][]string, len(values))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		low := strings.ToLower(key)
		sub.spellings[low] = append(sub.spellings[low], key)
	}
	return sub
}

// entry is a value as it stands in the file; its value is nil where the key
// is absent.
type entry struct {
	spot
	path  string
	value any
}

// take takes a key by any spelling. A key that is absent has the line of its
// table.
func (t *table) take(key string) entry {
	e := entry{spot: spot{t.who, t.prefix + key, t.places[t.path].line}}
	low := strings.ToLower(key)
	found := t.spellings[low]
	delete(t.spellings, low)
	if len(found) == 0 {
		return e
	}
	e.path = join(t.path, found[0])
	e.value = t.values[found[0]]
	e.line = t.places[e.path].line
	for _, again := range found[1:] {
		at := e.spot
		at.line = t.places[join(t.path, again)].line
		t.r.fail(at, "set twice, as %s and as %s", quote(found[0]), quote(again))
	}
	return e
}

// refuseRest reports every key that was not taken, and every key below it.
func (t *table) refuseRest() {
	for _, low := range slices.Sorted(maps.Keys(t.spellings)) {
		for _, key := range t.spellings[low] {
			t.refuse(t.prefix+key, join(t.path, key), t.values[key])
		}
	}
}

func (t *table) refuse(shown, path string, value any) {
	if values, ok := value.(map[string]any); ok && len(values) > 0 {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			t.refuse(shown+"."+key, join(path, key), values[key])
		}
		return
	}
	at := spot{who: t.who, line: t.places[path].line}
	last := path[strings.LastIndex(path, pathSep)+1:]
	if level := levels[last]; level != "" {
		t.r.fail(at, "unknown key %s (%s)", quote(shown), level)
		return
	}
	t.r.fail(at, "unknown key %s", quote(shown))
}
