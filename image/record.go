package image

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/net"
)

// Version is nix2img's version.
// The same closure and options give the same bytes only with the same version.
const Version = "0.1.0"

// RecordPath is where an image's root file system has its build record, as [io/fs] spells it.
const RecordPath = ".nix2img/record.json"

// RecordSchema is the version of the record's schema that this package writes.
// It grows when a field changes its meaning or goes; new fields do not count.
const RecordSchema = 1

// maxRecord is how many bytes of JSON [ReadRecord] takes:
// about eight times what a closure of ten thousand objects needs.
const maxRecord = 64 << 20

// Record is the build record: what is in an image, and how it was made.
//
// It comes in two forms.
// The one inside the root file system, at [RecordPath], does not depend on where things lie,
// and so is the same in all formats.
// The one beside the root file system, as an object of a SIF for instance,
// also has the image ID and the segments; see [Record.Placed].
type Record struct {
	Schema       int            `json:"schema"`            // see [RecordSchema]
	Version      string         `json:"nix2img"`           // see [Version]
	StoreDir     string         `json:"storeDir"`          // usually "/nix/store"
	Roots        []closure.Path `json:"roots"`             // in the order in which they were given
	Architecture string         `json:"architecture"`      // Go's name
	Config       Config         `json:"config"`            // as resolved: with the whole environment
	GPU          *gpu.Summary   `json:"gpu,omitzero"`      // nil: nothing uses one, or nobody has looked
	NV           bool           `json:"nv,omitzero"`       // it serves NVIDIA's driver; see [GPU]
	ROCm         bool           `json:"rocm,omitzero"`     // it serves AMD's driver
	Net          *net.Summary   `json:"net,omitzero"`      // nil: nothing uses MPI, or nobody has looked
	Waived       []string       `json:"waived,omitempty"`  // libraries that did not decide on which GPUs it runs; see [GPU]
	Squashfs     *Encoding      `json:"squashfs,omitzero"` // nil: the image is not a squashfs
	OCI          *LayerEncoding `json:"oci,omitzero"`      // nil: the image has no layers
	Objects      []Object       `json:"objects"`           // in image order; see [closure.Closure.Objects]

	ImageID  string    `json:"imageID,omitzero"`   // "sha256:" and 64 hexadecimal digits
	Segments []Segment `json:"segments,omitempty"` // in the order of their offsets
}

// Encoding says how a squashfs was compressed.
type Encoding struct {
	Compression string `json:"compression"`      // codec: "gzip", "zstd", ...
	Level       int    `json:"level,omitzero"`   // as the codec counts; 0: it has none
	BlockSize   int    `json:"blockSize"`        // bytes
	Library     string `json:"library"`          // module path of the codec's implementation
	Version     string `json:"version"`          // its version, "v1.20.3" for instance
	Format      int    `json:"format"`           // version of the encoding; see squashfs.SegmentVersion
	ModTime     int64  `json:"modTime,omitzero"` // of the squashfs, in seconds since the epoch
}

// LayerEncoding says how the layers of an OCI image were compressed.
type LayerEncoding struct {
	Compression string `json:"compression"`      // codec: "gzip", "zstd", ...
	Level       int    `json:"level,omitzero"`   // as the codec counts; 0: it has none
	PieceSize   int    `json:"pieceSize"`        // bytes of a tar stream that are compressed on their own
	Library     string `json:"library,omitzero"` // module path of the codec's implementation
	Version     string `json:"version,omitzero"` // its version
	Format      int    `json:"format"`           // version of the rules for tar archives
}

// Object is a store object in an image.
type Object struct {
	Path       closure.Path   `json:"path"`
	NARHash    closure.Hash   `json:"narHash"`
	NARSize    int64          `json:"narSize"`              // bytes
	References []closure.Path `json:"references,omitempty"` // sorted; may contain Path itself
}

// Segment is a part of the image's data that was encoded on its own.
type Segment struct {
	// Name is the place of the segment's tree in the image, as [io/fs] spells it:
	// a store path without its first slash, or "." for the base files.
	Name   string `json:"name"`
	Offset int64  `json:"offset"` // bytes from the beginning of the squashfs
	Size   int64  `json:"size"`   // bytes
	Digest string `json:"digest"` // "sha256:" and 64 hexadecimal digits
}

