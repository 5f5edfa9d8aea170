package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var updateSchemas = flag.Bool("update-schemas", false, "write docs/schemas anew")

const schemaDir = "../../docs/schemas"

// jsonKinds has, for every kind of --json, what is printed.
var jsonKinds = map[string][]any{
	"build":         {buildResult{}, ociResult{}},
	"build dry-run": {forecast{}},
	"warm":          {warmResult{}},
	"push":          {pushResult{}},
	"pull":          {pullResult{}},
	"layers":        {layersResult{}},
	"closure":       {closureResult{}},
	"why":           {whyResult{}},
	"gpu":           {gpuResult{}},
	"net":           {netResult{}},
	"inspect":       {inspection{}},
	"ls":            {listResult{}},
	"cache info":    {cacheResult{}},
	"cache prune":   {pruneResult{}},
	"cache verify":  {verifyResult{}},
	"doctor":        {doctorResult{}},
	"version":       {versionResult{}},
}

func schemaFile(kind string) string { return strings.ReplaceAll(kind, " ", "-") + ".json" }

// TestSchemas holds docs/schemas to the types that are printed.
// A change here is one that those who read --json see: fields may come, and none may go or change its meaning.
func TestSchemas(t *testing.T) {
	comments := make(comments)
	for _, dir := range []string{".", "../../image", "../../image/gpu", "../../image/net", "../../image/cache", "../../image/oci/layering", "../../closure", "../../sif"} {
		if err := comments.read(dir); err != nil {
			t.Fatal(err)
		}
	}
	for kind, results := range jsonKinds {
		s := &schemas{comments: comments, defs: make(map[string]any)}
		got, err := json.MarshalIndent(s.envelope(kind, results), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		name := filepath.Join(schemaDir, schemaFile(kind))
		if *updateSchemas {
			if err := os.WriteFile(name, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not of what is printed; go test -run Schemas -update-schemas writes it anew", name)
		}
	}
	files, err := filepath.Glob(schemaDir + "/*.json")
	if err != nil || len(files) != len(jsonKinds) {
		t.Errorf("%d files in %s, want %d: %v", len(files), schemaDir, len(jsonKinds), err)
	}
}

// schemas makes JSON schemas of Go types.
type schemas struct {
	comments comments
	defs     map[string]any
}

type object = map[string]any

func (s *schemas) envelope(kind string, results []any) object {
	properties := object{
		"schema": object{"const": jsonSchema, "description": "the version of this schema"},
		"kind":   object{"const": kind},
	}
	required := []string{"schema", "kind"}
	for i, r := range results {
		fields, must := s.fields(reflect.TypeOf(r))
		for name, f := range fields {
			properties[name] = f
		}
		if i > 0 { // what all results have
			must = slices.DeleteFunc(must, func(name string) bool { return !slices.Contains(required, name) })
			required = slices.DeleteFunc(required, func(name string) bool {
				return name != "schema" && name != "kind" && !slices.Contains(must, name)
			})
			continue
		}
		required = append(required, must...)
	}
	slices.Sort(required)
	schema := object{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"$id":         "https://github.com/nix2img/nix2img/blob/main/docs/schemas/" + schemaFile(kind),
		"title":       "nix2img " + kind + " --json",
		"type":        "object",
		"properties":  properties,
		"required":    required,
		"description": "Further fields may come.",
	}
	if len(s.defs) > 0 {
		schema["$defs"] = s.defs
	}
	return schema
}

var (
	textMarshaler = reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
)

// of returns the schema of a type.
func (s *schemas) of(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t.Implements(textMarshaler) || reflect.PointerTo(t).Implements(textMarshaler):
		return object{"type": "string"}
	case t.Implements(jsonMarshaler):
		panic(fmt.Sprintf("%s has a JSON form of its own", t))
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice, reflect.Array:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Struct:
		name := t.String()
		name = strings.ToUpper(name[:1]) + name[1:]
		name = strings.TrimPrefix(name, "Main.")
		if _, ok := s.defs[name]; !ok {
			s.defs[name] = nil // it may have itself as a field
			fields, required := s.fields(t)
			def := object{"type": "object", "properties": fields}
			if len(required) > 0 {
				slices.Sort(required)
				def["required"] = required
			}
			if text := s.comments[t.String()]; text != "" {
				def["description"] = text
			}
			s.defs[name] = def
		}
		return object{"$ref": "#/$defs/" + name}
	}
	return object{"type": "integer"}
}

// fields returns the schemas of a struct's fields, and which of them are always there.
func (s *schemas) fields(t reflect.Type) (object, []string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	fields := make(object)
	var required []string
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("json")
		name, opts, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && name == "":
			inner, must := s.fields(f.Type)
			for n, schema := range inner {
				fields[n] = schema
			}
			if f.Type.Kind() != reflect.Pointer {
				required = append(required, must...)
			}
			continue
		case name == "-" || !f.IsExported():
			continue
		case !tagged:
			name = f.Name
		}
		schema := s.of(f.Type)
		if text := s.comments[t.String()+"."+f.Name]; text != "" {
			schema["description"] = text
		}
		if strings.Contains(opts, "omit") {
		} else if required = append(required, name); f.Type.Kind() == reflect.Pointer {
			schema = object{"anyOf": []any{schema, object{"type": "null"}}}
		}
		fields[name] = schema
	}
	return fields, required
}

