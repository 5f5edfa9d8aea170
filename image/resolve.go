package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/net"
	"github.com/nix2img/nix2img/internal/elf"
)

// standardPath is what PATH ends with: what runtimes set if an image says nothing.
const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Resolved is an [Image] with everything settled that depends on the closure's files.
// [Image.Resolve] makes one. It does not change afterwards.
type Resolved struct {
	// Arch is Go's name of the CPU architecture.
	Arch string
	// Config is the image's with nothing left open:
	// Entrypoint and Cmd begin with an absolute path if the program is in the closure,
	// Env is the whole environment that the image sets, each key once,
	// and Arch and Created are set.
	Config Config
	// Loader is glibc's loader that the programs use, an absolute path in the store.
	// It is empty if they are static or use another C library.
	Loader string
	// Shell and EnvProgram are what /bin/sh and /usr/bin/env lead to,
	// absolute paths in the store. They are empty if the closure has no such program.
	Shell, EnvProgram string
	// NV and ROCm tell whether the image serves programs that use the GPU driver
	// of NVIDIA and of AMD; see [GPU].
	NV, ROCm bool
	// Report says what the closure needs of a GPU. It is nil if nobody wants to know.
	Report *gpu.Report
	// MPI tells whether the image serves programs that use MPI; see [Image].
	MPI bool
	// Net says what the closure has for many nodes. It is nil if nobody wants to know.
	Net *net.Report
	// Notes tell the user what to expect of the image, a sentence each, lower case, no full stop.
	Notes []string

	image *Image
	rt    *Runtime
	store *store

	facts  map[closure.Path]*gpu.Facts // of all objects, unless the image serves no driver
	shield []libraryLink               // in shieldDir
	compat *compat                     // nil: there is none, or the image does not serve NVIDIA's driver
}

