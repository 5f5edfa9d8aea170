package sif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sylabs/sif/v2/pkg/sif"

	"github.com/nix2img/nix2img/image"
)

// maxDescriptors is how many descriptors [Read] takes from a file.
const maxDescriptors = 16384

// ErrFormat is returned for a file that is no SIF at all.
var ErrFormat = errors.New("not a SIF")

// Info describes a SIF file.
type Info struct {
	UUID         string
	Arch         string // Go's name, or "unknown"
	Created      time.Time
	LaunchScript string // first line of the file
	Objects      []Object
	// Partition is the root file system: the primary system partition,
	// or the layer of an OCI-SIF if there is but one. Its size is 0 if there is none.
	Partition Extent
	// FS is the kind of file system in Partition, "Squashfs" for instance.
	FS string
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
}

// Detect says whether r begins like a SIF.
func Detect(r io.ReaderAt) bool {
	b := make([]byte, len(magic))
	_, err := r.ReadAt(b, 32)
	return (err == nil || err == io.EOF) && string(b) == magic
}

// Read reads what a SIF file says about itself.
// It accepts files of any writer, and reads no more than the header, the descriptors,
// the build record and the manifests of an OCI-SIF. A record of a later version of nix2img is an [*image.SchemaError].
func Read(r io.ReaderAt) (*Info, error) {
	if !Detect(r) {
		return nil, fmt.Errorf("sif: read: %w", ErrFormat)
	}
	if err := checkTable(r); err != nil {
		return nil, fmt.Errorf("sif: read: %w", err)
	}
	c, err := sif.LoadContainer(readOnly{r}, sif.OptLoadWithCloseOnUnload(false))
	if err != nil {
		return nil, fmt.Errorf("sif: read: %w", err)
	}
	info := &Info{
		UUID:         c.ID(),
		Arch:         c.PrimaryArch(),
		Created:      c.CreatedAt().UTC(),
		LaunchScript: c.LaunchScript(),
	}
	var index Extent
	blobs := make(map[v1.Hash]Extent)
	c.WithDescriptors(func(d sif.Descriptor) bool {
		o := Object{d.ID(), d.DataType().String(), d.Name(), Extent{d.Offset(), d.Size()}}
		if err = checkExtent(r, o.Extent); err != nil {
			err = fmt.Errorf("sif: read: object %d (%s): %w", o.ID, o.Type, err)
			return true
		}
		info.Objects = append(info.Objects, o)
		switch d.DataType() {
		case sif.DataPartition:
			kind, part, _, perr := d.PartitionMetadata()
			if perr == nil && part == sif.PartPrimSys && info.Partition == (Extent{}) {
				info.Partition, info.FS = o.Extent, kind.String()
			}
		case sif.DataGenericJSON:
			if o.Name == RecordName && info.RecordAt == (Extent{}) {
				info.RecordAt = o.Extent
			}
		case sif.DataOCIRootIndex:
			index = o.Extent
		case sif.DataOCIBlob:
			if digest, derr := d.OCIBlobDigest(); derr == nil {
				blobs[digest] = o.Extent
			}
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	if index.Size > 0 && info.Partition.Size == 0 {
		layer, arch, err := findLayer(r, index, blobs)
		if err != nil {
			return nil, fmt.Errorf("sif: read: OCI-SIF: %w", err)
		}
		if layer.Size > 0 {
			info.Partition, info.FS, info.Arch = layer, sif.FsSquash.String(), arch
		}
	}
	if at := info.RecordAt; at.Size > 0 {
		info.Record, err = image.ReadRecord(io.NewSectionReader(r, at.Offset, at.Size))
		if err != nil {
			return nil, fmt.Errorf("sif: read: object %q: %w", RecordName, err)
		}
	}
	return info, nil
}

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
