package image

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"
)

func TestStatFollowsLinksWithinTheStore(t *testing.T) {
	link := func(target string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink}
	}
	s := &store{dir: "/nix/store", files: fstest.MapFS{
		"a/bin/x": {Data: []byte("x"), Mode: 0o555},
		"b/link":  link("../a/bin"), "b/absolute": link("/nix/store/a/bin/x"), "b/twice": link("link/../bin/./x"),
		"b/out": link("/etc/passwd"), "b/above": link("../../etc"), "b/loop": link("loop"), "b/root": link("/nix/store/"),
	}}
	for abs, want := range map[string]string{
		"/nix/store/a/bin/x": "a/bin/x", "/nix/store//b/./link/x": "a/bin/x", "/nix/store/b/absolute": "a/bin/x", "/nix/store/b/link/": "a/bin",
		"/nix/store/b/twice": "a/bin/x", "/nix/store/b/../a": "a",
	} {
		name, info, err := s.stat(abs)
		if err != nil || name != want || info.IsDir() != (want != "a/bin/x") {
			t.Errorf("%s: got %s, %v, %v", abs, name, info, err)
		}
	}
	for _, abs := range []string{
		"/etc/passwd", "/nix/store", "/nix/store/", "/nix/store/a/..", "/nix/store/..", "/nix/store/b/out", "/nix/store/b/above", "/nix/store/b/loop",
		"/nix/store/b/root", "/nix/store/c", "/nix/store/a/bin/x/y", "/nix/store/a/bin/x/",
	} {
		if name, _, err := s.stat(abs); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %s, %v", abs, name, err)
		}
	}
}

func TestPackageName(t *testing.T) {
	for name, want := range map[string]string{
		"hello":             "hello",
		"hello-2.12":        "hello",
		"python3-3.12-env":  "python3",
		"nss-cacert-3.108":  "nss-cacert",
		"7zip":              "7zip",
		"bash-interactive":  "bash-interactive",
		"a--b":              "a",
		"ends-with-":        "ends-with-",
		"python3.11-edm-1_": "python3.11-edm",
	} {
		if got := packageName(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
