package nixdb_test

import (
	"testing"

	"github.com/nix2img/nix2img/closure/nixdb"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	var db nixdb.DB
	var st nixdb.Store
	zerotest.Check(t, map[string]func(){
		"Open":                func() { nixdb.Open("") },
		"OpenStore":           func() { nixdb.OpenStore("") },
		"DB.Close":            func() { db.Close() },
		"DB.Closure":          func() { db.Closure(ctx, ""); db.Closure(ctx, "", "") },
		"Store.Dir":           func() { st.Dir() },
		"Store.Files":         func() { st.Files() },
		"Store.Unlocked":      func() { st.Unlocked() },
		"Store.Closure":       func() { st.Closure(ctx); st.Closure(ctx, "") },
		"Store.Objects":       func() { st.Objects(ctx, "") },
		"Store.Close":         func() { st.Close() },
		"CorruptError.Error":  func() { _ = new(nixdb.CorruptError).Error() },
		"CorruptError.Unwrap": func() { new(nixdb.CorruptError).Unwrap() },
	})
}
