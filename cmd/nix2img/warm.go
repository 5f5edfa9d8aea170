package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/squash"
)

// warmer is one run of "nix2img warm".
type warmer struct {
	*app
	source  source
	encode  encoding
	caching caching
	shard   string
	oci     bool
	layers  layeringFlags
	asJSON  bool
}

// warmResult is what "warm --json" prints.
type warmResult struct {
	Shard      int `json:"shard"` // of shards, from 0
	Shards     int `json:"shards"`
	StorePaths int `json:"storePaths"` // of the shard
	Compressed int `json:"compressed"` // of those, the ones that were not in the cache
}

func newWarm(a *app) *cobra.Command {
	w := &warmer{app: a}
	cmd := &cobra.Command{
		Use:   "warm [flags] ROOT...",
		Short: "Compress store paths into the cache, for builds to come",
		Long: `Compress the given store paths, and all that they refer to, into the cache.
A build with the same compression and block size then only puts them together.

With --oci, this is for the layers of OCI images, which are compressed otherwise than SIFs.
Then a build, or push, with the same division into layers does not even look at their contents.

With --shard I/N, with I from 0 to N-1, only an N-th of the store paths is compressed,
always the same one. So N machines that share a cache can do the work side by side.`,
		Example: `  nix2img warm ./result
  nix2img warm --oci --compression zstd ./result
  srun -N8 sh -c 'nix2img warm --cache /scratch/cache --shard $SLURM_PROCID/$SLURM_NTASKS ./result'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			w.source.roots = args
			w.source.jobs = w.encode.jobs
			return w.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	w.encode.addFlags(f)
	w.caching.addFlags(f)
	f.StringVar(&w.shard, "shard", "0/1", "compress the `I/N`-th part only")
	w.source.addFlags(f)
	f.BoolVar(&w.oci, "oci", false, "compress for layers of OCI images")
	w.layers.addFlags(f)
	f.BoolVar(&w.asJSON, "json", false, "print JSON")
	return cmd
}

func (w *warmer) run(ctx context.Context) error {
	i, n, err := parseShard(w.shard)
	if err != nil {
		return err
	}
	warm, err := w.prepare()
	if err != nil {
		return err
	}
	if err := w.caching.check(); err != nil {
		return err
	}
	if err := w.source.check(); err != nil {
		return err
	}
	c, err := w.source.open(ctx, w.ui)
	defer w.source.Close()
	if err != nil {
		return err
	}
	defer w.caching.close(w.ui)
	if err := w.caching.open(w.ui); err != nil {
		return err
	}
	p := newProgress(w.ui, time.Now)
	done, err := warm(ctx, c, w.caching.runtime(w.ui, p, w.encode.jobs), i, n)
	took := p.done()
	if err != nil {
		return w.source.advise(err)
	}
	w.ui.infof("compressed %d of %s, in %.1f s; the others were in the cache", done.Encoded, plural(done.Objects, "store path"), took.Seconds())
	if w.asJSON {
		return printEnvelope(w.ui, "warm", &warmResult{i, n, done.Objects, done.Encoded})
	}
	return nil
}

// A warmFunc compresses the i-th of n shards of a closure.
type warmFunc func(ctx context.Context, c *closure.Closure, rt *image.Runtime, i, n int) (*image.Warmed, error)

// prepare judges the flags that say what to compress, and returns what does it.
func (w *warmer) prepare() (warmFunc, error) {
	opts, err := w.encode.options()
	if err != nil {
		return nil, err
	}
	if !w.oci {
		return func(ctx context.Context, c *closure.Closure, rt *image.Runtime, i, n int) (*image.Warmed, error) {
			done, err := squash.Warm(ctx, c, opts, rt, i, n)
			return done, explain("", err)
		}, nil
	}
	layers, err := w.encode.layers()
	if err != nil {
		return nil, err
	}
	if layers.Layering, err = w.layers.options(""); err != nil {
		return nil, err
	}
	return func(ctx context.Context, c *closure.Closure, rt *image.Runtime, i, n int) (*image.Warmed, error) {
		done, err := oci.Warm(ctx, c, layers, rt, i, n)
		return done, explainOCI(err)
	}, nil
}

// parseShard reads "I/N".
func parseShard(s string) (i, n int, err error) {
	a, b, ok := strings.Cut(s, "/")
	i, err1 := strconv.Atoi(a)
	n, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil || i < 0 || i >= n {
		return 0, 0, usagef("--shard %s: want I/N, with I from 0 to N-1", s)
	}
	return i, n, nil
}
