package narhash_test

import (
	"errors"
	"io"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nar"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	zerotest.Check(t, map[string]func(){
		"Sum":         func() { narhash.Sum(ctx, nil, "") },
		"Fill":        func() { narhash.Fill(ctx, nil, nil, 0); narhash.Fill(ctx, nil, []closure.Object{{}}, -1) },
		"Verify":      func() { narhash.Verify(ctx, nil, 0); narhash.Verify(ctx, &closure.Closure{}, 0) },
		"New":         func() { narhash.New().Sum() },
		"NewVerifier": func() { narhash.NewVerifier(closure.Object{}).Close() },
		"Hasher.Node": func() {
			new(narhash.Hasher).Node("", nil, "")
			new(narhash.Hasher).Node("", (&nar.Header{}).FileInfo(), "")
		},
		"Hasher.Write":   func() { new(narhash.Hasher).Write(nil) },
		"Hasher.Close":   func() { new(narhash.Hasher).Close() },
		"Hasher.Sum":     func() { new(narhash.Hasher).Sum() },
		"Verifier.Close": func() { new(narhash.Verifier).Close(); new(narhash.Verifier).Sum() },
	})
	for _, err := range []error{
		narhash.Verify(ctx, &closure.Closure{}, 0), second(narhash.Fill(ctx, nil, []closure.Object{{Path: path(1)}}, 0)),
	} {
		if !errors.Is(err, closure.ErrNoFiles) {
			t.Error(err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// The zero Hasher is as good as a new one.
func TestZeroHasher(t *testing.T) {
	_, full, files := makeObjects(t, 2)
	var h narhash.Hasher
	r, w := io.Pipe()
	go func() { w.CloseWithError(nar.Dump(w, files, full[1].Path.Base())) }()
	in := nar.NewReader(r)
	for {
		n, err := in.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = h.Node(n.Path, n.FileInfo(), n.LinkTarget)
		}
		if err == nil {
			_, err = io.Copy(struct{ io.Writer }{&h}, in)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Close(); err != nil || h.Sum() != full[1].NARHash {
		t.Errorf("%v, %v", h.Sum(), err)
	}
}
