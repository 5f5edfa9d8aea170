package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A Stored is an image in a layout, or in an archive of either kind, whoever made it.
type Stored struct {
	Config   *v1.ConfigFile
	Manifest *v1.Manifest // nil: it is in an archive of docker save
	Digest   v1.Hash      // of the manifest, if there is one
	Tags     []string     // that it has there

	blobs  *blobs
	layers []storedLayer
}

// A storedLayer is a layer of a Stored.
type storedLayer struct {
	blob      string
	diffID    v1.Hash         // zero: nobody knows
	mediaType types.MediaType // empty: an archive
}

// A FormatError reports a file or directory that is no image of these formats, or a damaged one.
type FormatError struct {
	Name string
	Err  error
}

func (e *FormatError) Error() string { return fmt.Sprintf("layout: %s: %v", e.Name, e.Err) }
func (e *FormatError) Unwrap() error { return e.Err }

var errNoImage = errors.New("neither an OCI layout, nor an archive of one, nor one of docker save")

// Detect reports whether a file or directory, by itself or with ":TAG" after its name, looks like an image that [Open] reads.
func Detect(name string) bool {
	name, _ = Split(name)
	b, err := openBlobs(name)
	if err != nil {
		return false
	}
	defer b.close()
	if b.has(layoutName) {
		return true
	}
	return !b.isDir && (b.has(savedName) || b.has(legacyName))
}

// Open opens an image: DIR or FILE, or either with ":TAG" after its name. choice says which one is meant if there are several;
// nil means the zero value. Errors about what is there are a [*FormatError], in which there may be a [*ChoiceError].
func Open(name string, choice *Choice) (*Stored, error) {
	name, tag := Split(name)
	b, err := openBlobs(name)
	if err != nil {
		return nil, err
	}
	s := &Stored{blobs: b}
	if choice == nil {
		choice = &Choice{}
	}
	if err := s.find(tag, choice); err != nil {
		b.close()
		if _, ok := errors.AsType[*fs.PathError](err); !ok {
			err = &FormatError{name, err}
		}
		return nil, err
	}
	return s, nil
}

// Close closes the image.
func (s *Stored) Close() error {
	if s.blobs == nil {
		return nil
	}
	return s.blobs.close()
}

// OpenLayer opens a layer as it is stored, usually compressed. The lowest is 0.
func (s *Stored) OpenLayer(i int) (io.ReadCloser, error) {
	if i < 0 || i >= len(s.layers) {
		return nil, fmt.Errorf("layout: no layer %d of %d", i, len(s.layers))
	}
	b, err := s.blobs.open(s.layers[i].blob)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(b, 0, b.size), b}, nil
}

// find finds the image that is meant.
func (s *Stored) find(tag string, choice *Choice) error {
	list, err := s.indexed()
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0 && s.blobs.has(savedName) {
		list, err = s.saved()
	}
	if errors.Is(err, fs.ErrNotExist) {
		list, err = s.savedLegacy()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errNoImage
	}
	if err != nil {
		return err
	}
	c, err := choice.of(s.blobs.name, list, tag)
	if err != nil {
		return err
	}
	if err := c.load(); err != nil {
		return err
	}
	s.Config, s.Manifest, s.Digest, s.Tags, s.layers = c.config, c.manifest, c.digest, c.tags, c.layers
	return nil
}

// read parses a file, which must not be large.
func (s *Stored) read(name string, parse func(io.Reader) error) error {
	b, err := s.blobs.open(name)
	if err != nil {
		return err
	}
	defer b.Close()
	if b.size > maxManifest {
		return fmt.Errorf("%s: it has %d bytes", name, b.size)
	}
	if err := parse(io.NewSectionReader(b, 0, b.size)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// readBlob parses a blob, which must have the bytes that its digest says.
func (s *Stored) readBlob(h v1.Hash, parse func(io.Reader) error) error {
	return s.read(blobName(h), func(r io.Reader) error {
		hash := sha256.New()
		if err := parse(io.TeeReader(r, hash)); err != nil {
			return err
		}
		if _, err := io.Copy(hash, r); err != nil {
			return err
		}
		if got := hex.EncodeToString(hash.Sum(nil)); h.Algorithm == "sha256" && got != h.Hex {
			return fmt.Errorf("its digest is sha256:%s", got)
		}
		return nil
	})
}

func blobName(h v1.Hash) string {
	return path.Join("blobs", path.Clean(h.Algorithm), path.Clean(h.Hex))
}
