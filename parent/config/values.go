package config

import (
	"math"
	"time"
)

// The raw values. bad: a mistake in the value has been reported, so nothing
// can be concluded from it. An absent value is the zero value with its spot.
type (
	rawString struct {
		spot
		value    string
		set, bad bool
	}
	rawBool struct {
		spot
		value, set, bad bool
	}
	rawDuration struct {
		spot
		value    time.Duration
		set, bad bool
	}
	rawNumber struct {
		spot
		value    int64
		set, bad bool
	}
	rawQueue struct {
		spot
		QueuePair
		at4, at6 spot // of the numbers; meaningful when the queue is set
		bad      bool
	}
	rawList struct {
		spot
		entries  []string
		lines    []int // of the entries
		set, bad bool
	}
)

// used reports whether the list has entries, readable ones or not.
func (l *rawList) used() bool { return len(l.entries) > 0 || l.bad }

// entry is the spot of entry i.
func (l *rawList) entry(i int) spot {
	at := l.spot
	at.line = l.lines[i]
	return at
}

// maxDuration keeps an expiry, which is CLOCK_BOOTTIME plus a duration in an
// int64 of nanoseconds, from overflowing: 146 years.
const maxDuration time.Duration = 1 << 62

// typeOf names a value's TOML type with its article.
func typeOf(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	case []map[string]any:
		return "an array of tables"
	}
	return "an array"
}

func (t *table) text(key string) rawString {
	e := t.take(key)
	value, ok := e.value.(string)
	if !ok && e.value != nil {
		t.r.fail(e.spot, "must be a string, not %s", typeOf(e.value))
		return rawString{spot: e.spot, set: true, bad: true}
	}
	return rawString{spot: e.spot, value: value, set: ok}
}

// choice is text that is one of two words, exactly.
func (t *table) choice(key, one, other string) rawString {
	s := t.text(key)
	if s.set && !s.bad && s.value != one && s.value != other {
		t.r.fail(s.spot, "must be %q or %q, not %s", one, other, quote(s.value))
		s.bad = true
	}
	return s
}

func (t *table) boolean(key string) rawBool {
	e := t.take(key)
	value, ok := e.value.(bool)
	if !ok && e.value != nil {
		t.r.fail(e.spot, "must be true or false, not %s", typeOf(e.value))
	}
	return rawBool{e.spot, value, ok, !ok && e.value != nil}
}

func (t *table) duration(key string) rawDuration {
	e := t.take(key)
	d := rawDuration{spot: e.spot, set: e.value != nil, bad: true}
	text, ok := e.value.(string)
	switch {
	case !d.set:
		d.bad = false
		return d
	case !ok:
		t.r.fail(e.spot, `must be a duration in quotes such as "90s" or "1h30m", not %s`, typeOf(e.value))
		return d
	}
	value, err := time.ParseDuration(text)
	switch {
	case err != nil:
		t.r.fail(e.spot, `%s is not a duration such as "90s" or "1h30m"`, quote(text))
	case value < 0:
		t.r.fail(e.spot, "%s is negative", quote(text))
	case value > maxDuration:
		t.r.fail(e.spot, "%s is longer than 146 years", quote(text))
	default:
		d.value, d.bad = value, false
	}
	return d
}

// integer is a number from least to most.
func (t *table) integer(key string, least, most int64) rawNumber {
	e := t.take(key)
	value, ok := e.value.(int64)
	n := rawNumber{spot: e.spot, value: value, set: e.value != nil}
	switch {
	case !n.set:
	case !ok:
		t.r.fail(e.spot, "must be an integer from %d to %d, not %s", least, most, typeOf(e.value))
		n.bad = true
	case value < least || value > most:
		t.r.fail(e.spot, "%d is outside %d to %d", value, least, most)
		n.value, n.bad = 0, true
	}
	return n
}

func (t *table) queue(key string) rawQueue {
	e := t.take(key)
	q := rawQueue{spot: e.spot}
	values, ok := e.value.(map[string]any)
	if !ok {
		if e.value != nil {
			t.r.fail(e.spot, "must be a table such as %s.ipv4 = 1, not %s", key, typeOf(e.value))
			q.bad = true
		}
		return q
	}
	sub := t.below(e.path, values)
	sub.prefix = e.key + "."
	var ok4, ok6 bool
	q.IPv4, q.at4, ok4 = sub.number(keyIPv4)
	q.IPv6, q.at6, ok6 = sub.number(keyIPv6)
	q.bad = !ok4 || !ok6
	sub.refuseRest()
	return q
}

// number takes a queue number; an absent one is 0.
func (t *table) number(key string) (n uint16, at spot, ok bool) {
	e := t.take(key)
	value, ok := e.value.(int64)
	switch {
	case e.value == nil:
		return 0, e.spot, true
	case !ok:
		t.r.fail(e.spot, "must be a queue number, not %s", typeOf(e.value))
		return 0, e.spot, false
	case value < 0 || value > math.MaxUint16:
		t.r.fail(e.spot, "%d is outside 0 to %d", value, math.MaxUint16)
		return 0, e.spot, false
	}
	return uint16(value), e.spot, true
}

func (t *table) list(key string) rawList {
	e := t.take(key)
	l := rawList{spot: e.spot, set: e.value != nil}
	values, ok := e.value.([]any)
	if !ok {
		if l.bad = l.set; l.bad {
			t.r.fail(e.spot, "must be an array of strings, not %s", typeOf(e.value))
		}
		return l
	}
	l.entries = make([]string, 0, len(values))
	l.lines = make([]int, 0, len(values))
	written := t.places[e.path]
	for i, value := range values {
		text, ok := value.(string)
		line := written.entryLine(i)
		if !ok {
			t.r.fail(spot{e.who, e.key, line}, "entry %d must be a string, not %s", i+1, typeOf(value))
			l.bad = true
			continue
		}
		l.entries = append(l.entries, text)
		l.lines = append(l.lines, line)
	}
	return l
}

// array takes an array of tables, however it is written, and says where it
// is. It is not ok when a mistake was reported.
func (t *table) array(key string) (tables []map[string]any, path string, ok bool) {
	e := t.take(key)
	switch values := e.value.(type) {
	case nil:
		return nil, "", true
	case []map[string]any:
		return values, e.path, true
	case []any:
		ok = true
		for i, value := range values {
			table, isTable := value.(map[string]any)
			if !isTable {
				at := e.spot
				at.line = t.places[e.path].entryLine(i)
				t.r.fail(at, "entry %d must be a table, not %s", i+1, typeOf(value))
				ok = false
			}
			tables = append(tables, table) // nil keeps the numbering
		}
		return tables, e.path, ok
	}
	t.r.fail(e.spot, "must be an array of tables, each below [[%s]], not %s", key, typeOf(e.value))
	return nil, "", false
}
