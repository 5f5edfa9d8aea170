package sif

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sylabs/sif/v2/pkg/sif"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/squashfs"
)

// Names of the objects that follow the partition.
const (
	RecordName  = "nix2img.json"          // the build record
	inspectName = "inspect-metadata.json" // the name is the runtimes' choice
)

// deffile stands for the definition file that the runtimes expect: without one, their "inspect --deffile"
// and "inspect --all" warn, and start a container to look for it.
const deffile = "# This image was made by nix2img, of a Nix closure and without a definition file.\n"

// Options is what decides the bytes. The zero value is ready to use.
type Options struct {
	// Squashfs says how the root file system is encoded. It must not have a ModTime:
	// that is the time at which the image's configuration says it was created.
	Squashfs squashfs.Options
	// OCI makes an OCI-SIF, which SingularityCE 4 runs with --oci: see the package comment.
	OCI bool
}

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

var errNoOutput = errors.New("sif: write: there is nothing to write to")

// Write writes img to f, and replaces what f may hold.
// A nil opts or rt means the zero value.
//
// When Write fails, what it has written is of no use.
// The caller marks a finished file as executable, so that it can be started by its name,
// and gives it its final name only then, as [WriteFile] does.
func Write(ctx context.Context, f squashfs.File, img *image.Image, opts *Options, rt *image.Runtime) (*Result, error) {
	if opts == nil {
		opts = new(Options)
	}
	if err := check(img); err != nil {
		return nil, err
	}
	if f == nil {
		return nil, errNoOutput
	}
	if err := f.Truncate(0); err != nil {
		return nil, fmt.Errorf("sif: write: %w", err)
	}
	root, err := squash.Write(ctx, window{f, PartitionOffset}, img, &opts.Squashfs, rt)
	if err != nil {
		return nil, err
	}
	fr, err := opts.frame(ctx, io.NewSectionReader(f, PartitionOffset, root.Size), root)
	if err != nil {
		return nil, err
	}
	if err := fr.writeAround(f); err != nil {
		return nil, err
	}
	return opts.result(root, fr), nil
}

func (o *Options) result(root *squash.Result, f *frame) *Result {
	r := &Result{
		ID:        root.ID,
		Size:      f.size(),
		Partition: Extent{PartitionOffset, root.Size},
		Record:    root.Record,
		Notes:     root.Notes,
	}
	said := func(note string) bool { return strings.Contains(note, "no shell") }
	if o.OCI && !root.Shell && !slices.ContainsFunc(r.Notes, said) {
		r.Notes = append(slices.Clip(r.Notes), "SingularityCE 4 starts an OCI-SIF by /bin/sh, and the closure has no shell: as a root, bashInteractive would bring it")
	}
	return r
}

// frame makes what goes round a root file system, which partition reads.
func (o *Options) frame(ctx context.Context, partition io.ReaderAt, root *squash.Result) (*frame, error) {
	f, err := newFrame(root.ID, root.Record.Config.Created, root.Size)
	if err != nil {
		return nil, err
	}
	if o.OCI {
		return f, f.addOCI(ctx, partition, root.Record)
	}
	return f, f.addNative(partition, root.Record)
}

// addNative adds what a SIF has beside its partition.
func (f *frame) addNative(partition io.ReaderAt, r *image.Record) error {
	if err := f.addPartition(r.Architecture); err != nil {
		return err
	}
	var record bytes.Buffer
	if _, err := r.WriteTo(&record); err != nil {
		return err
	}
	f.add(sif.DataGenericJSON, RecordName, nil, record.Bytes())
	metadata, err := inspectMetadata(partition)
	if err != nil {
		return fmt.Errorf("sif: read back the partition: %w", err)
	}
	f.add(sif.DataGenericJSON, inspectName, nil, metadata)
	f.add(sif.DataDeffile, "", nil, []byte(deffile))
	return nil
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

// check finds out early what cannot be written.
func check(img *image.Image) error {
	if img == nil || img.Closure == nil {
		return errors.New("sif: write: the image has no closure")
	}
	if arch := img.Config.Arch; arch != "" { // all those that can be found in a closure have a code
		_, err := newArch(arch)
		return err
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
				Deffile     string            `json:"deffile"`
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
	attrs.Deffile = strings.TrimRight(deffile, "\n")
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
