package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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

	readOnly bool // take the own cache as it is, if there is one

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
		if c.readOnly {
			if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			mode = cache.Trusted
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
	if c.cache != nil && !c.readOnly {
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
	c := &cacheCommand{app: a, caching: caching{size: "0"}}
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Look at the cache, check it, or make it smaller",
		Long: `The cache keeps store paths as they were compressed, for each compression that was used,
and what was found out about them. Builds of SIFs, squashfs and OCI images share it.
A path is found by the hash of its contents, so the cache never goes stale;
it can be removed at any time.`,
		Args: func(cmd *cobra.Command, args []string) error {
			return withHint(usagef("cache: want info, prune or verify"), "see %s --help", cmd.CommandPath())
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	c.caching.addDirFlag(cmd.PersistentFlags())
	cmd.PersistentFlags().BoolVar(&c.caching.trust, "trust-cache", false, "take a cache that others can write to")
	cmd.AddCommand(c.newInfo(), c.newPrune(), c.newVerify())
	return cmd
}

// cacheCommand is one run of "nix2img cache".
type cacheCommand struct {
	*app
	caching caching
}

// What "cache info", "cache prune" and "cache verify" print with --json.
type (
	cacheResult struct {
		cache.Info
	}
	pruneResult struct {
		Dir         string `json:"dir"`
		DryRun      bool   `json:"dryRun"` // nothing was removed
		cache.Count        // what was removed
	}
	verifyResult struct {
		Dir string `json:"dir"`
		cache.Verified
	}
)

// open opens the cache, which must exist.
func (c *cacheCommand) open() (*cache.Cache, error) {
	if err := c.caching.openOwn(c.ui); err != nil {
		return nil, err
	}
	if c.caching.cache == nil {
		return nil, errors.New("there is no cache")
	}
	return c.caching.cache, nil
}

func (c *cacheCommand) newInfo() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Say where the cache is and how large",
		Args:  exactArgs(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			opened, err := c.open()
			if err != nil {
				return err
			}
			i, err := opened.Info()
			if err != nil {
				return err
			}
			if asJSON {
				return printEnvelope(c.ui, "cache info", &cacheResult{*i})
			}
			return c.ui.resultf("%s: %s, %s\n", i.Dir, plural(i.Entries, "entry"), formatSize(i.Size))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *cacheCommand) newPrune() *cobra.Command {
	keep, all, asJSON, dryRun := "", false, false, false
	cmd := &cobra.Command{
		Use:   "prune --keep SIZE|--all",
		Short: "Remove what has not been used for the longest time",
		Example: `  nix2img cache prune --keep 10G
  nix2img cache prune --all`,
		Args: exactArgs(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			if (keep == "") != all {
				return withHint(usagef("cache prune: want either --keep or --all"), "--keep SIZE keeps what was used last, --all removes everything")
			}
			res, err := c.prune(keep, dryRun)
			if err != nil {
				return err
			}
			if asJSON {
				return printEnvelope(c.ui, "cache prune", res)
			}
			return c.ui.resultf("%sremoved %s, %s\n", map[bool]string{true: "would be "}[dryRun], plural(res.Entries, "entry"), formatSize(res.Size))
		},
	}
	cmd.Flags().StringVar(&keep, "keep", "", "keep `SIZE` of what was used last")
	cmd.Flags().BoolVar(&all, "all", false, "remove everything")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be removed, and leave it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// prune removes what goes beyond a size; empty means everything.
func (c *cacheCommand) prune(keep string, dryRun bool) (*pruneResult, error) {
	limit, err := int64(0), error(nil)
	if keep != "" {
		if limit, err = parseSize(keep); err != nil {
			return nil, usagef("--keep: %w", err)
		}
	}
	opened, err := c.open()
	if err != nil {
		return nil, err
	}
	prune := opened.Prune
	if dryRun {
		prune = opened.Excess
	}
	removed, err := prune(limit)
	if err != nil {
		return nil, err
	}
	return &pruneResult{opened.Dir(), dryRun, *removed}, nil
}

func (c *cacheCommand) newVerify() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Decode everything, compare it with its NAR hash, and remove what differs",
		Args:  exactArgs(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opened, err := c.open()
			if err != nil {
				return err
			}
			kinds := []cache.Kind{squash.Kind(), oci.Kind()}
			done, err := opened.Verify(cmd.Context(), kinds, image.Inspectors(), func(k cache.Key, reason error) {
				c.ui.infof("removed %s %x: %v", k.Kind, k.Sum, reason)
			})
			if err != nil {
				return err
			}
			if asJSON {
				if err := printEnvelope(c.ui, "cache verify", &verifyResult{opened.Dir(), *done}); err != nil {
					return err
				}
			}
			if done.Removed > 0 {
				return &verifyError{fmt.Errorf("cache: %d of %d entries were damaged, and have been removed", done.Removed, done.Checked)}
			}
			if asJSON {
				return nil
			}
			return c.ui.resultf("%d entries are what they should be\n", done.Checked)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// verifyError is about contents that are not what they should be.
type verifyError struct{ err error }

func (e *verifyError) Error() string { return e.err.Error() }
func (e *verifyError) Unwrap() error { return e.err }
