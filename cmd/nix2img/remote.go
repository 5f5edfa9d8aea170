package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/closure/nixdb"
)

// remote says how to deal with binary caches, flag by flag.
type remote struct {
	keys      string
	noSigs    bool
	netrcFile string
	forget    bool // keep no narinfos
	refresh   bool // ask for those that are kept

	files *binarycache.Files // once there is a closure
}

// patience with servers is not what tests have. Zero means the default.
var patience struct{ pause, stall time.Duration }

// fromAuto is the source that Nix would use: its store, and then its caches.
const fromAuto = "auto"

func isRemote(from string) bool { return from == fromAuto || strings.Contains(from, "://") }

func (r *remote) addFlags(f *pflag.FlagSet) {
	f.StringVar(&r.keys, "trusted-public-keys", "", "believe binary caches what these `KEYS` have signed: NAME:BASE64, with spaces between\n(default: those that Nix trusts: what nix.conf says, or the key of cache.nixos.org)")
	f.BoolVar(&r.noSigs, "no-check-sigs", false, "believe binary caches whatever they say")
	f.BoolVar(&r.refresh, "refresh", false, "ask binary caches again for what they have said before")
	f.StringVar(&r.netrcFile, "netrc-file", "", "log in to binary caches as `FILE` says (default: netrc-file of nix.conf)")
}

// openRemote reads the closure out of binary caches, and out of the store if that is one of the sources.
func (s *source) openRemote(ctx context.Context, u *ui) (*closure.Closure, error) {
	conf, err := readNixConf()
	if err != nil {
		return nil, err
	}
	rt, err := s.remote.runtime(conf, u)
	if err != nil {
		return nil, err
	}
	rt.Workers = s.jobs
	from := &binarycache.Source{Runtime: rt}
	if from.Trust, err = s.remote.trust(conf); err != nil {
		return nil, err
	}
	var storeDir string
	for _, url := range s.from {
		if url == fromAuto {
			st, err := s.useStore(from, u)
			if err != nil {
				return nil, err
			}
			if st != nil {
				defer st.Close()
				storeDir = st.Dir()
			}
			continue
		}
		c, err := binarycache.Open(ctx, url, rt)
		if err != nil {
			return nil, err
		}
		from.Caches = append(from.Caches, c)
	}
	if storeDir == "" && len(from.Caches) > 0 {
		storeDir = from.Caches[0].StoreDir
	}
	roots, err := s.resolveRoots(cmp.Or(storeDir, defaultStoreDir))
	if err != nil && storeDir != defaultStoreDir && len(from.Caches) > 0 {
		return nil, fmt.Errorf("%w (%s is for %s)", err, from.Caches[0].URL, from.Caches[0].StoreDir)
	}
	if err != nil {
		return nil, err
	}
	if slices.Contains(s.from, fromAuto) {
		if err := s.useSettings(ctx, from, conf, roots); err != nil {
			return nil, err
		}
	}
	binarycache.Sort(from.Caches)
	c, err := from.Closure(ctx, roots...)
	if err != nil {
		return nil, err
	}
	s.remote.files = c.Files.(*binarycache.Files)
	return c, s.checkLocal(c)
}

// useStore makes the store of this machine a source, if there is one.
func (s *source) useStore(from *binarycache.Source, u *ui) (*nixdb.Store, error) {
	st, err := s.openStore(u)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	from.LocalFiles = st.Files()
	from.Local = func(ctx context.Context, p closure.Path) ([]closure.Object, error) {
		objects, err := st.Objects(ctx, p)
		if err != nil {
			return nil, &sourceError{err}
		}
		return objects, nil
	}
	return st, nil
}

// defaultStoreDir is the store directory if nothing says which one is meant.
const defaultStoreDir = "/nix/store"

// useSettings adds the caches that Nix would use, unless the roots are all on this machine.
func (s *source) useSettings(ctx context.Context, from *binarycache.Source, conf *nixConf, roots []closure.Path) error {
	missing := from.Local == nil
	for _, p := range roots {
		if missing {
			break
		}
		objects, err := from.Local(ctx, p)
		if err != nil {
			return err
		}
		missing = len(objects) == 0
	}
	if !missing {
		return nil
	}
	var failed error
	for _, url := range conf.substituters {
		c, err := binarycache.Open(ctx, url, from.Runtime)
		if err != nil {
			failed = cmp.Or(failed, err)
			continue // as with Nix, what the settings name need not be there
		}
		from.Caches = append(from.Caches, c)
	}
	if len(from.Caches) == 0 {
		return failed
	}
	return nil
}

