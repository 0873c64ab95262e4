package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestFindLines(t *testing.T) {
	const text = `# a comment [x]
a = 1
"b" . c = "x # no comment" # one

[t] # table
s = """
# text
\""" still " text """""
r = '''
\'''
u = ['''
x''', # two
 [1, 2], {k = 1,
  l = [3,
4]}, 5]
[[t.list]]
v = "\\"
[t.list.sub]
w = 2020-01-01 00:00:00
[[t.list]]
v = 'c:\'
`
	got, last, err := findLines(text)
	if err != nil || last != 22 {
		t.Fatalf("ended on line %d: %v", last, err)
	}
	want := map[string]place{
		"a": {line: 2}, "b": {line: 3}, "b.c": {line: 3},
		"t": {line: 5}, "t.s": {line: 6}, "t.r": {line: 9},
		"t.u":    {line: 11, entries: []int32{11, 13, 13, 15}},
		"t.u[1]": {line: 13, entries: []int32{13, 13}}, "t.u[2]": {line: 13}, "t.u[2].k": {line: 13},
		"t.u[2].l": {line: 14, entries: []int32{14, 15}},
		"t.list":   {line: 16}, "t.list[0]": {line: 16}, "t.list[0].v": {line: 17},
		"t.list[0].sub": {line: 18}, "t.list[0].sub.w": {line: 19},
		"t.list[1]": {line: 20}, "t.list[1].v": {line: 21},
	}
	dotted := make(map[string]place)
	for path, p := range got {
		dotted[strings.ReplaceAll(path, pathSep, ".")] = p
	}
	if !reflect.DeepEqual(dotted, want) {
		for path, p := range dotted {
			if !reflect.DeepEqual(want[path], p) {
				t.Errorf("%s is %+v, want %+v", path, p, want[path])
			}
		}
		for path := range want {
			if _, ok := dotted[path]; !ok {
				t.Errorf("%s is missing", path)
			}
		}
	}
}

// What is not TOML ends the walk; it must neither hang nor panic.
func TestFindLinesGivesUp(t *testing.T) {
	for _, text := range []string{
		"=", "= 1", "a", "a =", "a = ]", "a = [", "a = [}", "a = {", "a = {]", "a = {,", "[", "[[", "[a", "[]", "[[a]", "]",
		`"`, `'`, `"a`, `"""`, `""" = 1`, "a = \"x\n\"", `a = "\`, `a = """\`, "a = '''", ".", "a.", "a..b = 1", "a = 1 b = 2", "#", "\r", "a = #",
	} {
		if _, _, err := findLines(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}
