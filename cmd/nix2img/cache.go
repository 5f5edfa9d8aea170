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
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/sif"
)

// caching says where compressed store paths are kept and looked for, flag by flag.
type caching struct {
	off   bool
	dir   string
	size  string
	from  []string
	reuse []string
	trust bool

	limit   int64
	cache   *cache.Cache // nil: none
	sources []cache.Source
	files   []io.Closer
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

// open opens the user's cache and all other sources.
func (c *caching) open(u *ui) error {
	mode := cache.Foreign
	if c.trust {
		mode = cache.Trusted
	}
	for _, dir := range c.from {
		from, err := cache.Open(dir, mode)
		if err != nil {
			return err
		}
		c.sources, c.files = append(c.sources, from), append(c.files, from)
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
		if dir, err = defaultCache(); err == nil && dir == "" {
			return nil
		}
	}
	if err == nil {
		mode := cache.Own
		if c.trust {
			mode = cache.Shared
		}
		c.cache, err = cache.Open(dir, mode)
	}
	switch {
	case err == nil:
		c.files = append(c.files, c.cache)
	case c.dir == "":
		u.infof("note: building without a cache: %v", err)
	case is[*cache.TrustError](err):
		return withHint(err, "chmod go-w %s, or --trust-cache if you trust all who can write to it", dir)
	default:
		return err
	}
	return nil
}

// defaultCache returns the directory of the cache if none is named. It is empty where there is to be none:
// in a Nix build, whose HOME must not come to be.
func defaultCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	const shelter = "/homeless-shelter"
	home := os.Getenv("HOME")
	if dir == shelter || strings.HasPrefix(dir, shelter+"/") || home == shelter && os.Getenv("NIX_BUILD_TOP") != "" {
		return "", nil
	}
	if home != "" && strings.HasPrefix(dir, strings.TrimSuffix(home, "/")+"/") {
		if _, err := os.Stat(home); err != nil {
			return "", fmt.Errorf("home directory: %w", err)
		}
	}
	return filepath.Join(dir, "nix2img"), nil
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

// runtime is the Runtime that goes with what has been opened.
func (c *caching) runtime(u *ui, p *progress, jobs int) *image.Runtime {
	return &image.Runtime{
		Workers: jobs, Cache: c.cache, From: c.sources,
		Progress: p.update,
		Note:     func(s string) { u.infof("note: %s", s) },
	}
}

// close closes all, and keeps the cache from growing without end.
func (c *caching) close(u *ui) {
	if c.cache != nil {
		removed, err := c.cache.Prune(c.limit)
		if err != nil {
			u.detailf("%v", err)
		} else if removed.Entries > 0 {
			u.detailf("removed %s (%s) from the cache, which is limited to %s", plural(removed.Entries, "entry"), formatSize(removed.Size), c.size)
		}
	}
	for _, f := range c.files {
		f.Close()
	}
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
			i, err := c.cache.Info()
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.ui.stdout, i, "")
			}
			return a.ui.resultf("%s: %s, %s\n", i.Dir, plural(i.Entries, "entry"), formatSize(i.Size))
		},
	}
	info.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")

	keep, all := "", false
	prune := &cobra.Command{
		Use:   "prune --keep SIZE|--all",
		Short: "Remove what has not been used for the longest time",
		Example: `  nix2img cache prune --keep 10G
  nix2img cache prune --all`,
		Args: exactArgs(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			if (keep == "") != all {
				return withHint(usagef("cache prune: want either --keep or --all"), "--keep SIZE keeps what was used last, --all removes everything")
			}
			limit := int64(0)
			if keep != "" {
				var err error
				if limit, err = parseSize(keep); err != nil {
					return usagef("--keep: %w", err)
				}
			}
			if err := open(); err != nil {
				return err
			}
			removed, err := c.cache.Prune(limit)
			if err != nil {
				return err
			}
			return a.ui.resultf("removed %s, %s\n", plural(removed.Entries, "entry"), formatSize(removed.Size))
		},
	}
	prune.Flags().StringVar(&keep, "keep", "", "keep `SIZE` of what was used last")
	prune.Flags().BoolVar(&all, "all", false, "remove everything")

	verify := &cobra.Command{
		Use:   "verify",
		Short: "Decode everything and compare it with its NAR hash",
		Args:  exactArgs(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := open(); err != nil {
				return err
			}
			kinds := []cache.Kind{squash.Kind(), oci.Kind()}
			done, err := c.cache.Verify(cmd.Context(), kinds, image.Inspectors(), func(k cache.Key, reason error) {
				a.ui.infof("removed %s %x: %v", k.Kind, k.Sum, reason)
			})
			if err != nil {
				return err
			}
			if done.Removed > 0 {
				return &verifyError{fmt.Errorf("cache: %d of %d entries were damaged, and have been removed", done.Removed, done.Checked)}
			}
			return a.ui.resultf("%d entries are what they should be\n", done.Checked)
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
	done, err := warm(ctx, c, p, i, n)
	took := p.done()
	if err != nil {
		return w.source.advise(err)
	}
	w.ui.infof("compressed %d of %s, in %.1f s; the others were in the cache", done.Encoded, plural(done.Objects, "store path"), took.Seconds())
	return nil
}

// A warmFunc compresses the i-th of n shards of a closure.
type warmFunc func(ctx context.Context, c *closure.Closure, p *progress, i, n int) (*image.Warmed, error)

// prepare judges the flags that say what to compress, and returns what does it.
func (w *warmer) prepare() (warmFunc, error) {
	opts, err := w.encode.options()
	if err != nil {
		return nil, err
	}
	open := func(p *progress) (*image.Runtime, error) {
		if err := w.caching.open(w.ui); err != nil {
			return nil, err
		}
		return w.caching.runtime(w.ui, p, w.encode.jobs), nil
	}
	if !w.oci {
		return func(ctx context.Context, c *closure.Closure, p *progress, i, n int) (*image.Warmed, error) {
			rt, err := open(p)
			if err != nil {
				return nil, err
			}
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
	return func(ctx context.Context, c *closure.Closure, p *progress, i, n int) (*image.Warmed, error) {
		rt, err := open(p)
		if err != nil {
			return nil, err
		}
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
