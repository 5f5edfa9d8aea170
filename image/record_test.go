package image_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
)

func record(t testing.TB) *image.Record {
	t.Helper()
	img := &image.Image{
		Closure: closureOf(pythonFiles, python),
		Config:  image.Config{Labels: map[string]string{"b": "<&>", "a": ""}, Created: time.Unix(1e9, 0)},
	}
	r, err := img.Resolve(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := r.Record()
	if err != nil {
		t.Fatal(err)
	}
	rec.Squashfs = &image.Encoding{
		Compression: "gzip", Level: 7, BlockSize: 128 << 10,
		Library: "github.com/klauspost/compress", Version: "v1.20.3", Format: 1, ModTime: 1,
	}
	return rec
}

func placed(t testing.TB) *image.Record {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	return record(t).Placed(digest, []image.Segment{
		{Name: strings.TrimPrefix(glibc, "/"), Offset: 96, Size: 4000, Digest: digest},
		{Name: ".", Offset: 4096, Size: 0, Digest: digest},
	})
}

func encode(t testing.TB, rec *image.Record) string {
	t.Helper()
	var b strings.Builder
	n, err := rec.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo: %d, %v", n, err)
	}
	return b.String()
}

func TestRecordRoundTrip(t *testing.T) {
	for name, rec := range map[string]*image.Record{"position-free": record(t), "placed": placed(t)} {
		text := encode(t, rec)
		got, err := image.ReadRecord(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rec.Config.Arch = "" // is in Architecture
		if !reflect.DeepEqual(got, rec) {
			t.Errorf("%s: got %+v, want %+v", name, got, rec)
		}
		if again := encode(t, got); again != text {
			t.Errorf("%s: not the same text the second time", name)
		}
	}
}

func TestRecordGolden(t *testing.T) { golden(t, "record.json", encode(t, placed(t))) }

func TestPlacedLeavesTheRecordAlone(t *testing.T) {
	rec := record(t)
	before := encode(t, rec)
	rec.Placed("sha256:x", []image.Segment{{}})
	if encode(t, rec) != before || strings.Contains(before, "imageID") || strings.Contains(before, "segments") {
		t.Errorf("got %s", encode(t, rec))
	}
}

func TestRecordNeedsHashes(t *testing.T) {
	c := closureOf(helloFiles, hello)
	objects := c.Objects()
	objects[0].NARHash = closure.Hash{}
	unknown, err := closure.New(c.Roots(), objects)
	if err != nil {
		t.Fatal(err)
	}
	unknown.Files = c.Files
	_, err = resolve(t, &image.Image{Closure: unknown}).Record()
	if err == nil || !strings.Contains(err.Error(), glibc) {
		t.Errorf("got %v", err)
	}
}

func TestReadRecordIgnoresNewFields(t *testing.T) {
	text := strings.Replace(encode(t, placed(t)), `"schema": 1,`, `"schema": 1, "more": [{}],`, 1)
	if _, err := image.ReadRecord(strings.NewReader(text)); err != nil {
		t.Error(err)
	}
}

func TestReadRecordRejects(t *testing.T) {
	good := encode(t, placed(t))
	for name, edit := range map[string][2]string{
		"no schema":       {`"schema": 1,`, ``},
		"no object":       {`"objects": [`, `"objects": [{},`},
		"null object":     {`"objects": [`, `"objects": [null,`},
		"null segment":    {`"segments": [`, `"segments": [null,`},
		"object path":     {`"path": "/nix/store/`, `"path": "/nix/store/x`},
		"other store":     {`"storeDir": "/nix/store"`, `"storeDir": "/gnu/store"`},
		"relative store":  {`"storeDir": "/nix/store"`, `"storeDir": ""`},
		"unknown root":    {python + `"`, python + `-2"`},
		"architecture":    {`"amd64"`, `"pdp11"`},
		"hash":            {`sha256-`, `sha1-`},
		"empty hash":      {`"narHash": "`, `"narHash": "", "x": "`},
		"reference":       {`"references": [`, `"references": ["x",`},
		"size":            {`"narSize": 1`, `"narSize": -1`},
		"huge size":       {`"narSize": 1`, `"narSize": 11111111111111111111`},
		"offset":          {`"offset": 96`, `"offset": -96`},
		"offset and size": {`"offset": 96`, `"offset": 9223372036854775807`},
		"image ID":        {`"imageID": "sha256:0`, `"imageID": "sha256:`},
		"digest":          {`"digest": "sha256:`, `"digest": "`},
		"segment's name":  {`"name": "."`, `"name": ""`},
		"text behind":     {`"schema": 1`, `"schema": 1}{`},
		"not JSON":        {`{`, `[`},
		"time":            {`"created": "2001`, `"created": "x`},
		"the same twice":  {`"objects": [`, `"objects": [{"path": "` + glibc + `", "narHash": "sha256-S0RPaXOBHhpoFGvzFXh2nD5KtH4DTHOPhc+OeTz4sR0=", "narSize": 1},`},
	} {
		bad := strings.Replace(good, edit[0], edit[1], 1)
		if bad == good {
			t.Errorf("%s: the edit changes nothing", name)
		}
		if rec, err := image.ReadRecord(strings.NewReader(bad)); err == nil {
			t.Errorf("%s: got %+v", name, rec)
		}
	}
	_, err := image.ReadRecord(strings.NewReader(strings.Replace(good, `"schema": 1`, `"schema": 2`, 1)))
	if e, ok := errors.AsType[*image.SchemaError](err); !ok || e.Schema != 2 {
		t.Errorf("later schema: got %v", err)
	}
}

// endless is a text without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestReadRecordIsBounded(t *testing.T) {
	if _, err := image.ReadRecord(endless{}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

func FuzzReadRecord(f *testing.F) {
	f.Add([]byte(encode(f, record(f))))
	f.Add([]byte(encode(f, placed(f))))
	f.Add([]byte(`{"schema":1,"storeDir":"/a","architecture":"arm","config":{"created":"1970-01-01T00:00:00.5+01:00"},"squashfs":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := image.ReadRecord(bytes.NewReader(data))
		if err != nil {
			return
		}
		text := encode(t, rec)
		again, err := image.ReadRecord(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v in what was written: %s", err, text)
		}
		if second := encode(t, again); second != text {
			t.Errorf("written: %s\nread and written again: %s", text, second)
		}
		if !json.Valid([]byte(text)) {
			t.Errorf("not JSON: %s", text)
		}
	})
}
