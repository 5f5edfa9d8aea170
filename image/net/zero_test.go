package net_test

import (
	"testing"

	"github.com/nix2img/nix2img/image/net"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	zerotest.Check(t, map[string]func(){
		"New":            func() { net.New(nil); net.New([]net.Tree{{}}); net.New([]net.Tree{{Facts: new(net.Facts)}}) },
		"FactsOf":        func() { net.FactsOf(nil) },
		"Inspect":        func() { net.Inspect(ctx, nil, "", 0) },
		"IsMPI":          func() { net.IsMPI("") },
		"MPI.String":     func() { _ = new(net.MPI).String() },
		"ParseFabric":    func() { net.ParseFabric("") },
		"Report.Check":   func() { new(net.Report).Check(nil); new(net.Report).Check(&net.Demand{Host: []net.HostLibrary{{}}}) },
		"Report.Summary": func() { new(net.Report).Summary() },
		"Split":          func() { net.Split(nil); net.Split(new(net.Facts)) },
	})
}
