package net

import (
	"fmt"
	"strings"
)

// findSuspects lists what is likely to be wrong on any machine.
func (r *Report) findSuspects() {
	add := func(path, format string, args ...any) {
		r.Suspects = append(r.Suspects, Suspect{path, fmt.Sprintf(format, args...)})
	}
	for i := range r.Programs {
		p := &r.Programs[i]
		if names := r.flavoursOf(p); len(names) > 1 {
			add(p.Path, "loads two libraries of MPI in one process: %s", strings.Join(names, " and "))
		}
		if len(p.Missing) > 0 {
			add(p.Path, "needs what the image does not have: %s", strings.Join(p.Missing, ", "))
		}
	}
	for i := range r.MPI {
		m := &r.MPI[i]
		if m.Flavour == OpenMPI && len(m.PMI) == 0 {
			add(m.Path, "is an Open MPI without PMIx: only mpirun can start its programs")
		}
	}
	for i := range r.Collectives {
		c := &r.Collectives[i]
		if c.Verbs == "" {
			add(c.Path, "has %s, which does not find libibverbs and takes sockets", c.Name)
		}
		for _, name := range c.Unfound {
			add(name, "is a plugin that %s in %s does not find", c.Name, c.Path)
		}
	}
	for _, f := range r.Libfabric {
		r.suspectParts(f.Path, f.Providers)
	}
	for _, u := range r.UCX {
		r.suspectParts(u.Path, u.Transports)
	}
	if r.loader.GaveUp() {
		add("/", "has so much to load that not all of it was looked for")
	}
}

// suspectParts names parts that cannot be loaded.
func (r *Report) suspectParts(of string, parts []Part) {
	for _, p := range parts {
		if len(p.Missing) > 0 {
			r.Suspects = append(r.Suspects, cannotLoad(p.Path, of, p.Missing))
		}
	}
}

func cannotLoad(path, by string, missing []string) Suspect {
	return Suspect{path, fmt.Sprintf("cannot be loaded by %s: the image has no %s", by, strings.Join(missing, ", "))}
}

// Summary is what is kept in an image about networks. It has few fields, and they stay as they are.
type Summary struct {
	MPI         []string `json:"mpi,omitempty"`  // flavours and versions: "Open MPI 4.1.4"
	Srun        []string `json:"srun,omitempty"` // the values of srun's --mpi that fit them, in the same order; "" is not known
	Providers   []string `json:"providers,omitempty"`
	UCX         []string `json:"ucx,omitempty"`         // transports
	Verbs       []string `json:"verbs,omitempty"`       // drivers of libibverbs
	Collectives []string `json:"collectives,omitempty"` // "NCCL 2.18.3"
}

// Summary makes a summary of a report. It is nil if the image has nothing to do with networks between nodes.
func (r *Report) Summary() *Summary {
	s := new(Summary)
	for i := range r.MPI {
		s.MPI = append(s.MPI, r.MPI[i].String())
		s.Srun = append(s.Srun, r.MPI[i].Srun)
	}
	for _, f := range r.Libfabric {
		s.Providers = appendParts(s.Providers, f.Providers)
	}
	for _, u := range r.UCX {
		s.UCX = appendParts(s.UCX, u.Transports)
	}
	for _, c := range r.Collectives {
		s.Collectives = append(s.Collectives, strings.TrimSpace(string(c.Name)+" "+c.Version))
	}
	if len(s.MPI)+len(s.Providers)+len(s.UCX)+len(s.Collectives) == 0 {
		return nil
	}
	s.Verbs = r.Verbs
	return s
}
