package config

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/publicsuffix"
)

var update = flag.Bool("update", false, "rewrite suffixes.txt from golang.org/x/net/publicsuffix")

// moduleRules reads the rules out of the package's tables (its table.go says
// how they are laid out): it tells of a name at a time, never the whole list.
func moduleRules(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "golang.org/x/net/publicsuffix").Output()
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	text, nodes, children := read("data/text"), read("data/nodes"), read("data/children")
	top, err := strconv.Atoi(string(regexp.MustCompile(`numTLD = (\d+)`).FindSubmatch(read("table.go"))[1]))
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]string{}
	var walk func(lo, hi int, below string)
	walk = func(lo, hi int, below string) {
		for i := lo; i < hi; i++ {
			node := binary.BigEndian.Uint64(append(make([]byte, 3), nodes[5*i:5*i+5]...))
			length, offset, child := node&(1<<6-1), node>>6&(1<<16-1), node>>23&(1<<10-1)
			name := string(text[offset:offset+length]) + below
			kids := binary.BigEndian.Uint32(children[4*child:])
			icann, kind, wildcard := node>>22&1 == 1, kids>>28&3, kids>>30&1 == 1
			switch {
			case wildcard:
				flags[name] = " *"
			case kind == 0, icann && below == "": // za has rules only below it, and is a registry's all the same
				flags[name] = ""
			case kind == 1:
				flags[name] = " !"
			}
			walk(int(kids&(1<<14-1)), int(kids>>14&(1<<14-1)), "."+name)
		}
	}
	walk(0, top, "")
	var lines bytes.Buffer
	names := make([]string, 0, len(flags))
	for name := range flags {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&lines, "%s%s\n", name, flags[name])
	}
	return lines.String()
}

// The list in the tree is the one of the module that go.mod names.
func TestSuffixesAreTheModules(t *testing.T) {
	rules := moduleRules(t)
	if *update {
		if err := os.WriteFile("suffixes.txt", []byte(rules), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if rules != suffixRules {
		t.Errorf("%d octets, the module has %d: run this test with -update", len(suffixRules), len(rules))
	}
}

// The search finds every rule, and agrees with the package about the names
// on it, right above and right below it.
func TestSuffixesAgree(t *testing.T) {
	rules := strings.Split(strings.TrimSuffix(suffixRules, "\n"), "\n")
	if len(rules) < 9000 {
		t.Fatalf("%d rules", len(rules))
	}
	asks := []string{"localhost", "internal", "example.com", "github.com", "_dmarc.com", "-", "zzzz", "zzzz.zzzz"}
	for _, rule := range rules {
		name, _, _ := strings.Cut(rule, " ")
		_, above, _ := strings.Cut(name, ".")
		asks = append(asks, name, "_x."+name, "_y._x."+name, "x"+name, name+"x")
		if above != "" {
			asks = append(asks, above)
		}
	}
	for _, name := range asks {
		if got, want := isPublicSuffix(name), slowSuffix(name); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}

// slowSuffix asks the package. Its second result does not tell a private rule
// from the default one, but a suffix of several labels is never the default's,
// and one label is a registry's if ICANN's part has it; the private part has none.
func slowSuffix(name string) bool {
	suffix, icann := publicsuffix.PublicSuffix(name)
	explicit := suffix == name && (icann || strings.Contains(name, "."))
	below, _ := publicsuffix.PublicSuffix("_." + name)
	return explicit || below == "_."+name
}
