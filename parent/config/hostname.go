package config

import (
	"errors"
	"strings"

	"github.com/capnspacehook/egress-eddie/ipc"
	"github.com/capnspacehook/egress-eddie/ipc/name"
)

// scoped is a name with its scope: entries with equal ones add up.
type scoped struct {
	name  name.Name
	scope ipc.Scope
}

var (
	errBareStar = errors.New(`"*" stands before no name; allowAllHostnames allows every name`)
	errStar     = errors.New(`"*" can only stand in front, as "*."`)
	errEquals   = errors.New(`"=" can only stand in front, once`)
)

// parseHostname reads an entry of allowedHostnames: example.com,
// =example.com or *.example.com, and a port or none. The error fits after
// the quoted entry.
func parseHostname(text string) (s scoped, port ipc.Port, err error) {
	text, port, err = cutPort(text)
	if err != nil {
		return s, port, err
	}
	if text == "*" {
		return s, port, errBareStar
	}
	s.scope = ipc.ScopeTree
	if rest, ok := strings.CutPrefix(text, "*."); ok {
		text, s.scope = rest, ipc.ScopeBelow
	} else if rest, ok := strings.CutPrefix(text, "="); ok {
		text, s.scope = rest, ipc.ScopeExact
	}
	switch {
	case strings.Contains(text, "*"):
		return s, port, errStar
	case strings.Contains(text, "="):
		return s, port, errEquals
	}
	s.name, err = parseName(text)
	return s, port, err
}
