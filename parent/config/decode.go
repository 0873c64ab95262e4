package config

import (
	"errors"
	"fmt"
	"math"

	"github.com/BurntSushi/toml"
)

// The keys of the file.
const (
	keyInbound   = "inboundDNSQueue"
	keySelf      = "selfDNSQueue"
	keyMark      = "selfMark"
	keyResolvers = "resolvers"
	keyInterface = "responseInterfaceCheck"
	keyFilters   = "filters"
	keySandbox   = "sandbox"

	keyName      = "name"
	keyDNS       = "dnsQueue"
	keyTraffic   = "trafficQueue"
	keyAllowAll  = "allowAllHostnames"
	keyLookup    = "lookupUnknownIPs"
	keyAnswers   = "allowAnswersFor"
	keyReCache   = "reCacheEvery"
	keyAllowed   = "allowedHostnames"
	keyCached    = "cachedHostnames"
	keyAddresses = "allowedAddresses"
	keyTypes     = "allowedQueryTypes"
	keyPrivate   = "privateAnswers"
	keyRespect   = "respectTTL"
	keyGrace     = "ttlGrace"
	keyMinTTL    = "minTTL"
	keyKeep      = "keepInUse"
	keyMaxInUse  = "maxInUse"
	keyIPv4      = "ipv4"
	keyIPv6      = "ipv6"
	keyUserNS    = "userNamespaces"
	levelTop     = "a key of the top level: it belongs above the first table"
	levelFilters = "a key of a filter: it belongs directly below [[filters]]"
	levelSandbox = "a key of the table sandbox: it is written sandbox.userNamespaces"
)

// levels says where a key belongs that stands in the wrong table: in TOML
// everything after a table's header is part of that table.
var levels = map[string]string{
	keyInbound: levelTop, keySelf: levelTop, keyMark: levelTop, keyResolvers: levelTop, keyInterface: levelTop, keySandbox: levelTop,
	keyUserNS: levelSandbox,
	keyName:   levelFilters, keyDNS: levelFilters, keyTraffic: levelFilters, keyAllowAll: levelFilters,
	keyLookup: levelFilters, keyAnswers: levelFilters, keyReCache: levelFilters, keyAllowed: levelFilters,
	keyCached: levelFilters, keyAddresses: levelFilters, keyTypes: levelFilters, keyPrivate: levelFilters,
	keyRespect: levelFilters, keyGrace: levelFilters, keyMinTTL: levelFilters, keyKeep: levelFilters, keyMaxInUse: levelFilters,
}

// rawConfig is the file's values, each of the right type and in its range or
// marked bad.
type rawConfig struct {
	inbound, self  rawQueue
	mark           rawNumber
	resolvers      rawList
	interfaceCheck rawBool
	bestEffort     bool // userNamespaces
	filters        []rawFilter
	filtersBad     bool
}

type rawFilter struct {
	index               int
	at                  spot // the filter itself
	name                rawString
	dns, traffic        rawQueue
	allowAll, lookup    rawBool
	answersFor, reCache rawDuration
	allowed, cached     rawList
	addresses, types    rawList
	private             rawString
	respect, keep       rawBool
	grace, min, inUse   rawDuration
}

// parse decodes and validates. The configuration means something only if r
// has no mistake afterwards.
func parse(data []byte, r *report) *Config {
	if len(data) > MaxFile {
		r.fail(spot{}, "longer than %d octets", MaxFile)
		return nil
	}
	text := string(data)
	places, line, err := findLines(text)
	if err != nil {
		r.fail(spot{line: line}, "%v", err)
		return nil
	}
	var values map[string]any
	if _, err := toml.Decode(text, &values); err != nil {
		failTOML(r, err)
		return nil
	}
	return validate(decode(newTable(r, places, values)), r)
}

// failTOML reports what is not TOML. The library stops at the first mistake.
func failTOML(r *report, err error) {
	var syntax toml.ParseError
	if !errors.As(err, &syntax) {
		r.fail(spot{}, "not TOML: %s", short(err.Error()))
		return
	}
	at := spot{line: max(syntax.Position.Line, 1)}
	if syntax.LastKey != "" {
		r.fail(at, "not TOML: %s (after the key %s)", short(syntax.Message), quote(syntax.LastKey))
		return
	}
	r.fail(at, "not TOML: %s", short(syntax.Message))
}

func decode(t *table) *rawConfig {
	raw := &rawConfig{
		inbound:        t.queue(keyInbound),
		self:           t.queue(keySelf),
		mark:           t.integer(keyMark, 1, math.MaxUint32),
		resolvers:      t.list(keyResolvers),
		interfaceCheck: t.boolean(keyInterface),
		bestEffort:     t.sandbox(),
	}
	tables, at, ok := t.array(keyFilters)
	raw.filtersBad = !ok
	for i, values := range tables {
		if values == nil {
			continue
		}
		raw.filters = append(raw.filters, decodeFilter(t, at, i, values))
	}
	t.refuseRest()
	return raw
}

// decodeFilter decodes filter i; at is the path of the filters.
func decodeFilter(top *table, at string, i int, values map[string]any) rawFilter {
	t := top.below(indexed(at, i), values)
	t.who = fmt.Sprintf("filter #%d", i)
	name := t.text(keyName)
	if checkName(name.value) == nil {
		t.who = fmt.Sprintf("filter %q", name.value)
	}
	f := rawFilter{
		index:      i,
		at:         spot{who: t.who, line: t.places[t.path].line},
		name:       name,
		dns:        t.queue(keyDNS),
		traffic:    t.queue(keyTraffic),
		allowAll:   t.boolean(keyAllowAll),
		lookup:     t.boolean(keyLookup),
		answersFor: t.duration(keyAnswers),
		reCache:    t.duration(keyReCache),
		allowed:    t.list(keyAllowed),
		cached:     t.list(keyCached),
		addresses:  t.list(keyAddresses),
		types:      t.list(keyTypes),
		private:    t.choice(keyPrivate, answersAllow, answersDeny),
		respect:    t.boolean(keyRespect),
		grace:      t.duration(keyGrace),
		min:        t.duration(keyMinTTL),
		keep:       t.boolean(keyKeep),
		inUse:      t.duration(keyMaxInUse),
	}
	t.refuseRest()
	return f
}
