package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// jsonSchema is the version of what --json prints. Fields may be added to a version; none changes its meaning or goes.
const jsonSchema = 1

// printEnvelope prints a result as JSON: an object that begins with the version of the schema and the kind of the result,
// which is the name of the command, and goes on with the fields of v, a struct.
//
// Fields that name contents say which: imageID, digest, sha256. A list without elements is [], not null.
func printEnvelope(u *ui, kind string, v any) error {
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
	return printJSON(u, json.RawMessage(head+string(data[1:])))
}
