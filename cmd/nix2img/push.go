package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/oci/registry"
	"github.com/nix2img/nix2img/sif"
)

// pusher is one run of "nix2img push", flag by flag.
type pusher struct {
	builder   // of what is sent straight from a closure
	remote    registryFlags
	mountFrom []string
	layout    string
	noRecord  bool
	dryRun    bool
	asJSON    bool

	ref name.Reference
	rt  *registry.Runtime
}

func newPush(a *app) *cobra.Command {
	p := &pusher{builder: builder{app: a}}
	cmd := &cobra.Command{
		Use:   "push [flags] REF ROOT... | REF --oci DIR[:TAG] | oras://REF IMAGE.sif",
		Short: "Send an image to a registry",
		Long: `Send an image to a registry: one of the given store paths (roots) and everything that
they refer to, what is in the OCI layout DIR, for one platform or several, or a SIF,
which singularity pull oras://REF and apptainer pull oras://REF get from there.

Roots need no image on disk. They, and the flags that say what is in the image, are those
of nix2img build, and so is the image. With a cache, layers that the registry has are
neither compressed nor read. The build record follows the image, as a document that refers to it.

Its name with its digest is printed to standard output. What the registry has is not sent again.
The tag is set last: it never leads to an image that is not there as a whole.
With --dry-run, the registry is only asked what it has; roots are compressed all the same,
because the question is what their layers are called.

Credentials are those of podman login and docker login.`,
		Example: `  nix2img push registry.example.org/group/app:1.0 ./result
  nix2img push registry.example.org/group/app:1.0 --oci app
  nix2img push oras://registry.example.org/group/app:1.0 app.sif`,
		Args: minArgs(1, "a reference"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.source.roots = args[1:]
			p.source.jobs = p.encode.jobs
			return p.run(cmd.Context(), args[0], args[1:])
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVar(&p.mountFrom, "mount-from", nil, "the registry's `REPOSITORY`, such as group/base, may have what is to be sent (repeatable)")
	f.StringVar(&p.layout, "oci", "", "send the image in the OCI layout `DIR[:TAG]`, or the images for several platforms")
	p.remote.addFlags(f)
	f.BoolVar(&p.noRecord, "no-record", false, "do not send the build record")
	f.BoolVar(&p.dryRun, "dry-run", false, "send nothing, and say what would be sent")
	f.BoolVar(&p.asJSON, "json", false, "print the result as JSON")
	f.StringVar(&p.encode.compression, "compression", "", "`NAME[:LEVEL]` of the compression, one of gzip, zstd, zstd-go and none (default gzip)")
	f.IntVarP(&p.encode.jobs, "jobs", "j", 0, "use `N` cores, which never changes the output (default: all)")
	f.BoolVar(&p.caching.off, "no-cache", false, "neither look into a cache nor keep anything in one")
	p.caching.addDirFlag(f)
	p.caching.addSizeFlag(f)
	p.caching.addFromFlag(f)
	f.BoolVar(&p.caching.trust, "trust-cache", false, "do not check the contents of --cache-from against the NAR hashes,\nand take a --cache that others can write to")
	p.source.addFlags(f)
	p.addConfigFlags(f)
	p.oci.addImageFlags(f)
	cmd.MarkFlagDirname("oci")
	return cmd
}

func (p *pusher) run(ctx context.Context, arg string, args []string) error {
	ref, oras, err := p.remote.parse(arg)
	if err != nil {
		return err
	}
	p.ref = ref
	if p.rt, err = p.remote.runtime(p.ui); err != nil {
		return err
	}
	if err := p.parseMounts(); err != nil {
		return err
	}
	switch {
	case oras && p.layout == "" && len(args) == 1:
		return p.pushSIF(ctx, args[0])
	case !oras && p.layout != "" && len(args) == 0:
		m, err := openLayout(p.layout)
		if err != nil {
			return err
		}
		res, err := p.send(ctx, m)
		if err != nil {
			return err
		}
		return p.print(res)
	case oras:
		return usagef("push %s: want one SIF", arg)
	case p.layout != "":
		return usagef("push %s: roots and --oci exclude each other", arg)
	}
	return p.pushClosure(ctx)
}

// parseMounts reads --mount-from: repositories of the registry that is sent to, with its name or without.
func (p *pusher) parseMounts() error {
	host := p.ref.Context().Registry
	for _, arg := range p.mountFrom {
		repo, err := name.NewRepository(arg)
		if err != nil || repo.Registry.Name() != host.Name() {
			repo, err = name.NewRepository(host.Name() + "/" + arg)
		}
		if err != nil {
			return usagef("--mount-from %s: want a repository of %s, such as group/base", arg, host)
		}
		p.rt.MountFrom = append(p.rt.MountFrom, repo)
	}
	return nil
}

// check finds out whether the registry would take the image, before that costs anything.
func (p *pusher) check(ctx context.Context) error {
	if p.dryRun { // it begins an upload
		return nil
	}
	p.ui.busyf("asking %s", p.ref.Context().RegistryStr())
	return registry.CheckPush(ctx, p.ref, p.rt)
}

// pushClosure builds an image without a place for it, and sends what the registry lacks.
func (p *pusher) pushClosure(ctx context.Context) error {
	img, _, err := p.open(ctx)
	defer p.source.Close()
	if err != nil {
		if slices.ContainsFunc(p.source.roots, func(root string) bool { return filepath.Ext(root) == ".sif" }) {
			err = withHint(err, "a SIF is pushed to %s%s", orasScheme, p.ref)
		}
		return err
	}
	if err := p.check(ctx); err != nil {
		return err
	}
	if err := p.caching.open(p.ui); err != nil {
		return err
	}
	defer p.caching.close(p.ui)
	progress := newProgress(p.ui, time.Now)
	built, err := p.oci.layers(ctx, &p.builder, img, progress)
	progress.done()
	if err != nil {
		return err
	}
	defer built.Close()
	for _, note := range built.Notes {
		p.ui.infof("note: %s", note)
	}
	res, err := p.send(ctx, built)
	if err != nil {
		return explainOCI(err)
	}
	if !p.noRecord && !p.dryRun {
		record, err := p.sendRecord(ctx, res.name, built)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			p.ui.warnf("the image is there, without its build record: %v (--no-record does not send it)", err)
		default:
			res.RecordDigest = record.DigestStr()
		}
	}
	return p.print(res)
}

// The media type of a build record, and the name of the file that others make of it.
const (
	recordType  = "application/vnd.nix2img.record.v1+json"
	recordTitle = "nix2img-record.json"
)

// sendRecord attaches the build record to an image.
func (p *pusher) sendRecord(ctx context.Context, subject name.Digest, img *oci.Image) (name.Digest, error) {
	about, err := registry.Subject(img)
	if err != nil {
		return name.Digest{}, err
	}
	var record bytes.Buffer
	if _, err := img.Record.WriteTo(&record); err != nil {
		return name.Digest{}, err
	}
	return registry.Attach(ctx, subject, about, &registry.Document{Type: recordType, Title: recordTitle, Data: record.Bytes()}, p.rt)
}

func (p *pusher) pushSIF(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("open %s: %w", file, reason(err))
	}
	defer f.Close()
	if _, err := sif.Open(f); err != nil {
		return withHint(fmt.Errorf("open %s: %w", file, err), "store paths and layouts are pushed to a reference without %s", orasScheme)
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open %s: %w", file, reason(err))
	}
	if err := p.check(ctx); err != nil {
		return err
	}
	p.ui.busyf("reading %s", file)
	img, err := registry.SIF(ctx, f, info.Size(), filepath.Base(file))
	if err != nil {
		return err
	}
	res, err := p.send(ctx, img)
	if err != nil {
		return err
	}
	return p.print(res)
}

