// Package exit holds the program's exit codes, which follow sysexits.h, and
// the error that carries one from where a fault is found to main.
package exit

import (
	"errors"
	"fmt"
)

// The exit codes. A service manager may restart after Unavailable and Software;
// the others need a person.
const (
	Usage       = 64 // the command line is wrong
	Unavailable = 69 // something is lacking or taken
	Software    = 70 // our bug, or a child that died
	NoPerm      = 77 // a missing privilege
	Config      = 78 // the configuration is wrong
)

// Error is an error that knows how the program shall exit. Hint, if any, is
// what the operator can do about it.
type Error struct {
	Code int
	Err  error
	Hint string
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "\n" + e.Hint
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of a code and a formatted message.
func Errorf(code int, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// WithHint adds what the operator can do to a formatted message.
func WithHint(code int, hint, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...), Hint: hint}
}

// Code is the exit code for err: its own if it has one, 0 for nil, and
// Software for an error that nobody classified.
func Code(err error) int {
	if err == nil {
		return 0
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Software
}
