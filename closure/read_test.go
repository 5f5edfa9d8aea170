package closure_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nix2img/nix2img/closure"
)

var sample = objects("a: a b c", "b: c", "c:", "d: d")

// forms are the forms in which Nix describes objects, as functions that write them.
var forms = map[string]func(objects []closure.Object) string{
	"path-info, Nix 2.8": func(objects []closure.Object) string {
		var list []map[string]any
		for _, o := range objects {
			m := info(o, o.NARHash.String())
			m["path"] = o.Path
			m["closureSize"] = 123
			m["deriver"] = o.Path + ".drv"
			m["registrationTime"] = 1795306753
			m["ultimate"] = true
			list = append(list, m)
		}
		return text(list)
	},
	"path-info, Nix 2.19": func(objects []closure.Object) string {
		m := make(map[string]any)
		for _, o := range objects {
			m[string(o.Path)] = info(o, o.NARHash.String())
		}
		return text(m)
	},
	"path-info, Nix 2.23": func(objects []closure.Object) string {
		m := make(map[string]any)
		for _, o := range objects {
			i := info(o, o.NARHash.String())
			i["ca"], i["deriver"], i["signatures"], i["ultimate"] = nil, nil, []string{}, false
			m[string(o.Path)] = i
		}
		return text(m)
	},
	"path-info, hash as object": func(objects []closure.Object) string {
		m := make(map[string]any)
		for i, o := range objects {
			hash := map[string]string{"algorithm": "sha256", "format": "base16", "hash": hex(o)}
			switch i % 3 {
			case 1:
				hash["format"], hash["hash"] = "base64", strings.TrimPrefix(o.NARHash.String(), "sha256-")
			case 2:
				hash["format"], hash["hash"] = "nix32", strings.TrimPrefix(o.NARHash.Base32(), "sha256:")
			}
			m[string(o.Path)] = info(o, hash)
		}
		return text(m)
	},
	"path-info, format 1": func(objects []closure.Object) string {
		m := make(map[string]any)
		for _, o := range objects {
			i := info(o, o.NARHash.String())
			i["version"], i["storeDir"] = 1, o.Path.Dir()
			m[string(o.Path)] = i
		}
		return text(m)
	},
	"path-info, format 2": func(objects []closure.Object) string { return wrapped(objects, 2, true) },
	"path-info, format 3": func(objects []closure.Object) string { return wrapped(objects, 3, false) },
	"structured attributes": func(objects []closure.Object) string {
		var list []map[string]any
		for _, o := range objects {
			m := info(o, o.NARHash.Base32())
			m["path"], m["closureSize"] = o.Path, 123
			list = append(list, m)
		}
		return text(map[string]any{
			"PATH":                  "/bin",
			"buildInputs":           []string{"/nix/store/x"},
			"empty":                 []string{},
			"closure":               list,
			"exportReferencesGraph": map[string]any{"closure": []string{string(objects[0].Path)}},
			"outputs":               map[string]string{"out": "/nix/store/y"},
			"pairs":                 []map[string]int{{"x": 1}},
		})
	},
	"structured attributes, the list": func(objects []closure.Object) string {
		var list []map[string]any
		for _, o := range objects {
			m := info(o, o.NARHash.Base32())
			m["path"] = o.Path
			list = append(list, m)
		}
		return "\n " + text(list)
	},
	"closureInfo": func(objects []closure.Object) string {
		return lines(objects, func(o closure.Object) string {
			return fmt.Sprintf("%s\n%s\n%d\n\n", o.Path, o.NARHash.Base32(), o.NARSize)
		})
	},
	"dump-db": func(objects []closure.Object) string {
		return lines(objects, func(o closure.Object) string {
			return fmt.Sprintf("%s\n%s\n%d\n%s.drv\n", o.Path, hex(o), o.NARSize, o.Path)
		})
	},
	"exportReferencesGraph": func(objects []closure.Object) string {
		return lines(objects, func(o closure.Object) string { return fmt.Sprintf("%s\n\n", o.Path) })
	},
}

