package gpu_test

import (
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	report := func() *gpu.Report { return new(gpu.Report) }
	zerotest.Check(t, map[string]func(){
		"New":                 func() { gpu.New(nil); gpu.New([]gpu.Tree{{}}); gpu.New([]gpu.Tree{{Facts: new(gpu.Facts)}}) },
		"FactsOf":             func() { gpu.FactsOf(nil) },
		"Inspect":             func() { gpu.Inspect(ctx, nil, "", nil) },
		"ParseDriver":         func() { gpu.ParseDriver("") },
		"ParseTarget":         func() { gpu.ParseTarget("") },
		"ReadHost":            func() { gpu.ReadHost(nil); gpu.ReadHost(strings.NewReader("")) },
		"Demand.Accepts":      func() { new(gpu.Demand).Accepts() },
		"Driver.Compare":      func() { gpu.Driver("").Compare("") },
		"Driver.String":       func() { _ = gpu.Driver("").String() },
		"Facts.UnmarshalJSON": func() { new(gpu.Facts).UnmarshalJSON(nil); new(gpu.Facts).UnmarshalJSON([]byte("null")) },
		"Library.Coverage":    func() { new(gpu.Library).Coverage(nil); new(gpu.Library).Coverage(new(gpu.Target)) },
		"Library.Targets":     func() { _ = new(gpu.Library).Targets(true) },
		"Report.Capabilities": func() { report().Capabilities() },
		"Report.Check": func() {
			report().Check(nil)
			report().Check(new(gpu.Demand))
			report().Check(&gpu.Demand{Targets: []*gpu.Target{nil}})
		},
		"Report.Framework":      func() { report().Framework("") },
		"Report.Summary":        func() { report().Summary() },
		"Report.Uses":           func() { report().Uses("") },
		"TargetVerdict.Name":    func() { _ = new(gpu.TargetVerdict).Name() },
		"Version.Compare":       func() { gpu.Version{}.Compare(gpu.Version{}) },
		"Version.IsZero":        func() { _ = gpu.Version{}.IsZero() },
		"Version.MarshalText":   func() { gpu.Version{}.MarshalText() },
		"Version.String":        func() { _ = gpu.Version{}.String() },
		"Version.UnmarshalText": func() { new(gpu.Version).UnmarshalText(nil) },
	})
}
