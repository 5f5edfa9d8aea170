package closure_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/closure"
)

// path returns the path of an object of the given name.
// Its digest depends on the name's first letter.
func path(name string) closure.Path {
	return closure.Path("/nix/store/" + strings.Repeat(name[:1], 32) + "-" + name)
}

// object reads "name: references", where references are names.
func object(s string) closure.Object {
	name, refs, _ := strings.Cut(s, ":")
	o := closure.Object{Path: path(name), NARSize: int64(len(s)), NARHash: closure.Hash{1, byte(len(name)), name[0]}}
	for _, ref := range strings.Fields(refs) {
		o.References = append(o.References, path(ref))
	}
	slices.Sort(o.References)
	return o
}

func objects(list ...string) (objects []closure.Object) {
	for _, s := range list {
		objects = append(objects, object(s))
	}
	return objects
}

func paths(names string) (paths []closure.Path) {
	for _, name := range strings.Fields(names) {
		paths = append(paths, path(name))
	}
	return paths
}

func names(c *closure.Closure) string {
	var names []string
	for _, o := range c.Objects() {
		names = append(names, o.Path.Name())
	}
	return strings.Join(names, " ")
}

func TestImageOrder(t *testing.T) {
	for _, test := range []struct {
		name, roots string
		objects     []closure.Object
		want        string
	}{
		{"one", "", objects("a:"), "a"},
		{"chain", "", objects("a: b", "b: c", "c:"), "c b a"},
		{"diamond", "", objects("a: b c", "b: d", "c: d", "d:"), "d c b a"},
		{"self reference", "", objects("a: a b", "b: b"), "b a"},
		{"only what the roots reach", "b", objects("a: b", "b: c", "c:", "d:"), "c b"},
		{"smallest referrer first, then reversed", "", objects("x: c", "y: b", "c:", "b:"), "b y c x"},
		{"a root that another root needs", "a b", objects("a: b", "b:"), "b a"},
		{"as late as it can be", "", objects("a: z", "b: c", "c: d", "d:", "z:"), "z d c b a"},
		{"names before digests", "", []closure.Object{
			{Path: closure.Path("/s/" + strings.Repeat("z", 32) + "-a")},
			{Path: closure.Path("/s/" + strings.Repeat("0", 32) + "-b")},
			{Path: closure.Path("/s/" + strings.Repeat("0", 32) + "-a")},
		}, "b a a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := closure.New(paths(test.roots), test.objects)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(c); got != test.want {
				t.Errorf("order is %q, want %q", got, test.want)
			}
		})
	}
}

func TestSameOrderWhateverTheInput(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	list := graph(rnd, 300)
	want, err := closure.New(nil, list)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		shuffled := slices.Clone(list)
		rnd.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		shuffled = append(shuffled, shuffled[:10]...) // some are described twice
		for i, o := range shuffled {
			refs := slices.Clone(o.References)
			rnd.Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
			shuffled[i].References = append(refs, refs...)
		}
		before := fmt.Sprint(shuffled)
		got, err := closure.New(nil, shuffled)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatal("another order of the input gives another closure")
		}
		if fmt.Sprint(shuffled) != before {
			t.Fatal("New changes its input")
		}
	}
}

// TestEveryPathAfterWhatItNeeds compares with the order as it is defined, without a heap.
func TestEveryPathAfterWhatItNeeds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		list := graph(rnd, 1+rnd.IntN(60))
		c, err := closure.New(nil, list)
		if err != nil {
			t.Fatal(err)
		}
		left := slices.Clone(list)
		slices.SortFunc(left, func(a, b closure.Object) int {
			return strings.Compare(a.Path.Name()+" "+a.Path.Digest(), b.Path.Name()+" "+b.Path.Digest())
		})
		var want []closure.Path
		for len(left) > 0 {
			i := slices.IndexFunc(left, func(o closure.Object) bool {
				return !slices.ContainsFunc(left, func(p closure.Object) bool {
					return p.Path != o.Path && slices.Contains(p.References, o.Path)
				})
			})
			want = append(want, left[i].Path)
			left = slices.Delete(left, i, i+1)
		}
		slices.Reverse(want)
		for i, o := range c.Objects() {
			if o.Path != want[i] {
				t.Fatalf("place %d of %d has %s, want %s", i, len(want), o.Path, want[i])
			}
		}
	}
}

// graph returns random objects without cycles.
func graph(rnd *rand.Rand, n int) []closure.Object {
	const digits = "0123456789abcdfghijklmnpqrsvwxyz"
	list := make([]closure.Object, n)
	for i := range list {
		b := make([]byte, 32)
		for j := range b {
			b[j] = digits[rnd.IntN(32)]
		}
		list[i].Path = closure.Path(fmt.Sprintf("/nix/store/%s-n%d", b, rnd.IntN(n)))
		list[i].NARSize = rnd.Int64N(1000)
		for range rnd.IntN(5) {
			list[i].References = append(list[i].References, list[rnd.IntN(i+1)].Path)
		}
		slices.Sort(list[i].References)
		list[i].References = slices.Compact(list[i].References)
	}
	return list
}