func info(o closure.Object, hash any) map[string]any {
	refs := o.References
	if refs == nil {
		refs = []closure.Path{} // not null
	}
	return map[string]any{"narHash": hash, "narSize": o.NARSize, "references": refs}
}

func hex(o closure.Object) string { return fmt.Sprintf("%x", o.NARHash[:]) }

func wrapped(objects []closure.Object, version int, inside bool) string {
	m := make(map[string]any)
	for _, o := range objects {
		refs := []string{}
		for _, ref := range o.References {
			refs = append(refs, ref.Base())
		}
		i := info(o, o.NARHash.String())
		i["references"], i["deriver"], i["ca"] = refs, nil, map[string]string{"method": "nar", "hash": "x"}
		if inside {
			i["storeDir"], i["version"] = "/nix/store", version
		}
		m[o.Path.Base()] = i
	}
	return text(map[string]any{"version": version, "storeDir": "/nix/store", "info": m})
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func lines(objects []closure.Object, head func(closure.Object) string) string {
	var b strings.Builder
	for _, o := range objects {
		fmt.Fprintf(&b, "%s%d\n", head(o), len(o.References))
		for _, ref := range o.References {
			fmt.Fprintln(&b, ref)
		}
	}
	return b.String()
}

func TestEveryFormSaysTheSame(t *testing.T) {
	for name, write := range forms {
		t.Run(name, func(t *testing.T) {
			want := slices.Clone(sample)
			if name == "exportReferencesGraph" {
				for i := range want {
					want[i].NARHash, want[i].NARSize = closure.Hash{}, 0
				}
			}
			backwards := slices.Clone(sample)
			slices.Reverse(backwards)
			for _, list := range [][]closure.Object{sample, backwards} {
				got, err := closure.ReadObjects(strings.NewReader(write(list)))
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("read %+v\nwant %+v", got, want)
				}
			}
		})
	}
}

