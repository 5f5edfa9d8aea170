package squash

import (
	"context"
	"io/fs"
	"path"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/squashfs"
)

// Objects that come over a network are fetched once, straight into the encoder.
// So what an image needs to know of their files is looked up in the segments, when they are all there.

// remote reports whether some of the objects come over a network.
func (b *build) remote(objects []closure.Object) bool {
	f, ok := b.files.(closure.Fetcher)
	if !ok {
		return false
	}
	for _, o := range objects {
		if f.Remote(o.Path) {
			return true
		}
	}
	return false
}

// fetch begins to fetch what has no segment. The function that it returns ends it.
func (st *segments) fetch(ctx context.Context, b *build) (end func()) {
	f, ok := b.files.(closure.Fetcher)
	if !ok {
		return func() {}
	}
	var missing []closure.Object
	for _, o := range b.objects {
		if st.found[o.Path] == nil {
			missing = append(missing, o)
		}
	}
	b.fetch = f.Fetch(ctx, missing)
	return func() { b.fetch.Close() }
}

// fetched is an object on its way, as the encoder reads it.
type fetched struct{ closure.Tree }

func (f fetched) Next() (squashfs.Node, error) {
	n, err := f.Tree.Next()
	return squashfs.Node{Path: n.Path, Info: n.Info, Target: n.Target}, err
}

// below is a directory of an image. Unlike with [fs.Sub], names need not be UTF-8.
type below struct {
	fsys *squashfs.FS
	dir  string
}

var (
	_ fs.ReadDirFS  = below{}
	_ fs.StatFS     = below{}
	_ fs.ReadLinkFS = below{}
)

func (b below) at(name string) string                      { return path.Join(b.dir, name) }
func (b below) Open(name string) (fs.File, error)          { return b.fsys.Open(b.at(name)) }
func (b below) ReadDir(name string) ([]fs.DirEntry, error) { return b.fsys.ReadDir(b.at(name)) }
func (b below) Stat(name string) (fs.FileInfo, error)      { return b.fsys.Stat(b.at(name)) }
func (b below) Lstat(name string) (fs.FileInfo, error)     { return b.fsys.Lstat(b.at(name)) }
func (b below) ReadLink(name string) (string, error)       { return b.fsys.ReadLink(b.at(name)) }