// Resolve looks into the closure's files to settle what the image leaves open.
// Of a runtime, which may be nil, it takes what is about facts.
// Among the errors are [*ConfigError] and [*ArchError].
func (img *Image) Resolve(ctx context.Context, rt *Runtime) (*Resolved, error) {
	if rt == nil {
		rt = new(Runtime)
	}
	if img == nil || img.Closure == nil {
		return nil, errors.New("image: resolve: no closure")
	}
	if img.Closure.Files == nil {
		return nil, fmt.Errorf("image: resolve: %w", closure.ErrNoFiles)
	}
	if err := img.Config.Validate(); err != nil {
		return nil, err
	}
	r := &Resolved{
		Config: img.Config,
		image:  img,
		rt:     rt,
		store:  newStore(img.Closure),
	}
	r.Config.Labels = maps.Clone(img.Config.Labels)
	if r.Config.Created.IsZero() {
		r.Config.Created = time.Unix(1, 0)
	}
	r.Config.Created = r.Config.Created.UTC()

	entry, err := r.resolveProgram()
	if err != nil {
		return nil, err
	}
	programs, err := r.store.rootPrograms(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.resolveArch(ctx, entry, programs); err != nil {
		return nil, err
	}
	if entry != nil {
		programs = append([]*elf.File{entry}, programs...)
	}
	if err := r.resolveLoader(ctx, programs); err != nil {
		return nil, err
	}
	if err := r.resolveTools(ctx); err != nil {
		return nil, err
	}
	if err := r.resolveEnv(ctx); err != nil {
		return nil, err
	}
	if err := r.resolveGPU(ctx); err != nil {
		return nil, err
	}
	if err := r.resolveMPI(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Resolved) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// resolveProgram settles what the image starts, and returns the ELF file behind it, if there is one.
func (r *Resolved) resolveProgram() (*elf.File, error) {
	c := &r.Config
	c.Entrypoint, c.Cmd = slices.Clone(c.Entrypoint), slices.Clone(c.Cmd)
	if len(c.Entrypoint)+len(c.Cmd) == 0 {
		if err := r.chooseProgram(); err != nil {
			return nil, err
		}
	}
	prog := c.program()
	if len(prog.list) == 0 {
		return nil, nil
	}
	name := prog.list[0]
	if !path.IsAbs(name) {
		abs, err := r.lookPath(name)
		if err != nil {
			return nil, err
		}
		if abs == "" {
			r.note("no root has a program %s in its bin folder: it will be looked for when the image is started", name)
			return nil, nil
		}
		prog.list[0] = abs
	}
	if _, ok := r.store.cut(prog.list[0]); !ok {
		return nil, nil
	}
	switch ok, err := r.store.exists(prog.list[0], true); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, &ConfigError{prog.field, name, "the closure has no such program"}
	}
	return r.store.program(prog.list[0])
}

// lookPath returns the program of this name in the roots' bin folders, or "".
func (r *Resolved) lookPath(name string) (string, error) {
	for _, root := range r.store.roots {
		abs := string(root) + "/bin/" + name
		if ok, err := r.store.exists(abs, true); ok || err != nil {
			return abs, err
		}
	}
	return "", nil
}

// chooseProgram sets Entrypoint as the comment on [Config] says.
func (r *Resolved) chooseProgram() error {
	if len(r.store.roots) != 1 {
		return nil
	}
	root := r.store.roots[0]
	names, err := r.store.readDir(string(root) + "/bin")
	if err != nil {
		return err
	}
	var programs []string
	for _, name := range names {
		if strings.HasPrefix(name, ".") { // what a wrapper hides
			continue
		}
		abs := string(root) + "/bin/" + name
		if ok, err := r.store.exists(abs, true); err != nil {
			return err
		} else if ok && checkText(name) == "" {
			programs = append(programs, abs)
		}
	}
	own := string(root) + "/bin/" + packageName(root.Name())
	switch {
	case len(programs) == 1:
		r.Config.Entrypoint = programs
	case slices.Contains(programs, own):
		r.Config.Entrypoint = []string{own}
	}
	return nil
}

// packageName returns an object's name without its version,
// which begins behind the first dash that no letter follows.
func packageName(name string) string {
	for i := range len(name) - 1 {
		if next := name[i+1] | 0x20; name[i] == '-' && (next < 'a' || next > 'z') {
			return name[:i]
		}
	}
	return name
}

func (r *Resolved) resolveArch(ctx context.Context, entry *elf.File, programs []*elf.File) error {
	r.Arch = r.Config.Arch
	if r.Arch == "" {
		arch, err := r.store.findArch(ctx, entry, programs)
		if err != nil {
			return err
		}
		r.Arch = arch
	}
	r.Config.Arch = r.Arch
	var others tally
	same := 0
	for _, f := range programs {
		if f.Arch == r.Arch {
			same++
		} else {
			others.add(f.Arch)
		}
	}
	slices.Sort(others.names)
	if same == 0 && len(others.names) > 0 && r.Config.CheckArch {
		return &ConfigError{"Arch", r.Arch, "the programs in bin folders are for " + strings.Join(others.names, ", ")}
	}
	if len(others.names) > 0 {
		r.note("the image is for %s, but has %d of %d programs in bin folders for %s",
			r.Arch, len(programs)-same, len(programs), strings.Join(others.names, ", "))
	}
	return nil
}

// resolveLoader finds the loader that most programs ask for.
// Where there are no programs at all, it takes any that the closure has.
func (r *Resolved) resolveLoader(ctx context.Context, programs []*elf.File) error {
	where := loaderPath(r.Arch)
	if where == "" {
		return nil
	}
	if len(programs) == 0 {
		_, loaders, err := r.store.findLoaders(ctx)
		r.Loader = loaders[r.Arch]
		return err
	}
	var t, foreign tally
	for _, f := range programs {
		if f.Arch != r.Arch || f.Static() {
			continue
		}
		if _, ok := r.store.cut(f.Interp); !ok {
			foreign.add(f.Interp)
			continue
		}
		if path.Base(f.Interp) == path.Base(where) {
			t.add(f.Interp)
		}
	}
	if len(foreign.names) > 0 {
		slices.Sort(foreign.names)
		r.note("some programs ask for the loader %s, which is not in the closure", strings.Join(foreign.names, ", "))
	}
	for _, loader := range t.leaders() {
		ok, err := r.store.exists(loader, false)
		if err != nil {
			return err
		}
		if ok {
			r.Loader = loader
			return nil
		}
	}
	return nil
}

// resolveTools finds a shell and env.
func (r *Resolved) resolveTools(ctx context.Context) (err error) {
	runs := func(abs string) (bool, error) {
		f, err := r.store.program(abs)
		return f != nil && f.Arch == r.Arch, err
	}
	// Both work as links, whatever they lead to:
	// a shell does not care for its name, and busybox knows what to do by it.
	if r.Shell, err = r.store.find(ctx, runs, "bin/sh", "bin/bash", "bin/dash", "bin/busybox"); err != nil {
		return err
	}
	if r.EnvProgram, err = r.store.find(ctx, runs, "bin/env", "bin/busybox"); err != nil {
		return err
	}
	return r.noteTools(ctx)
}

// noteTools says what will not work without a shell and env, if the image looks as if somebody wanted them:
// there is no program that it is for, or one of its programs is a script that asks for them.
func (r *Resolved) noteTools(ctx context.Context) error {
	noShell, noEnv := !r.HasShell(), r.EnvProgram == "" && !r.adds("usr/bin/env")
	if !noShell && !noEnv {
		return nil
	}
	wanted := len(r.Config.Entrypoint)+len(r.Config.Cmd) == 0 || noShell && r.Config.WorkingDir != ""
	if !wanted {
		var err error
		if wanted, err = r.store.rootScripts(ctx, noShell, noEnv); err != nil {
			return err
		}
	}
	if !wanted {
		return nil
	}
	var missing, lost, remedy []string
	if noShell {
		missing, remedy = append(missing, "shell"), append(remedy, "bashInteractive")
		lost = append(lost, "`singularity shell`, `instance start` and `--oci`, enroot", "scripts that begin with #!/bin/sh")
		if r.Config.WorkingDir != "" {
			lost = append(lost, "the working directory under `singularity run`")
		}
	}
	if noEnv {
		missing, remedy = append(missing, "env"), append(remedy, "coreutils")
		lost = append(lost, "scripts that begin with #!/usr/bin/env")
	}
	r.note("the closure has no %s, without which these fail: %s; as roots, %s would bring them",
		strings.Join(missing, " and no "), strings.Join(lost, ", "), strings.Join(remedy, " and "))
	return nil
}

// adds reports whether the user adds a file of this name.
func (r *Resolved) adds(name string) bool {
	if r.image == nil || r.image.Files == nil {
		return false
	}
	_, err := fs.Lstat(r.image.Files, name)
	return err == nil
}

// HasShell reports whether the image will have a /bin/sh.
func (r *Resolved) HasShell() bool { return r.Shell != "" || r.adds("bin/sh") }

// resolveEnv sets the whole environment.
func (r *Resolved) resolveEnv(ctx context.Context) error {
	var dirs []string
	for _, root := range r.store.roots {
		dir := string(root) + "/bin"
		if _, info, err := r.store.stat(dir); err == nil && info.IsDir() {
			dirs = append(dirs, dir)
		} else if ignoreNotExist(err) != nil {
			return err
		}
	}
	env := []string{
		"PATH=" + strings.Join(append(dirs, standardPath), ":"),
		// What lies in the home folder of the host was made for another Python.
		"PYTHONNOUSERSITE=1",
	}
	isFile := func(abs string) (bool, error) { return r.store.exists(abs, false) }
	for _, v := range []struct{ key, file, value string }{
		{"SSL_CERT_FILE", "etc/ssl/certs/ca-bundle.crt", "etc/ssl/certs/ca-bundle.crt"},
		{localeVariable, "lib/locale/locale-archive", "lib/locale/locale-archive"},
		{zoneVariable, "share/zoneinfo/UTC", "share/zoneinfo"},
	} {
		abs, err := r.store.find(ctx, isFile, v.file)
		if err != nil {
			return err
		}
		if abs != "" {
			env = append(env, v.key+"="+strings.TrimSuffix(abs, v.file)+v.value)
		}
	}
	for _, kv := range r.Config.Env {
		env = setEnv(env, kv)
	}
	r.Config.Env = env
	r.noteLocale()
	for _, kv := range env {
		if key, value, _ := strings.Cut(kv, "="); !isPlain(value) {
			r.note("%s is set by SingularityCE and Apptainer, but not by enroot and Charliecloud, which would change its value", key)
		}
	}
	return nil
}

// The variables by which glibc finds locales and time zones, which Nix has it look for nowhere else.
const (
	localeVariable = "LOCALE_ARCHIVE"
	zoneVariable   = "TZDIR"
)

// noteLocale says what becomes of TZ and LANG, which runtimes pass on from the host, if the closure cannot follow them.
func (r *Resolved) noteLocale() {
	if r.Loader == "" {
		return
	}
	noZones, noLocales := envIndex(r.Config.Env, zoneVariable) < 0, envIndex(r.Config.Env, localeVariable) < 0
	switch {
	case noZones && noLocales:
		r.note("the closure has neither tzdata nor glibcLocales: TZ and LANG of the host will have no effect")
	case noZones:
		r.note("the closure has no tzdata: TZ of the host will have no effect")
	case noLocales:
		r.note("the closure has no glibcLocales: LANG of the host will have no effect")
	}
}

// envIndex returns where in a list of KEY=value entries a key is, or -1.
func envIndex(env []string, key string) int {
	return slices.IndexFunc(env, func(kv string) bool { return strings.HasPrefix(kv, key+"=") })
}

// setEnv returns env with the entry kv, in the place of one with the same key.
func setEnv(env []string, kv string) []string {
	key, _, _ := strings.Cut(kv, "=")
	if i := envIndex(env, key); i >= 0 {
		env[i] = kv
		return env
	}
	return append(env, kv)
}

var errNotResolved = errors.New("image: not by Image.Resolve")

// Record returns the build record without what only a renderer knows:
// Squashfs, ImageID and Segments.
// It is an error if the NAR hash or size of an object is not known.
func (r *Resolved) Record() (*Record, error) {
	if r.image == nil {
		return nil, errNotResolved
	}
	c := r.image.Closure
	rec := &Record{
		Schema:       RecordSchema,
		Version:      Version,
		StoreDir:     c.StoreDir(),
		Roots:        c.Roots(),
		Architecture: r.Arch,
		Config:       r.Config,
		NV:           r.NV,
		ROCm:         r.ROCm,
		Waived:       r.image.GPU.Waive,
	}
	if r.Report != nil && r.Report.Use != gpu.UseNone {
		rec.GPU = r.Report.Summary()
	}
	if r.MPI {
		rec.Net = r.Net.Summary()
	}
	for _, o := range c.Objects() {
		if o.NARHash.IsZero() || o.NARSize <= 0 {
			return nil, fmt.Errorf("image: make record: %s: NAR hash or size is not known", o.Path)
		}
		rec.Objects = append(rec.Objects, Object{o.Path, o.NARHash, o.NARSize, o.References})
	}
	return rec, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
