package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci/layout"
	"github.com/nix2img/nix2img/image/oci/registry"
	"github.com/nix2img/nix2img/internal/ctxio"
)

// puller is one run of "nix2img pull", flag by flag.
type puller struct {
	*app
	remote registryFlags
	output string
	arch   string
	asJSON bool
}

// pullResult is what "pull --json" prints.
type pullResult struct {
	Reference string `json:"reference"` // as it was asked for
	Digest    string `json:"digest"`    // of the image's manifest
	Output    string `json:"output"`    // the file or directory
	Format    string `json:"format"`    // "sif" or "oci"
	Size      int64  `json:"size"`      // bytes of all layers
	Fetched   int64  `json:"fetched"`   // bytes of those that were not there already
}

func newPull(a *app) *cobra.Command {
	p := &puller{app: a}
	cmd := &cobra.Command{
		Use:   "pull [-o OUTPUT] [flags] REF | oras://REF",
		Short: "Fetch an image from a registry",
		Long: `Fetch an image from a registry: a SIF, as nix2img push, singularity push and apptainer push
put it there, or any other image, which becomes the OCI layout -o DIR.

A transfer that breaks off is resumed. All digests are compared.
A SIF appears under its name when it is complete, or not at all. A layout in DIR becomes one
when its index.json is written, last; layers that are there already are not fetched again,
and images with another tag, or for another CPU, stay.
The image's name with its digest is printed to standard output.`,
		Example: `  nix2img pull -o app.sif oras://registry.example.org/group/app:1.0
  nix2img pull -o app registry.example.org/group/app:1.0`,
		Args: exactArgs(1, "a reference"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.run(cmd.Context(), args[0])
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&p.output, "output", "o", "", "write to `OUTPUT`: the file, or the directory of the layout\n(default: the repository's name, with .sif for a SIF)")
	f.StringVar(&p.arch, "arch", runtime.GOARCH, "of several images, take that for the CPU's `ARCH`, Go's name")
	f.BoolVar(&p.asJSON, "json", false, "print the result as JSON")
	p.remote.addFlags(f)
	return cmd
}

func (p *puller) run(ctx context.Context, arg string) error {
	ref, oras, err := p.remote.parse(arg)
	if err != nil {
		return err
	}
	progress := newProgress(p.ui, time.Now)
	fetched := make(map[v1.Hash]bool)
	rt, err := p.remote.runtime(p.ui)
	if err != nil {
		return err
	}
	said := rt.Blob
	rt.Blob = func(b registry.Blob) {
		fetched[b.Digest] = true
		said(b)
	}
	p.ui.busyf("asking %s", ref.Context().RegistryStr())
	var total int64
	var last registry.Progress
	rt.Progress = func(s registry.Progress) {
		last = s
		progress.update(image.Progress{Read: s.Done, Total: total})
	}
	img, digest, err := registry.Pull(ctx, ref, v1.Platform{OS: "linux", Architecture: p.arch}, rt)
	if err != nil {
		return err
	}
	before := last.Done // what is no layer
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		n, err := l.Size()
		if err != nil {
			return err
		}
		total += n
	}
	layer, _, err := registry.SIFLayer(img)
	if p.output == "" {
		p.output = path.Base(ref.Context().RepositoryStr()) + map[bool]string{true: ".sif"}[err == nil]
	}
	format := "oci"
	switch {
	case err == nil:
		format = "sif"
		err = p.writeSIF(ctx, layer)
	case !oras:
		err = p.pullLayout(ctx, ref, img)
	}
	if err != nil {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	took := progress.done()
	for _, l := range layers {
		if digest, err := l.Digest(); err == nil && !fetched[digest] {
			p.ui.detailf("%s: was there already", digest)
		}
	}
	p.ui.infof("wrote %s: %s, %s of them fetched, in %.1f s", p.output, formatSize(total), formatSize(last.Done-before), took.Seconds())
	if p.asJSON {
		return printEnvelope(p.ui, "pull", &pullResult{ref.Name(), digest.DigestStr(), p.output, format, total, last.Done - before})
	}
	return p.ui.resultf("%s\n", digest)
}

// pullLayout writes a layout, in which the image has the tag that it was fetched by.
func (p *puller) pullLayout(ctx context.Context, ref name.Reference, img v1.Image) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	if arch := config.Architecture; arch != "" && arch != p.arch { // artifacts have none
		p.ui.infof("note: the image is for %s, and there is no other", arch)
	}
	tag := ""
	if t, ok := ref.(name.Tag); ok {
		tag = t.TagStr()
	}
	layout.Sweep(p.output, os.Geteuid())
	_, err = layout.Write(ctx, p.output, tag, img)
	return err
}

func (p *puller) writeSIF(ctx context.Context, layer v1.Layer) error {
	size, err := layer.Size()
	if err != nil {
		return err
	}
	out, err := p.create(p.output, 0o777)
	if err != nil {
		return err
	}
	defer out.Discard()
	if err := out.Reserve(size); err != nil {
		return err
	}
	rc, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	if _, err := io.Copy(ctxio.Writer(ctx, io.NewOffsetWriter(out, 0)), rc); err != nil {
		return err
	}
	return out.Commit()
}
