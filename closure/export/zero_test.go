package export_test

import (
	"bytes"
	"testing"

	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	zerotest.Check(t, map[string]func(){
		"Open":              func() { export.Open(ctx, nil, 0); export.Open(ctx, bytes.NewReader(nil), 0) },
		"Spool":             func() { export.Spool(ctx, nil, nil); export.Spool(ctx, bytes.NewReader(nil), nil) },
		"FormatError.Error": func() { _ = new(export.FormatError).Error() },
	})
}
