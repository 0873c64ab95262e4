package config

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/capnspacehook/egress-eddie/ipc"
)

// validateFilter checks the rules inside one filter.
func validateFilter(f *rawFilter, r *report) FilterOptions {
	if err := checkName(f.name.value); err != nil && !f.name.bad {
		r.fail(f.name.spot, "%v", err)
	}
	// What kind of filter it is cannot be told from a broken value.
	if !f.allowAll.bad && !f.lookup.bad {
		checkKind(f, r)
	}
	o := FilterOptions{
		Name:              f.name.value,
		DNSQueue:          f.dns.QueuePair,
		TrafficQueue:      f.traffic.QueuePair,
		AllowAllHostnames: f.allowAll.value,
		LookupUnknownIPs:  f.lookup.value,
		AllowAnswersFor:   f.answersFor.value,
		ReCacheEvery:      f.reCache.value,
		DenyPrivate:       f.private.value == answersDeny,
		QueryTypes:        checkTypes(&f.types, r),
		AllowedHostnames:  f.allowed.entries,
		CachedHostnames:   f.cached.entries,
		Addresses:         checkAddresses(&f.addresses, r),
	}
	setTimes(f, &o)
	o.Hostnames, o.CachedNames = checkNames(&f.allowed, &f.cached, r)
	return o
}

// checkName says what is wrong with a filter's name, which stands in every
// log line.
func checkName(name string) error {
	if name == "" {
		return errors.New("must be set")
	}
	if len(name) > ipc.MaxFilterName {
		return fmt.Errorf("%d octets long, more than %d", len(name), ipc.MaxFilterName)
	}
	for _, c := range name {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			return fmt.Errorf("holds the character %q, which cannot be printed", c)
		}
	}
	return nil
}

// checkKind checks which keys go together in the kind of filter that f is.
func checkKind(f *rawFilter, r *report) {
	if f.allowAll.value {
		checkAllowAll(f, r)
	} else {
		checkFiltering(f, r)
	}
	checkReCache(f, r)
}

// checkAllowAll: only DNS requests are looked at, and nothing is granted.
func checkAllowAll(f *rawFilter, r *report) {
	const with = "with allowAllHostnames"
	if f.allowed.used() {
		r.fail(f.allowed.spot, "must be empty %s", with)
	}
	if f.cached.used() {
		r.fail(f.cached.spot, "must be empty %s", with)
	}
	// Without a traffic queue no unknown address is ever seen.
	if f.lookup.value {
		r.fail(f.lookup.spot, "must not be set %s", with)
	}
	if f.addresses.used() {
		r.fail(f.addresses.spot, "must be empty %s", with)
	}
	refuseAnswerKeys(f, with, r)
	if f.traffic.Set() {
		r.fail(f.traffic.spot, "must not be set %s", with)
	}
	if !f.dns.Set() && !f.dns.bad {
		r.fail(f.dns.spot, "must be set %s", with)
	}
}

// checkFiltering: the traffic is filtered, by names that are asked for, by
// addresses that the daemon finds out itself, by addresses in the file, or by
// several of them.
func checkFiltering(f *rawFilter, r *report) {
	if !f.traffic.Set() && !f.traffic.bad {
		r.fail(f.traffic.spot, "must be set without allowAllHostnames")
	}
	if f.lookup.value && !f.allowed.used() {
		r.warn(f.lookup.spot, "gains nothing without allowedHostnames, which must allow the name that an address leads to")
	}
	asksItself := f.cached.used() || f.lookup.value
	switch {
	case f.allowed.used():
		if !f.dns.Set() && !f.dns.bad {
			r.fail(f.dns.spot, "must be set with allowedHostnames")
		}
		if f.answersFor.value == 0 && !f.answersFor.bad {
			r.fail(f.answersFor.spot, "must be set and positive with allowedHostnames")
		}
		checkTimes(f, r)
	case asksItself:
		if f.dns.Set() {
			r.fail(f.dns.spot, "must not be set when allowedHostnames is empty and cachedHostnames or lookupUnknownIPs is used")
		}
		if f.types.used() {
			r.fail(f.types.spot, "must not be set without allowedHostnames")
		}
		checkTimes(f, r)
	case f.addresses.used():
		const with = "with allowedAddresses alone"
		if f.dns.Set() {
			r.fail(f.dns.spot, "must not be set %s", with)
		}
		refuseAnswerKeys(f, with, r)
	default:
		r.fail(f.allowed.spot, "must not be empty without allowAllHostnames, allowedAddresses, cachedHostnames and lookupUnknownIPs")
	}
}

// refuseAnswerKeys: where no answer grants anything, no key may say how.
func refuseAnswerKeys(f *rawFilter, with string, r *report) {
	for _, key := range []struct {
		spot
		used bool
	}{
		{f.answersFor.spot, f.answersFor.set},
		{f.respect.spot, f.respect.value},
		{f.grace.spot, f.grace.set},
		{f.min.spot, f.min.set},
		{f.keep.spot, f.keep.value},
		{f.inUse.spot, f.inUse.set},
		{f.private.spot, f.private.set},
		{f.types.spot, f.types.used()},
	} {
		if key.used {
			r.fail(key.spot, "must not be set %s", with)
		}
	}
}

// checkReCache: reCacheEvery comes with cachedHostnames and only with it.
func checkReCache(f *rawFilter, r *report) {
	every := f.reCache.value
	switch {
	case f.cached.used() && every == 0 && !f.reCache.bad:
		r.fail(f.reCache.spot, "must be set and positive with cachedHostnames")
	case !f.cached.used() && f.reCache.set:
		r.fail(f.reCache.spot, "must not be set without cachedHostnames")
	case every > 0 && every < minReCache:
		r.fail(f.reCache.spot, "%v is shorter than %v: the DNS servers would be asked the same without a pause", every, minReCache)
	case every > ipc.MaxDuration-cachedGrace:
		r.fail(f.reCache.spot, "%v is longer than 146 years less the minute that cached addresses stay open after it", every)
	}
}
