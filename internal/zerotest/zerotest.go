// Package zerotest has the test that no exported function of a package panics when it is given nil and zero values.
package zerotest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// Check calls functions, and fails if one panics. Each is named after the exported function of the package
// in the working directory that it calls with nil and zero values: "New", or "Closure.Roots" for a method of a zero Closure.
// There must be one for each function.
func Check(t *testing.T, calls map[string]func()) {
	t.Helper()
	want := exported(t)
	for _, name := range want {
		if calls[name] == nil {
			t.Errorf("nothing calls %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		if !slices.Contains(want, name) {
			t.Errorf("there is no %s", name)
		}
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%s: panic: %v\n%s", name, r, debug.Stack())
				}
			}()
			if call := calls[name]; call != nil {
				call()
			}
		}()
	}
}

// exported returns the exported functions and methods of the package in the working directory.
func exported(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.IsExported() {
				if name := receiver(f); name == "" || ast.IsExported(name) {
					names = append(names, strings.TrimPrefix(name+"."+f.Name.Name, "."))
				}
			}
		}
	}
	return names
}

// receiver returns the type that a method is of, or "".
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	t := f.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}
