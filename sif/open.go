package sif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sylabs/sif/v2/pkg/sif"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/squashfs"
)

// maxDescriptors is how many descriptors [Open] takes from a file.
const maxDescriptors = 16384

// ErrFormat is returned for a file that is no SIF at all.
var ErrFormat = errors.New("not a SIF")

// A File is a SIF that has been opened, of any writer.
type File struct {
	Info
	r     io.ReaderAt
	file  *os.File // nil: not opened by name
	no    string   // why there is no root file system that can be read; "": there is one
	index Extent   // of an OCI image
	blobs map[v1.Hash]Extent

	signatures int // that have been looked at
}

// Info describes a SIF. All of it is what the file says of itself.
type Info struct {
	UUID         string
	Arch         string // Go's name, or "unknown"
	Created      time.Time
	LaunchScript string // first line of the file
	Objects      []Object
	// Partition is the root file system: the primary system partition,
	// or the layer of an OCI-SIF if there is but one, and that a squashfs. Its size is 0 if there is none.
	Partition Extent
	// FSType is the kind of file system in Partition, "Squashfs" for instance.
	FSType string
	// Layers are those of the OCI image in an OCI-SIF, from the lowest to the uppermost.
	Layers []Layer
	// Record is the build record with the image ID.
	// It is nil if nix2img did not write the file.
	Record *image.Record
	// RecordAt is where the record is stored, as JSON. Its size is 0 if there is none.
	RecordAt Extent
}

// Object describes one object of a SIF file.
type Object struct {
	ID   uint32 `json:"id"`
	Type string `json:"type"` // as siftool prints it: "FS", "JSON.Generic", "Signature", ...
	Name string `json:"name,omitempty"`
	Extent
	Partition *Partition `json:"partition,omitempty"` // of objects of type "FS"
	Signature *Signature `json:"signature,omitempty"` // of objects of type "Signature"
}

// Partition is what the descriptor of a file system says.
type Partition struct {
	FS   string `json:"fileSystem"` // as siftool prints it: "Squashfs", "Ext3", "Encrypted squashfs", ...
	Use  string `json:"use"`        // as siftool prints it: "*System" (what a runtime starts), "Overlay", "Data" or "System"
	Arch string `json:"architecture"`
}

// Layer is a layer of an OCI-SIF.
type Layer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Extent           // of size 0 if the file does not have it
}

// Detect says whether r begins like a SIF.
func Detect(r io.ReaderAt) bool {
	if r == nil {
		return false
	}
	b := make([]byte, len(magic))
	_, err := r.ReadAt(b, 32)
	return (err == nil || err == io.EOF) && string(b) == magic
}

// OpenFile opens a file by its name. It must be closed.
func OpenFile(name string) (*File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("sif: %w", err)
	}
	f, err := Open(file)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%w (%s)", err, name)
	}
	f.file = file
	return f, nil
}

// Close closes what [OpenFile] has opened. For other files it does nothing.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// Open reads what a SIF says about itself. It accepts files of any writer, also those without a root file system,
// and reads no more than the header, the descriptors, the build record, signatures and the manifests of an OCI-SIF.
//
// What is no SIF is an [ErrFormat]. A record of a later version of nix2img is an [*image.SchemaError].
func Open(r io.ReaderAt) (*File, error) {
	f, err := open(r)
	if err != nil {
		return nil, fmt.Errorf("sif: read: %w", err)
	}
	return f, nil
}

func open(r io.ReaderAt) (*File, error) {
	if !Detect(r) {
		return nil, ErrFormat
	}
	if err := checkTable(r); err != nil {
		return nil, err
	}
	c, err := sif.LoadContainer(readOnly{r}, sif.OptLoadWithCloseOnUnload(false))
	if err != nil {
		return nil, err
	}
	f := &File{r: r, blobs: make(map[v1.Hash]Extent), Info: Info{
		UUID:         c.ID(),
		Arch:         c.PrimaryArch(),
		Created:      c.CreatedAt().UTC(),
		LaunchScript: c.LaunchScript(),
	}}
	c.WithDescriptors(func(d sif.Descriptor) bool {
		err = f.add(d)
		return err != nil
	})
	if err != nil {
		return nil, err
	}
	switch {
	case f.Partition.Size > 0 && f.FSType != sif.FsSquash.String():
		f.no = fmt.Sprintf("is of kind %q, and only squashfs is supported", f.FSType)
	case f.Partition.Size > 0:
	case f.index.Size > 0:
		f.no = f.findLayers()
	default:
		f.no = "is not there: the file has no primary system partition"
	}
	if at := f.RecordAt; at.Size > 0 {
		f.Record, err = image.ReadRecord(f.section(at))
		if err != nil {
			return nil, fmt.Errorf("object %q: %w", RecordName, err)
		}
	}
	return f, nil
}

