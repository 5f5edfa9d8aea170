package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/sif"
)

// caching says where segments are kept and looked for, flag by flag.
type caching struct {
	off   bool
	dir   string
	size  string
	from  []string
	reuse []string
	trust bool

	limit      int64
	cache      *squash.Cache // nil: none
	layers     *oci.Cache    // nil: none
	sources    []squash.Source
	layersFrom []*oci.Cache
	files      []io.Closer
}

const defaultCacheSize = "32G"

func (c *caching) addFlags(f *pflag.FlagSet) {
	c.addDirFlag(f)
	c.addSizeFlag(f)
	c.addFromFlag(f)
	f.BoolVar(&c.trust, "trust-cache", false, "do not check the contents of --cache-from and --reuse against the NAR hashes,\nand take a --cache that others can write to")
}

func (c *caching) addDirFlag(f *pflag.FlagSet) {
	f.StringVar(&c.dir, "cache", "", "keep what was compressed in `DIR` (default $XDG_CACHE_HOME/nix2img)")
}

func (c *caching) addSizeFlag(f *pflag.FlagSet) {
	f.StringVar(&c.size, "cache-size", defaultCacheSize, "then remove from the cache what was not used lately, down to `SIZE`")
}

func (c *caching) addFromFlag(f *pflag.FlagSet) {
	f.StringArrayVar(&c.from, "cache-from", nil, "look into the cache in `DIR` as well, without writing to it (repeatable)")
}

// check judges the flags.
func (c *caching) check() (err error) {
	if c.limit, err = parseSize(c.size); err != nil {
		return usagef("--cache-size: %w", err)
	}
	return nil
}

// openLayers opens the user's cache and all other sources of layers.
func (c *caching) openLayers(u *ui) error {
	for _, dir := range c.from {
		cache, err := oci.OpenForeignCache(dir, c.trust)
		if err != nil {
			return err
		}
		c.layersFrom = append(c.layersFrom, cache)
	}
	if c.off {
		return nil
	}
	return c.openOwn(u)
}

// open opens the user's cache and all other sources of segments.
func (c *caching) open(u *ui) error {
	mode := squash.ForeignCache
	if c.trust {
		mode = squash.TrustedCache
	}
	for _, dir := range c.from {
		cache, err := squash.OpenCache(dir, mode)
		if err != nil {
			return err
		}
		c.sources = append(c.sources, cache)
	}
	for _, name := range c.reuse {
		previous, err := c.previous(name)
		if err != nil {
			return fmt.Errorf("--reuse %s: %w", name, reason(err))
		}
		c.sources = append(c.sources, previous)
	}
	if c.off {
		return nil
	}
	return c.openOwn(u)
}

// openOwn opens the user's own cache. The default one may be impossible,
// for somebody without a home directory for instance.
func (c *caching) openOwn(u *ui) error {
	dir, err := c.dir, error(nil)
	if dir == "" {
		if dir, err = os.UserCacheDir(); err == nil {
			dir = filepath.Join(dir, "nix2img")
		}
	}
	if err == nil {
		mode := squash.OwnCache
		if c.trust {
			mode = squash.SharedCache
		}
		c.cache, err = squash.OpenCache(dir, mode)
	}
	if err == nil {
		c.layers, err = oci.OpenCache(dir, c.trust)
	}
	switch {
	case err == nil:
	case c.dir == "":
		u.infof("note: building without a cache: %v", err)
	case is[*squash.CacheTrustError](err):
		return withHint(err, "chmod go-w %s, or --trust-cache if you trust all who can write to it", dir)
	default:
		return err
	}
	return nil
}

func (c *caching) previous(name string) (*squash.Previous, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	c.files = append(c.files, f)
	var r io.ReaderAt = f
	if sif.Detect(f) {
		info, err := sif.Open(f)
		if err != nil {
			return nil, err
		}
		r = io.NewSectionReader(f, info.Partition.Offset, info.Partition.Size)
	}
	return squash.OpenPrevious(r, c.trust)
}

// configure puts what has been opened into a Runtime.
func (c *caching) configure(rt *squash.Runtime, u *ui) {
	rt.Cache, rt.From = c.cache, c.sources
	rt.Note = func(s string) { u.infof("note: %s", s) }
}

// layersRuntime is the Runtime of layers that goes with what has been opened.
func (c *caching) layersRuntime(u *ui, p *progress, jobs int) *oci.Runtime {
	return &oci.Runtime{
		Workers: jobs, Cache: c.layers, From: c.layersFrom,
		Progress: func(s oci.Progress) { p.update(squash.Progress(s)) },
		Note:     func(s string) { u.infof("note: %s", s) },
	}
}

// close closes all, and keeps the cache from growing without end.
func (c *caching) close(u *ui) {
	for _, f := range c.files {
		f.Close()
	}
	if c.cache == nil {
		return
	}
	n, size, err := c.prune(c.limit)
	if err != nil {
		u.warnf("%v", err)
	} else if n > 0 {
		u.detailf("removed %s (%s) from the cache, which is limited to %s", plural(n, "segment"), formatSize(size), c.size)
	}
}

// prune makes the cache smaller. Layers get half of the room, and what segments leave.
func (c *caching) prune(limit int64) (n int, size int64, err error) {
	segments, err := c.cache.Info()
	if err != nil {
		return 0, 0, err
	}
	n, size, err = c.layers.Prune(max(limit/2, limit-segments.Size))
	if err != nil {
		return n, size, err
	}
	_, layers, err := c.layers.Info()
	if err != nil {
		return n, size, err
	}
	m, more, err := c.cache.Prune(max(0, limit-layers))
	return n + m, size + more, err
}

