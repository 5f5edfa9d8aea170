package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/internal/tempfile"
	"github.com/nix2img/nix2img/sif"
	"github.com/nix2img/nix2img/squashfs"
)

// builder is one run of "nix2img build", flag by flag.
type builder struct {
	*app
	source source

	sif, squashfs bool
	ociSIF        bool // with sif
	output        string
	encode        encoding
	caching       caching
	noVerify      bool

	entrypoint, cmd    string
	workdir            string
	env, labels, files []string
	arch, platform     string
	created            string
	gpu                gpuUse
	mpi                string
	oci                ociFlags
	accept             func(*gpu.Report) error // once the closure has been read

	digest, asJSON, dryRun bool
}

func newBuild(a *app) *cobra.Command {
	b := &builder{app: a}
	cmd := &cobra.Command{
		Use:   "build --sif|--squashfs|--oci-sif|--oci DIR [-o FILE] [flags] ROOT...",
		Short: "Build an image of store paths and all that they need",
		Long: `Build an image of the given store paths (roots) and everything that they refer to.

A ROOT is a store path, a path inside one, or a symbolic link that leads to one,
such as ./result; or a flake reference such as .#edm, or a derivation, which Nix is asked
to build. What is in the image comes from one of these places:

  by default    the database of the Nix store, which is read without Nix;
                --store DIR is for a store whose files are below DIR/nix/store
  --closure     metadata in a file, with the files taken from the store: what
                nix path-info --json -r or nix-store --dump-db prints,
                nixpkgs' closureInfo (its directory or its file registration),
                or what a derivation gets from exportReferencesGraph
  --from FILE   a stream of nix-store --export, which brings the files along
  --from URL    binary caches, file:///DIR, http:// or https://, which need no Nix on this machine.
                What they say must be signed by one of --trusted-public-keys
  --from auto   the store if there is one, and for what is not there
                the caches that nix.conf names, or cache.nixos.org

Without a ROOT, --closure and a stream give all paths that nothing else refers to.

If no flag chooses the format, the ending of -o does: .sif, .oci.sif (an OCI-SIF), or .sqsh, .sqfs,
.squashfs and .squash (a squashfs).

The result is printed to standard output: image ID and file. The same closure, options
and version of nix2img give the same ID and the same bytes, whatever --jobs says.
The image appears under its name when it is complete, or not at all.

Compression is NAME or NAME:LEVEL, with the name one of gzip, zstd, zstd-go, lz4, xz and none.
SingularityCE runs all but zstd, Apptainer runs all. zstd is smaller and faster; zstd-go is the
same format from another library, for programs built without cgo.

A --file goes into the image with modes that do not depend on the umask: 0755 for directories
and for files that their owner may execute, else 0644. SRC:/DST copies SRC to /DST,
SRC:/DST/ copies it into /DST, and SRC/.:/DST what is in SRC. Without SRC, /DST is an empty file, and /DST/ an empty directory,
for the runtime to bind something over.

An OCI image goes into a layout (--oci), a directory that skopeo and podman read as oci:DIR,
or into an archive; FILE - is standard output. Its result is the manifest's digest and where it is.
Its layers are of gzip, zstd, zstd-go or none: see nix2img layers --help. In a layout, the image takes
the place of one with the same --tag and architecture, and stays beside all others.

If the closure has code for a GPU, the image is made ready for its driver, which a runtime brings
from the host (singularity exec --nv). With --for, nothing is built that will not run on one of
the GPUs, and the exit code is 6: see nix2img gpu --help.`,
		Example: `  nix2img build --sif -o hello.sif ./result
  nix2img build --sif -o edm.sif .#edm
  nix2img build --sif --env OMP_NUM_THREADS=8 --file /scratch/ ./result
  nix2img build --sif --for A100,H100 --driver 535.54.03 -o edm.sif ./result
  nix2img build --squashfs --compression zstd:15 --block-size 1M -o app.sqsh ./result
  nix2img build --oci layout --tag app:1.0 ./result
  nix2img build --docker-archive - --tag app:1.0 ./result | docker load
  nix path-info --json -r ./result | nix2img build --sif --closure - -o app.sif
  nix-store --export $(nix-store -qR ./result) | nix2img build --sif --from - -o app.sif
  nix2img build --sif --from https://cache.example.org -o edm.sif /nix/store/...-python3-env`,
		RunE: func(cmd *cobra.Command, args []string) error {
			b.source.roots = args
			b.source.jobs = b.encode.jobs
			return b.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&b.sif, "sif", false, "build a SIF, for SingularityCE and Apptainer")
	f.BoolVar(&b.ociSIF, "oci-sif", false, "build an OCI-SIF, for singularity --oci of SingularityCE 4,\nwhich needs a shell in the closure, and runc: with crun 1.8 of Debian 12 none runs")
	f.BoolVar(&b.squashfs, "squashfs", false, "build a bare squashfs")
	f.StringVarP(&b.output, "output", "o", "", "write the image to `FILE`, - is standard output\n(default: the first root's name with .sif or .sqsh)")
	b.oci.addFlags(f)
	b.encode.addFlags(f)
	f.BoolVar(&b.caching.off, "no-cache", false, "neither look into a cache nor keep anything in one")
	b.caching.addFlags(f)
	f.StringArrayVar(&b.caching.reuse, "reuse", nil, "take what has not changed from the earlier image in `FILE` (repeatable)")
	f.BoolVar(&b.noVerify, "no-verify", false, "do not compare the files with the hashes that Nix recorded:\na store that has changed goes unnoticed; implies --no-cache")
	b.source.addFlags(f)
	b.addConfigFlags(f)
	f.BoolVar(&b.digest, "digest", false, "also print the SHA-256 of the file")
	f.BoolVar(&b.asJSON, "json", false, "print the result as JSON")
	f.BoolVar(&b.dryRun, "dry-run", false, "say what would be compressed and what is in the cache, and write nothing")
	return cmd
}

// addConfigFlags adds the flags that say what an image has beside its closure.
func (b *builder) addConfigFlags(f *pflag.FlagSet) {
	f.StringVar(&b.entrypoint, "entrypoint", "", "start `PROGRAM`, with arguments separated by spaces, or a JSON list")
	f.StringVar(&b.cmd, "cmd", "", "default `ARGUMENTS` of the program, in the same forms; without --entrypoint, the program as well")
	f.StringArrayVar(&b.env, "env", nil, "set an environment variable, `KEY=VALUE` (repeatable)")
	f.StringArrayVar(&b.labels, "label", nil, "add a label, `KEY=VALUE` (repeatable)")
	f.StringVar(&b.workdir, "workdir", "", "start programs in `DIR`")
	f.StringArrayVar(&b.files, "file", nil, "add a file or directory, `[SRC:]DST` (repeatable)")
	f.StringVar(&b.arch, "arch", "", "the CPU's `ARCH`, Go's name (default: that of the programs)")
	f.StringVar(&b.platform, "platform", "", "the CPU's architecture as `linux/ARCH`")
	f.StringVar(&b.created, "created", "", "`TIME` of creation, RFC 3339 or seconds since 1970 (default 1)")
	b.gpu.addFlags(f)
	f.StringVar(&b.mpi, "mpi", "auto", "let the MPI of a host take the closure's place: `WHEN` is yes, no, or auto: if the closure uses MPI;\nsee nix2img net --help")
}

// buildResult is what "build --json" prints.
type buildResult struct {
	ImageID      string     `json:"imageID"`
	File         string     `json:"file"`
	Format       string     `json:"format"` // "sif", "oci-sif" or "squashfs"
	Size         int64      `json:"size"`   // bytes
	Architecture string     `json:"architecture"`
	Partition    sif.Extent `json:"partition"` // the root file system; bytes
	StorePaths   int        `json:"storePaths"`
	NARSize      int64      `json:"narSize"`         // bytes, of all store paths
	SHA256       string     `json:"sha256,omitzero"` // of the file, if that was asked for

	notes []string
	took  time.Duration
}

func (b *builder) run(ctx context.Context) error {
	if err := b.chooseFormat(); err != nil {
		return err
	}
	if err := b.oci.check(b); err != nil {
		return err
	}
	toStdout := b.output == "-"
	switch {
	case toStdout && term.IsTerminal(int(b.ui.stdout.Fd())):
		return withHint(usagef("-o -: standard output is a terminal"), "redirect it, or name a file")
	case b.output != "" && !toStdout:
		if _, err := checkOutput(b.output); err != nil {
			return err
		}
	}
	img, opts, err := b.open(ctx)
	defer b.source.Close()
	if err != nil {
		return err
	}
	defer b.caching.close(b.ui)
	b.caching.readOnly = b.dryRun
	if err := b.caching.open(b.ui); err != nil {
		return err
	}
	if b.dryRun {
		return b.sayForecast(ctx, img, opts)
	}
	if b.ui.verbose {
		if err := b.tellForecast(ctx, img.Closure, opts); err != nil {
			return err
		}
	}
	if b.oci.any() {
		return b.oci.build(ctx, b, img)
	}
	if toStdout {
		return b.toStdout(ctx, img, opts)
	}
	if b.output == "" {
		b.output = b.defaultOutput(img.Closure)
	}
	mode := fs.FileMode(0o666)
	if b.sif {
		mode = 0o777 // it can be run by its name
	}
	out, err := b.create(b.output, mode)
	if err != nil {
		return err
	}
	defer out.Discard()
	res, err := b.write(ctx, out, img, opts)
	if err != nil {
		return err
	}
	if b.digest {
		b.ui.busyf("reading back %s", b.output)
		if res.SHA256, err = digest(ctx, out, res.Size); err != nil {
			return fmt.Errorf("read back %s: %w", b.output, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.ui.busyf("waiting for the disk")
	if err := out.Commit(); err != nil {
		return err
	}
	return b.report(b.ui.stdout, res)
}

// defaultOutput names the image after the first root.
func (b *builder) defaultOutput(c *closure.Closure) string {
	return c.Roots()[0].Name() + map[string]string{"sif": ".sif", "oci-sif": ".oci.sif", "squashfs": ".sqsh"}[b.format()]
}

// open reads the closure, and settles what is to become of it.
func (b *builder) open(ctx context.Context) (*image.Image, *squashfs.Options, error) {
	opts, config, err := b.options()
	if err != nil {
		return nil, nil, err
	}
	use, err := b.gpu.parse(b.ui, &b.source)
	if err != nil {
		return nil, nil, err
	}
	mpi, err := parseChoice("--mpi", b.mpi)
	if err != nil {
		return nil, nil, err
	}
	b.caching.off = b.caching.off || b.noVerify
	if err := b.caching.check(); err != nil {
		return nil, nil, err
	}
	if err := b.source.check(); err != nil {
		return nil, nil, err
	}
	files, err := newUserFiles(b.files)
	if err != nil {
		return nil, nil, err
	}
	b.source.remote.forget = b.caching.off || b.dryRun
	b.ui.busyf("reading the closure")
	start := time.Now()
	c, err := b.source.open(ctx, b.ui)
	if err != nil {
		return nil, nil, err
	}
	b.ui.detailf("closure of %s: %s, %s, read in %.2f s", c.Roots()[0].Name(), plural(len(c.Objects()), "store path"),
		formatSize(c.NARSize()), time.Since(start).Seconds())
	img := &image.Image{Closure: c, Config: *config, GPU: use, MPI: mpi}
	if !use.None() || b.gpu.check.any() {
		b.accept = b.gpu.accept(b.ui, c)
	}
	if len(b.files) > 0 {
		img.Files = files
	}
	return img, opts, nil
}

// toStdout writes the image to standard output, and the result to standard error.
func (b *builder) toStdout(ctx context.Context, img *image.Image, opts *squashfs.Options) error {
	if b.caching.cache == nil {
		b.ui.infof("spooling compressed files in %s, because standard output is written from beginning to end", os.TempDir())
	}
	hash := sha256.New()
	w := io.Writer(stdout{b.ui.stdout})
	if b.digest {
		w = io.MultiWriter(w, hash)
	}
	w = ctxio.Writer(ctx, w)
	res, err := b.render(stdoutName, img, func(rt *image.Runtime) (*sif.Result, error) {
		if b.sif {
			return sif.Stream(ctx, w, img, &sif.Options{Squashfs: *opts, OCI: b.ociSIF}, rt)
		}
		plan, err := squash.Prepare(ctx, img, opts, rt)
		if err != nil {
			return nil, err
		}
		defer plan.Close()
		if err := plan.Check(ctx); err != nil {
			return nil, err
		}
		_, err = plan.WriteTo(w)
		return bare(&plan.Result), err
	})
	if err != nil {
		return err
	}
	if b.digest {
		res.SHA256 = hex.EncodeToString(hash.Sum(nil))
	}
	return b.report(b.ui.stderr, res)
}

// stdoutName is what messages call the output of -o -.
const stdoutName = "standard output"

// stdout is standard output, with errors by its name.
type stdout struct{ f *os.File }

func (s stdout) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	if err != nil {
		err = &fs.PathError{Op: "write", Path: stdoutName, Err: reason(err)}
	}
	return n, err
}

// write writes the image to a file.
func (b *builder) write(ctx context.Context, f *tempfile.File, img *image.Image, opts *squashfs.Options) (*buildResult, error) {
	return b.render(f.Path(), img, func(rt *image.Runtime) (*sif.Result, error) {
		rt.Reserve = f.Reserve
		if b.sif {
			return sif.Write(ctx, f, img, &sif.Options{Squashfs: *opts, OCI: b.ociSIF}, rt)
		}
		s, err := squash.Write(ctx, f, img, opts, rt)
		return bare(s), err
	})
}

// bare describes a squashfs as if it were the partition of a SIF without anything else.
func bare(s *squash.Result) *sif.Result {
	if s == nil {
		return nil
	}
	return &sif.Result{ID: s.ID, Size: s.Size, Partition: sif.Extent{Size: s.Size}, Record: s.Record, Notes: s.Notes}
}

// render runs what writes the image, to out, and describes the result.
func (b *builder) render(out string, img *image.Image, write func(*image.Runtime) (*sif.Result, error)) (*buildResult, error) {
	p := newProgress(b.ui, time.Now)
	s, err := write(b.runtime(p))
	took := p.done()
	if err != nil {
		return nil, b.source.advise(explain(out, err))
	}
	return &buildResult{
		File:         b.output,
		Format:       b.format(),
		StorePaths:   len(img.Closure.Objects()),
		NARSize:      img.Closure.NARSize(),
		ImageID:      s.ID,
		Size:         s.Size,
		Partition:    s.Partition,
		Architecture: s.Record.Architecture,
		notes:        s.Notes,
		took:         took,
	}, nil
}

// runtime is the Runtime of a build.
func (b *builder) runtime(p *progress) *image.Runtime {
	rt := b.caching.runtime(b.ui, p, b.encode.jobs)
	rt.SkipVerify, rt.Accept, rt.AcceptFirst = b.noVerify, b.accept, b.gpu.check.any()
	return rt
}

// explain says of an error whether it is the closure's files that are at fault.
func explain(out string, err error) error {
	if e, ok := errors.AsType[*squashfs.SourceError](err); ok {
		if e.Tree == "." { // base files, and those of the user
			return err
		}
		return &sourceError{err}
	}
	if e, ok := errors.AsType[*cache.SpoolError](err); ok {
		return fmt.Errorf("write %w: %w", errSpool, reason(e.Err))
	}
	if is[*cache.Error](err) {
		return withHint(err, "--no-cache goes without, --cache names another, and nix2img cache prune makes room")
	}
	// All other files but the output are read to look into the closure.
	if e, ok := errors.AsType[*fs.PathError](err); ok && e.Path != out {
		return &sourceError{err}
	}
	return err
}

// report tells a person what has been done, and prints the result to w.
func (b *builder) report(w io.Writer, res *buildResult) error {
	for _, note := range res.notes {
		b.ui.infof("note: %s", note)
	}
	speed := ""
	if s := res.took.Seconds(); s >= 1 {
		speed = ", " + formatSize(int64(float64(res.NARSize)/s)) + "/s"
	}
	b.ui.infof("wrote %s: %s from %s (%s), in %.1f s%s", b.output, formatSize(res.Size),
		plural(res.StorePaths, "store path"), formatSize(res.NARSize), res.took.Seconds(), speed)
	if b.asJSON {
		return b.printJSON(w, res)
	}
	_, err := fmt.Fprintf(w, "image ID %s %s\n", res.ImageID, printable(res.File))
	if b.digest && err == nil {
		_, err = fmt.Fprintf(w, "%s  %s\n", res.SHA256, printable(res.File))
	}
	return err
}

// printJSON prints a result to w. Among messages it is one line.
func (b *builder) printJSON(w io.Writer, res any) error {
	indent := "  "
	if w == b.ui.stderr {
		indent = ""
	}
	return writeEnvelope(w, "build", res, indent)
}

// chooseFormat goes by the name of the output if there is no flag.
func (b *builder) chooseFormat() error {
	switch {
	case b.ociSIF:
		b.sif = true
		return nil
	case b.sif || b.squashfs || b.oci.any():
		return nil
	}
	switch strings.ToLower(filepath.Ext(b.output)) {
	case ".sif":
		b.sif = true
		b.ociSIF = strings.HasSuffix(strings.ToLower(b.output), ".oci.sif")
	case ".sqsh", ".sqfs", ".squashfs", ".squash":
		b.squashfs = true
	default:
		return withHint(usagef("build: neither --sif nor --squashfs is given, nor --oci"),
			"--sif is for SingularityCE and Apptainer")
	}
	return nil
}

// format is what the result calls it.
func (b *builder) format() string {
	switch {
	case b.ociSIF:
		return "oci-sif"
	case b.sif:
		return "sif"
	}
	return "squashfs"
}

// options turns flags into what decides the bytes.
func (b *builder) options() (*squashfs.Options, *image.Config, error) {
	opts, err := b.encode.options()
	if err != nil {
		return nil, nil, err
	}
	if b.platform != "" {
		if b.arch, err = parsePlatform(b.platform); err != nil {
			return nil, nil, err
		}
	}
	config := &image.Config{Env: b.env, WorkingDir: b.workdir, Arch: b.arch, CheckArch: b.platform != ""}
	if b.created != "" {
		if config.Created, err = parseTime(b.created); err != nil {
			return nil, nil, usagef("--created: %w", err)
		}
	}
	if config.Entrypoint, err = parseCommand(b.entrypoint); err != nil {
		return nil, nil, usagef("--entrypoint: %w", err)
	}
	if config.Cmd, err = parseCommand(b.cmd); err != nil {
		return nil, nil, usagef("--cmd: %w", err)
	}
	for _, label := range b.labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok {
			return nil, nil, usagef("--label %s: want KEY=VALUE", label)
		}
		if config.Labels == nil {
			config.Labels = make(map[string]string)
		}
		config.Labels[key] = value
	}
	return opts, config, config.Validate()
}

// parseTime reads a time in RFC 3339, a date, or seconds since 1970.
func parseTime(s string) (time.Time, error) {
	if n, err := strconv.ParseInt(strings.TrimPrefix(s, "@"), 10, 64); err == nil {
		return time.Unix(n, 0).UTC(), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-01-31T12:00:00Z nor seconds since 1970", s)
}

// parseCommand reads words separated by spaces, or a JSON list of strings.
func parseCommand(s string) ([]string, error) {
	if !strings.HasPrefix(strings.TrimSpace(s), "[") {
		return strings.Fields(s), nil
	}
	var args []string
	if err := json.Unmarshal([]byte(s), &args); err != nil {
		return nil, fmt.Errorf("%s is not a JSON list of strings", s)
	}
	return args, nil
}

// digest computes the SHA-256 of a file's contents.
func digest(ctx context.Context, r io.ReaderAt, size int64) (string, error) {
	hash := sha256.New()
	if _, err := io.Copy(ctxio.Writer(ctx, hash), io.NewSectionReader(r, 0, size)); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
