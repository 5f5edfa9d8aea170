package oci

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
)

// tarVersion is the version of the rules by which this file makes tar archives.
const tarVersion = 1

// modTime is that of every file: timestamps of Python's compiled files must not lie before their sources'.
var modTime = time.Unix(1, 0)

// A WhiteoutError reports files that no layer can hold:
// names with the prefix .wh. stand for files that a layer removes.
type WhiteoutError struct {
	Paths []string // absolute
}

func (e *WhiteoutError) Error() string {
	return fmt.Sprintf("oci: names that begin with .wh. cannot be in a layer: %s", strings.Join(e.Paths, ", "))
}

// A SourceError reports a file that cannot be read, or that a layer cannot hold.
type SourceError struct {
	Op     string       // what was tried: "open", "read", "encode", ...
	Path   string       // of the file in the image
	Object closure.Path // the store object that it is in; empty if in none
	Err    error
}

func (e *SourceError) Error() string {
	if pe, ok := e.Err.(*fs.PathError); ok { // it knows better where the file lies
		return "oci: " + pe.Error()
	}
	return fmt.Sprintf("oci: %s %s: %v", e.Op, e.Path, e.Err)
}

func (e *SourceError) Unwrap() error { return e.Err }

// A source is a file tree that goes into a layer.
type source struct {
	files fs.FS
	root  string       // in files
	name  string       // of the root in the archive; "." if its entries lie at the top
	tree  closure.Tree // the files as they come over a network, once; nil: they are read
}

// tarWriter writes a tree's part of a tar archive, in the order of a NAR.
type tarWriter struct {
	ctx context.Context
	src *source
	w   io.Writer
	buf []byte
	saw func(name string, info fs.FileInfo, link string)
}

// writeTar writes the entries of a tree, without the end of an archive.
// It calls saw with every file, when all that comes before its contents has been written.
func writeTar(ctx context.Context, w io.Writer, src *source, saw func(name string, info fs.FileInfo, link string)) error {
	t := &tarWriter{ctx, src, w, make([]byte, 128<<10), saw}
	if src.tree != nil {
		return t.fetched(src.tree)
	}
	info, err := fs.Lstat(src.files, src.root)
	if err != nil {
		return t.fail("read", src.name, err)
	}
	return t.node(src.root, src.name, info)
}

func (t *tarWriter) fail(op, name string, err error) error {
	return &SourceError{op, "/" + name, "", err}
}

// node writes the file that is name in the file system and to in the archive.
func (t *tarWriter) node(name, to string, info fs.FileInfo) error {
	target := ""
	if info.Mode().Type() == fs.ModeSymlink {
		var err error
		if target, err = fs.ReadLink(t.src.files, name); err != nil {
			return t.fail("read link", to, err)
		}
	}
	if err := t.entry(to, info, target); err != nil {
		return err
	}
	switch info.Mode().Type() {
	case 0:
		return t.contents(name, to, info.Size())
	case fs.ModeDir:
		return t.entries(name, to)
	}
	return nil
}

// fetched writes a tree that comes over a network.
func (t *tarWriter) fetched(tree closure.Tree) error {
	for {
		n, err := tree.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		to := t.src.name
		if n.Path != "." {
			to = join(to, n.Path)
		}
		if err := t.entry(to, n.Info, n.Target); err != nil {
			return err
		}
		if n.Info.Mode().IsRegular() {
			if err := t.body(tree, to, n.Info.Size()); err != nil {
				return err
			}
		}
	}
}

// entry writes all of a file but its contents.
func (t *tarWriter) entry(to string, info fs.FileInfo, target string) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	if isWhiteout(to) {
		return &WhiteoutError{[]string{"/" + to}}
	}
	// USTAR if it can hold the entry, else PAX: so package tar chooses if no format is given.
	h := &tar.Header{Name: to, ModTime: modTime, Mode: tarMode(info.Mode())}
	switch info.Mode().Type() {
	case 0:
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
	case fs.ModeSymlink:
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, target, 0o777
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, to+"/"
	default:
		return t.fail("encode", to, errors.New("neither a regular file, a directory nor a symbolic link"))
	}
	if to != "." {
		if err := t.header(h); err != nil {
			return t.fail("encode", to, err)
		}
	}
	t.saw(to, info, target)
	return nil
}

// header writes an entry but for its contents. They need not pass through package tar, which would copy them.
func (t *tarWriter) header(h *tar.Header) error { return tar.NewWriter(t.w).WriteHeader(h) }

func tarMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	if m&fs.ModeSetuid != 0 {
		mode |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		mode |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	return mode
}

func (t *tarWriter) entries(name, to string) error {
	list, err := fs.ReadDir(t.src.files, name)
	if err != nil {
		return t.fail("read directory", to, err)
	}
	for _, entry := range list {
		info, err := entry.Info()
		if err != nil {
			return t.fail("read", join(to, entry.Name()), err)
		}
		if err := t.node(join(name, entry.Name()), join(to, entry.Name()), info); err != nil {
			return err
		}
	}
	return nil
}

func join(dir, base string) string {
	if dir == "." {
		return base
	}
	return dir + "/" + base
}

func (t *tarWriter) contents(name, to string, size int64) error {
	if size == 0 {
		return nil
	}
	f, err := t.src.files.Open(name)
	if err != nil {
		return t.fail("open", to, err)
	}
	defer f.Close()
	if err := t.body(contents{t, f, to}, to, size); err != nil {
		return err
	}
	if n, _ := f.Read(t.buf[:1]); n > 0 {
		return t.fail("read", to, errors.New("the file grew while it was read"))
	}
	return nil
}

// body writes the contents of a file.
func (t *tarWriter) body(r io.Reader, to string, size int64) error {
	n, err := t.copyN(r, size)
	if err != nil {
		return err
	}
	if n < size {
		return t.fail("read", to, io.ErrUnexpectedEOF)
	}
	_, err = t.w.Write(padding[:-size&(blockSize-1)])
	return err
}

func (t *tarWriter) copyN(r io.Reader, n int64) (int64, error) {
	if c, ok := t.w.(*cutter); ok {
		return c.copyN(r, n)
	}
	return io.CopyBuffer(t.w, io.LimitReader(r, n), t.buf)
}

// blockSize is what the size of everything in an archive is a multiple of.
const blockSize = 512

var padding [blockSize]byte

// contents reads a file.
type contents struct {
	t  *tarWriter
	f  fs.File
	to string
}

func (c contents) Read(p []byte) (int, error) {
	if err := c.t.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.f.Read(p)
	if err != nil && err != io.EOF {
		err = c.t.fail("read", c.to, err)
	}
	return n, err
}

// dirHeader is the part of an archive that has a directory and those above it, but the root.
func dirHeader(dir string) []byte {
	var b strings.Builder
	w := tar.NewWriter(&b)
	name := ""
	for elem := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		name += elem + "/"
		h := &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: modTime}
		if err := w.WriteHeader(h); err != nil {
			panic(err) // the directory of a store has no NUL in it
		}
	}
	return []byte(b.String())
}

// tarEnd is how every archive ends.
var tarEnd = make([]byte, 1024)

// verifyTar compares the part of a tar archive that [writeTar] makes of a store object with the object's NAR hash.
// The error is a [*closure.HashError] if there is one.
func verifyTar(r io.Reader, o *closure.Object) error {
	return showTar(r, o.Path, narhash.NewVerifier(*o))
}

// showTar shows the files of a store object, as they are in the part of a tar archive that [writeTar] makes of it.
func showTar(r io.Reader, p closure.Path, to closure.Observer) error {
	root := strings.TrimPrefix(string(p), "/")
	buf := make([]byte, 128<<10)
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return to.Close()
		}
		if err != nil {
			return err
		}
		name, ok := strings.CutPrefix(strings.TrimSuffix(h.Name, "/"), root)
		if !ok {
			return fmt.Errorf("oci: %s is not below %s", h.Name, root)
		}
		name = cmp.Or(strings.TrimPrefix(name, "/"), ".")
		if err := to.Node(name, h.FileInfo(), h.Linkname); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(to, tr, buf); err != nil {
			return err
		}
	}
}

// findWhiteouts lists the files of a tree that no layer can hold.
func findWhiteouts(src *source) (found []string, err error) {
	var visit func(name, to string, dir bool) error
	visit = func(name, to string, dir bool) error {
		if isWhiteout(to) {
			found = append(found, "/"+to)
		}
		if !dir {
			return nil
		}
		list, err := fs.ReadDir(src.files, name)
		for _, entry := range list {
			if err == nil {
				err = visit(join(name, entry.Name()), join(to, entry.Name()), entry.IsDir())
			}
		}
		return err
	}
	info, err := fs.Lstat(src.files, src.root)
	if err != nil {
		return nil, err
	}
	return found, visit(src.root, src.name, info.IsDir())
}

func isWhiteout(name string) bool { return strings.HasPrefix(path.Base(name), ".wh.") }
