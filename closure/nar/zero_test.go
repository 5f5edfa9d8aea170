package nar_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/nix2img/nix2img/closure/nar"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	var fsys nar.FS
	zerotest.Check(t, map[string]func(){
		"Dump": func() { nar.Dump(nil, nil, ""); nar.Dump(io.Discard, nil, ""); nar.Dump(nil, &fsys, ".") },
		"Open": func() { nar.Open(nil, 0) },
		"Index": func() {
			nar.Index(nil, nil)
			nar.Index(nil, bytes.NewReader(nil))
			nar.Index(bytes.NewReader(nil), nil)
		},
		"Join":              func() { nar.Join(nil); nar.Join(map[string]*nar.FS{"x": nil}); nar.Join(map[string]*nar.FS{"x": {}}) },
		"FS.Size":           func() { fsys.Size() },
		"FS.Open":           func() { fsys.Open(""); fsys.Open("."); fsys.Open("x") },
		"FS.Stat":           func() { fsys.Stat("."); fsys.Stat("x") },
		"FS.Lstat":          func() { fsys.Lstat("."); fsys.Lstat("x") },
		"FS.ReadLink":       func() { fsys.ReadLink("."); fsys.ReadLink("x") },
		"FS.ReadDir":        func() { fsys.ReadDir("."); fsys.ReadDir("x") },
		"Header.FileInfo":   func() { new(nar.Header).FileInfo().Name() },
		"FormatError.Error": func() { _ = new(nar.FormatError).Error() },
		"NewReader":         func() { nar.NewReader(nil).Next() },
		"Reader.Next":       func() { new(nar.Reader).Next() },
		"Reader.Read":       func() { new(nar.Reader).Read(nil); new(nar.Reader).Read(make([]byte, 1)) },
		"Reader.Offset":     func() { new(nar.Reader).Offset() },
		"NewWriter":         func() { nar.NewWriter(nil).WriteHeader(&nar.Header{}); nar.NewWriter(nil).Close() },
		"Writer.WriteHeader": func() {
			new(nar.Writer).WriteHeader(nil)
			new(nar.Writer).WriteHeader(&nar.Header{})
			nar.NewWriter(io.Discard).WriteHeader(nil)
		},
		"Writer.Write": func() { new(nar.Writer).Write(nil); new(nar.Writer).Write(make([]byte, 1)) },
		"Writer.Close": func() { new(nar.Writer).Close() },
	})
}
