package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/oci/layout"
)

// ociFlags are what "nix2img build" has for OCI images, flag by flag.
type ociFlags struct {
	layout, archive, docker string // outputs
	tag                     string
	user                    string
	ports, annotations      []string
	layering                layeringFlags

	written int64 // bytes that a layout got
}

func (o *ociFlags) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.layout, "oci", "", "put the image into the OCI layout in `DIR`, beside those for other platforms")
	f.StringVar(&o.archive, "oci-archive", "", "write an OCI archive to `FILE`, for podman and skopeo")
	f.StringVar(&o.docker, "docker-archive", "", "write an archive for docker load to `FILE`")
	f.StringVar(&o.tag, "tag", "", "`NAME` of the image in a layout or archive, such as app:1.0")
	o.addImageFlags(f)
}

// addImageFlags adds the flags that say what the image is.
func (o *ociFlags) addImageFlags(f *pflag.FlagSet) {
	f.StringVar(&o.user, "user", "", "run programs as `USER`, by name or number (OCI)")
	f.StringArrayVar(&o.ports, "expose", nil, "programs listen at `PORT`, such as 8080/tcp (OCI; repeatable)")
	f.StringArrayVar(&o.annotations, "annotation", nil, "add an annotation, `KEY=VALUE` (OCI; repeatable)")
	o.layering.addFlags(f)
}

func (o *ociFlags) any() bool { return o.layout != "" || o.archive != "" || o.docker != "" }

// output returns the format and where it goes.
func (o *ociFlags) output() (format, name string) {
	switch {
	case o.layout != "":
		return "oci", o.layout
	case o.archive != "":
		return "oci-archive", o.archive
	}
	return "docker-archive", o.docker
}

// check judges the flags together with others.
func (o *ociFlags) check(b *builder) error {
	if !o.any() {
		return nil
	}
	format, name := o.output()
	if name != "-" && o.layout == "" {
		if _, err := checkOutput(name); err != nil {
			return err
		}
	}
	switch {
	case name == "-" && o.layout != "":
		return withHint(usagef("--oci -: a layout is a directory"), "--oci-archive - writes to standard output")
	case name == "-" && term.IsTerminal(int(b.ui.stdout.Fd())):
		return withHint(usagef("--%s -: standard output is a terminal", format), "redirect it, or name a file")
	}
	return nil
}

// options turns flags into what decides the bytes.
func (o *ociFlags) options(b *builder) (*oci.Options, error) {
	opts, err := b.encode.layers()
	if err != nil {
		return nil, err
	}
	opts.User, opts.ExposedPorts = o.user, o.ports
	for _, a := range o.annotations {
		key, value, ok := strings.Cut(a, "=")
		if !ok || key == "" {
			return nil, usagef("--annotation %s: want KEY=VALUE", a)
		}
		if opts.Annotations == nil {
			opts.Annotations = make(map[string]string)
		}
		opts.Annotations[key] = value
	}
	if o.docker != "" && opts.Compression != "" && opts.Compression != "gzip" && opts.Compression != "none" {
		return nil, usagef("--compression %s: %w", b.encode.compression, layout.ErrNotDocker)
	}
	opts.Layering, err = o.layering.options(b.arch)
	return opts, err
}

// ociResult is what "build --json" prints of an OCI image.
type ociResult struct {
	Digest       string `json:"digest"` // of the manifest
	File         string `json:"file"`
	Format       string `json:"format"` // "oci", "oci-archive" or "docker-archive"
	Size         int64  `json:"size"`   // bytes of all layers
	Layers       int    `json:"layers"`
	Architecture string `json:"architecture"`
	StorePaths   int    `json:"storePaths"`
	NARSize      int64  `json:"narSize"` // bytes, of all store paths
	Written      int64  `json:"written"` // bytes of layers that were not there
}

