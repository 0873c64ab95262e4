package config

// The values of sandbox.userNamespaces.
const (
	userNSRequired   = "required"
	userNSBestEffort = "best-effort"
)

// warnBestEffort is the start-up warning for who has chosen it.
const warnBestEffort = `sandbox.userNamespaces is "best-effort": where user namespaces are forbidden, the processes run without namespaces of their own`

// sandbox takes the table of that name, which has one key, and reports whether
// the cells may do without namespaces. What is not exactly that word is not it.
func (t *table) sandbox() (bestEffort bool) {
	e := t.take(keySandbox)
	values, ok := e.value.(map[string]any)
	if !ok {
		if e.value != nil {
			t.r.fail(e.spot, "must be a table such as %s.%s = %q, not %s", keySandbox, keyUserNS, userNSRequired, typeOf(e.value))
		}
		return false
	}
	sub := t.below(e.path, values)
	sub.prefix = e.key + "."
	mode := sub.choice(keyUserNS, userNSRequired, userNSBestEffort)
	sub.refuseRest()
	return mode.value == userNSBestEffort
}
