package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// namesIn is the one filter of a file with these allowedHostnames.
func namesIn(t *testing.T, entries ...string) (*FilterOptions, []string) {
	t.Helper()
	c := mustParse(t, "resolvers = [\"192.0.2.1\"]\n"+in+with(one, list, fmt.Sprintf("allowedHostnames = [\n%s]", quoted(entries))))
	return &c.Filters[0], c.Warnings
}

// quoted is one entry a line, the first being line 9 of the file.
func quoted(entries []string) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "'%s',\n", e)
	}
	return b.String()
}

// show is a Hostname as an administrator writes it, its ports in order.
func show(h Hostname) string {
	text := map[ipc.Scope]string{ipc.ScopeTree: "", ipc.ScopeExact: "=", ipc.ScopeBelow: "*."}[h.Scope] + h.Name.String()
	for i, p := range h.Ports {
		text += []string{":", ","}[min(i, 1)] + p.String()
	}
	return text
}

func TestHostnames(t *testing.T) {
	for _, test := range []struct {
		entries string // joined with spaces, as are the results
		want    string
	}{
		// An existing file means what it meant.
		{"Example.COM _dmarc.a.b r3---sn-x.a ab--cd.e -a- 1 192.0.2.7 xn--zzz999.a", "example.com _dmarc.a.b r3---sn-x.a ab--cd.e -a- 1 192.0.2.7 xn--zzz999.a"},
		{"a =a *.a", "a =a *.a"},
		{"github.com:443 db.internal:5432/tcp ntp.example:123/UDP =a:1 *.a:65535/tcp", "github.com:443 db.internal:5432/tcp ntp.example:123/udp =a:1 *.a:65535/tcp"},
		// Entries of one name and scope add up, at the place of the first.
		{"a:443 b A:80/tcp =a:1 a:80/udp *.a:2 a:80", "a:443,80/tcp,80/udp,80 b =a:1 *.a:2"},
		{"a:443 a a:80", "a"},
		{"=a *.a:443 *.a", "=a *.a"},
		// International names, all of them nontransitional and folded.
		{"bücher.example BÜCHER2.Example", "xn--bcher-kva.example xn--bcher2-3ya.example"},
		{"faß.de βόλος.com", "xn--fa-hia.de xn--nxasmm1c.com"},
		{"例え。テスト ｅxample．com =ü。b:443 *.ü.B", "xn--r8jz45g.xn--zckzah example.com =xn--tda.b:443 *.xn--tda.b"},
		{"_dmarc.bücher.example r3---sn.bücher.example xn--bcher-kva.ü", "_dmarc.xn--bcher-kva.example r3---sn.xn--bcher-kva.example xn--bcher-kva.xn--tda"},
		{"אב.example", "xn--4dbc.example"},
		{"क्\u200dष.example", "xn--11b2ezcw70k.example"},
	} {
		f, _ := namesIn(t, strings.Fields(test.entries)...)
		var got []string
		for _, h := range f.Hostnames {
			got = append(got, show(h))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: got %s, want %s", test.entries, got, test.want)
		}
		if !reflect.DeepEqual(f.AllowedHostnames, strings.Fields(test.entries)) {
			t.Errorf("as written: %q", f.AllowedHostnames)
		}
	}
}

