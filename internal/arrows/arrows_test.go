package arrows

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/nix2img/nix2img/"

// arrows has, for every package, what it may import beside the standard library.
// Those of this module are named without the module's path.
var arrows = map[string][]string{
	"closure":         {"internal/vfs"},
	"closure/nar":     {"internal/vfs"},
	"closure/narhash": {"closure", "closure/nar", "internal/par"},
	"closure/nixdb":   {"closure", "internal/regular", "modernc.org/sqlite", "modernc.org/sqlite/lib"},
	"closure/export":  {"closure", "closure/nar"},
	"closure/binarycache": {
		"closure", "closure/nar", "internal/ctxio", "internal/par", "internal/regular", "internal/retry", "internal/tempfile",
		"github.com/andybalholm/brotli", "github.com/klauspost/compress/flate", "github.com/klauspost/compress/gzip",
		"github.com/klauspost/compress/zlib", "github.com/klauspost/compress/zstd", "github.com/mikelolasagasti/xz", "github.com/pierrec/lz4/v4",
	},

	"squashfs": {"internal/codec", "internal/par", "internal/reflink", "internal/vfs"},

	"image":        {"closure", "image/cache", "image/gpu", "image/inspect", "image/net", "internal/elf", "internal/vfs"},
	"image/gpu":    {"image/inspect", "internal/spelling", "internal/elf", "github.com/klauspost/compress/zstd"},
	"image/net":    {"image/inspect", "internal/elf", "internal/loader"},
	"image/squash": {"internal/ctxio", "image", "image/cache", "image/gpu", "image/inspect", "squashfs", "closure", "closure/narhash"},
	"image/oci": {
		"internal/ctxio",
		"image", "image/cache", "image/oci/layering", "image/oci/layout", "image/inspect", "closure", "closure/narhash", "internal/codec", "internal/par",
		"github.com/google/go-containerregistry/pkg/v1", "github.com/google/go-containerregistry/pkg/v1/partial",
		"github.com/google/go-containerregistry/pkg/v1/types",
	},

	"image/cache":   {"closure", "image/inspect", "internal/cas", "internal/tempfile"},
	"image/inspect": {"closure", "internal/par", "internal/tempfile"},

	"image/oci/layering": {"closure"},
	"image/oci/layout": {
		"internal/ctxio", "internal/codec", "internal/par", "internal/regular", "internal/tempfile", "internal/vfs",
		"github.com/google/go-containerregistry/pkg/v1", "github.com/google/go-containerregistry/pkg/v1/empty",
		"github.com/google/go-containerregistry/pkg/v1/layout", "github.com/google/go-containerregistry/pkg/v1/mutate",
		"github.com/google/go-containerregistry/pkg/v1/partial", "github.com/google/go-containerregistry/pkg/v1/types",
	},
	"image/oci/registry": {
		"internal/ctxio", "internal/retry",
		"internal/par", "github.com/google/go-containerregistry/pkg/authn", "github.com/google/go-containerregistry/pkg/name",
		"github.com/google/go-containerregistry/pkg/v1", "github.com/google/go-containerregistry/pkg/v1/partial",
		"github.com/google/go-containerregistry/pkg/v1/remote", "github.com/google/go-containerregistry/pkg/v1/remote/transport",
		"github.com/google/go-containerregistry/pkg/v1/static", "github.com/google/go-containerregistry/pkg/v1/types",
	},

	"sif": {"internal/ctxio", "internal/tempfile", "image", "image/squash", "squashfs", "github.com/sylabs/sif/v2/pkg/sif",
		"github.com/google/go-containerregistry/pkg/v1", "github.com/google/go-containerregistry/pkg/v1/types"},

	"internal/vfs":      {},
	"internal/spelling": {},
	"internal/ctxio":    {},
	"internal/par":      {},
	"internal/reflink":  {"golang.org/x/sys/unix"},
	"internal/regular":  {},
	"internal/retry":    {},
	"internal/elf":      {},
	"internal/loader":   {},
	"internal/cas":      {"internal/tempfile", "golang.org/x/sys/unix"},
	"internal/tempfile": {"golang.org/x/sys/unix"},
	"internal/codec": {
		"internal/ctxio",
		"github.com/DataDog/zstd", "github.com/anchore/go-lzo", "github.com/klauspost/compress/gzip", "github.com/klauspost/compress/zlib",
		"github.com/klauspost/compress/zstd", "github.com/mikelolasagasti/xz", "github.com/pierrec/lz4/v4",
		"github.com/ulikunitz/xz", "github.com/ulikunitz/xz/lzma",
	},
}