// A SchemaError reports a record that a later version of nix2img has written.
type SchemaError struct {
	Schema int
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("image: read record: schema %d is not one that nix2img %s knows", e.Schema, Version)
}

// Placed returns the form of the record that tells where things lie.
func (r *Record) Placed(imageID string, segments []Segment) *Record {
	placed := *r
	placed.ImageID, placed.Segments = imageID, segments
	return &placed
}

// WriteTo writes the record as JSON, indented, with a final newline.
// Equal records give equal bytes.
func (r *Record) WriteTo(w io.Writer) (int64, error) {
	data, err := encodeJSON(r)
	if err != nil {
		return 0, fmt.Errorf("image: write record: %w", err)
	}
	n, err := w.Write(data)
	return int64(n), err
}

// ReadRecord reads a record in either form.
// It takes fields that it does not know, but checks those it does.
// Records of a later schema are a [*SchemaError].
func ReadRecord(r io.Reader) (*Record, error) {
	if r == nil {
		return nil, errors.New("image: read record: there is none")
	}
	data, err := io.ReadAll(io.LimitReader(r, maxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("image: read record: %w", err)
	}
	if len(data) > maxRecord {
		return nil, fmt.Errorf("image: read record: more than %d bytes", maxRecord)
	}
	var head struct{ Schema int }
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("image: read record: %w", err)
	}
	if head.Schema != RecordSchema {
		return nil, &SchemaError{head.Schema}
	}
	record := new(Record)
	if err := json.Unmarshal(data, record); err != nil {
		return nil, fmt.Errorf("image: read record: %w", err)
	}
	if err := record.check(); err != nil {
		return nil, fmt.Errorf("image: read record: %w", err)
	}
	return record, nil
}

// check checks what decoding the parts has not.
func (r *Record) check() error {
	if !strings.HasPrefix(r.StoreDir, "/") {
		return fmt.Errorf("store directory %q is not an absolute path", r.StoreDir)
	}
	if !slices.Contains(archs, r.Architecture) {
		return fmt.Errorf("unknown architecture %q", r.Architecture)
	}
	known := make(map[closure.Path]bool, len(r.Objects))
	for i := range r.Objects {
		p := r.Objects[i].Path
		if p.Dir() != r.StoreDir {
			return fmt.Errorf("object %s is not in %s", p, r.StoreDir)
		}
		if known[p] {
			return fmt.Errorf("object %s is there twice", p)
		}
		known[p] = true
	}
	for _, p := range r.Roots {
		if !known[p] {
			return fmt.Errorf("root %q is not among the objects", p)
		}
	}
	if r.ImageID != "" {
		return checkDigest(r.ImageID)
	}
	return nil
}

// UnmarshalJSON checks each object while it is read,
// so that a hostile record cannot take much more memory than it has bytes.
func (o *Object) UnmarshalJSON(data []byte) error {
	type plain Object
	if err := json.Unmarshal(data, (*plain)(o)); err != nil {
		return err
	}
	if _, err := closure.ParsePath(string(o.Path)); err != nil {
		return err
	}
	if o.NARHash.IsZero() || o.NARSize <= 0 {
		return fmt.Errorf("object %s: no NAR hash or size", o.Path)
	}
	for _, p := range o.References {
		if _, err := closure.ParsePath(string(p)); err != nil {
			return fmt.Errorf("object %s: %w", o.Path, err)
		}
	}
	return nil
}

// UnmarshalJSON checks each segment while it is read.
func (s *Segment) UnmarshalJSON(data []byte) error {
	type plain Segment
	if err := json.Unmarshal(data, (*plain)(s)); err != nil {
		return err
	}
	switch {
	case s.Name == "":
		return errors.New("segment without a name")
	case s.Offset < 0 || s.Size < 0 || s.Offset+s.Size < 0:
		return fmt.Errorf("segment %s: impossible range: %d bytes at offset %d", s.Name, s.Size, s.Offset)
	}
	if err := checkDigest(s.Digest); err != nil {
		return fmt.Errorf("segment %s: %w", s.Name, err)
	}
	return nil
}

func checkDigest(s string) error {
	digits, ok := strings.CutPrefix(s, "sha256:")
	if b, err := hex.DecodeString(digits); !ok || err != nil || len(b) != 32 {
		return fmt.Errorf("%q is not a SHA-256 digest", s)
	}
	return nil
}

// encodeJSON returns v as indented JSON with a final newline,
// without the escapes that are for HTML.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
