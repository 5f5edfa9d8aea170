package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/closure/nixdb"
	"github.com/nix2img/nix2img/internal/regular"
)

// source says where a closure comes from.
type source struct {
	store   string   // directory below which nix/store lies; empty: "/"
	closure string   // file or directory with metadata, or "-"; empty: the store's database
	from    []string // an export stream or "-"; or binary caches
	remote  remote   // how to deal with binary caches
	roots   []string // arguments
	jobs    int

	files io.Closer // what the closure's files are read from, or nil
}

func (s *source) addFlags(f *pflag.FlagSet) {
	f.StringVar(&s.store, "store", "", "take files and database from below `DIR`")
	f.StringVar(&s.closure, "closure", "", "take metadata from `FILE`, a directory, or - for standard input")
	f.StringArrayVar(&s.from, "from", nil, "take everything from `SOURCE`: the file of an export stream, - for standard input,\n"+
		"the URL of a binary cache (repeatable), or auto")
	s.remote.addFlags(f)
}

// stream returns the export stream that is to be read, or "".
func (s *source) stream() string {
	if len(s.from) == 1 && !isRemote(s.from[0]) {
		return s.from[0]
	}
	return ""
}

func (s *source) check() error {
	switch {
	case len(s.from) > 1 && slices.ContainsFunc(s.from, func(from string) bool { return !isRemote(from) }):
		return usagef("--from: there can be but one export stream, and no binary cache beside it")
	case s.stream() == "" && s.closure == "" && len(s.roots) == 0:
		return withHint(usagef("no store path given"),
			"name what is to go into the image, such as ./result")
	}
	if s.store == "" {
		s.store = "/"
	}
	dir, err := filepath.Abs(s.store)
	if err != nil {
		return fmt.Errorf("--store %s: %w", s.store, err)
	}
	if info, err := os.Stat(dir); err != nil {
		return &sourceError{fmt.Errorf("--store %s: %w", s.store, reason(err))}
	} else if !info.IsDir() {
		return &sourceError{fmt.Errorf("--store %s: not a directory", s.store)}
	}
	s.store = dir
	return nil
}

// open reads the closure. Close releases its files.
func (s *source) open(ctx context.Context, u *ui) (*closure.Closure, error) {
	var c *closure.Closure
	var err error
	if s.roots, err = newRealiser(u).roots(ctx, s.roots); err != nil {
		return nil, err
	}
	switch {
	case s.stream() != "":
		c, err = s.openStream(ctx, u.stdin)
	case len(s.from) > 0:
		c, err = s.openRemote(ctx, u)
	case s.closure != "":
		c, err = s.openMetadata(ctx, u.stdin)
	default:
		c, err = s.openDatabase(ctx, u)
	}
	if err == nil && s.remote.files == nil {
		err = c.CheckFiles()
	}
	if err != nil {
		return nil, s.advise(err)
	}
	return c, nil
}

// advise adds to an error what can be done about it in the store.
func (s *source) advise(err error) error {
	if len(s.from) > 0 && s.stream() == "" {
		return s.remote.advise(err)
	}
	nixStore := "nix-store"
	if s.store != "/" {
		nixStore += " --store " + shellWords([]string{s.store})
	}
	if e, ok := errors.AsType[*closure.HashError](err); ok && len(s.from) == 0 {
		return withHint(err, "the files have changed since Nix registered them; try: %s --repair-path %s", nixStore, e.Path)
	}
	if e, ok := errors.AsType[*closure.MissingError](err); ok {
		switch {
		case e.Err != nil:
			return withHint(err, "build or fetch it, for example with %s --realise %s, or name its store with --store", nixStore, e.Path)
		case e.Referrer != "":
			return withHint(err, "the metadata must describe the whole closure, as nix path-info --json -r does")
		}
	}
	return err
}

func (s *source) Close() {
	if s.files != nil {
		s.files.Close()
	}
}

// physical returns where a store directory is on this machine.
func (s *source) physical(storeDir string) string {
	return filepath.Join(s.store, storeDir)
}

func (s *source) resolveRoots(storeDir string) ([]closure.Path, error) {
	var roots []closure.Path
	for _, arg := range s.roots {
		p, err := closure.ResolveRoot(arg, storeDir, s.store)
		if err != nil {
			return nil, s.unresolved(err)
		}
		roots = append(roots, p)
	}
	return roots, nil
}

