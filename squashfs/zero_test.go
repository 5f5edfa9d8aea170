package squashfs_test

import (
	"bytes"
	"io"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/internal/zerotest"
	"github.com/nix2img/nix2img/squashfs"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	var (
		fsys     squashfs.FS
		segment  squashfs.Segment
		assembly squashfs.Assembly
		w        squashfs.Writer
		inode    squashfs.Inode
	)
	trees := []squashfs.Tree{{}}
	zerotest.Check(t, map[string]func(){
		"Write": func() {
			squashfs.Write(ctx, nil, nil, nil, nil)
			squashfs.Write(ctx, new(zeroFile), trees, nil, nil)
			if _, err := squashfs.Write(ctx, new(zeroFile), nil, &squashfs.Options{}, &squashfs.Runtime{}); err != nil {
				t.Error(err)
			}
		},
		"Encode":   func() { squashfs.Encode(ctx, nil, nil, nil); squashfs.Encode(ctx, trees, nil, nil) },
		"Assemble": func() { squashfs.Assemble(ctx, nil, nil); squashfs.Assemble(ctx, trees, nil) },
		"Open":     func() { squashfs.Open(nil); squashfs.Open(bytes.NewReader(nil)) },
		"NewWriter": func() {
			squashfs.NewWriter(nil, nil)
		},
		"Writer.Add":    func() { w.Add(ctx, nil, nil); w.Add(ctx, trees, nil) },
		"Writer.Open":   func() { w.Open() },
		"Writer.Finish": func() { w.Finish() },
		"FileTree": func() {
			for _, tree := range []squashfs.Tree{squashfs.FileTree("", nil, ""), squashfs.FileTree("", fstest.MapFS{}, ""), squashfs.FileTree(".", nil, ".")} {
				squashfs.Write(ctx, new(zeroFile), []squashfs.Tree{tree}, nil, nil)
			}
		},
		"NodeTree": func() {
			squashfs.Write(ctx, new(zeroFile), []squashfs.Tree{squashfs.NodeTree(".", nil)}, nil, nil)
		},
		"SegmentTree": func() {
			squashfs.Write(ctx, new(zeroFile), []squashfs.Tree{squashfs.SegmentTree(".", nil, nil)}, nil, nil)
			squashfs.Assemble(ctx, []squashfs.Tree{squashfs.SegmentTree(".", new(squashfs.Segment), nil)}, nil)
		},
		"Tree.Segment":            func() { trees[0].Segment() },
		"Assembly.ReadAt":         func() { assembly.ReadAt(nil, 0); assembly.ReadAt(make([]byte, 1), 0) },
		"Assembly.WriteTo":        func() { assembly.WriteTo(io.Discard); assembly.WriteTo(nil) },
		"Assembly.WriteFile":      func() { assembly.WriteFile(ctx, new(zeroFile)); assembly.WriteFile(ctx, nil) },
		"Segment.Check":           func() { segment.Check(nil) },
		"Segment.Size":            func() { segment.Size() },
		"Segment.Digest":          func() { segment.Digest() },
		"Segment.MarshalBinary":   func() { segment.MarshalBinary() },
		"Segment.AppendBinary":    func() { segment.AppendBinary(nil) },
		"Segment.UnmarshalBinary": func() { new(squashfs.Segment).UnmarshalBinary(nil) },
		"FS.Open":                 func() { fsys.Open(""); fsys.Open(".") },
		"FS.ReadDir":              func() { fsys.ReadDir("."); fsys.ReadDir("x") },
		"FS.Stat":                 func() { fsys.Stat("."); fsys.Stat("x") },
		"FS.Lstat":                func() { fsys.Lstat("."); fsys.Lstat("x") },
		"FS.ReadLink":             func() { fsys.ReadLink("."); fsys.ReadLink("x") },
		"FS.Super":                func() { fsys.Super() },
		"FS.Segment":              func() { fsys.Segment(""); fsys.Segment(".") },
		"Options.Complete":        func() { squashfs.Options{}.Complete() },
		"ParseCompression":        func() { squashfs.ParseCompression("") },
		"Compression.Library":     func() { squashfs.Compression{}.Library() },
		"Inode.Major":             func() { inode.Major() },
		"Inode.Minor":             func() { inode.Minor() },
		"ChecksumError.Error":     func() { _ = new(squashfs.ChecksumError).Error() },
		"ConflictError.Error":     func() { _ = new(squashfs.ConflictError).Error() },
		"CorruptError.Error":      func() { _ = new(squashfs.CorruptError).Error() },
		"SourceError.Error":       func() { _ = new(squashfs.SourceError).Error() },
		"SourceError.Unwrap":      func() { new(squashfs.SourceError).Unwrap() },
	})
}

// A zeroFile takes everything and keeps nothing.
type zeroFile struct{}

func (*zeroFile) ReadAt(p []byte, _ int64) (int, error)  { clear(p); return len(p), nil }
func (*zeroFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (*zeroFile) Truncate(int64) error                   { return nil }