// comments has what the sources say of types and fields, by package.Type and package.Type.Field.
type comments map[string]string

func (c comments) read(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	fset := token.NewFileSet()
	for _, file := range files {
		p, err := parser.ParseFile(fset, file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name := p.Name.Name
		ast.Inspect(p, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, f := range st.Fields.List {
				for _, id := range f.Names {
					text := f.Doc.Text()
					if text == "" {
						text = f.Comment.Text()
					}
					c[name+"."+spec.Name.Name+"."+id.Name] = strings.Join(strings.Fields(text), " ")
				}
			}
			return true
		})
	}
	return nil
}

// validateJSON compares what a command has printed with the schema of its kind.
func validateJSON(data []byte) (kind string, err error) {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return "", err
	}
	kind, _ = v.(map[string]any)["kind"].(string)
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(schemaDir, schemaFile(kind)))
	if err != nil {
		return kind, err
	}
	return kind, schema.Validate(v)
}

// TestJSONIsAsItsSchema runs commands with --json.
func TestJSONIsAsItsSchema(t *testing.T) {
	t.Setenv(configVariable, os.DevNull)
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "caches"))
	if err := testStore(filepath.Join(dir, "store"), false); err != nil {
		t.Fatal(err)
	}
	from := []string{"--from", filepath.Join(dir, "store/export")}
	out := func(name string) string { return filepath.Join(dir, name) }
	seen := make(map[string]bool)
	for _, test := range []struct {
		line string
		from bool
		code int
	}{
		{"build --sif --digest -o " + out("a.sif"), true, 0},
		{"build --squashfs -o " + out("a.sqsh"), true, 0},
		{"build --oci " + out("layout") + " --tag app:1", true, 0},
		{"build --dry-run --sif", true, 0},
		{"build --dry-run --oci " + out("other"), true, 0},
		{"warm", true, 0},
		{"warm --oci --compression none", true, 0},
		{"layers", true, 0},
		{"closure", true, 0},
		{"why " + storeApp + " greeting-1.0", true, 0},
		{"gpu " + out("a.sif"), false, 0},
		{"gpu --for A100 --nv no", true, 0},
		{"net " + out("a.sif"), false, 0},
		{"inspect " + out("a.sif"), false, 0},
		{"inspect " + out("a.sqsh"), false, 0},
		{"inspect " + out("layout"), false, 0},
		{"ls -R " + out("a.sif"), false, 0},
		{"ls " + out("layout") + " /etc", false, 0},
		{"cache info", false, 0},
		{"cache verify", false, 0},
		{"cache prune --dry-run --all", false, 0},
		{"cache prune --keep 10G", false, 0},
		{"doctor", false, 0},
		{"version", false, 0},
	} {
		args := append(strings.Fields(test.line), "--json", "-q")
		if test.from {
			args = append(args, from...)
		}
		code, stdout, stderr := runForResult(t, args)
		if code != test.code {
			t.Errorf("%s: exit code %d\n%s", test.line, code, stderr)
			continue
		}
		kind, err := validateJSON(stdout)
		if err != nil {
			t.Errorf("%s: %v\n%s", test.line, err, stdout)
		}
		if !strings.HasPrefix(strings.Replace(test.line, " --dry-run", " dry-run", 1), kind) && !strings.HasPrefix(test.line, kind) {
			t.Errorf("%s is of kind %q", test.line, kind)
		}
		seen[kind] = true
	}
	for kind := range jsonKinds {
		if !seen[kind] && kind != "push" && kind != "pull" { // which a script has
			t.Errorf("no command has printed %s", kind)
		}
	}
}

// runForResult runs a command in this process, and returns what it printed.
func runForResult(t *testing.T, args []string) (code int, stdout []byte, stderr string) {
	t.Helper()
	dir := t.TempDir()
	var out [2]*os.File
	for i := range out {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		out[i] = f
	}
	a := &app{ui: newUI(os.Stdin, out[0], out[1])}
	root := newRoot(a)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	if err != nil {
		a.ui.fail(err)
	}
	stdout, _ = os.ReadFile(out[0].Name())
	messages, _ := os.ReadFile(out[1].Name())
	return exitCode(err), stdout, string(messages)
}
