package net

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/internal/loader"
)

// Libfabrics is a library of libfabric, with its providers.
type Libfabrics struct {
	Path      string `json:"path"`
	Version   string `json:"version,omitzero"`
	Providers []Part `json:"providers"`

	file *placed
}

// UCXs is a library of UCX, with its transports.
type UCXs struct {
	Path       string `json:"path"` // of libucp.so
	Version    string `json:"version,omitzero"`
	Transports []Part `json:"transports"` // modules: ib, rdmacm, cuda; and what is always there: tcp, self, sysv, posix

	file *placed
}

// Part is a provider of libfabric, or a transport of UCX.
type Part struct {
	Name string `json:"name"`
	// Path is that of its library. It is empty if the part is built in.
	Path string `json:"path,omitzero"`
	// Missing are libraries that it needs and the image does not have, so that it is as if it were not there.
	Missing []string `json:"missing,omitempty"`
}

func (f *Libfabrics) has(name string) bool { return has(f.Providers, name) }
func (u *UCXs) has(name string) bool       { return has(u.Transports, name) }

func has(parts []Part, name string) bool {
	return slices.ContainsFunc(parts, func(p Part) bool { return p.Name == name && len(p.Missing) == 0 })
}

// builtinUCX are the transports of libuct.so itself.
var builtinUCX = []string{"posix", "self", "sysv", "tcp"}

var (
	providerName = regexp.MustCompile(`^lib(\w+)-fi\.so$`)
	moduleName   = regexp.MustCompile(`^lib(?:uct|ucm|ucx)_(\w+)\.so`)
)

// findCarriers lists the libraries of libfabric and UCX.
func (r *Report) findCarriers() {
	for _, p := range r.files {
		switch {
		case p.Software == Libfabric:
			r.Libfabric = append(r.Libfabric, Libfabrics{p.path, r.version(p), r.providers(p), p})
		case p.Software == UCX && strings.HasPrefix(path.Base(p.path), "libucp."):
			r.UCX = append(r.UCX, UCXs{p.path, r.version(p), r.transports(p), p})
		}
	}
}

// providers lists those of libfabric, or of a library that has it inside.
func (r *Report) providers(p *placed) []Part {
	parts := []Part{}
	for _, name := range p.Parts {
		if isProvider(name) {
			parts = append(parts, Part{Name: name})
		}
	}
	return sorted(append(parts, r.modules(p, Provider, providerName)...))
}

func isProvider(name string) bool {
	return slices.ContainsFunc(builtins, func(b builtin) bool { return b.part == name })
}

func (r *Report) transports(p *placed) []Part {
	parts := []Part{}
	for _, name := range builtinUCX {
		parts = append(parts, Part{Name: name})
	}
	return sorted(append(parts, r.modules(p, UCXModule, moduleName)...))
}

func sorted(parts []Part) []Part {
	slices.SortStableFunc(parts, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	return parts
}

// modules lists the libraries beside one that it loads by their paths.
func (r *Report) modules(p *placed, software Software, name *regexp.Regexp) (parts []Part) {
	for _, q := range r.files {
		if q.Software != software || !q.beside(p) {
			continue
		}
		if m := name.FindStringSubmatch(path.Base(q.path)); m != nil {
			parts = append(parts, Part{Name: m[1], Path: q.path, Missing: r.missing(q)})
		}
	}
	return parts
}

// missing lists the libraries that a file needs, by itself or others, and the image does not have.
func (r *Report) missing(p *placed) []string { return missingIn(r.loads(p)) }

func missingIn(process *loader.Process) (names []string) {
	for _, m := range process.Missing {
		names = append(names, m.Name)
	}
	return names
}

// version is what a file says of itself, or, if that is nothing, another file of the same software beside it,
// or the name of its store path.
func (r *Report) version(p *placed) string {
	if p.Version != "" {
		return p.Version
	}
	for _, q := range r.files {
		if q.Software == p.Software && q.Version != "" && q.beside(p) {
			return q.Version
		}
	}
	if m := storeVersion.FindStringSubmatch(path.Base(p.tree)); m != nil {
		return m[1]
	}
	return ""
}

var storeVersion = regexp.MustCompile(`^[0-9a-z]{32}-.*?-([0-9]+\.[0-9.]+\w*)`)

// libfabricAt and ucxAt return those that have been listed under a path, or nil.
func (r *Report) libfabricAt(p *placed) *Libfabrics {
	for i := range r.Libfabric {
		if p != nil && r.Libfabric[i].file == p {
			return &r.Libfabric[i]
		}
	}
	return nil
}

func (r *Report) ucxAt(p *placed) *UCXs {
	for i := range r.UCX {
		if p != nil && r.UCX[i].file == p {
			return &r.UCX[i]
		}
	}
	return nil
}

// appendParts adds the names of parts that can be used, each once.
func appendParts(names []string, parts []Part) []string {
	for _, p := range parts {
		if len(p.Missing) == 0 && !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names
}