func TestRoots(t *testing.T) {
	list := objects("c: c d", "a: d", "b: d", "d:", "f: f")
	for _, test := range []struct{ given, want string }{
		{"", "a b c f"},
		{"b a", "b a"},
		{"d d a d", "d a"},
	} {
		c, err := closure.New(paths(test.given), list)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Roots(); !slices.Equal(got, paths(test.want)) {
			t.Errorf("roots %q: %v, want %q", test.given, got, test.want)
		}
	}
}

func TestObject(t *testing.T) {
	c, err := closure.New(paths("a"), objects("a: b", "b:", "x:"))
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := c.Object(path("b")); !ok || !reflect.DeepEqual(o, object("b:")) {
		t.Errorf("b is %+v, %v", o, ok)
	}
	if _, ok := c.Object(path("x")); ok {
		t.Error("x is there, though no root reaches it")
	}
	if c.StoreDir() != "/nix/store" || c.NARSize() != 6 {
		t.Errorf("StoreDir %s, NARSize %d", c.StoreDir(), c.NARSize())
	}
}

func TestNewRefuses(t *testing.T) {
	big := objects("a:", "b:", "c:")
	for i := range big {
		big[i].NARSize = math.MaxInt64 / 2
	}
	otherHash := objects("a:", "a:")
	otherHash[1].NARHash[5]++
	otherSize := objects("a:", "a:")
	otherSize[1].NARSize++
	for _, test := range []struct {
		name, roots string
		objects     []closure.Object
		want        error // compared by its text
	}{
		{"missing reference", "", objects("a: b", "b: c"), &closure.MissingError{Path: path("c"), Referrer: path("b")}},
		{"missing root", "x", objects("a:"), &closure.MissingError{Path: path("x")}},
		{"cycle", "a", objects("a: b", "b: c", "c: d f", "d: b", "f:"), &closure.CycleError{Paths: paths("b c d")}},
		{"cycle of two, without roots", "", objects("a: b", "b: a"), &closure.CycleError{Paths: paths("a b")}},
		{"cycle that no root reaches", "", objects("a:", "c: b", "b: c"), &closure.CycleError{Paths: paths("b c")}},
		{"other hash", "", otherHash, &closure.ConflictError{Path: path("a"), What: "NAR hash"}},
		{"other size", "", otherSize, &closure.ConflictError{Path: path("a"), What: "NAR size"}},
		{"other references", "", objects("b:", "a: b", "a:_"), nil},
		{"sizes too big", "", big, nil},
		{"negative size", "", []closure.Object{{Path: path("a"), NARSize: -1}}, nil},
		{"no objects", "", nil, nil},
		{"two stores", "", []closure.Object{{Path: path("a")}, {Path: "/s" + path("b")}}, nil},
		{"no path", "", []closure.Object{{Path: "a"}}, nil},
		{"no path of a reference", "", []closure.Object{{Path: path("a"), References: []closure.Path{"b"}}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := closure.New(paths(test.roots), test.objects)
			if err == nil {
				t.Fatalf("no error: %v", c.Objects())
			}
			if test.want != nil && (reflect.TypeOf(err) != reflect.TypeOf(test.want) || err.Error() != test.want.Error()) {
				t.Errorf("error is %v, want %v", err, test.want)
			}
		})
	}
}

func TestDescriptionsAreMerged(t *testing.T) {
	bare := object("a:")
	bare.NARHash, bare.NARSize = closure.Hash{}, 0
	full := object("a:")
	for _, list := range [][]closure.Object{{bare, full}, {full, bare}, {full, full}} {
		c, err := closure.New(nil, list)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Objects(); len(got) != 1 || got[0].NARHash != full.NARHash || got[0].NARSize != full.NARSize {
			t.Errorf("objects %+v", got)
		}
	}
}

func TestMalformedReferenceNamesItsReferrer(t *testing.T) {
	_, err := closure.New(nil, []closure.Object{{Path: path("a"), References: []closure.Path{"/nix/store/b"}}})
	e, ok := errors.AsType[*closure.SyntaxError](err)
	if !ok || e.In != path("a") || e.Text != "/nix/store/b" {
		t.Errorf("error is %v", err)
	}
}

func TestCheckFilesNamesTheReferrer(t *testing.T) {
	c, err := closure.New(nil, objects("a: a b c", "b: c", "c: c"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c.Files = closure.DirFS(dir)
	for _, test := range []struct{ missing, referrer string }{{"c", "b"}, {"b", "a"}, {"a", ""}} {
		err := c.CheckFiles()
		e, ok := errors.AsType[*closure.MissingError](err)
		if !ok || e.Path != path(test.missing) || !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("error is %v", err)
		}
		if test.referrer != "" && e.Referrer != path(test.referrer) || test.referrer == "" && e.Referrer != "" {
			t.Errorf("%s is missing: referrer %s", test.missing, e.Referrer)
		}
		// A dangling link is a fine object.
		if err := os.Symlink("nowhere", filepath.Join(dir, path(test.missing).Base())); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CheckFiles(); err != nil {
		t.Error(err)
	}
}
