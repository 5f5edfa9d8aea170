package sif

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/sylabs/sif/v2/pkg/sif"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/squashfs"
)

// PartitionOffset is where the root file system lies in a SIF of this package:
// the first multiple of 4096 after the header and 48 descriptors.
const PartitionOffset = 32768

// Names of the objects that follow the partition.
const (
	RecordName  = "nix2img.json"          // the build record
	inspectName = "inspect-metadata.json" // the name is the runtimes' choice
)

// launchScript makes the kernel start the runtime when the file itself is executed.
// The format has room for 31 bytes.
const launchScript = "#!/usr/bin/env run-singularity\n"

// Options is what decides the bytes. The zero value is ready to use.
type Options struct {
	squash.Options
	// OCI makes an OCI-SIF, which SingularityCE 4 runs with --oci: see the package comment.
	OCI bool
}

// Runtime is what decides only speed and reporting, never bytes.
type Runtime = squash.Runtime

// Result describes a SIF that was written.
type Result struct {
	ID        string        // image ID: "sha256:" and 64 hexadecimal digits
	Size      int64         // bytes of the whole file
	Partition Extent        // where the root file system lies
	Record    *image.Record // the build record, with offsets relative to the partition
	Notes     []string      // what the user should know of the image; see [image.Resolved]
}

// Extent is a range of bytes in a file.
type Extent struct {
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
}

// Write writes img to f, in place of what f may hold.
// A nil opts or rt means the zero value.
//
// When Write fails, what it has written is of no use.
// The caller marks a finished file as executable, so that it can be started by its name,
// and gives it its final name only then.
func Write(ctx context.Context, f squashfs.File, img *image.Image, opts *Options, rt *Runtime) (*Result, error) {
	if opts == nil {
		opts = new(Options)
	}
	if rt == nil {
		rt = new(Runtime)
	}
	if err := checkConfig(img); err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		return nil, fmt.Errorf("sif: write: %w", err)
	}
	root, err := squash.Write(ctx, window{f, PartitionOffset}, img, &opts.Options, rt)
	if err != nil {
		return nil, err
	}
	return finish(ctx, f, io.NewSectionReader(f, PartitionOffset, root.Size), opts, root)
}

// finish writes all but the partition.
func finish(ctx context.Context, f squashfs.File, partition io.ReaderAt, opts *Options, root *squash.Result) (*Result, error) {
	write := writeNative
	if opts.OCI {
		write = writeOCI
	}
	size, err := write(ctx, f, partition, root)
	if err != nil {
		return nil, err
	}
	return &Result{
		ID:        root.ID,
		Size:      size,
		Partition: Extent{PartitionOffset, root.Size},
		Record:    root.Record,
		Notes:     root.Notes,
	}, nil
}

// writeNative writes what a SIF has round its partition, and returns the size of the file.
func writeNative(_ context.Context, f squashfs.File, partition io.ReaderAt, root *squash.Result) (int64, error) {
	metadata, err := inspectMetadata(partition)
	if err != nil {
		return 0, fmt.Errorf("sif: read back the partition: %w", err)
	}
	var record bytes.Buffer
	if _, err := root.Record.WriteTo(&record); err != nil {
		return 0, err
	}
	return create(f, &layout{
		imageID:   root.ID,
		arch:      root.Record.Architecture,
		created:   root.Record.Config.Created,
		partition: root.Size,
		objects: []object{
			{RecordName, record.Bytes()},
			{inspectName, metadata},
		},
	})
}

// layout is what goes round a partition that has already been written.
type layout struct {
	imageID   string
	arch      string // Go's name
	created   time.Time
	partition int64 // bytes
	objects   []object
}

type object struct {
	name string
	json []byte
}

// create writes header, descriptors and objects round the partition in f,
// and returns the size of the file.
func create(f squashfs.File, l *layout) (size int64, err error) {
	id, err := newUUID(l.imageID)
	if err != nil {
		return 0, err
	}
	if err := checkArch(l.arch); err != nil {
		return 0, err
	}
	created := l.created
	if created.IsZero() {
		created = time.Unix(1, 0)
	}

	part, err := sif.NewDescriptorInput(sif.DataPartition, inPlace(l.partition),
		sif.OptObjectName("squashfs"),
		sif.OptPartitionMetadata(sif.FsSquash, sif.PartPrimSys, l.arch))
	if err != nil {
		return 0, fmt.Errorf("sif: describe the partition: %w", err)
	}
	inputs := []sif.DescriptorInput{part}
	for _, o := range l.objects {
		in, err := sif.NewDescriptorInput(sif.DataGenericJSON, bytes.NewReader(o.json),
			sif.OptObjectName(o.name))
		if err != nil {
			return 0, fmt.Errorf("sif: describe %s: %w", o.name, err)
		}
		inputs = append(inputs, in)
	}

	c, err := sif.CreateContainer(container{f, io.NewOffsetWriter(f, 0)},
		sif.OptCreateWithLaunchScript(launchScript),
		sif.OptCreateWithID(id.String()),
		sif.OptCreateWithTime(created),
		sif.OptCreateWithCloseOnUnload(false),
		sif.OptCreateWithDescriptors(inputs...))
	if err != nil {
		return 0, fmt.Errorf("sif: write: %w", err)
	}
	first, err := c.GetDescriptor(sif.WithPartitionType(sif.PartPrimSys))
	if err != nil {
		return 0, fmt.Errorf("sif: write: %w", err)
	}
	if first.Offset() != PartitionOffset {
		return 0, fmt.Errorf("sif: write: partition at offset %d, want %d", first.Offset(), PartitionOffset)
	}
	return c.DataOffset() + c.DataSize(), c.UnloadContainer()
}

