package layout

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/nix2img/nix2img/internal/tempfile"
	"github.com/nix2img/nix2img/internal/vfs"
)

// Files is the root file system of an image.
// It is an [io/fs.ReadLinkFS] whose regular files are also an [io.ReaderAt], but for sparse ones.
// Symbolic links are followed within it. It must be closed, before the [Stored] that it comes from.
type Files struct {
	*vfs.Tree
	layers []*contents
	spool  *os.File // of those that are compressed, one behind the other, or nil
	size   int64    // of the spool
}

// Owner is what [io/fs.FileInfo.Sys] of a file of an image returns, unless it is a directory that no layer mentions.
type Owner struct{ UID, GID int }

// Files finds the files of the image in its layers, and unpacks nothing: contents are read out of the layers when they are asked for.
// That is for few files: a compressed layer is read from its beginning up to the file.
// ctx is also that of reading files.
//
// Layers whose bytes are not those that the configuration names are a [*FormatError],
// and so are those that become larger than gzip could make them.
func (s *Stored) Files(ctx context.Context) (*Files, error) { return s.files(ctx, nil) }

// Unpack does what [Stored.Files] does, and keeps what compressed layers hold in a temporary file in dir.
// An empty dir means that of the system. That is for reading many files.
func (s *Stored) Unpack(ctx context.Context, dir string) (*Files, error) {
	spool, err := tempfile.Unnamed(dir)
	if err != nil {
		return nil, err
	}
	return s.files(ctx, spool)
}

func (s *Stored) files(ctx context.Context, spool *os.File) (*Files, error) {
	f := &Files{Tree: &vfs.Tree{Root: vfs.NewDir(0o755)}, spool: spool}
	if err := s.apply(ctx, f); err != nil {
		f.Close()
		return nil, &FormatError{s.blobs.name, err}
	}
	return f, nil
}

// apply applies all layers.
func (s *Stored) apply(ctx context.Context, f *Files) error {
	a := &applier{tree: f.Tree}
	for _, l := range s.layers {
		if !isArchive(l.mediaType) {
			return fmt.Errorf("layer %s is of type %q, which is not supported", l.blob, l.mediaType)
		}
		c := &contents{open: func() (*archiveReader, error) { return s.openArchive(ctx, l.blob) }}
		f.layers = append(f.layers, c)
		if err := f.add(a, c, l.diffID); err != nil {
			return fmt.Errorf("layer %s: %w", l.blob, err)
		}
	}
	return checkDepth(f.Root)
}

// Close frees what the files take.
func (f *Files) Close() error {
	var errs []error
	for _, c := range f.layers {
		errs = append(errs, c.close())
	}
	if f.spool != nil {
		errs = append(errs, f.spool.Close())
	}
	return errors.Join(errs...)
}

// add reads a layer from beginning to end, and applies it.
func (f *Files) add(a *applier, c *contents, want v1.Hash) error {
	r, err := c.open()
	if err != nil {
		return err
	}
	defer r.Close()
	hash := sha256.New()
	to := io.Writer(hash)
	switch {
	case r.plain != nil:
		c.at = r.plain
	case f.spool != nil:
		to = io.MultiWriter(hash, io.NewOffsetWriter(f.spool, f.size))
		c.at = io.NewSectionReader(f.spool, f.size, r.left)
	}
	in := &counter{r: bufio.NewReaderSize(io.TeeReader(r, to), 256<<10)}
	if err := a.layer(in, c); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // what is behind the archive's end counts, too
		return err
	}
	if r.plain == nil && f.spool != nil {
		f.size += in.n
	}
	if got := hex.EncodeToString(hash.Sum(nil)); want != (v1.Hash{}) && got != want.Hex {
		return fmt.Errorf("its diffID is sha256:%s, and not %s", got, want)
	}
	return nil
}

// A counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
