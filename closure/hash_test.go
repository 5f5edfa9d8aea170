package closure_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/closure"
)

// The same hash as Nix spells it.
const (
	sri    = "sha256-M/CloPpjI9vXIkI5Tjum5Xmsn/UoiLHLFuDO9hf5FVQ="
	base32 = "sha256:0m0mz4bzdkp02v5v3218yngsqyg5lqxlwfa24bbxn8v3zahabw1k"
	base16 = "sha256:33f0a5a0fa6323dbd72242394e3ba6e579ac9ff52888b1cb16e0cef617f91554"
)

func TestHashSpellings(t *testing.T) {
	want, err := closure.ParseHash(sri)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		sri,
		want.Base32(),
		base16,
		strings.TrimPrefix(base16, "sha256:"),
		strings.ToUpper(strings.TrimPrefix(base16, "sha256:")),
		strings.TrimPrefix(want.Base32(), "sha256:"),
		"sha256:" + strings.TrimPrefix(sri, "sha256-"),
	} {
		if h, err := closure.ParseHash(s); h != want || err != nil {
			t.Errorf("%s: %v, %v", s, h, err)
		}
	}
	if want.String() != sri {
		t.Errorf("String is %s, want %s", want, sri)
	}
	if want.Base32() != base32 {
		t.Errorf("Base32 is %s, want %s", want.Base32(), base32)
	}
}

func TestParseHashRefuses(t *testing.T) {
	hex := strings.TrimPrefix(base16, "sha256:")
	b64 := strings.TrimPrefix(sri, "sha256-")
	for _, s := range []string{
		"",
		"sha256:",
		"sha256-",
		"md5:d41d8cd98f00b204e9800998ecf8427e",
		"sha512-" + b64,
		"sha1:" + hex,
		hex[1:],
		hex + "0",
		"g" + hex[1:],
		"sha256-" + hex,
		"sha256-" + b64[1:],
		"sha256-" + strings.TrimRight(b64, "="),
		"sha256-" + b64[:43] + "A",
		"sha256-" + b64[:42] + "R=", // bits that belong to no byte
		"sha256-" + b64[:42] + "\n=",
		"sha256:z" + strings.TrimPrefix(base32, "sha256:0"), // more than 256 bits
		"sha256:e" + strings.TrimPrefix(base32, "sha256:0"),
	} {
		_, err := closure.ParseHash(s)
		if e, ok := errors.AsType[*closure.SyntaxError](err); !ok || e.Text != s || e.What != "hash" {
			t.Errorf("%q: error is %v", s, err)
		}
	}
}

func TestHashInJSON(t *testing.T) {
	type record struct{ Known, Unknown closure.Hash }
	var r record
	r.Known, _ = closure.ParseHash(base16)
	b, err := json.Marshal(r)
	if err != nil || string(b) != `{"Known":"`+sri+`","Unknown":""}` {
		t.Errorf("marshal: %s, %v", b, err)
	}
	var back record
	if err := json.Unmarshal(b, &back); err != nil || back != r {
		t.Errorf("unmarshal: %+v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"Known":"x"}`), &back); err == nil {
		t.Error("unmarshal of what is no hash: no error")
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(sri)
	f.Add(base32)
	f.Add(base16)
	f.Add(strings.TrimPrefix(base16, "sha256:"))
	f.Fuzz(func(t *testing.T, s string) {
		h, err := closure.ParseHash(s)
		if err != nil || h.IsZero() {
			return
		}
		for _, spelling := range []string{h.String(), h.Base32()} {
			if again, err := closure.ParseHash(spelling); again != h || err != nil {
				t.Errorf("%q: read again from %q: %v, %v", s, spelling, again, err)
			}
		}
	})
}