// inPlace stands for an object of so many bytes that already lies where it belongs.
//
// It rests on io.Copy, by which the sif library writes objects,
// preferring a source's own WriteTo and seeking to the object's offset before.
// A test guards this; Read fails so that a change cannot pass unnoticed.
type inPlace int64

func (n inPlace) WriteTo(io.Writer) (int64, error) { return int64(n), nil }

func (n inPlace) Read([]byte) (int, error) {
	return 0, errors.New("partition is being copied, but it lies in its place")
}

// container is a file as the sif library wants it.
type container struct {
	squashfs.File
	io.WriteSeeker
}

// window is the part of a file that begins at off.
type window struct {
	f   squashfs.File
	off int64
}

func (w window) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	return w.f.ReadAt(p, w.off+off)
}

func (w window) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	return w.f.WriteAt(p, w.off+off)
}

// Outer lets blocks be shared with the file.
func (w window) Outer() (io.WriterAt, int64) { return w.f, w.off }

func (w window) Truncate(size int64) error {
	if size < 0 {
		return fs.ErrInvalid
	}
	return w.f.Truncate(w.off + size)
}

// newUUID makes a UUID of an image ID.
func newUUID(imageID string) (uuid.UUID, error) {
	digits, ok := strings.CutPrefix(imageID, "sha256:")
	digest, err := hex.DecodeString(digits)
	if !ok || err != nil || len(digest) != 32 {
		return uuid.Nil, fmt.Errorf("sif: image ID %q is not sha256: and 64 hexadecimal digits", imageID)
	}
	id := uuid.UUID(digest[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 9562
	return id, nil
}

// An ArchError is returned for an architecture that the format has no code for.
type ArchError struct {
	Arch string // Go's name
}

func (e *ArchError) Error() string {
	return fmt.Sprintf("sif: architecture %q: the format has no code for it", e.Arch)
}

// checkConfig finds out early whether the architecture that is asked for has a code.
// All those that can be found in a closure have one.
func checkConfig(img *image.Image) error {
	if arch := img.Config.Arch; arch != "" {
		return checkArch(arch)
	}
	return nil
}

func checkArch(arch string) error {
	_, err := sif.NewDescriptorInput(sif.DataPartition, nil,
		sif.OptPartitionMetadata(sif.FsSquash, sif.PartPrimSys, arch))
	if err != nil {
		return &ArchError{arch}
	}
	return nil
}

// inspectMetadata makes the object that SingularityCE and Apptainer look for
// before they start a container for the sake of "inspect".
// It is made of the files that they would find there.
func inspectMetadata(partition io.ReaderAt) ([]byte, error) {
	fsys, err := squashfs.Open(partition)
	if err != nil {
		return nil, err
	}
	const dir = ".singularity.d"
	var m struct {
		Data struct {
			Attributes struct {
				Environment map[string]string `json:"environment,omitempty"`
				Labels      map[string]string `json:"labels,omitempty"`
				Runscript   string            `json:"runscript,omitempty"`
				Startscript string            `json:"startscript,omitempty"`
				Test        string            `json:"test,omitempty"`
			} `json:"attributes"`
		} `json:"data"`
		Type string `json:"type"`
	}
	m.Type = "container"
	attrs := &m.Data.Attributes
	for _, script := range []struct {
		name string
		text *string
	}{
		{"runscript", &attrs.Runscript},
		{"startscript", &attrs.Startscript},
		{"test", &attrs.Test},
	} {
		text, err := fs.ReadFile(fsys, path.Join(dir, script.name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		*script.text = strings.TrimRight(string(text), "\n")
	}
	labels, err := fs.ReadFile(fsys, path.Join(dir, "labels.json"))
	if err == nil {
		err = json.Unmarshal(labels, &attrs.Labels)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	const env = dir + "/env"
	entries, err := fs.ReadDir(fsys, env)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	attrs.Environment = make(map[string]string)
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		text, err := fs.ReadFile(fsys, path.Join(env, e.Name()))
		if err != nil {
			return nil, err
		}
		attrs.Environment["/"+path.Join(env, e.Name())] = strings.TrimRight(string(text), "\n")
	}
	return json.Marshal(m)
}
