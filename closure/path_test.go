package closure_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/closure"
)

const digest = "00bgd045z0d4icpbc2yyz4gx48ak44la"

func TestPathParts(t *testing.T) {
	for _, test := range []struct{ path, dir, name string }{
		{"/nix/store/" + digest + "-net-tools-1.60", "/nix/store", "net-tools-1.60"},
		{"/home/me/.local/share/nix/store/" + digest + "-a", "/home/me/.local/share/nix/store", "a"},
		{"/s/" + digest + "-.a+B_?=-", "/s", ".a+B_?=-"},
		{"/s/" + digest + "--", "/s", "-"},
		{"/s/" + digest + "-..a", "/s", "..a"},
		{"/s/" + digest + "-" + strings.Repeat("x", 211), "/s", strings.Repeat("x", 211)},
		{"/caf\xe9/" + digest + "-a", "/caf\xe9", "a"},
	} {
		p, err := closure.ParsePath(test.path)
		if err != nil {
			t.Error(err)
			continue
		}
		if p.Dir() != test.dir || p.Base() != digest+"-"+test.name || p.Digest() != digest || p.Name() != test.name {
			t.Errorf("%s: parts %q %q %q %q", p, p.Dir(), p.Base(), p.Digest(), p.Name())
		}
		joined, err := closure.JoinPath(p.Dir(), p.Base())
		if joined != p || err != nil {
			t.Errorf("%s: joined again: %s, %v", p, joined, err)
		}
	}
}

func TestParsePathRefuses(t *testing.T) {
	for _, s := range []string{
		"",
		"/",
		digest + "-a",
		"/" + digest + "-a",
		"nix/store/" + digest + "-a",
		"/nix//store/" + digest + "-a",
		"/nix/../store/" + digest + "-a",
		"/nix/store\x00/" + digest + "-a",
		"/nix/store/" + digest + "-a/",
		"/nix/store/" + digest + "-a/bin",
		"/nix/store/" + digest,
		"/nix/store/" + digest + "-",
		"/nix/store/" + digest + "a",
		"/nix/store/" + digest[1:] + "-a",
		"/nix/store/" + digest[1:] + "e-a", // no digit of base 32
		"/nix/store/" + strings.ToUpper(digest) + "-a",
		"/nix/store/" + digest + "-a b",
		"/nix/store/" + digest + "-a\n",
		"/nix/store/" + digest + "-ä",
		"/nix/store/" + digest + "-.",
		"/nix/store/" + digest + "-..",
		"/nix/store/" + digest + "-.-a",
		"/nix/store/" + digest + "-..-a",
		"/nix/store/" + digest + "-" + strings.Repeat("x", 212),
		"/nix/store/.links",
	} {
		_, err := closure.ParsePath(s)
		if e, ok := errors.AsType[*closure.SyntaxError](err); !ok || e.Text != s || e.What != "store path" {
			t.Errorf("%q: error is %v", s, err)
		}
	}
	for _, base := range []string{"", "a", "../" + digest + "-a", "/" + digest + "-a"} {
		if p, err := closure.JoinPath("/nix/store", base); err == nil {
			t.Errorf("base name %q: joined to %s", base, p)
		}
	}
}

func TestPartsOfWhatIsNoPath(t *testing.T) {
	for _, p := range []closure.Path{"", "/", "x", "/x", "/x/y"} {
		_ = p.Dir() + p.Base() + p.Digest() + p.Name() // must not panic
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("/nix/store/" + digest + "-net-tools-1.60")
	f.Add("/s/" + digest + "-.")
	f.Add("//" + digest + "-a")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := closure.ParsePath(s)
		if err != nil {
			return
		}
		if p.Dir()+"/"+p.Digest()+"-"+p.Name() != s {
			t.Errorf("%q: the parts are not the whole", s)
		}
		if q, err := closure.JoinPath(p.Dir(), p.Base()); q != p || err != nil {
			t.Errorf("%q: joined again: %q, %v", s, q, err)
		}
	})
}
