package config

import "strings"

// header walks [table] or [[table]] and returns the table's path.
func (w *walker) header() (string, error) {
	line := w.line
	w.at++
	array := w.accept('[')
	parts, err := w.key()
	if err != nil {
		return "", err
	}
	path := ""
	for i, part := range parts {
		path = join(path, part)
		if array && i == len(parts)-1 {
			w.tables[path]++
		}
		w.note(path, line)
		if n := w.tables[path]; n > 0 {
			path = indexed(path, n-1)
		}
	}
	w.note(path, line)
	w.accept(']')
	if array {
		w.accept(']')
	}
	return path, nil
}

// pair walks key = value in the table at path.
func (w *walker) pair(path string, depth int) error {
	line := w.line
	parts, err := w.key()
	if err != nil {
		return err
	}
	for _, part := range parts {
		path = join(path, part)
		w.note(path, line)
	}
	if !w.accept('=') {
		w.giveUp()
		return nil
	}
	return w.value(path, depth)
}

// key walks a dotted key and what space follows it.
func (w *walker) key() ([]string, error) {
	var parts []string
	for {
		w.skipSpace()
		if len(parts) == maxDepth {
			return nil, errDeep
		}
		start := w.at
		if c, _ := w.peek(); c == '"' || c == '\'' {
			w.quoted(c)
			parts = append(parts, w.text[start+1:max(start+1, w.at-1)])
		} else {
			w.skipTo(" \t.=]\r\n#\"'[{},")
			parts = append(parts, w.text[start:w.at])
		}
		if w.at-start > maxKey {
			return nil, errLongKey
		}
		w.skipSpace()
		if !w.accept('.') {
			return parts, nil
		}
	}
}

func (w *walker) value(path string, depth int) error {
	if depth == maxDepth {
		return errDeep
	}
	w.skipSpace()
	start := w.at
	switch c, _ := w.peek(); c {
	case '"', '\'':
		w.quoted(c)
	case '[':
		return w.array(path, depth)
	case '{':
		return w.inline(path, depth)
	default:
		w.skipTo(",]}#\n")
	}
	if w.at == start {
		w.giveUp()
	}
	return nil
}

func (w *walker) array(path string, depth int) error {
	w.at++
	var entries []int32
	for {
		w.skipBlank()
		c, ok := w.peek()
		if !ok || w.accept(']') {
			break
		}
		if w.accept(',') {
			continue
		}
		entry := ""
		if c == '{' || c == '[' {
			entry = indexed(path, len(entries))
			w.note(entry, w.line)
		}
		entries = append(entries, int32(w.line))
		if err := w.value(entry, depth+1); err != nil {
			return err
		}
	}
	if p, ok := w.places[path]; ok {
		p.entries = entries
		w.places[path] = p
	}
	return nil
}

func (w *walker) inline(path string, depth int) error {
	w.at++
	for {
		w.skipBlank()
		if _, ok := w.peek(); !ok || w.accept('}') {
			return nil
		}
		if w.accept(',') {
			continue
		}
		if err := w.pair(path, depth+1); err != nil {
			return err
		}
	}
}

// quoted walks a string of any of the four kinds, q being its quote.
func (w *walker) quoted(q byte) {
	fence := strings.Repeat(string(q), 3)
	long := strings.HasPrefix(w.text[w.at:], fence)
	if long {
		w.at += 3
	} else {
		w.at++
	}
	for ; w.at < len(w.text); w.at++ {
		switch c := w.text[w.at]; {
		case c == '\n' && !long:
			w.giveUp()
			return
		case c == '\n':
			w.line++
		case c == '\\' && q == '"':
			// An escaped quote ends nothing; an escaped line end still counts.
			if w.at+1 < len(w.text) && w.text[w.at+1] != '\n' {
				w.at++
			}
		case c == q && !long:
			w.at++
			return
		case c == q && strings.HasPrefix(w.text[w.at:], fence):
			w.at += 3
			// Up to two quotes of the string itself may stand before its fence.
			_ = w.accept(q) && w.accept(q)
			return
		}
	}
}
