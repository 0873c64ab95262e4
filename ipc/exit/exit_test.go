package exit

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestCode(t *testing.T) {
	config := Errorf(Config, "line %d: %w", 3, io.ErrUnexpectedEOF)
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("nobody classified this"), Software},
		{config, Config},
		{fmt.Errorf("outer: %w", config), Config},
		{errors.Join(errors.New("first"), config), Config},
		{WithHint(NoPerm, "do this", "no"), NoPerm},
		{&Error{Code: Usage, Err: config}, Usage},
	} {
		if got := Code(test.err); got != test.want {
			t.Errorf("%v: %d, not %d", test.err, got, test.want)
		}
	}
	if !errors.Is(config, io.ErrUnexpectedEOF) || config.Error() != "line 3: unexpected EOF" {
		t.Errorf("%v", config)
	}
	if text := WithHint(NoPerm, "do this", "no %s", "way").Error(); text != "no way\ndo this" {
		t.Errorf("%q", text)
	}
}
