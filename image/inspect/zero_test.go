package inspect_test

import (
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	var (
		facts inspect.Facts
		file  inspect.File
		o     inspect.Observer
		info  = fstest.MapFS{"x": {}}
	)
	regular, err := info.Stat("x")
	if err != nil {
		t.Fatal(err)
	}
	object := closure.Object{}
	zerotest.Check(t, map[string]func(){
		"Of":             func() { inspect.Of(nil, nil) },
		"Parse":          func() { inspect.Parse(nil) },
		"Facts.Missing":  func() { facts.Missing(nil) },
		"Facts.With":     func() { facts.With(nil) },
		"Facts.Marshal":  func() { facts.Marshal() },
		"Facts.Decode":   func() { facts.Decode(nil, nil) },
		"Find":           func() { inspect.Find(ctx, nil, nil, 0); inspect.Find(ctx, nil, []inspect.Tree{{}}, -1) },
		"Check":          func() { inspect.Check(ctx, nil, nil, nil, ""); inspect.Check(ctx, nil, nil, info, "x") },
		"Node.IsFile":    func() { new(inspect.Node).IsFile() },
		"File.Read":      func() { file.Read(nil); file.Read(make([]byte, 1)) },
		"File.ReadAt":    func() { file.ReadAt(nil, 0); file.ReadAt(make([]byte, 1), 0) },
		"File.Skip":      func() { file.Skip(0); file.Skip(1) },
		"Observe":        func() { inspect.Observe(ctx, nil, nil, "").Close(); inspect.Observe(ctx, nil, nil, "").Stop() },
		"ObserveStream":  func() { inspect.ObserveStream(ctx, nil, nil).Close(); inspect.ObserveStream(ctx, nil, nil).Stop() },
		"Observer.Facts": func() { o.Facts() },
		"Observer.Node":  func() { o.Node("", nil, ""); o.Node("x", regular, "") },
		"Observer.Write": func() { o.Write(nil); o.Write([]byte("x")) },
		"Observer.Close": func() { new(inspect.Observer).Close() },
		"Observer.Stop":  func() { new(inspect.Observer).Stop() },
		"Survey.Close":   func() { new(inspect.Survey).Close() },
		"Survey.Knows":   func() { new(inspect.Survey).Knows(object) },
		"Survey.Observe": func() { new(inspect.Survey).Observe(ctx, object, nil) },
		"Survey.Prove":   func() { new(inspect.Survey).Prove(); new(inspect.Survey).Prove(object) },
		"Survey.Complete": func() {
			new(inspect.Survey).Complete(ctx, nil, nil)
			new(inspect.Survey).Complete(ctx, []closure.Object{object}, nil)
		},
		"MissingError.Error": func() { _ = new(inspect.MissingError).Error() },
	})
}
