package config

import "time"

// The defaults of the keys that only mean something with respectTTL or
// keepInUse.
const (
	defaultGrace  = time.Minute
	defaultMinTTL = time.Minute
	defaultInUse  = time.Hour
)

// minReCache is the shortest reCacheEvery: what failed is asked for again
// after a second at the earliest, and what did not fail is no more urgent.
const minReCache = time.Second

// cachedGrace is how long after reCacheEvery the addresses of cachedHostnames
// stay open: there is time to ask again before they close.
const cachedGrace = time.Minute

// The values of privateAnswers.
const (
	answersAllow = "allow"
	answersDeny  = "deny"
)

// checkTimes checks how long an answer's addresses stay open.
func checkTimes(f *rawFilter, r *report) {
	// With allowedHostnames the missing one is reported already.
	if f.answersFor.value == 0 && !f.answersFor.bad && !f.allowed.used() {
		for _, b := range []*rawBool{&f.respect, &f.keep} {
			if b.value {
				r.fail(b.spot, "must not be set without allowAnswersFor")
			}
		}
	}
	checkOnlyWith(&f.grace, &f.respect, r)
	checkOnlyWith(&f.min, &f.respect, r)
	checkOnlyWith(&f.inUse, &f.keep, r)
	// What is unset or broken has no value to compare with.
	answersFor := f.answersFor.value
	if answersFor != 0 && f.respect.value && f.min.value > answersFor {
		r.fail(f.min.spot, "%v is longer than allowAnswersFor, %v", f.min.value, answersFor)
	}
	if f.respect.value && f.min.is(0) && f.grace.is(0) {
		r.fail(f.min.spot, "must be positive when ttlGrace is 0: an answer may have a TTL of 0")
	}
	if answersFor != 0 && f.keep.value && f.inUse.set && !f.inUse.bad && f.inUse.value < answersFor {
		r.fail(f.inUse.spot, "%v is shorter than allowAnswersFor, %v", f.inUse.value, answersFor)
	}
	// A reload lets nothing stay for longer than maxInUse after its answer, and
	// would close what is cached before it is asked for again.
	open := cachedFor(f.reCache.value)
	if answersFor != 0 && f.cached.used() && f.keep.value && f.inUse.set && !f.inUse.bad && f.inUse.value < open {
		r.fail(f.inUse.spot, "%v is shorter than reCacheEvery and a minute, %v, for which cachedHostnames stay open", f.inUse.value, open)
	}
}

// cachedFor is how long what an answer for a cached name had is open.
func cachedFor(reCacheEvery time.Duration) time.Duration {
	if reCacheEvery == 0 {
		return 0
	}
	return reCacheEvery + cachedGrace
}

func checkOnlyWith(d *rawDuration, with *rawBool, r *report) {
	if d.set && !with.value && !with.bad {
		r.fail(d.spot, "must not be set without %s", with.key)
	}
}

// setTimes takes the times over, with their defaults, which bend to
// allowAnswersFor and CachedFor where these are shorter or longer.
func setTimes(f *rawFilter, o *FilterOptions) {
	if o.RespectTTL = f.respect.value; o.RespectTTL {
		o.TTLGrace = f.grace.or(defaultGrace)
		o.MinTTL = f.min.or(min(defaultMinTTL, o.AllowAnswersFor))
	}
	if o.KeepInUse = f.keep.value; o.KeepInUse {
		o.MaxInUse = f.inUse.or(max(defaultInUse, o.AllowAnswersFor, o.CachedFor()))
	}
}

// is reports whether d was set to value.
func (d *rawDuration) is(value time.Duration) bool { return d.set && !d.bad && d.value == value }

func (d *rawDuration) or(value time.Duration) time.Duration {
	if d.set {
		return d.value
	}
	return value
}
