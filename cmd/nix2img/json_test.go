package main

import (
	"io"
	"os"
	"testing"
)

func TestEnvelope(t *testing.T) {
	for _, test := range []struct {
		v    any
		want string
	}{
		{struct{}{}, "{\n  \"schema\": 1,\n  \"kind\": \"a\"\n}\n"},
		{struct {
			Digest string   `json:"digest"`
			List   []string `json:"list"`
		}{"<x>\u202e", []string{}}, "{\n  \"schema\": 1,\n  \"kind\": \"a\",\n  \"digest\": \"<x>\\u202e\",\n  \"list\": []\n}\n"},
		{struct {
			Lists []struct {
				Of   []string `json:"of"`
				Some []string `json:"some,omitempty"`
			} `json:"lists"`
		}{make([]struct {
			Of   []string `json:"of"`
			Some []string `json:"some,omitempty"`
		}, 1)}, "{\n  \"schema\": 1,\n  \"kind\": \"a\",\n  \"lists\": [\n    {\n      \"of\": []\n    }\n  ]\n}\n"},
		{[]string{}, ""},
		{(*struct{})(nil), ""},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		err = printEnvelope(&ui{stdout: w}, "a", test.v)
		w.Close()
		got, _ := io.ReadAll(r)
		r.Close()
		if string(got) != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%#v: %q, %v; want %q", test.v, got, err, test.want)
		}
	}
}
