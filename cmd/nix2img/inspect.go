package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/sif"
)

func newInspect(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Say what is in a SIF or squashfs",
		Long: `Say what is in an image: its ID, the store paths, how it was compressed,
how it starts, and where in the file its root file system lies.
Of images that nix2img has not made it says what there is.

With --json, the whole build record is printed. Among the fields are imageID,
partition.offset and partition.size (in bytes), and record.`,
		Example: `  nix2img inspect hello.sif
  nix2img inspect --json hello.sif | jq -r '.record.objects[].path'
  mount -o loop,offset=$(nix2img inspect --json hello.sif | jq .partition.offset) hello.sif /mnt`,
		Args: exactArgs(1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, err := openImage(args[0])
			if err != nil {
				return err
			}
			defer img.Close()
			in, err := inspect(img, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.ui, in)
			}
			return in.print(a.ui)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// inspection is what "inspect --json" prints.
type inspection struct {
	File         string        `json:"file"`
	Format       string        `json:"format"` // "sif" or "squashfs"
	Size         int64         `json:"size"`   // bytes of the file
	ImageID      string        `json:"imageID,omitzero"`
	Architecture string        `json:"architecture,omitzero"`
	Created      time.Time     `json:"created"`
	UUID         string        `json:"uuid,omitzero"` // of a SIF
	Objects      []sif.Object  `json:"objects,omitempty"`
	Partition    sif.Extent    `json:"partition"` // the root file system; bytes
	Squashfs     squashInfo    `json:"squashfs"`
	Record       *image.Record `json:"record,omitempty"`
}

type squashInfo struct {
	Compression string `json:"compression"`
	BlockSize   int    `json:"blockSize"` // bytes
	Inodes      uint32 `json:"inodes"`
	Fragments   uint32 `json:"fragments"` // blocks that hold small files and tails
	BytesUsed   int64  `json:"bytesUsed"`
}

func inspect(img *imageFile, name string) (*inspection, error) {
	super := img.Super()
	in := &inspection{
		File:      name,
		Format:    "squashfs",
		Size:      img.size,
		Created:   super.ModTime.UTC(),
		Partition: img.partition,
		Squashfs: squashInfo{
			Compression: super.Compression.String(),
			BlockSize:   super.BlockSize,
			Inodes:      super.Inodes,
			Fragments:   super.Fragments,
			BytesUsed:   super.BytesUsed,
		},
	}
	if s := img.sif; s != nil {
		in.Format, in.Architecture, in.Created = "sif", s.Arch, s.Created
		in.UUID, in.Objects = s.UUID, s.Objects
	}
	record, err := img.record()
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", name, err)
	}
	if record != nil {
		in.Record, in.ImageID, in.Architecture = record, record.ImageID, record.Architecture
		in.Created = record.Config.Created
	}
	return in, nil
}