// pushResult is what "push --json" prints.
type pushResult struct {
	Reference    string `json:"reference"`       // as it was asked for
	Digest       string `json:"digest"`          // of the manifest or index
	Size         int64  `json:"size"`            // bytes of all blobs; 0 if the reference led to the image already
	Sent         int64  `json:"sent"`            // bytes of blobs; with --dry-run, of those that would be sent
	DryRun       bool   `json:"dryRun,omitzero"` // nothing was sent
	RecordDigest string `json:"recordDigest,omitzero"`

	name name.Digest
}

// print prints what was pushed.
func (p *pusher) print(res *pushResult) error {
	if p.asJSON {
		return printEnvelope(p.ui, "push", res)
	}
	return p.ui.resultf("%s\n", res.name)
}

// send sends an image.
func (p *pusher) send(ctx context.Context, m registry.Manifest) (*pushResult, error) {
	if p.dryRun {
		return p.compare(ctx, m)
	}
	progress := newProgress(p.ui, time.Now)
	var last registry.Progress
	rt := *p.rt
	rt.Progress = func(s registry.Progress) {
		last = s
		progress.update(image.Progress{Read: s.Done, Total: s.Total})
	}
	digest, err := registry.Push(ctx, p.ref, m, &rt)
	took := progress.done()
	if err != nil {
		return nil, err
	}
	if last.Total == 0 {
		p.ui.infof("%s is that image already", p.ref)
	} else {
		p.ui.infof("pushed %s: sent %s of %s, in %.1f s", p.ref, formatSize(last.Sent), formatSize(last.Total), took.Seconds())
	}
	return &pushResult{Reference: p.ref.Name(), Digest: digest.DigestStr(), Size: last.Total, Sent: last.Sent, name: digest}, nil
}

// compare says what send would do.
func (p *pusher) compare(ctx context.Context, m registry.Manifest) (*pushResult, error) {
	p.ui.busyf("asking %s", p.ref.Context().RegistryStr())
	diff, err := registry.Compare(ctx, p.ref, m, p.rt)
	if err != nil {
		return nil, err
	}
	var bytes [registry.Fetched + 1]int64
	res := &pushResult{Reference: p.ref.Name(), Digest: diff.Digest.DigestStr(), DryRun: true, name: diff.Digest}
	for _, b := range diff.Blobs {
		bytes[b.State] += b.Size
		res.Size += b.Size
	}
	res.Sent = bytes[registry.Missing]
	if diff.There {
		p.ui.infof("%s is that image already", p.ref)
		return res, nil
	}
	text := fmt.Sprintf("would push %s: %s of %s to send", p.ref, formatSize(res.Sent), formatSize(res.Size))
	if n := bytes[registry.Mounted]; n > 0 {
		text += fmt.Sprintf(", and %s to mount", formatSize(n))
	}
	p.ui.infof("%s", text)
	return res, nil
}