// What is legal and hardly meant is said, and what is meant is not.
func TestNameWarnings(t *testing.T) {
	const at = `filter "x": allowedHostnames: `
	suffix := func(line int, entry, name string) string {
		return fmt.Sprintf(`f.toml:%d: %s%q is a public suffix: anybody can have a name below it; write "*.%s" or "=%s" if that is meant`, line, at, entry, name, name)
	}
	for name, test := range map[string]struct{ entries, want []string }{
		"public suffixes": {
			[]string{"Com", "co.uk", "github.io:443", "s3.amazonaws.com", "foo.ck", "ck", "中国", "a.compute.amazonaws.com"},
			[]string{suffix(9, "Com", "com"), suffix(10, "co.uk", "co.uk"), suffix(11, "github.io:443", "github.io:443"),
				suffix(12, "s3.amazonaws.com", "s3.amazonaws.com"), suffix(13, "foo.ck", "foo.ck"), suffix(14, "ck", "ck"),
				suffix(15, "中国", "xn--fiqs8s"), suffix(16, "a.compute.amazonaws.com", "a.compute.amazonaws.com")}},
		"none": {[]string{"localhost", "internal", "example.com", "www.ck", "=com", "*.co.uk", "=github.io:1", "bücher.example", "xn--fa-hia.de"}, nil},
		"addresses": {[]string{"192.0.2.7"},
			[]string{"f.toml:9: " + at + `"192.0.2.7" is an address, and no program asks the DNS for it; write it in allowedAddresses`}},
		"encoded names": {[]string{"a.XN--zzz999.b:1"},
			[]string{"f.toml:9: " + at + `"a.XN--zzz999.b:1": the label "xn--zzz999" does not decode to an international name`}},
		"superfluous": {[]string{"a:443", "a", "a:80", "=a:443"},
			[]string{"f.toml:9: " + at + `"a:443" opens nothing more than "a" (line 10), which opens all ports`,
				"f.toml:11: " + at + `"a:80" opens nothing more than "a" (line 10), which opens all ports`,
				"f.toml:12: " + at + `"=a:443" opens nothing more than "a" (line 10), which opens all ports`}},
		"superfluous below": {[]string{"*.a", "x.a:443", "x.a:80", "a:443", "*.x.y.a:1", "=b", "x.b:1", "c:1", "x.c:2"},
			[]string{"f.toml:10: " + at + `"x.a:443" opens nothing more than "*.a" (line 9), which opens all ports`,
				"f.toml:11: " + at + `"x.a:80" opens nothing more than "*.a" (line 9), which opens all ports`,
				"f.toml:13: " + at + `"*.x.y.a:1" opens nothing more than "*.a" (line 9), which opens all ports`}},
	} {
		if _, got := namesIn(t, test.entries...); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
	}
}

// The log gets a bounded number of lines, whatever the list.
func TestManyWarnings(t *testing.T) {
	entries := make([]string, maxWarnings+5)
	for i := range entries {
		entries[i] = fmt.Sprintf("x%d.ck", i)
	}
	_, got := namesIn(t, entries...)
	if len(got) != maxWarnings+1 || got[maxWarnings] != "f.toml: 5 more warnings like these" {
		t.Errorf("%d warnings, the last %q", len(got), got[len(got)-1])
	}
}

// The defaults bend to allowAnswersFor, and say nothing where nothing was set.
func TestTimes(t *testing.T) {
	type times struct{ grace, least, inUse time.Duration }
	for text, want := range map[string]times{
		"":                                    {},
		"respectTTL = true\nkeepInUse = true": {time.Minute, time.Minute, time.Hour},
		"respectTTL = true\nttlGrace = '0s'\nkeepInUse = true\nmaxInUse = '5m'":                       {0, time.Minute, 5 * time.Minute},
		"respectTTL = true\nminTTL = '0s'":                                                            {time.Minute, 0, 0},
		"respectTTL = true\nminTTL = '5m'":                                                            {time.Minute, 5 * time.Minute, 0},
		"respectTTL = true\nkeepInUse = true\n# short":                                                {time.Minute, 30 * time.Second, time.Hour},
		"respectTTL = true\nkeepInUse = true\n# long":                                                 {time.Minute, time.Minute, 24 * time.Hour},
		"keepInUse = true\nreCacheEvery = '2h'\ncachedHostnames = ['a']":                              {0, 0, 2*time.Hour + time.Minute},
		"keepInUse = true\nreCacheEvery = '58m'\ncachedHostnames = ['a']\nmaxInUse = '59m'":           {0, 0, 59 * time.Minute},
		"respectTTL = true\nttlGrace = '1s'\nminTTL = '2s'\nkeepInUse = true\nmaxInUse='48h'\n# long": {time.Second, 2 * time.Second, 48 * time.Hour},
	} {
		file := in + one + text
		if strings.Contains(text, "cached") {
			file = "selfDNSQueue.ipv4 = 2\n" + file
		}
		switch {
		case strings.HasSuffix(text, "short"):
			file = in + with(one, hour, `allowAnswersFor = "30s"`) + text
		case strings.HasSuffix(text, "long"):
			file = in + with(one, hour, `allowAnswersFor = "24h"`) + text
		}
		f := mustParse(t, file).Filters[0]
		if got := (times{f.TTLGrace, f.MinTTL, f.MaxInUse}); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
		if f.RespectTTL != strings.Contains(text, "respectTTL") || f.KeepInUse != strings.Contains(text, "keepInUse") {
			t.Errorf("%q: %+v", text, f)
		}
	}
}
