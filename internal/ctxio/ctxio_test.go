package ctxio

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFillKeepsTheReadersError(t *testing.T) {
	truncated := io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(io.ErrUnexpectedEOF))
	for _, tt := range []struct {
		r    io.Reader
		want string
		err  error
	}{
		{iotest.OneByteReader(strings.NewReader("abcdef")), "abcd", nil},
		{strings.NewReader("abc"), "abc", io.EOF},
		{strings.NewReader(""), "", io.EOF},
		{iotest.DataErrReader(strings.NewReader("abcd")), "abcd", io.EOF},
		{truncated, "abc", io.ErrUnexpectedEOF},
		{iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("abcd"))), "a", iotest.ErrTimeout},
	} {
		p := make([]byte, 4)
		n, err := Fill(p, tt.r)
		if string(p[:n]) != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("got %q, %v, want %q, %v", p[:n], err, tt.want, tt.err)
		}
	}
}
