package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// jsonSchema is the version of what --json prints. Fields may be added to a version; none changes its meaning or goes.
const jsonSchema = 1

// printEnvelope prints a result as JSON: an object that begins with the version of the schema and the kind of the result,
// which is the name of the command, and goes on with the fields of v, a struct.
//
// Fields that name contents say which: imageID, digest, sha256. A list without elements is [], not null.
func printEnvelope(u *ui, kind string, v any) error { return writeEnvelope(u.stdout, kind, v, "  ") }

// writeEnvelope is [printEnvelope] to anywhere, on one line if there is no indent.
func writeEnvelope(w io.Writer, kind string, v any, indent string) error {
	v = withLists(v)
	var b bytes.Buffer
	if err := writeJSON(&b, v, ""); err != nil {
		return err
	}
	data := b.Bytes()
	if len(data) < 2 || data[0] != '{' {
		return fmt.Errorf("a %T is no object", v)
	}
	head := fmt.Sprintf(`{"schema":%d,"kind":%q`, jsonSchema, kind)
	if data[1] != '}' {
		head += ","
	}
	return writeJSON(w, json.RawMessage(head+string(data[1:])), indent)
}

// withLists returns v with empty lists in place of those that are nil, which JSON would have as null.
func withLists(v any) any {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer && p.IsValid() {
		p = reflect.New(p.Type())
		p.Elem().Set(reflect.ValueOf(v))
	}
	if !p.IsValid() || p.IsNil() {
		return v
	}
	fillLists(p)
	return p.Interface()
}

func fillLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fillLists(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && !strings.Contains(f.Tag.Get("json"), "omitzero") {
				fillLists(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.IsNil() && v.CanSet() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			if k := v.Type().Elem().Kind(); k != reflect.Struct && k != reflect.Pointer && k != reflect.Slice {
				break
			}
			fillLists(v.Index(i))
		}
	}
}
