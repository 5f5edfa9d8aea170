package main

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci/layout"
	"github.com/nix2img/nix2img/sif"
)

// inspector is one run of "nix2img inspect", flag by flag.
type inspector struct {
	*app
	remote registryFlags
	arch   string
}

func newInspect(a *app) *cobra.Command {
	var asJSON bool
	i := &inspector{app: a}
	cmd := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Say what is in an image",
		Long: `Say what is in an image: its ID, the store paths, how it was compressed, how it starts,
where in the file its root file system lies, and who has signed it.
Of images that nix2img has not made it says what there is.

IMAGE is a SIF, a squashfs, an OCI layout or archive, what docker save writes, whoever made it,
or a reference to an image in a registry, of which no more is fetched than what is said of it.

What an image says of itself is not verified, nor are signatures.

With --json, the whole build record is printed. Among the fields are imageID,
partition.offset and partition.size (in bytes), and record; imageID and record are the image's own words.`,
		Example: `  nix2img inspect hello.sif
  nix2img inspect --json hello.sif | jq -r '.record.objects[].path'
  nix2img inspect registry.example.org/group/app:1.0
  mount -o loop,offset=$(nix2img inspect --json hello.sif | jq .partition.offset) hello.sif /mnt`,
		Args: exactArgs(1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := i.run(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printEnvelope(a.ui, "inspect", in)
			}
			return in.print(a.ui)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&i.arch, "arch", "", "the CPU's `ARCH`, Go's name, of an OCI image for several")
	i.remote.addFlags(f)
	return cmd
}

// inspection is what "inspect --json" prints.
type inspection struct {
	File         string        `json:"file"`
	Format       string        `json:"format"`          // one of formatNames
	Size         int64         `json:"size"`            // bytes of the file, or of all layers
	Digest       string        `json:"digest,omitzero"` // of the manifest of an OCI image
	ImageID      string        `json:"imageID,omitzero"`
	Architecture string        `json:"architecture,omitzero"`
	Created      time.Time     `json:"created"`
	UUID         string        `json:"uuid,omitzero"` // of a SIF
	Objects      []sif.Object  `json:"objects,omitempty"`
	Layers       []layerInfo   `json:"layers,omitempty"`
	Partition    *sif.Extent   `json:"partition,omitempty"` // the root file system; bytes
	Unreadable   string        `json:"unreadable,omitzero"` // why there is no root file system that can be read
	Squashfs     *squashInfo   `json:"squashfs,omitempty"`
	Record       *image.Record `json:"record,omitempty"`
	Config       *image.Config `json:"config,omitempty"` // of an OCI image without a record
	User         string        `json:"user,omitzero"`    // of an OCI image

	programs programs
}

type squashInfo struct {
	Compression string `json:"compression"`
	BlockSize   int    `json:"blockSize"` // bytes
	Inodes      uint32 `json:"inodes"`
	Fragments   uint32 `json:"fragments"` // blocks that hold small files and tails
	BytesUsed   int64  `json:"bytesUsed"`
}

// programs says what there is to start.
type programs int

const (
	noPrograms  programs = iota
	needName             // there are some, and none is started by default
	haveDefault          // the image says what is started
)

func (i *inspector) run(ctx context.Context, name string) (*inspection, error) {
	if isReference(name) {
		return i.inspectReference(ctx, name)
	}
	if layout.Detect(name) {
		return i.inspectStored(ctx, name)
	}
	img, err := openImage(name)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	return inspectFile(img, name)
}

// inspectFile inspects a SIF or a squashfs.
func inspectFile(img *imageFile, name string) (*inspection, error) {
	in := &inspection{File: name, Format: "squashfs", Size: img.size}
	if s := img.sif; s != nil {
		in.Format, in.Architecture, in.Created, in.UUID, in.Objects = "sif", s.Arch, s.Created, s.UUID, s.Objects
		for _, l := range s.Layers {
			in.Format = "oci-sif"
			in.Layers = append(in.Layers, layerInfo{Digest: l.Digest, MediaType: l.MediaType, Size: l.Size})
		}
	}
	if in.Architecture == "unknown" {
		in.Architecture = ""
	}
	if img.no != nil {
		in.Unreadable = "the root file system " + img.no.Reason
	}
	record, err := img.record()
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", name, err)
	}
	if img.FS != nil {
		in.describeSquashfs(img)
	}
	in.claim(record)
	if img.FS != nil {
		in.programs = in.findPrograms(img.FS)
	}
	return in, nil
}

func (in *inspection) describeSquashfs(img *imageFile) {
	super := img.Super()
	if img.sif == nil {
		in.Created = super.ModTime.UTC()
	}
	in.Partition = &img.partition
	in.Squashfs = &squashInfo{
		Compression: super.Compression.String(),
		BlockSize:   super.BlockSize,
		Inodes:      super.Inodes,
		Fragments:   super.Fragments,
		BytesUsed:   super.BytesUsed,
	}
}

// claim takes note of what an image says of itself.
func (in *inspection) claim(r *image.Record) {
	if r != nil {
		in.Record, in.ImageID, in.Architecture, in.Created = r, r.ImageID, r.Architecture, r.Config.Created
	}
}

// findPrograms looks for programs where a runtime would look for them.
func (in *inspection) findPrograms(fsys fs.StatFS) programs {
	if r := in.Record; r != nil && len(r.Config.Entrypoint)+len(r.Config.Cmd) > 0 {
		return haveDefault
	}
	if in.Record == nil && isExecutable(fsys, ".singularity.d/runscript") {
		return haveDefault
	}
	for _, dir := range in.path() {
		entries, err := fs.ReadDir(fsys, dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if isExecutable(fsys, path.Join(dir, e.Name())) {
				return needName
			}
		}
	}
	return noPrograms
}

// path returns the folders of programs.
func (in *inspection) path() []string {
	dirs := []string{"bin", "usr/bin", "sbin", "usr/sbin", "usr/local/bin", "usr/local/sbin"}
	if in.Record == nil {
		return dirs
	}
	for _, env := range in.Record.Config.Env {
		if list, ok := strings.CutPrefix(env, "PATH="); ok {
			for dir := range strings.SplitSeq(list, ":") {
				dirs = append(dirs, inImage(dir))
			}
		}
	}
	return dirs
}

func isExecutable(fsys fs.StatFS, name string) bool {
	info, err := fsys.Stat(name)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