// info describes the cache.
func (c *caching) info() (squash.CacheInfo, error) {
	i, err := c.cache.Info()
	if err != nil {
		return i, err
	}
	entries, size, err := c.layers.Info()
	i.Entries += entries
	i.Size += size
	return i, err
}

func newCache(a *app) *cobra.Command {
	c := &caching{size: "0"}
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Look at the cache of compressed store paths, check it, or make it smaller",
		Long: `The cache keeps every store path as it was compressed, for each compression that was used.
A path is found by the hash of its contents, so the cache never goes stale;
it can be removed at any time.`,
		Args: func(cmd *cobra.Command, args []string) error {
			return withHint(usagef("cache: want info, prune or verify"), "see %s --help", cmd.CommandPath())
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	c.addDirFlag(cmd.PersistentFlags())
	cmd.PersistentFlags().BoolVar(&c.trust, "trust-cache", false, "take a cache that others can write to")
	open := func() error {
		if err := c.openOwn(a.ui); err != nil {
			return err
		}
		if c.cache == nil {
			return errors.New("there is no cache")
		}
		return nil
	}

	asJSON := false
	info := &cobra.Command{
		Use:   "info",
		Short: "Say where the cache is and how large",
		Args:  exactArgs(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			if err := open(); err != nil {
				return err
			}
			i, err := c.info()
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.ui.stdout, i, "")
			}
			return a.ui.resultf("%s: %s, %s\n", i.Dir, plural(i.Entries, "segment"), formatSize(i.Size))
		},
	}
	info.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")

	keep := "0"
	prune := &cobra.Command{
		Use:   "prune",
		Short: "Remove what has not been used for the longest time",
		Example: `  nix2img cache prune --keep 10G
  nix2img cache prune`,
		Args: exactArgs(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			limit, err := parseSize(keep)
			if err != nil {
				return usagef("--keep: %w", err)
			}
			if err := open(); err != nil {
				return err
			}
			n, size, err := c.prune(limit)
			if err != nil {
				return err
			}
			return a.ui.resultf("removed %s, %s\n", plural(n, "segment"), formatSize(size))
		},
	}
	prune.Flags().StringVar(&keep, "keep", keep, "keep `SIZE` of what was used last")

	verify := &cobra.Command{
		Use:   "verify",
		Short: "Decode everything and compare it with its NAR hash",
		Args:  exactArgs(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := open(); err != nil {
				return err
			}
			n, bad, err := c.cache.Verify(cmd.Context(), func(name string, reason error) {
				a.ui.infof("removed %s: %v", name, reason)
			})
			if err != nil {
				return err
			}
			m, more, err := c.layers.Verify(cmd.Context(), func(name string, reason error) {
				a.ui.infof("removed %s: %v", name, reason)
			})
			if err != nil {
				return err
			}
			n, bad = n+m, bad+more
			if bad > 0 {
				return &verifyError{fmt.Errorf("cache: %d of %d entries were damaged, and have been removed", bad, n)}
			}
			return a.ui.resultf("%d entries are what they should be\n", n)
		},
	}
	cmd.AddCommand(info, prune, verify)
	return cmd
}

// verifyError is about contents that are not what they should be.
type verifyError struct{ err error }

func (e *verifyError) Error() string { return e.err.Error() }
func (e *verifyError) Unwrap() error { return e.err }

// warmer is one run of "nix2img warm".
type warmer struct {
	*app
	source  source
	encode  encoding
	caching caching
	shard   string
	oci     bool
	layers  layeringFlags
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
	completeFlags(cmd)
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
	p := newProgress(w.ui, time.Now)
	defer w.caching.close(w.ui)
	objects, encoded, err := warm(ctx, c, p, i, n)
	took := p.done()
	if err != nil {
		return w.source.advise(err)
	}
	w.ui.infof("compressed %d of %s, in %.1f s; the others were in the cache", encoded, plural(objects, "store path"), took.Seconds())
	return nil
}

// A warmFunc compresses the i-th of n shards of a closure.
type warmFunc func(ctx context.Context, c *closure.Closure, p *progress, i, n int) (objects, encoded int, err error)

// prepare judges the flags that say what to compress, and returns what does it.
func (w *warmer) prepare() (warmFunc, error) {
	opts, err := w.encode.options()
	if err != nil {
		return nil, err
	}
	if !w.oci {
		return func(ctx context.Context, c *closure.Closure, p *progress, i, n int) (int, int, error) {
			if err := w.caching.open(w.ui); err != nil {
				return 0, 0, err
			}
			rt := &squash.Runtime{Workers: w.encode.jobs, Progress: p.update}
			w.caching.configure(rt, w.ui)
			objects, encoded, err := squash.Warm(ctx, c, opts, rt, i, n)
			return objects, encoded, explain("", err)
		}, nil
	}
	layers, err := w.encode.layers()
	if err != nil {
		return nil, err
	}
	if layers.Layering, err = w.layers.options(""); err != nil {
		return nil, err
	}
	return func(ctx context.Context, c *closure.Closure, p *progress, i, n int) (int, int, error) {
		if err := w.caching.openLayers(w.ui); err != nil {
			return 0, 0, err
		}
		objects, encoded, err := oci.Warm(ctx, c, layers, w.caching.layersRuntime(w.ui, p, w.encode.jobs), i, n)
		return objects, encoded, explainOCI(err)
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