// layers makes the layers of an image, or finds them in the cache. In a layout, they are where they are to be.
func (o *ociFlags) layers(ctx context.Context, b *builder, img *image.Image, p *progress) (*oci.Image, error) {
	opts, err := o.options(b)
	if err != nil {
		return nil, err
	}
	if o.layout == "" {
		built, err := oci.Build(ctx, img, opts, b.runtime(p))
		return built, b.source.advise(explainOCI(err))
	}
	built, written, err := oci.BuildLayout(ctx, o.layout, o.tag, img, opts, b.runtime(p))
	if written != nil {
		o.written = written.Bytes
	}
	return built, b.source.advise(explainOCI(err))
}

// build makes an image and writes it where it is to go.
func (o *ociFlags) build(ctx context.Context, b *builder, img *image.Image) error {
	if o.layout != "" {
		layout.Sweep(o.layout, os.Geteuid())
	}
	p := newProgress(b.ui, time.Now)
	built, err := o.layers(ctx, b, img, p)
	if err != nil {
		p.done()
		return err
	}
	defer built.Close()
	res := &ociResult{Architecture: built.Record.Architecture, StorePaths: len(img.Closure.Objects()), NARSize: img.Closure.NARSize()}
	res.Format, res.File = o.output()
	if err := res.describe(built); err != nil {
		return err
	}
	b.ui.busyf("writing %s", res.File)
	err = o.write(ctx, b, built, res)
	took := p.done()
	if err != nil {
		return err
	}
	for _, note := range built.Notes {
		b.ui.infof("note: %s", note)
	}
	b.ui.infof("wrote %s: %s in %s, %s of them new, from %s (%s), in %.1f s", res.File, formatSize(res.Size),
		plural(res.Layers, "layer"), formatSize(res.Written), plural(res.StorePaths, "store path"), formatSize(res.NARSize), took.Seconds())
	to := b.ui.stdout
	if res.File == "-" {
		to = b.ui.stderr
	}
	if b.asJSON {
		return b.printJSON(to, res)
	}
	_, err = fmt.Fprintf(to, "%s %s\n", res.Digest, printable(res.File))
	return err
}

func (res *ociResult) describe(img *oci.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	for _, l := range m.Layers {
		res.Size += l.Size
	}
	res.Layers = len(m.Layers)
	digest, err := img.Digest()
	res.Digest = digest.String()
	return err
}

// write writes the image where it is to go, if it is not there yet.
func (o *ociFlags) write(ctx context.Context, b *builder, img *oci.Image, res *ociResult) error {
	if o.layout != "" {
		res.Written = o.written
		return nil
	}
	res.Written = res.Size
	write := layout.WriteArchive
	if o.docker != "" {
		write = layout.WriteDockerArchive
	}
	if res.File == "-" {
		return write(ctx, stdout{b.ui.stdout}, o.tag, img)
	}
	out, err := b.create(res.File, 0o666)
	if err != nil {
		return err
	}
	defer out.Discard()
	if err := out.Reserve(res.Size); err != nil {
		return err
	}
	if err := write(ctx, out, o.tag, img); err != nil {
		return err
	}
	b.ui.busyf("waiting for the disk")
	return out.Commit()
}

// explainOCI says of an error whether it is the closure's files that are at fault.
func explainOCI(err error) error {
	if is[*layout.Error](err) {
		return err
	}
	if e, ok := errors.AsType[*oci.SourceError](err); ok {
		if e.Object == "" {
			return err
		}
		return &sourceError{err}
	}
	if is[*oci.WhiteoutError](err) {
		return withHint(err, "in a layer, such a name removes a file; --sif and --squashfs can hold it")
	}
	return explain("", err)
}

// parsePlatform reads "linux/ARCH".
func parsePlatform(s string) (arch string, err error) {
	system, arch, ok := strings.Cut(s, "/")
	if !ok || system != "linux" || arch == "" || strings.Contains(arch, "/") {
		return "", usagef("--platform %s: want linux/ARCH, such as linux/arm64", s)
	}
	return arch, nil
}