// add takes note of an object.
func (f *File) add(d sif.Descriptor) error {
	o := Object{ID: d.ID(), Type: d.DataType().String(), Name: d.Name(), Extent: Extent{d.Offset(), d.Size()}}
	if err := checkExtent(f.r, o.Extent); err != nil {
		return fmt.Errorf("object %d (%s): %w", o.ID, o.Type, err)
	}
	switch d.DataType() {
	case sif.DataPartition:
		if kind, use, arch, err := d.PartitionMetadata(); err == nil {
			o.Partition = &Partition{kind.String(), use.String(), arch}
			if use == sif.PartPrimSys && f.Partition == (Extent{}) {
				f.Partition, f.FSType = o.Extent, kind.String()
			}
		}
	case sif.DataSignature:
		o.Signature = f.signature(d)
	case sif.DataGenericJSON:
		if o.Name == RecordName && f.RecordAt == (Extent{}) {
			f.RecordAt = o.Extent
		}
	case sif.DataOCIRootIndex:
		f.index = o.Extent
	case sif.DataOCIBlob:
		if digest, err := d.OCIBlobDigest(); err == nil {
			f.blobs[digest] = o.Extent
		}
	}
	f.Objects = append(f.Objects, o)
	return nil
}

func (f *File) section(e Extent) *io.SectionReader { return io.NewSectionReader(f.r, e.Offset, e.Size) }

// FS returns the root file system: that of the primary system partition, or of an OCI image with a single layer,
// if it is a squashfs. Otherwise there is a [*NoFSError]. What an overlay changes is not looked at.
//
// As in any [fs.FS], names are without a slash at the beginning: "nix/store", not "/nix/store". The error of others says so.
func (f *File) FS() (*squashfs.FS, error) {
	if f.no != "" {
		return nil, &NoFSError{f.no}
	}
	fsys, err := squashfs.Open(f.section(f.Partition))
	if err != nil {
		return nil, fmt.Errorf("sif: root file system: %w", err)
	}
	return fsys, nil
}

// A NoFSError says why no root file system of a SIF can be read.
type NoFSError struct{ Reason string }

func (e *NoFSError) Error() string { return "sif: the root file system " + e.Reason }

// checkTable checks what the header says about the table of descriptors,
// which the sif library takes on trust.
func checkTable(r io.ReaderAt) error {
	var h header
	if err := binary.Read(io.NewSectionReader(r, 0, headerSize), binary.LittleEndian, &h); err != nil {
		return fmt.Errorf("header: %w", noEOF(err))
	}
	switch {
	case h.DescriptorsTotal < 0 || h.DescriptorsTotal > maxDescriptors:
		return fmt.Errorf("header: %d descriptors are not between 0 and %d", h.DescriptorsTotal, maxDescriptors)
	case h.TableSize != h.DescriptorsTotal*descriptorSize:
		return fmt.Errorf("header: %d descriptors in %d bytes, want %d bytes each", h.DescriptorsTotal, h.TableSize, descriptorSize)
	case h.TableOffset < headerSize:
		return fmt.Errorf("header: descriptors at offset %d", h.TableOffset)
	}
	if err := checkExtent(r, Extent{h.TableOffset, h.TableSize}); err != nil {
		return fmt.Errorf("descriptors: %w", err)
	}
	return nil
}

// checkExtent checks that a range of bytes is there.
func checkExtent(r io.ReaderAt, e Extent) error {
	if e.Offset < 0 || e.Size < 0 || e.Offset > math.MaxInt64-e.Size {
		return fmt.Errorf("impossible range: %d bytes at offset %d", e.Size, e.Offset)
	}
	if e.Size == 0 {
		return nil
	}
	var last [1]byte
	if n, err := r.ReadAt(last[:], e.Offset+e.Size-1); n == 0 {
		return fmt.Errorf("%d bytes at offset %d: %w", e.Size, e.Offset, noEOF(err))
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readOnly is a file that the sif library can only read.
type readOnly struct{ io.ReaderAt }

func (readOnly) Write([]byte) (int, error)      { return 0, errors.ErrUnsupported }
func (readOnly) Seek(int64, int) (int64, error) { return 0, errors.ErrUnsupported }
func (readOnly) Truncate(int64) error           { return errors.ErrUnsupported }