func TestUnknownFactsMayBeLeftOut(t *testing.T) {
	for _, s := range []string{
		`[{"path":"` + string(path("a")) + `","references":[]}]`,
		`{"` + string(path("a")) + `":{"references":[],"narHash":null,"narSize":null}}`,
	} {
		got, err := closure.ReadObjects(strings.NewReader(s))
		if err != nil || len(got) != 1 || got[0].Path != path("a") || !got[0].NARHash.IsZero() {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
}

func TestStoreDirIsData(t *testing.T) {
	const base = digest + "-a"
	for _, s := range []string{
		`{"version":2,"storeDir":"/my/store","info":{"` + base + `":{"references":["` + base + `"]}}}`,
		`{"` + base + `":{"storeDir":"/my/store","references":["` + base + `"]}}`,
		`[{"path":"/my/store/` + base + `","references":["` + base + `"]}]`,
		"/my/store/" + base + "\n\n1\n/my/store/" + base + "\n",
	} {
		got, err := closure.ReadObjects(strings.NewReader(s))
		if err != nil || len(got) != 1 || got[0].Path != "/my/store/"+base || got[0].References[0] != got[0].Path {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
}

func TestReadObjectsRefuses(t *testing.T) {
	a, b := string(path("a")), string(path("b"))
	for name, s := range map[string]string{
		"nothing":                      "",
		"white space":                  " \n\n",
		"something else":               "hello\n",
		"export stream":                "\x01\x00\x00\x00\x00\x00\x00\x00\x0d\x00",
		"no JSON":                      "{",
		"two values":                   "[] []",
		"null in the list":             "[null]",
		"number for an object":         `{"` + a + `":1}`,
		"no references":                `[{"path":"` + a + `"}]`,
		"references are null":          `[{"path":"` + a + `","references":null}]`,
		"negative size":                `[{"path":"` + a + `","references":[],"narSize":-1}]`,
		"fraction of a size":           `[{"path":"` + a + `","references":[],"narSize":1.5}]`,
		"no objects in the attributes": `{"name":"x","outputs":{}}`,
		"base name, no store":          `{"` + digest + `-a":{"references":[]}}`,
		"list of paths":                a + "\n" + b + "\n",
		"path only":                    a,
		"no count":                     a + "\n\n",
		"count is no number":           a + "\n\nx\n",
		"negative count":               a + "\n\n-1\n",
		"references missing":           a + "\n\n2\n" + b + "\n",
		"huge count":                   a + "\n\n9223372036854775807\n" + b + "\n",
		"no size":                      a + "\n" + base16 + "\n\n\n0\n",
		"other form in the middle":     a + "\n\n0\n" + b + "\n" + base16 + "\n1\n\n0\n",
		"deriver is no path":           a + "\n" + base16 + "\n1\nx\n0\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := closure.ReadObjects(strings.NewReader(s)); err == nil {
				t.Errorf("read %+v", got)
			} else {
				t.Log(err)
			}
		})
	}
}

func TestMalformedTextNamesItsObject(t *testing.T) {
	a := string(path("a"))
	for _, test := range []struct{ input, what, text, in string }{
		{a + "\n\n1\n/nix/store/x\n", "store path", "/nix/store/x", a},
		{a + "\nsha256:x\n1\n\n0\n", "hash", "sha256:x", a},
		{"/nix/store/x\n\n0\n", "store path", "/nix/store/x", ""},
		{`[{"path":"` + a + `","references":["/nix/store/x"]}]`, "store path", "/nix/store/x", a},
		{`[{"path":"` + a + `","references":["x"]}]`, "store path", "/nix/store/x", a},
		{`[{"path":"` + a + `","references":[],"narHash":"md5:x"}]`, "hash", "md5:x", a},
		{`[{"path":"x","references":[]}]`, "store path", "x", ""},
		{`{"` + a + `":{"references":[],"narHash":{"algorithm":"sha1","hash":"x"}}}`, "hash", "sha1:x", a},
	} {
		_, err := closure.ReadObjects(strings.NewReader(test.input))
		e, ok := errors.AsType[*closure.SyntaxError](err)
		if !ok || e.What != test.what || e.Text != test.text || string(e.In) != test.in {
			t.Errorf("%s: error is %v", test.input, err)
		}
	}
}

func TestInvalidObjectsAreMissing(t *testing.T) {
	for _, s := range []string{
		`[{"path":"` + string(path("a")) + `","valid":false}]`,
		`{"` + string(path("a")) + `":null}`,
		`{"version":2,"storeDir":"/nix/store","info":{"` + path("a").Base() + `":null}}`,
	} {
		_, err := closure.ReadObjects(strings.NewReader(s))
		if e, ok := errors.AsType[*closure.MissingError](err); !ok || e.Path != path("a") {
			t.Errorf("%s: error is %v", s, err)
		}
	}
}

func TestReadErrorsAreReported(t *testing.T) {
	broken := errors.New("broken")
	if _, err := closure.ReadObjects(io.MultiReader(strings.NewReader("[]"), errReader{broken})); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// FuzzReadObjects checks that what can be read can be written and read again.
func FuzzReadObjects(f *testing.F) {
	for _, name := range sortedForms() {
		f.Add([]byte(forms[name](sample)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		objects, err := closure.ReadObjects(bytes.NewReader(b))
		if err != nil || len(objects) == 0 {
			return
		}
		for _, name := range []string{"path-info, Nix 2.8", "closureInfo"} {
			if name == "path-info, Nix 2.8" && !utf8.Valid(b) {
				continue // a store directory may have any bytes, JSON has not
			}
			if name == "closureInfo" && slices.ContainsFunc(objects, func(o closure.Object) bool { return o.NARHash.IsZero() }) {
				continue
			}
			again, err := closure.ReadObjects(strings.NewReader(forms[name](objects)))
			if err != nil {
				t.Fatal(err)
			}
			if len(again) != len(objects) {
				t.Fatalf("%d objects, read again %d", len(objects), len(again))
			}
			for i, o := range objects {
				if a := again[i]; a.Path != o.Path || a.NARHash != o.NARHash || a.NARSize != o.NARSize ||
					!slices.Equal(a.References, o.References) {
					t.Fatalf("%+v, read again %+v", o, a)
				}
			}
		}
	})
}

func sortedForms() (names []string) {
	for name := range forms {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
