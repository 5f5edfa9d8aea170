package layout

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/nix2img/nix2img/internal/regular"
	"github.com/nix2img/nix2img/internal/tempfile"
)

// A Stored is an image in a layout, or in an archive of either kind, whoever made it.
type Stored struct {
	Config *v1.ConfigFile
	// Manifest is nil for an image that docker save has written: there is none.
	Manifest *v1.Manifest
	// Digest is that of the manifest.
	Digest v1.Hash

	name   string
	dir    bool
	layers []string // names of blobs
	open   func(blob string) (io.ReadCloser, error)
	close  func() error
}

// A FormatError reports a file or directory that is no image of these formats, or a damaged one.
type FormatError struct {
	Name string
	Err  error
}

func (e *FormatError) Error() string { return fmt.Sprintf("layout: %s: %v", e.Name, e.Err) }
func (e *FormatError) Unwrap() error { return e.Err }

var errNoImage = errors.New("neither an OCI layout, nor an archive of one, nor one of docker save")

// Detect reports whether a file or directory looks like an image that [Open] reads.
func Detect(name string) bool {
	s := &Stored{name: name}
	if err := s.openBlobs(); err != nil {
		return false
	}
	defer s.close()
	for _, first := range []string{layoutName, "manifest.json"} {
		if r, err := s.open(first); err == nil {
			r.Close()
			return first == layoutName || !s.dir
		}
	}
	return false
}

// Open opens an image. arch is Go's name of its architecture; if it is empty, the last image is taken.
// Errors about what is there are a [*FormatError].
func Open(name, arch string) (*Stored, error) {
	s := &Stored{name: name}
	if err := s.openBlobs(); err != nil {
		return nil, err
	}
	err := s.readManifest(arch)
	if err != nil {
		s.close()
		if _, ok := errors.AsType[*fs.PathError](err); !ok {
			err = &FormatError{name, err}
		}
		return nil, err
	}
	return s, nil
}

// Close closes the image.
func (s *Stored) Close() error { return s.close() }

// OpenLayer opens a layer as it is stored, usually compressed. The lowest is 0.
func (s *Stored) OpenLayer(i int) (io.ReadCloser, error) { return s.open(path.Clean(s.layers[i])) }

// openBlobs finds out how files of the layout are opened: in a directory, or in a tar archive.
func (s *Stored) openBlobs() error {
	info, err := os.Stat(s.name)
	if err != nil {
		return err
	}
	if s.dir = info.IsDir(); s.dir {
		s.open = func(blob string) (io.ReadCloser, error) {
			return os.Open(filepath.Join(s.name, filepath.FromSlash(blob)))
		}
		s.close = func() error { return nil }
		return nil
	}
	f, err := regular.Open(s.name)
	if err != nil {
		return err
	}
	found := make(map[string]*io.SectionReader)
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF && len(found) > 0 {
			break
		}
		if err != nil {
			f.Close()
			return &FormatError{s.name, errNoImage}
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		at, err := f.Seek(0, io.SeekCurrent) // the reader does not read ahead
		if err != nil {
			f.Close()
			return err
		}
		found[path.Clean(h.Name)] = io.NewSectionReader(f, at, h.Size)
	}
	s.close = f.Close
	s.open = func(blob string) (io.ReadCloser, error) {
		r := found[blob]
		if r == nil {
			return nil, fmt.Errorf("%s: %w", blob, fs.ErrNotExist)
		}
		return io.NopCloser(io.NewSectionReader(r, 0, r.Size())), nil
	}
	return nil
}

// read parses a blob, which must not be large.
func (s *Stored) read(blob string, parse func(io.Reader) error) error {
	r, err := s.open(blob)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := parse(io.LimitReader(r, maxManifest)); err != nil {
		return fmt.Errorf("%s: %w", blob, err)
	}
	return nil
}

func blobName(h v1.Hash) string {
	return path.Join("blobs", path.Clean(h.Algorithm), path.Clean(h.Hex))
}

// readManifest finds the configuration and the layers.
func (s *Stored) readManifest(arch string) error {
	var config string
	err := s.read(indexName, func(r io.Reader) error {
		index, err := v1.ParseIndexManifest(r)
		if err != nil {
			return err
		}
		m, err := s.choose(index, arch)
		if err != nil {
			return err
		}
		s.Manifest, config = m, blobName(m.Config.Digest)
		for _, l := range m.Layers {
			s.layers = append(s.layers, blobName(l.Digest))
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) && config == "" {
		err = s.read("manifest.json", func(r io.Reader) error {
			var list []dockerManifest
			if err := json.NewDecoder(r).Decode(&list); err != nil {
				return err
			}
			if len(list) == 0 {
				return errors.New("it has no image")
			}
			last := list[len(list)-1]
			config, s.layers = path.Clean(last.Config), last.Layers
			return nil
		})
	}
	if errors.Is(err, fs.ErrNotExist) && config == "" {
		return errNoImage
	}
	if err != nil {
		return err
	}
	err = s.read(config, func(r io.Reader) (err error) {
		s.Config, err = v1.ParseConfigFile(r)
		return err
	})
	if err == nil && len(s.layers) != len(s.Config.RootFS.DiffIDs) {
		err = fmt.Errorf("%d layers, and diffIDs of %d", len(s.layers), len(s.Config.RootFS.DiffIDs))
	}
	return err
}

// choose returns the manifest of the last image for an architecture. Indexes may be nested.
func (s *Stored) choose(index *v1.IndexManifest, arch string) (m *v1.Manifest, err error) {
	for _, d := range slices.Backward(index.Manifests) {
		switch {
		case arch != "" && d.Platform != nil && d.Platform.Architecture != arch:
		case d.MediaType.IsIndex() && d.Digest != (v1.Hash{}):
			err = s.read(blobName(d.Digest), func(r io.Reader) error {
				nested, err := v1.ParseIndexManifest(r)
				if err == nil && slices.ContainsFunc(nested.Manifests, func(d v1.Descriptor) bool { return d.MediaType.IsIndex() }) {
					err = errors.New("an index of indexes of indexes")
				}
				if err == nil {
					m, err = s.choose(nested, arch)
				}
				return err
			})
		case d.MediaType.IsImage():
			err = s.read(blobName(d.Digest), func(r io.Reader) (err error) {
				m, err = v1.ParseManifest(r)
				s.Digest = d.Digest
				return err
			})
		}
		if m != nil || err != nil {
			return m, err
		}
	}
	if arch == "" {
		return nil, errors.New("it has no image")
	}
	return nil, errors.New("it has no image for " + arch)
}

// Files unpacks the layers into an unnamed file in dir, which is the system's directory for temporary files if it is empty,
// and returns the root file system that they make. It must be closed.
// Layers whose bytes are not those that the configuration names are a [*FormatError].
func (s *Stored) Files(ctx context.Context, dir string) (*Files, error) {
	f, err := tempfile.Unnamed(dir)
	if err != nil {
		return nil, err
	}
	files := newFiles(f)
	for i, blob := range s.layers {
		if err := s.unpack(ctx, files, path.Clean(blob), s.Config.RootFS.DiffIDs[i]); err != nil {
			f.Close()
			return nil, &FormatError{s.name, fmt.Errorf("layer %s: %w", blob, err)}
		}
	}
	return files, nil
}
