package closure_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nix2img/nix2img/closure"
)

func TestResolveRoot(t *testing.T) {
	a, b := path("a"), path("b")
	top := makeTree(t, map[string]string{
		"home/result":                         "-> " + string(a),
		"home/result-bin":                     "-> " + string(a) + "/bin",
		"home/again":                          "-> ./result",
		"home/dir":                            "-> .",
		"home/slash":                          "-> " + string(a) + "/",
		"home/profile":                        "-> ../mnt/nix/var/nix/profiles/me",
		"home/relative":                       "-> ../mnt/nix/store/" + b.Base() + "/bin",
		"home/gone":                           "-> nowhere",
		"home/loop":                           "-> loop",
		"home/out":                            "-> /",
		"home/odd":                            "-> /nix/store/odd",
		"home/file":                           "text",
		"home/mnt":                            "-> ../mnt",
		"mnt/nix/store/" + b.Base() + "/bin/": "",
		"mnt/nix/var/nix/profiles/":           "",
		"mnt/nix/var/nix/profiles/me":         "-> me-1-link",
		"mnt/nix/var/nix/profiles/me-1-link":  "-> " + string(b),
		"mnt/nix/var/nix/profiles/abs":        "-> /nix/var/nix/profiles/me",
		"data/store/" + a.Base() + "/":        "",
		"moved/nix/":                          "",
		"moved/nix/store":                     "-> ../../data/store",
	})
	// Links of profiles are absolute below the root of the store.
	t.Chdir(filepath.Join(top, "home"))
	mnt, moved := filepath.Join(top, "mnt"), filepath.Join(top, "moved")
	for _, test := range []struct {
		arg, root string
		want      closure.Path
	}{
		{string(a), "", a},
		{string(a) + "/", "/", a},
		{string(a) + "/bin/hello", "", a},
		{"/nix/../nix//store/" + a.Base() + "/bin/..", mnt, a},
		{"result", "", a},
		{"./result", "", a},
		{"./result/bin/hello", "", a},
		{"result-bin", "", a},
		{"again", mnt, a},
		{"dir/dir/../home/again", "", a},
		{"slash", "", a},
		{"profile", mnt, b},
		{filepath.Join(mnt, "nix/var/nix/profiles/abs"), mnt, b},
		{"relative", mnt, b},
		{"../mnt/nix/store/" + b.Base() + "/bin", mnt, b},
		{"../mnt/nix/store/" + b.Base(), "../mnt", b},
		{"../mnt/nix/var/nix/profiles/abs", "../mnt", b},
		{"mnt/nix/var/nix/profiles/abs", "mnt", b},
		{"mnt/nix/store/" + b.Base() + "/bin", "./mnt/", b},
		{"../data/store/" + a.Base(), moved, a},
		{"../moved/nix/store/" + a.Base(), moved, a},
	} {
		if got, err := closure.ResolveRoot(test.arg, "/nix/store", test.root); got != test.want || err != nil {
			t.Errorf("%s, root %s: %s, %v, want %s", test.arg, test.root, got, err, test.want)
		}
	}
	for _, arg := range []string{"", ".", "/", "nothing", "gone", "loop", "out", "odd", "file", "file/x", "/nix/store", "/nix/store/", "/nix/store/odd/bin"} {
		if got, err := closure.ResolveRoot(arg, "/nix/store", mnt); err == nil {
			t.Errorf("%q: resolved to %s", arg, got)
		} else {
			t.Log(err)
		}
	}
}

func TestResolveRootInAnotherStore(t *testing.T) {
	dir := t.TempDir()
	p := closure.Path(dir + "/" + path("a").Base())
	link := filepath.Join(t.TempDir(), "result")
	if err := os.Symlink(string(p), link); err != nil {
		t.Fatal(err)
	}
	if got, err := closure.ResolveRoot(link, dir, ""); got != p || err != nil {
		t.Errorf("resolved to %s, %v", got, err)
	}
}