func (s *source) openDatabase(ctx context.Context, u *ui) (*closure.Closure, error) {
	st, err := s.openStore(u)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	c, err := st.Closure(ctx, s.roots...)
	if err != nil {
		return nil, s.unresolved(err)
	}
	return c, nil
}

// openStore opens the store of this machine, or the one that was named.
func (s *source) openStore(u *ui) (*nixdb.Store, error) {
	st, err := nixdb.OpenStore(s.store)
	if err != nil {
		err = &sourceError{err}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, withHint(err, "is there a Nix store on this machine? --store says where, "+
				"--closure and --from take a closure from files")
		}
		return nil, err
	}
	if st.Unlocked() {
		u.infof("note: the database of the store is on a file system without locks: let no Nix write to it meanwhile")
	}
	return st, nil
}

// unresolved is the error of roots that cannot be found.
func (s *source) unresolved(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return withHint(&sourceError{err}, "build it first, for example with nix build or nix-build")
	}
	return &sourceError{err}
}

func (s *source) openMetadata(ctx context.Context, stdin io.Reader) (*closure.Closure, error) {
	objects, err := s.readMetadata(stdin)
	if err != nil {
		return nil, &sourceError{fmt.Errorf("read closure %s: %w", shownName(s.closure), err)}
	}
	if len(objects) == 0 {
		return nil, &sourceError{fmt.Errorf("read closure %s: it describes no store path", shownName(s.closure))}
	}
	storeDir := objects[0].Path.Dir()
	roots, err := s.resolveRoots(storeDir)
	if err != nil {
		return nil, err
	}
	c, err := closure.New(roots, objects)
	if err != nil {
		return nil, &sourceError{err}
	}
	c.Files = closure.DirFS(s.physical(storeDir))
	for _, o := range c.Objects() {
		if o.NARHash.IsZero() || o.NARSize == 0 {
			return s.fill(ctx, c)
		}
	}
	return c, nil
}

// fill computes the hashes that the metadata lack.
func (s *source) fill(ctx context.Context, c *closure.Closure) (*closure.Closure, error) {
	if err := c.CheckFiles(); err != nil {
		return nil, err
	}
	objects, err := narhash.Fill(ctx, c.Files, c.Objects(), s.jobs)
	if err != nil {
		return nil, &sourceError{err}
	}
	filled, err := closure.New(c.Roots(), objects)
	if err != nil {
		return nil, &sourceError{err}
	}
	filled.Files = c.Files
	return filled, nil
}

func (s *source) readMetadata(stdin io.Reader) ([]closure.Object, error) {
	if s.closure == "-" {
		return closure.ReadObjects(stdin)
	}
	name, isDir := s.closure, false
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name, isDir = filepath.Join(name, "registration"), true // as nixpkgs' closureInfo has it
	}
	open := os.Open // a pipe may well be meant, but not in a directory
	if isDir {
		open = regular.Open
	}
	f, err := open(name)
	if errors.Is(err, fs.ErrNotExist) && isDir {
		return nil, errors.New("a directory without a file registration, and so no closureInfo")
	}
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	return closure.ReadObjects(f)
}

// shownName is what messages call an input.
func shownName(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}

func (s *source) openStream(ctx context.Context, stdin io.Reader) (*closure.Closure, error) {
	c, err := s.readStream(ctx, stdin)
	if err != nil {
		if errors.Is(err, errSpool) {
			return nil, err
		}
		return nil, &sourceError{fmt.Errorf("read %s: %w", shownName(s.stream()), reason(err))}
	}
	if len(s.roots) == 0 {
		return c, nil
	}
	roots, err := s.resolveRoots(c.StoreDir())
	if err != nil {
		return nil, err
	}
	chosen, err := closure.New(roots, c.Objects())
	if err != nil {
		return nil, &sourceError{err}
	}
	chosen.Files = c.Files
	return chosen, nil
}

// readStream reads the stream and keeps it open, in a temporary file if it can be read only once.
func (s *source) readStream(ctx context.Context, stdin io.Reader) (*closure.Closure, error) {
	if s.stream() != "-" {
		f, err := os.Open(s.stream())
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err == nil && info.Mode().IsRegular() {
			s.files = f
			return export.Open(ctx, f, info.Size())
		}
		defer f.Close()
		if err != nil {
			return nil, err
		}
		stdin = f
	}
	f, err := spool()
	if err != nil {
		return nil, err
	}
	s.files = f
	return export.Spool(ctx, stdin, spoolFile{f})
}
