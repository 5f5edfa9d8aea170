package binarycache_test

import (
	"net/http/httptest"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/closure/binarycache/cachetest"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	p := cachetest.Path("x")
	var (
		files binarycache.Files
		info  binarycache.NARInfo
		netrc binarycache.Netrc
		trust *binarycache.Trust
	)
	zerotest.Check(t, map[string]func(){
		"Open": func() {
			binarycache.Open(ctx, "", nil)
			binarycache.Open(ctx, "file://"+t.TempDir(), nil)
			binarycache.Open(ctx, "file://"+t.TempDir(), &binarycache.Runtime{})
		},
		"Sort": func() { binarycache.Sort(nil); binarycache.Sort([]*binarycache.Cache{nil, {}, nil}) },
		"Source.Closure": func() {
			new(binarycache.Source).Closure(ctx)
			new(binarycache.Source).Closure(ctx, "")
			for _, c := range []*binarycache.Cache{nil, {}, {Info: binarycache.Info{StoreDir: p.Dir()}}} {
				if _, err := (&binarycache.Source{Caches: []*binarycache.Cache{c}}).Closure(ctx, p); err == nil {
					t.Error("a cache that has not been opened was asked")
				}
			}
		},
		"ParseTrust":          func() { binarycache.ParseTrust(); binarycache.ParseTrust("") },
		"ParseInfo":           func() { binarycache.ParseInfo(nil) },
		"ParseNARInfo":        func() { binarycache.ParseNARInfo("", nil) },
		"ParseNetrc":          func() { binarycache.ParseNetrc("") },
		"ParsePublicKey":      func() { binarycache.ParsePublicKey("") },
		"ParseSignature":      func() { binarycache.ParseSignature("") },
		"Unauthorized":        func() { binarycache.Unauthorized(nil) },
		"Files.Address":       func() { files.Address("") },
		"Files.Info":          func() { files.Info("") },
		"Files.Remote":        func() { files.Remote("") },
		"Files.Open":          func() { files.Open(""); files.Open("x") },
		"Files.ReadDir":       func() { files.ReadDir("x") },
		"Files.Stat":          func() { files.Stat("x") },
		"Files.Lstat":         func() { files.Lstat("x") },
		"Files.ReadLink":      func() { files.ReadLink("x") },
		"NARInfo.String":      func() { _ = info.String() },
		"NARInfo.Fingerprint": func() { info.Fingerprint() },
		"Netrc.Find":          func() { netrc.Find("") },
		"Signature.String":    func() { _ = binarycache.Signature{}.String() },
		"Files.Fetch": func() {
			f := files.Fetch(ctx, []closure.Object{{}})
			f.Tree("").Next()
			f.Tree("").Read(nil)
			f.Close()
		},
		"Trust.Check": func() {
			trust.Check(nil)
			trust.Check(&info)
			signed := &binarycache.NARInfo{Sigs: []binarycache.Signature{{}}}
			(&binarycache.Trust{Keys: []binarycache.PublicKey{{}}}).Check(signed)
		},
		"AddressError.Error":   func() { _ = new(binarycache.AddressError).Error() },
		"NetworkError.Error":   func() { _ = new(binarycache.NetworkError).Error() },
		"NetworkError.Unwrap":  func() { new(binarycache.NetworkError).Unwrap() },
		"VerifyError.Error":    func() { _ = new(binarycache.VerifyError).Error() },
		"VerifyError.Unwrap":   func() { new(binarycache.VerifyError).Unwrap() },
		"InfoError.Error":      func() { _ = new(binarycache.InfoError).Error() },
		"InfoError.Unwrap":     func() { new(binarycache.InfoError).Unwrap() },
		"SignatureError.Error": func() { _ = new(binarycache.SignatureError).Error() },
		"SpoolError.Error":     func() { _ = new(binarycache.SpoolError).Error() },
		"SpoolError.Unwrap":    func() { new(binarycache.SpoolError).Unwrap() },
	})
}

// A Runtime without anything in it, and none at all, are enough for caches on web servers.
func TestDefaultRuntime(t *testing.T) {
	c := cachetest.New()
	paths := c.Closure(t, "xz")
	server := httptest.NewServer(c)
	defer server.Close()
	for _, rt := range []*binarycache.Runtime{nil, {}, {Keep: t.TempDir()}} {
		cache, err := binarycache.Open(t.Context(), server.URL, rt)
		if err != nil {
			t.Fatal(err)
		}
		s := &binarycache.Source{Caches: []*binarycache.Cache{cache}, Trust: binarycache.Trust{All: true}, Runtime: rt}
		if err := fetch(t, s, paths[0]); err != nil {
			t.Error(err)
		}
	}
}
