package closure_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	var (
		c    closure.Closure
		h    closure.Hash
		p    closure.Path
		list closure.Observers
	)
	zerotest.Check(t, map[string]func(){
		"New": func() {
			closure.New(nil, nil)
			closure.New(nil, []closure.Object{{}})
			closure.New([]closure.Path{""}, nil)
		},
		"DirFS":               func() { closure.DirFS("") },
		"ReadObjects":         func() { closure.ReadObjects(nil) },
		"ParsePath":           func() { closure.ParsePath("") },
		"JoinPath":            func() { closure.JoinPath("", "") },
		"ParseHash":           func() { closure.ParseHash("") },
		"ResolveRoot":         func() { closure.ResolveRoot("", "", ""); closure.ResolveRoot("x", "", "") },
		"Closure.StoreDir":    func() { c.StoreDir() },
		"Closure.Roots":       func() { c.Roots() },
		"Closure.Objects":     func() { c.Objects() },
		"Closure.Object":      func() { c.Object("") },
		"Closure.NARSize":     func() { c.NARSize() },
		"Closure.CheckFiles":  func() { c.CheckFiles() },
		"Closure.Why":         func() { c.Why("", "") },
		"Closure.AddedSizes":  func() { c.AddedSizes() },
		"Closure.Shard":       func() { c.Shard(0, 0); c.Shard(-1, -1) },
		"Hash.IsZero":         func() { h.IsZero() },
		"Hash.String":         func() { _ = h.String() },
		"Hash.Base32":         func() { h.Base32() },
		"Hash.MarshalText":    func() { h.MarshalText() },
		"Hash.UnmarshalText":  func() { h.UnmarshalText(nil) },
		"Path.Dir":            func() { _ = p.Dir() },
		"Path.Base":           func() { _ = p.Base() },
		"Path.Digest":         func() { p.Digest() },
		"Path.Name":           func() { p.Name() },
		"Path.String":         func() { _ = p.String() },
		"Observers.Node":      func() { list.Node("", nil, "") },
		"Observers.Write":     func() { list.Write(nil) },
		"Observers.Close":     func() { list.Close() },
		"SyntaxError.Error":   func() { _ = new(closure.SyntaxError).Error() },
		"MissingError.Error":  func() { _ = new(closure.MissingError).Error() },
		"MissingError.Unwrap": func() { new(closure.MissingError).Unwrap() },
		"CycleError.Error":    func() { _ = new(closure.CycleError).Error() },
		"ConflictError.Error": func() { _ = new(closure.ConflictError).Error() },
		"HashError.Error":     func() { _ = new(closure.HashError).Error() },
	})
}

// A closure without files says so at once, and one part is all of it.
func TestWithoutFiles(t *testing.T) {
	c, err := closure.New(nil, objects("a: b", "b:"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckFiles(); !errors.Is(err, closure.ErrNoFiles) {
		t.Error(err)
	}
	if got := c.Shard(0, 0); len(got) != 2 {
		t.Errorf("part 0 of 0 is %v", got)
	}
}

// A message does not grow with what it is about.
func TestMessagesAreShort(t *testing.T) {
	const n = 200_000
	list := make([]closure.Object, n)
	for i := range list {
		list[i] = closure.Object{Path: numbered(i), References: []closure.Path{numbered((i + 1) % n)}}
	}
	_, err := closure.New(nil, list)
	e, ok := errors.AsType[*closure.CycleError](err)
	if !ok || len(e.Paths) != n {
		t.Fatalf("%.1000v", err)
	}
	if text := e.Error(); len(text) > 2000 || !strings.Contains(text, "(199992 more)") || !strings.HasSuffix(text, " -> "+string(e.Paths[0])) {
		t.Errorf("%d bytes: %.1000s", len(text), text)
	}
}

func numbered(i int) closure.Path { return closure.Path(fmt.Sprintf("/nix/store/%032d-x", i)) }
