package net

import (
	"path"
	"slices"
	"strings"
)

// Collective is NCCL or RCCL: a library, or one that has it inside.
type Collective struct {
	Path    string   `json:"path"`
	Name    Software `json:"name"` // [NCCL] or [RCCL]
	Version string   `json:"version,omitzero"`
	Inside  bool     `json:"inside,omitzero"` // of another library, such as libtorch_cuda.so
	// Verbs is the libibverbs that it finds by dlopen. If it is empty, NCCL takes sockets.
	Verbs string `json:"verbs,omitzero"`
	// Plugins are those for networks and tuning that it finds by dlopen, under their usual names.
	Plugins []string `json:"plugins"`
	// Unfound are plugins that are in the image, but not where they are looked for.
	Unfound []string `json:"unfound,omitempty"`

	file *placed
	ofi  *Libfabrics // of the plugin
}

// findCollectives lists NCCL and RCCL.
func (r *Report) findCollectives() {
	for _, p := range r.files {
		c := Collective{Path: p.path, Name: p.Software, Version: p.Version, Plugins: []string{}, file: p}
		switch {
		case p.Software == NCCL || p.Software == RCCL:
			c.Version = r.version(p)
		case slices.ContainsFunc(p.Names, isPlugin) && p.Software == "":
			c.Name, c.Inside = NCCL, true
			if strings.Contains(strings.Join(p.Names, " ")+strings.Join(p.Needed, " "), "libhsa-runtime") {
				c.Name = RCCL
			}
		default:
			continue
		}
		r.findPlugins(&c)
		r.Collectives = append(r.Collectives, c)
	}
}

func isPlugin(name string) bool { return softwareOf(name) == NCCLPlugin }

// findPlugins goes the ways of dlopen.
func (r *Report) findPlugins(c *Collective) {
	for _, name := range c.file.Names {
		switch q := r.opens(c.file, name); {
		case q == nil:
		case softwareOf(name) == Verbs:
			c.Verbs = q.path
		case isPlugin(name):
			c.Plugins = append(c.Plugins, q.path)
			c.ofi = r.libfabricAt(r.find(r.loads(q), isOf(Libfabric)))
		}
	}
	// RCCL and older NCCL have libibverbs linked.
	if q := r.find(r.loads(c.file), isOf(Verbs)); q != nil {
		c.Verbs = q.path
	}
	for _, q := range r.files {
		if q.Software == NCCLPlugin && !slices.Contains(c.Plugins, q.path) && strings.Contains(path.Base(q.path), "ccl-net") {
			c.Unfound = append(c.Unfound, q.path)
		}
	}
}
