package layering_test

import (
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/oci/layering"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	var none *layering.Options
	zerotest.Check(t, map[string]func(){
		"Options.Plan": func() {
			none.Plan(nil)
			none.Plan(new(closure.Closure))
			new(layering.Options).Plan(nil)
			new(layering.Options).Plan(new(closure.Closure))
			(&layering.Options{Groups: [][]string{nil, {""}}, Previous: [][]string{nil, {""}}}).Plan(new(closure.Closure))
		},
		"Changes": func() {
			layering.Changes(nil, nil)
			layering.Changes(new(closure.Closure), [][]closure.Object{nil, {{}}})
		},
	})
}
