package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/oci/layering"
	"github.com/nix2img/nix2img/image/oci/layout"
)

// layeringFlags says which store paths share a layer, flag by flag.
type layeringFlags struct {
	max            int
	file, previous string
}

func (l *layeringFlags) addFlags(f *pflag.FlagSet) {
	f.IntVar(&l.max, "layers", layering.DefaultLayers, "make at most `N` layers (OCI)")
	f.StringVar(&l.file, "layers-file", "", "put together what `FILE` says: in each line a layer, as patterns of names (OCI)")
	f.StringVar(&l.previous, "previous", "", "keep the layers of the image in the OCI layout `DIR[:TAG]` (OCI)")
}

func (l *layeringFlags) options(arch string) (opts layering.Options, err error) {
	if l.max < 2 || l.max > layering.MaxLayers {
		return opts, usagef("--layers %d: want 2 to %d", l.max, layering.MaxLayers)
	}
	opts.Max = l.max
	if l.file != "" {
		if opts.Groups, err = readGroups(l.file); err != nil {
			return opts, err
		}
	}
	if l.previous != "" {
		if opts.Previous, err = previousPaths(l.previous, arch); err != nil {
			return opts, fmt.Errorf("--previous: %w", err)
		}
	}
	return opts, nil
}

// previousPaths returns what was in the layers of an image in a layout or an archive:
// of several, the one that was put there last.
func previousPaths(name, arch string) ([][]string, error) {
	stored, err := layout.Open(name, &layout.Choice{Arch: arch, Host: runtime.GOARCH, Latest: true})
	if err != nil {
		return nil, err
	}
	defer stored.Close()
	if stored.Manifest == nil {
		return nil, fmt.Errorf("%s: an archive of docker save does not tell what is in the layers", name)
	}
	return oci.ManifestPaths(stored.Manifest)
}

// readGroups reads a file of layers: patterns separated by spaces, a layer in each line. # begins a comment.
func readGroups(name string) (groups [][]string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--layers-file %s: %w", name, reason(err))
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		line, _, _ := strings.Cut(s.Text(), "#")
		if patterns := strings.Fields(line); len(patterns) > 0 {
			groups = append(groups, patterns)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("--layers-file %s: %w", name, reason(err))
	}
	return groups, nil
}

// layerer is one run of "nix2img layers", flag by flag.
type layerer struct {
	*app
	source   source
	layering layeringFlags
	asJSON   bool
}

func newLayers(a *app) *cobra.Command {
	l := &layerer{app: a}
	cmd := &cobra.Command{
		Use:   "layers [flags] ROOT...",
		Short: "Show how an OCI image is divided into layers",
		Long: `Show which store paths share a layer of an OCI image, and what a change would cost:
how many bytes are to be pulled again when the application, a Python module (on average),
python, glibc or CUDA changes, with all that depend on it. Sizes are those before compression.

What changes together is put together, so that much stays when something changes.
A --layers-file has a layer in each line: patterns for names such as glibc-* or python3.*-numpy-*,
separated by spaces. What no line matches is divided as usual.`,
		Example: `  nix2img layers ./result
  nix2img layers --layers 20 --json ./result`,
		RunE: func(cmd *cobra.Command, args []string) error {
			l.source.roots = args
			return l.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	l.layering.addFlags(f)
	l.source.addFlags(f)
	f.BoolVar(&l.asJSON, "json", false, "print the plan as JSON")
	return cmd
}

// layersResult is what "layers --json" prints.
type layersResult struct {
	Layers  []layerResult     `json:"layers"`
	Changes []layering.Change `json:"changes"`
}

type layerResult struct {
	Size  int64          `json:"size"` // bytes of NARs
	Paths []closure.Path `json:"paths"`
}

func (l *layerer) run(ctx context.Context) error {
	opts, err := l.layering.options("")
	if err != nil {
		return err
	}
	if err := l.source.check(); err != nil {
		return err
	}
	c, err := l.source.open(ctx, l.ui)
	defer l.source.Close()
	if err != nil {
		return err
	}
	plan, err := opts.Plan(c)
	if err != nil {
		return &usageError{err}
	}
	res := layersResult{Changes: layering.Changes(c, plan)}
	for _, layer := range plan {
		r := layerResult{}
		for _, o := range layer {
			r.Size += o.NARSize
			r.Paths = append(r.Paths, o.Path)
		}
		res.Layers = append(res.Layers, r)
	}
	if l.asJSON {
		return printEnvelope(l.ui, "layers", &res)
	}
	return l.print(&res, c.NARSize())
}

// maxListed is how many names of a layer are printed.
const maxListed = 4

func (l *layerer) print(res *layersResult, total int64) error {
	var b strings.Builder
	for i, layer := range res.Layers {
		var names []string
		for _, p := range layer.Paths[:min(len(layer.Paths), maxListed)] {
			names = append(names, p.Name())
		}
		if more := len(layer.Paths) - len(names); more > 0 {
			names = append(names, fmt.Sprintf("and %d more", more))
		}
		fmt.Fprintf(&b, "%3d  %9s  %s\n", i+1, formatSize(layer.Size), strings.Join(names, ", "))
	}
	fmt.Fprintf(&b, "\n%s in all, of which is to be pulled again after a change of\n", formatSize(total))
	for _, ch := range res.Changes {
		fmt.Fprintf(&b, "     %9s  %s\n", formatSize(ch.Bytes), ch.Name)
	}
	return l.ui.resultf("%s", b.String())
}