// print prints an inspection for a person.
func (in *inspection) print(u *ui) error {
	w := tabwriter.NewWriter(u.stdout, 0, 0, 2, ' ', 0)
	field := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	list := func(name string, values []string) {
		for i, v := range values {
			if i > 0 {
				name = ""
			}
			field(name, "%s", v)
		}
	}

	kind := "squashfs"
	if in.Format == "sif" {
		kind = "SIF"
	}
	field("file", "%s (%s, %s)", quoteName(in.File), kind, formatSize(in.Size))
	r := in.Record
	switch {
	case r == nil:
		field("made by", "not nix2img: there is no build record")
	default:
		field("made by", "nix2img %s", r.Version)
	}
	if in.ImageID != "" {
		field("image ID", "%s", in.ImageID)
	}
	if in.UUID != "" {
		field("UUID", "%s", in.UUID)
	}
	if in.Architecture != "" {
		field("architecture", "%s", in.Architecture)
	}
	field("created", "%s", in.Created.UTC().Format("2006-01-02 15:04:05 UTC"))
	field("partition", "%d bytes at offset %d", in.Partition.Size, in.Partition.Offset)
	field("compression", "%s, blocks of %s", in.compression(), formatBlockSize(in.Squashfs.BlockSize))
	field("inodes", "%d", in.Squashfs.Inodes)
	if r != nil {
		var roots []string
		for _, p := range r.Roots {
			roots = append(roots, string(p))
		}
		list("roots", roots)
		var total int64
		for _, o := range r.Objects {
			total += o.NARSize
		}
		field("store paths", "%d, %s uncompressed", len(r.Objects), formatSize(total))
		list("largest", largest(r.Objects, 5))
		c := r.Config
		if len(c.Entrypoint) > 0 {
			field("entrypoint", "%s", shellWords(c.Entrypoint))
		}
		if len(c.Cmd) > 0 {
			field("command", "%s", shellWords(c.Cmd))
		}
		if c.WorkingDir != "" {
			field("working dir", "%s", c.WorkingDir)
		}
		list("environment", c.Env)
		var labels []string
		for k, v := range c.Labels {
			labels = append(labels, k+"="+v)
		}
		slices.Sort(labels)
		list("labels", labels)
		if r.GPU != nil {
			list("GPU", gpuLines(r))
		}
	} else {
		var objects []string
		for _, o := range in.Objects {
			objects = append(objects, strings.TrimSpace(fmt.Sprintf("%d %s, %s %s", o.ID, o.Type, formatSize(o.Size), o.Name)))
		}
		list("objects", objects)
	}
	field("run it with", "%s", in.commandLine())
	return w.Flush()
}

func (in *inspection) compression() string {
	if in.Record == nil || in.Record.Squashfs == nil {
		return in.Squashfs.Compression
	}
	e := in.Record.Squashfs
	s := e.Compression
	if e.Level != 0 {
		s += fmt.Sprintf(":%d", e.Level)
	}
	if e.Library != "" {
		s += fmt.Sprintf(" (%s %s)", e.Library, e.Version)
	}
	return s
}

// commandLine returns what a person may type to start the image.
func (in *inspection) commandLine() string {
	runtime := "singularity"
	if in.Squashfs.Compression == "zstd" {
		runtime = "apptainer" // SingularityCE refuses zstd
	}
	file := shellWords([]string{in.File})
	r := in.Record
	flags := ""
	if r != nil && r.NV {
		flags += " --nv"
	}
	if r != nil && r.ROCm {
		flags += " --rocm"
	}
	if r != nil && len(r.Config.Entrypoint)+len(r.Config.Cmd) == 0 {
		return runtime + " exec" + flags + " " + file + " PROGRAM"
	}
	return runtime + " run" + flags + " " + file
}

// gpuLines says what an image needs of a GPU.
func gpuLines(r *image.Record) []string {
	s := r.GPU
	if s.Use == gpu.UseOptional {
		return []string{"no code for one, but a driver is used if there is one"}
	}
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if len(s.CUDA) > 0 {
		add("CUDA %s", strings.Join(s.CUDA, ", "))
	}
	if targets := slices.Concat(s.SASS, s.HIP); len(targets) > 0 {
		add("runs on %s", strings.Join(targets, " "))
	}
	if s.PTX != "" {
		add("and on others from %s on, when the driver has compiled PTX", s.PTX)
	}
	if s.Driver != "" {
		add("driver %s or later; code for the very GPU runs from %s on", s.Driver, s.MinDriver)
	}
	return append(lines, "more: nix2img gpu")
}

func largest(objects []image.Object, n int) []string {
	objects = slices.Clone(objects)
	slices.SortStableFunc(objects, func(a, b image.Object) int { return cmp.Compare(b.NARSize, a.NARSize) })
	var lines []string
	for _, o := range objects[:min(n, len(objects))] {
		lines = append(lines, fmt.Sprintf("%8s  %s", formatSize(o.NARSize), filepath.Base(string(o.Path))))
	}
	return lines
}

func formatBlockSize(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// shellWords returns arguments as a shell would read them again.
func shellWords(args []string) string {
	var words []string
	for _, arg := range args {
		plain := arg != "" && strings.IndexFunc(arg, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
				strings.ContainsRune("-_./:=@%+,", r))
		}) < 0
		if !plain {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}
