package layout

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/nix2img/nix2img/internal/codec"
	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/internal/vfs"
)

// Files is the root file system of an image.
// It is an [fs.ReadLinkFS] whose regular files are also an [io.ReaderAt]. Symbolic links are followed within it.
type Files struct {
	spool *os.File // has the contents, one after the other
	size  int64
	tree  vfs.Tree
}

// Owner is what [fs.FileInfo.Sys] of a file of an image returns.
// For directories that no layer has, but in which files lie, it is nil.
type Owner struct{ UID, GID int }

var (
	_ fs.ReadDirFS  = (*Files)(nil)
	_ fs.StatFS     = (*Files)(nil)
	_ fs.ReadLinkFS = (*Files)(nil)
)

func newFiles(spool *os.File) *Files {
	return &Files{spool: spool, tree: vfs.Tree{Root: vfs.NewDir(0o755)}}
}

// Close frees what the files take.
func (f *Files) Close() error { return f.spool.Close() }

// unpack adds a layer.
func (s *Stored) unpack(ctx context.Context, f *Files, blob string, want v1.Hash) error {
	r, err := s.open(blob)
	if err != nil {
		return err
	}
	defer r.Close()
	plain, err := codec.Decompress(bufio.NewReaderSize(ctxio.Reader(ctx, r), 1<<20))
	if err != nil {
		return err
	}
	defer plain.Close()
	hash := sha256.New()
	all := io.TeeReader(plain, hash)
	t := tar.NewReader(all)
	var placed map[*vfs.Node]bool // what this layer has put there, which its whiteouts do not mean
	for placed = make(map[*vfs.Node]bool); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = f.add(h, t, placed)
		}
		if err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, all); err != nil { // what is behind the archive's end counts, too
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want.Hex {
		return fmt.Errorf("its diffID is sha256:%s, and not %s", got, want)
	}
	return nil
}

// add adds an entry of a layer, or does what a whiteout says: image-spec, layer.md.
func (f *Files) add(h *tar.Header, contents io.Reader, placed map[*vfs.Node]bool) error {
	name := path.Clean("/" + h.Name)[1:]
	if name == "" {
		return nil
	}
	dir, base := path.Split(name)
	parent, err := f.tree.MakeDirs(path.Clean(dir), 0o755, false)
	if err != nil {
		return err
	}
	if base == ".wh..wh..opq" {
		parent.RemoveFunc(func(_ string, n *vfs.Node) bool { return !placed[n] })
		return nil
	}
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		if !placed[parent.Entry(hidden)] {
			parent.Remove(hidden)
		}
		return nil
	}
	n, err := f.node(name, h, contents, parent.Entry(base))
	if err != nil {
		return err
	}
	parent.Put(base, n)
	placed[n] = true
	return nil
}

// node returns the node of a layer's entry. old is what has its name, or nil: a directory keeps what it has.
func (f *Files) node(name string, h *tar.Header, contents io.Reader, old *vfs.Node) (n *vfs.Node, err error) {
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeDir:
		if n = old; n == nil || !n.IsDir() {
			n = vfs.NewDir(mode)
		}
		n.Chmod(mode)
	case tar.TypeReg:
		size, err := io.Copy(f.spool, contents)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		n = vfs.NewSection(mode, f.spool, f.size, size)
		f.size += size
	case tar.TypeLink:
		if n, err = f.tree.Lookup(path.Clean("/" + h.Linkname)[1:], false); err != nil {
			return nil, &fs.PathError{Op: "link", Path: h.Linkname, Err: err}
		}
		if n.IsDir() {
			return nil, fmt.Errorf("%s: a hard link to a directory", name)
		}
		return n, nil
	case tar.TypeSymlink:
		n = vfs.NewSymlink(h.Linkname)
		n.Chmod(mode)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		n = vfs.NewSpecial(mode)
	default:
		return nil, fmt.Errorf("%s: an entry of type %q", name, h.Typeflag)
	}
	n.SetModTime(h.ModTime)
	n.SetSys(Owner{h.Uid, h.Gid})
	return n, nil
}

// Open opens a file of any kind, and follows symbolic links.
func (f *Files) Open(name string) (fs.File, error) { return f.tree.Open(name) }

// Stat describes a file.
func (f *Files) Stat(name string) (fs.FileInfo, error) { return f.tree.Stat(name) }

// Lstat describes a file, which may be a symbolic link.
func (f *Files) Lstat(name string) (fs.FileInfo, error) { return f.tree.Lstat(name) }

// ReadLink returns where a symbolic link leads to.
func (f *Files) ReadLink(name string) (string, error) { return f.tree.ReadLink(name) }

// ReadDir lists a directory.
func (f *Files) ReadDir(name string) ([]fs.DirEntry, error) { return f.tree.ReadDir(name) }
