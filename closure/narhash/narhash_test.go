package narhash_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nar"
	"github.com/nix2img/nix2img/closure/narhash"
)

func path(i int) closure.Path {
	return closure.Path(fmt.Sprintf("/nix/store/%032d-p", i))
}

// make returns n objects without hashes, their files, and the objects with hashes.
func makeObjects(t testing.TB, n int) (bare, full []closure.Object, files fstest.MapFS) {
	t.Helper()
	files = make(fstest.MapFS)
	for i := range n {
		p := path(i)
		files[p.Base()+"/file"] = &fstest.MapFile{Data: []byte(strings.Repeat("x", i))}
		o := closure.Object{Path: p}
		bare = append(bare, o)
		var b bytes.Buffer
		if err := nar.Dump(&b, files, p.Base()); err != nil {
			t.Fatal(err)
		}
		o.NARHash, o.NARSize = sha256.Sum256(b.Bytes()), int64(b.Len())
		full = append(full, o)
	}
	return bare, full, files
}

func TestFill(t *testing.T) {
	bare, full, files := makeObjects(t, 50)
	for _, workers := range []int{0, 1, 2, 7} {
		got, err := narhash.Fill(t.Context(), files, bare, workers)
		if err != nil || !reflect.DeepEqual(got, full) {
			t.Errorf("%d workers: %v, %v", workers, got, err)
		}
	}
	if !bare[3].NARHash.IsZero() {
		t.Error("Fill changes its input")
	}
	// What is known is not read.
	if got, err := narhash.Fill(t.Context(), fstest.MapFS{}, full, 0); err != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("nothing to fill: %v, %v", got, err)
	}
	half := slices.Clone(full)
	half[5].NARSize = 0
	half[6].NARHash = closure.Hash{}
	if got, err := narhash.Fill(t.Context(), files, half, 0); err != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("half known: %v, %v", got, err)
	}
}

func TestFillNamesTheObject(t *testing.T) {
	bare, _, files := makeObjects(t, 3)
	delete(files, path(1).Base()+"/file")
	_, err := narhash.Fill(t.Context(), files, bare, 2)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), string(path(1))) {
		t.Errorf("error is %v", err)
	}
}

func TestVerify(t *testing.T) {
	_, full, files := makeObjects(t, 20)
	c, err := closure.New(nil, full)
	if err != nil {
		t.Fatal(err)
	}
	c.Files = files
	if err := narhash.Verify(t.Context(), c, 2); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := narhash.Verify(ctx, c, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	files[path(7).Base()+"/file"].Data[0] = 'y'
	err = narhash.Verify(t.Context(), c, 2)
	e, ok := errors.AsType[*closure.HashError](err)
	if !ok || e.Path != path(7) || e.Want != full[7].NARHash || e.Got == e.Want {
		t.Errorf("error is %v", err)
	}
}