// checkLocal is CheckFiles for the objects that are on this machine.
func (s *source) checkLocal(c *closure.Closure) error {
	for _, o := range c.Objects() {
		if s.remote.files.Remote(o.Path) {
			continue
		}
		if _, err := fs.Lstat(c.Files, o.Path.Base()); err != nil {
			return &closure.MissingError{Path: o.Path, Err: err}
		}
	}
	return nil
}

func (r *remote) runtime(conf *nixConf, u *ui) (*binarycache.Runtime, error) {
	rt := &binarycache.Runtime{
		Now: time.Now, Pause: patience.pause, Stall: patience.stall,
		KeepFound: conf.keepFound, KeepMissing: conf.keepMissing,
		Note: func(s string) { u.infof("note: %s", s) },
	}
	if dir, err := os.UserCacheDir(); err == nil && !r.forget {
		rt.Keep = filepath.Join(dir, "nix2img", "narinfo")
	}
	if r.refresh {
		rt.KeepFound, rt.KeepMissing = -1, -1
	}
	login, err := r.readNetrc(conf, u)
	if err != nil {
		return nil, err
	}
	rt.Authorize = func(req *http.Request) {
		u.detailf("%s %s", req.Method, shownURL(req.URL))
		if req.URL.User != nil {
			return // what the address says goes before the file, as with curl
		}
		if user, password, ok := login.Find(req.URL.Hostname()); ok {
			req.SetBasicAuth(user, password)
		} else if token := conf.token(req.URL.Host); token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}
	return rt, nil
}

// readNetrc reads the file with names and passwords, if there is one.
func (r *remote) readNetrc(conf *nixConf, u *ui) (binarycache.Netrc, error) {
	file := cmp.Or(r.netrcFile, conf.netrcFile)
	text, err := os.ReadFile(file)
	if err != nil && (r.netrcFile != "" || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)) {
		return nil, usagef("--netrc-file %s: %w", file, reason(err))
	}
	login, err := binarycache.ParseNetrc(string(text))
	if err != nil {
		return nil, usagef("--netrc-file %s: %w", file, err)
	}
	if info, err := os.Stat(file); err == nil && len(login) > 0 && info.Mode().IsRegular() && info.Mode()&0o004 != 0 {
		u.infof("note: anybody can read the passwords in %s: chmod o-r %s", file, shellWords([]string{file}))
	}
	return login, nil
}

func (r *remote) trust(conf *nixConf) (binarycache.Trust, error) {
	keys := conf.keys
	if r.keys != "" {
		keys = strings.Fields(r.keys)
	}
	t, err := binarycache.ParseTrust(keys...)
	if err != nil {
		return t, usagef("--trusted-public-keys: %w", err)
	}
	t.All = r.noSigs
	return t, nil
}

// advise adds to an error where it comes from and what can be done about it.
func (r *remote) advise(err error) error {
	// Where in the pipeline something was noticed does not matter.
	if e, ok := errors.AsType[*binarycache.NetworkError](err); ok {
		if binarycache.Unauthorized(e) {
			return withHint(e, "put user and password for it into a file, as for curl, and name that with --netrc-file")
		}
		return withHint(e, "is the address right, and can the machine reach it? --from can name more caches than one")
	}
	if e, ok := errors.AsType[*binarycache.VerifyError](err); ok {
		if is[*binarycache.SignatureError](e) {
			return withHint(e, "--trusted-public-keys says whom you trust: the cache's owner knows its public key")
		}
		return e
	}
	if e, ok := errors.AsType[*binarycache.InfoError](err); ok {
		if strings.HasPrefix(e.URL, "file:") && errors.Is(e, fs.ErrNotExist) {
			return withHint(e, "nix copy --to file:///DIR makes a cache; for a store, there is --store")
		}
		return e
	}
	if e, ok := errors.AsType[*binarycache.SpoolError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*closure.HashError](err); ok && r.files != nil && r.files.Remote(e.Path) {
		return &binarycache.VerifyError{URL: r.files.Address(e.Path), Path: e.Path, Err: e}
	}
	if e, ok := errors.AsType[*closure.MissingError](err); ok {
		return withHint(e, "a cache needs the whole closure; nix copy --to CACHE puts it there, "+
			"and --refresh asks again for what has been there before")
	}
	return err
}
