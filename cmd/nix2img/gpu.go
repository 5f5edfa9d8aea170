package main

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/oci/layout"
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/sif"
)

// gpuLooker is one run of "nix2img gpu".
type gpuLooker struct {
	*app
	source  source
	caching caching
	check   gpuCheck
	arch    string
	nv      string
	asJSON  bool
}

func newGPU(a *app) *cobra.Command {
	g := &gpuLooker{app: a}
	cmd := &cobra.Command{
		Use:   "gpu [flags] ROOT...|IMAGE",
		Short: "Say which GPUs and drivers a closure or image will run with",
		Long: `Say what a closure or image needs of a GPU and its driver: which GPUs its libraries
have code for, the versions of CUDA, the oldest driver, how libraries of the driver will be
found, and what is suspicious. Nothing is run, and no GPU is needed.

A ROOT is what build takes, and a closure comes from the same places.
An IMAGE is a SIF, a squashfs, an OCI layout or archive, or what docker save writes, whoever made it.
The layers of the last three are unpacked into a temporary file.

With --for, the command fails with exit code 6 if the programs will not run on one of the GPUs:
some library has no code for it. It warns if the driver has to compile that first (JIT),
if the code cannot be seen, as with programs that compile it themselves, and if GPU, driver or CUDA
are later than what this version of nix2img knows. What has no GPU code at all fails, too,
unless --nv no says that this is meant.
A GPU is the name of a product as nvidia-smi, rocm-smi, Slurm or a shop has it (A100, RTX 4090,
"NVIDIA H100 80GB HBM3", MI250X), a compute capability (8.0 or sm_80), or gfx90a.
With --driver, it also fails if the driver is too old, or too new for the GPU.
--for @FILE, and --for - for standard input, take GPUs and driver from what one of these prints:
nvidia-smi -q -x, nvidia-smi --query-gpu=name,driver_version --format=csv, nvidia-smi -L.

--site FILE compares with the partitions of a cluster, described once, in TOML:

  [partitions.dgx]
  gpus = ["H100"]
  driver = "550.54.14"

It prints one table for all. With --partition, the command fails if the programs will not run on
one of those; without, only if they will not run on any.

A library that no program loads, a profiler, or one that --waive names, fails nothing.

In the table, SASS is machine code of NVIDIA GPUs, PTX is compiled by the driver, HIP is
machine code of AMD GPUs. Numbers count containers, of which each source file has one.
With --json, the array libraries has path and code for each, and code has rows
with kind (sass, ptx, lto, hip), target, and the counts sections (as cuobjdump) and file.`,
		Example: `  nix2img gpu ./result
  nix2img gpu --for A100,H100 --driver 535.54.03 ./result
  ssh node nvidia-smi -q -x | nix2img gpu --for - app.sif
  nix2img gpu --site site.toml --partition dgx,a40 ./result
  nix2img gpu --json app.sif | jq -r '.libraries[].path'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			g.source.roots = args
			return g.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	g.check.addFlags(f)
	g.source.addFlags(f)
	f.BoolVar(&g.caching.off, "no-cache", false, "look into all files, and keep nothing in a cache")
	g.caching.addDirFlag(f)
	f.IntVarP(&g.source.jobs, "jobs", "j", 0, "use `N` cores, which never changes the output (default: all)")
	f.StringVar(&g.arch, "arch", "", "the CPU's `ARCH`, Go's name, of an OCI image for several")
	f.StringVar(&g.nv, "nv", "auto", "with no as `WHEN`: what has no GPU code is meant to run on the CPU")
	f.BoolVar(&g.asJSON, "json", false, "print JSON")
	return cmd
}

// gpuResult is what "gpu --json" prints.
type gpuResult struct {
	Summary *gpu.Summary `json:"summary"`
	Verdict *gpu.Verdict `json:"verdict,omitempty"` // if there was something to compare with
	// Partitions are those of a site.
	Partitions []partitionVerdict `json:"partitions,omitempty"`
	*gpu.Report
}

func (g *gpuLooker) run(ctx context.Context) error {
	nv, err := parseChoice("--nv", g.nv)
	switch {
	case err != nil:
		return err
	case nv == image.Yes:
		return usagef("--nv yes: there is no image to be made ready: want auto or no")
	}
	g.check.demand.CPU = nv == image.No
	if err := g.check.parse(g.ui, &g.source); err != nil {
		return err
	}
	if g.source.jobs < 0 {
		return usagef("--jobs %d: want 0 or more", g.source.jobs)
	}
	report, err := g.look(ctx)
	if err != nil {
		return err
	}
	res := &gpuResult{Summary: report.Summary(), Verdict: g.check.verdict(report), Partitions: g.check.onSite(report), Report: report}
	if g.check.any() {
		g.ui.detailf("tables of %s, up to CUDA %s and driver %s", report.Tables.Date, report.Tables.CUDA, report.Tables.Driver)
	}
	if g.asJSON {
		err = printEnvelope(g.ui, "gpu", res)
	} else {
		err = res.print(g.ui)
	}
	if err != nil {
		return err
	}
	return g.check.judge(g.ui, res.Verdict, res.Partitions)
}

// look makes the report of an image or a closure.
func (g *gpuLooker) look(ctx context.Context) (*gpu.Report, error) {
	rt := &gpu.Runtime{Workers: g.source.jobs}
	if len(g.source.roots) == 1 && isImage(g.source.roots[0]) {
		name := g.source.roots[0]
		g.ui.busyf("looking for GPU code in %s", name)
		defer g.ui.status("")
		return lookIntoImage(ctx, name, g.arch, rt)
	}
	if err := g.source.check(); err != nil {
		return nil, err
	}
	g.ui.busyf("reading the closure")
	c, err := g.source.open(ctx, g.ui)
	defer g.source.Close()
	if err != nil {
		return nil, err
	}
	g.ui.busyf("looking for GPU code in %s", formatSize(c.NARSize()))
	if !g.caching.off {
		if err := g.caching.openOwn(g.ui); err != nil {
			return nil, err
		}
	}
	report, err := lookIntoClosure(ctx, c, &image.Runtime{Workers: g.source.jobs, Cache: g.caching.cache})
	if err != nil {
		return nil, g.source.advise(&sourceError{err})
	}
	g.ui.status("")
	return report, nil
}

// isImage reports whether an argument is an image, and not a root of a closure.
func isImage(name string) bool {
	if layout.Detect(name) {
		return true
	}
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	return sif.Detect(f) || isSquashfs(f)
}

func lookIntoImage(ctx context.Context, name, arch string, rt *gpu.Runtime) (*gpu.Report, error) {
	fsys, done, err := openFiles(ctx, name, arch, true)
	if err != nil {
		return nil, err
	}
	defer done()
	return lookIntoFiles(ctx, name, fsys, rt)
}

// lookIntoFiles makes the report of an image's root file system.
func lookIntoFiles(ctx context.Context, name string, fsys fs.FS, rt *gpu.Runtime) (*gpu.Report, error) {
	record, err := readRecord(fsys)
	if err != nil {
		return nil, fmt.Errorf("gpu: %s: %w", name, err)
	}
	facts, err := gpu.Inspect(ctx, fsys, ".", rt)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	report := gpu.New([]gpu.Tree{{At: "/", Facts: facts}})
	if record != nil {
		refs := make(map[closure.Path][]closure.Path)
		for _, o := range record.Objects {
			refs[o.Path] = o.References
		}
		explainSuspects(report, record.Roots, refs)
	}
	return report, nil
}

func lookIntoClosure(ctx context.Context, c *closure.Closure, rt *image.Runtime) (*gpu.Report, error) {
	found, err := squash.Inspect(ctx, c, rt, gpu.Inspector)
	if err != nil {
		return nil, err
	}
	objects := c.Objects()
	trees := make([]gpu.Tree, len(objects))
	refs := make(map[closure.Path][]closure.Path)
	for i, o := range objects {
		facts, err := gpu.FactsOf(found[o.Path])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Path, err)
		}
		trees[i] = gpu.Tree{At: string(o.Path), Facts: facts}
		refs[o.Path] = o.References
	}
	report := gpu.New(trees)
	explainSuspects(report, c.Roots(), refs)
	return report, nil
}

// explainSuspects says of each suspect by whose references it is there.
func explainSuspects(r *gpu.Report, roots []closure.Path, refs map[closure.Path][]closure.Path) {
	referrer := make(map[closure.Path]closure.Path) // on a shortest way from a root
	queue := slices.Clone(roots)
	for _, p := range roots {
		referrer[p] = ""
	}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, p := range refs[queue[0]] {
			if _, seen := referrer[p]; !seen {
				referrer[p] = queue[0]
				queue = append(queue, p)
			}
		}
	}
	for i := range r.Suspects {
		s := &r.Suspects[i]
		if _, known := referrer[closure.Path(s.Tree)]; !known {
			continue
		}
		for p := closure.Path(s.Tree); p != ""; p = referrer[p] {
			s.Why = append(s.Why, string(p))
		}
		slices.Reverse(s.Why)
	}
}

// gpuCheck is what an image is compared with, flag by flag.
type gpuCheck struct {
	targetNames []string
	driverName  string
	site        string
	partitions  []string

	demand gpu.Demand
	parts  []partition // of the site, those that were asked for
}

func (c *gpuCheck) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&c.targetNames, "for", nil, "fail if it will not run on these `GPU`s: A100, sm_120, gfx90a, ... (commas between),\nor those in @FILE, or - for standard input: see nix2img gpu --help")
	f.StringVar(&c.driverName, "driver", "", "suppose an NVIDIA driver of this `VERSION`, such as 535.54.03, or branch, R535")
	f.StringVar(&c.site, "site", "", "compare with the partitions of a cluster, which `FILE` describes: see nix2img gpu --help")
	f.StringSliceVar(&c.partitions, "partition", nil, "fail if it will not run on the partition `NAME` of --site (commas between)")
	f.StringSliceVar(&c.demand.Waive, "waive", nil, "let libraries of this `NAME` not decide, such as 'libcupti*' (commas between)")
}

// parse judges the flags, beside those that say where a closure comes from.
func (c *gpuCheck) parse(u *ui, from *source) error {
	if err := c.openSite(); err != nil {
		return err
	}
	if err := c.parseTargets(u, from); err != nil {
		return err
	}
	if c.driverName != "" {
		var err error
		if c.demand.Driver, err = gpu.ParseDriver(c.driverName); err != nil {
			return usagef("--driver: %w", err)
		}
	}
	for _, pattern := range c.demand.Waive {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return usagef("--waive %q: not a pattern for a file's name", pattern)
		}
	}
	return nil
}

// parseTargets finds the GPUs of --for, and the driver where nvidia-smi has said it.
func (c *gpuCheck) parseTargets(u *ui, from *source) error {
	for _, name := range c.targetNames {
		file, isFile := strings.CutPrefix(name, "@")
		if name != "-" && !isFile {
			t, err := gpu.ParseTarget(name)
			if err != nil {
				return usagef("--for: %w", err)
			}
			c.demand.Targets = append(c.demand.Targets, t)
			continue
		}
		if name == "-" {
			if file = ""; from.closure == "-" || slices.Contains(from.from, "-") {
				return usagef("--for -: standard input has the closure")
			}
		}
		h, err := readHost(u, file)
		if err != nil {
			return fmt.Errorf("--for %s: %w", name, err)
		}
		if h.Driver != "" && c.demand.Driver != "" && h.Driver != c.demand.Driver {
			return usagef("--for: drivers %s and %s: ask for one at a time", c.demand.Driver, h.Driver)
		}
		c.demand.Targets = append(c.demand.Targets, h.Targets...)
		c.demand.Driver = cmp.Or(c.demand.Driver, h.Driver)
	}
	return nil
}

// readHost reads what nvidia-smi has printed, from a file or, without a name, standard input.
func readHost(u *ui, name string) (*gpu.Host, error) {
	if name == "" {
		return gpu.ReadHost(u.stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return gpu.ReadHost(f)
}

// any reports whether there is something to compare with.
func (c *gpuCheck) any() bool { return c.demand.Accepts() || c.parts != nil }

// verdict compares. It is nil if there is nothing to compare with.
func (c *gpuCheck) verdict(r *gpu.Report) *gpu.Verdict {
	if !c.demand.Accepts() {
		return nil
	}
	return r.Check(&c.demand)
}

// targetError is an image that will not run where it is to.
type targetError struct{ err error }

func (e *targetError) Error() string { return e.err.Error() }
func (e *targetError) Unwrap() error { return e.err }

// judge warns of what a verdict has against an image, or returns a [*targetError].
func (c *gpuCheck) judge(u *ui, v *gpu.Verdict, site []partitionVerdict) error {
	if v == nil {
		return c.judgeSite(u, site)
	}
	var failed []string
	var rebuild, cpu bool
	for i := range v.Targets {
		t := &v.Targets[i]
		switch t.Outcome {
		case gpu.WillFail:
			failed = append(failed, fmt.Sprintf("%s: %s", t.Name(), reasonText(t)))
			rebuild = rebuild || t.Target != nil && strings.HasPrefix(t.Target.Code, "sm_") && t.Reasons[0].Path != ""
			cpu = cpu || t.Reasons[0].Path == "" && strings.HasPrefix(t.Reasons[0].Text, "no GPU code")
		case gpu.JITOnly, gpu.Unknown:
			u.warnf("%s: %s: %s", t.Name(), outcomeText(t), reasonText(t))
		}
	}
	if failed == nil {
		return nil
	}
	err := &targetError{fmt.Errorf("will not run on %s", strings.Join(failed, "; nor on "))}
	switch {
	case cpu:
		return withHint(err, "in nixpkgs, config.cudaSupport or rocmSupport has packages built for GPUs; --nv no says that it is meant to run on the CPU")
	case rebuild:
		return withHint(err, "in nixpkgs, config.cudaCapabilities says what libraries are compiled for; prebuilt ones have what their version has")
	}
	return err
}

// outcomeText says in few words what an outcome means.
func outcomeText(t *gpu.TargetVerdict) string {
	switch t.Outcome {
	case gpu.Runs:
		return "runs"
	case gpu.JITOnly:
		return "runs, when the driver has compiled the code (JIT)"
	case gpu.Unknown:
		return "not known"
	}
	return "will not run"
}

// reasonText returns the reason that counts most.
func reasonText(t *gpu.TargetVerdict) string {
	r := t.Reasons[0]
	text := r.Text
	if r.Path != "" {
		text = r.Path + ": " + text
	}
	if r.ReachedBy != "" && r.ReachedBy != r.Path {
		text += ", and " + shortPath(r.ReachedBy) + " loads it"
	}
	n := 0
	for _, other := range t.Reasons[1:] {
		if other.Outcome == r.Outcome {
			n++
		}
	}
	if n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}
