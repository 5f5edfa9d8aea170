package inspect_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/nix2img/nix2img/image/inspect"
)

func TestRecordsOfEqualFactsAreEqual(t *testing.T) {
	a := inspect.Facts{"b": {Version: 1, Data: []byte(`{"x":1}`)}}.With(inspect.Facts{"a": {Version: 2, Data: []byte(`[]`)}})
	b := inspect.Facts{"a": {Version: 1, Data: []byte(`null`)}}.With(inspect.Facts{"a": {Version: 2, Data: []byte(` [ ] `)}, "b": {Version: 1, Data: []byte("{\n\"x\":1}")}})
	for _, f := range []inspect.Facts{a, b} {
		data, err := f.Marshal()
		if want := `{"a":{"version":2,"data":[]},"b":{"version":1,"data":{"x":1}}}`; err != nil || string(data) != want {
			t.Errorf("got %s, %v, want %s", data, err, want)
		}
	}
}

func TestRecordsThatAreNone(t *testing.T) {
	for _, text := range []string{
		``, `null`, `[]`, `{"version":1}`, `{"gpu":{"version":1}}`, `{"gpu":{"version":0,"data":1}}`, `{"gpu":{"version":-1,"data":1}}`,
		`{"gpu":{"version":1,"data":}}`, `{"GPU":{"version":1,"data":1}}`, `{"":{"version":1,"data":1}}`, `{"gpu":{"version":1,"data":1}} x`,
	} {
		if f, err := inspect.Parse([]byte(text)); err == nil {
			t.Errorf("%s is read as %v", text, f)
		}
	}
}

func TestFactsOfAnotherVersionAreMissing(t *testing.T) {
	old, current := &probe{name: "p", version: 1}, &probe{name: "p", version: 2}
	f := inspect.Facts{"p": {Version: 1, Data: []byte(`5`)}}
	if n := len(f.Missing([]inspect.Inspector{old})); n != 0 {
		t.Errorf("%d are missing", n)
	}
	if list := f.Missing([]inspect.Inspector{old, current, &probe{name: "q"}}); len(list) != 2 || list[0] != current {
		t.Errorf("missing are %v", list)
	}
	var n int
	if err := f.Decode(old, &n); err != nil || n != 5 {
		t.Errorf("got %d, %v", n, err)
	}
	for _, p := range []*probe{current, {name: "q"}} {
		err := f.Decode(p, &n)
		if e, ok := errors.AsType[*inspect.MissingError](err); !ok || e.Inspector != p.name {
			t.Errorf("got %v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"gpu":{"version":1,"data":{"files":[{"path":"lib/x.so"}]}},"a":{"version":7,"data":null}}`))
	f.Add([]byte(`{"gpu":{"version":1,"data":"\u2028<\ud800"},"gpu":{"version":2,"data":1e999}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		facts, err := inspect.Parse(data)
		if err != nil {
			return
		}
		written, err := facts.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := inspect.Parse(written)
		if err != nil || len(again) != len(facts) {
			t.Fatalf("%s: %v", written, err)
		}
		twice, err := again.Marshal()
		if err != nil || !bytes.Equal(twice, written) {
			t.Errorf("got %s, then %s: %v", written, twice, err)
		}
		if third, err := inspect.Parse(twice); err != nil || !reflect.DeepEqual(third, again) {
			t.Errorf("%s is read as %v and %v", written, again, third)
		}
	})
}