// Packages that are not libraries, and may import what they like.
var free = []string{"cmd/", "examples/", "internal/arrows", "internal/floor", "internal/foreign", "internal/synth", "internal/zerotest", "internal/elf/elftest", "image/gpu/gputest", "image/inspect/inspecttest", "closure/binarycache/cachetest", "closure/nixdb/nixdbtest", "image/oci/registry/registrytest", "testdata/"}

// exceptions are uses of what is forbidden that never reach the bytes of an image:
// names of temporary files are random and have that of the machine, and a cache is relied on if it belongs to its user.
var exceptions = map[string][]string{
	"internal/tempfile": {"math/rand/v2", "Hostname", "Geteuid"},
	"internal/cas":      {"Geteuid"},
}

// forbidden has what would let the clock, chance, the environment, the host
// or anything but the arguments into a library, or its words onto the terminal.
var forbidden = map[string][]string{
	"crypto/rand":  nil, // nil: all of it
	"math/rand":    nil,
	"math/rand/v2": nil,
	"os/exec":      nil,
	"os/signal":    nil,
	"os/user":      nil,
	"flag":         nil,
	"log":          nil,
	"log/slog":     nil,
	"time":         {"Now", "Since", "Until", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc", "Local"},
	"runtime":      {"NumCPU", "GOARCH", "GOOS"},
	"os": {
		"Stdout", "Stderr", "Stdin", "Args", "Exit", "Getenv", "LookupEnv", "Environ", "ExpandEnv", "Expand",
		"Getuid", "Geteuid", "Getgid", "Getegid", "Getpid", "Hostname", "UserHomeDir", "UserCacheDir", "UserConfigDir",
	},
	"fmt": {"Print", "Println", "Printf"},
}

// sources gives the parsed files of every package, tests not among them.
func sources(t *testing.T) map[string][]*ast.File {
	const root = "../.."
	packages := make(map[string][]*ast.File)
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && name != root {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(name))
		packages[filepath.ToSlash(dir)] = append(packages[filepath.ToSlash(dir)], file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

func isFree(pkg string) bool {
	return slices.ContainsFunc(free, func(prefix string) bool { return strings.HasPrefix(pkg+"/", strings.TrimSuffix(prefix, "/")+"/") })
}

// imports returns the paths that a file imports, by the names under which it does so.
func imports(f *ast.File) map[string]string {
	m := make(map[string]string)
	for _, spec := range f.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "_" || name == "." {
			name += p
		}
		m[name] = p
	}
	return m
}

func TestArrows(t *testing.T) {
	for pkg, files := range sources(t) {
		if isFree(pkg) {
			continue
		}
		allowed, ok := arrows[pkg]
		if !ok {
			t.Errorf("%s: the table of arrows does not know this package", pkg)
		}
		for _, f := range files {
			for _, p := range imports(f) {
				first, _, _ := strings.Cut(p, "/")
				if strings.Contains(first, ".") && !slices.Contains(allowed, strings.TrimPrefix(p, module)) {
					t.Errorf("%s must not import %s", pkg, p)
				}
			}
		}
	}
}

func TestLibrariesDependOnNothingButTheirArguments(t *testing.T) {
	for pkg, files := range sources(t) {
		if isFree(pkg) {
			continue
		}
		for _, f := range files {
			names := imports(f)
			for _, p := range names {
				if words, ok := forbidden[p]; ok && words == nil && !slices.Contains(exceptions[pkg], p) {
					t.Errorf("%s must not import %s", pkg, p)
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(forbidden[names[x.Name]], sel.Sel.Name) && !slices.Contains(exceptions[pkg], sel.Sel.Name) {
						t.Errorf("%s must not use %s.%s", pkg, x.Name, sel.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// A panic that nobody recovers ends the program as it is, with its temporary files left behind.
func TestGoroutinesRecover(t *testing.T) {
	for pkg, files := range sources(t) {
		if isFree(pkg) && !strings.HasPrefix(pkg, "cmd/") {
			continue
		}
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				var started ast.Expr
				switch n := n.(type) {
				case *ast.GoStmt:
					started = n.Call.Fun
				case *ast.CallExpr:
					if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Go" && len(n.Args) == 1 {
						started = n.Args[0]
					}
				}
				if started != nil && !beginsWithRecover(started) {
					t.Errorf("%s: a goroutine does not begin with defer par.Recover()", pkg)
				}
				return true
			})
		}
	}
}

func beginsWithRecover(f ast.Expr) bool {
	lit, ok := f.(*ast.FuncLit)
	if !ok || len(lit.Body.List) == 0 {
		return false
	}
	first, ok := lit.Body.List[0].(*ast.DeferStmt)
	if !ok {
		return false
	}
	switch fun := first.Call.Fun.(type) {
	case *ast.SelectorExpr:
		return fun.Sel.Name == "Recover"
	case *ast.Ident:
		return fun.Name == "Recover" // in par itself
	}
	return false
}
