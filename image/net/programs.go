package net

import (
	"path"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/internal/loader"
)

// starts reports whether a file is where loading begins: a program, or a module that an interpreter loads by its path.
// Components of the libraries themselves are neither.
func (p *placed) starts() bool {
	return p.Interp != "" || p.Software == "" && !strings.HasPrefix(path.Base(p.path), "lib")
}

// findPrograms lists those that load MPI.
func (r *Report) findPrograms() {
	for _, p := range r.wanting(func(p *placed) bool { return p.Software.mpi() }, IsMPI) {
		if !p.starts() {
			continue
		}
		program := Program{Path: p.path, MPI: []string{}, Swap: true, process: r.loads(p), module: p.Interp == ""}
		for _, l := range program.process.Loaded {
			if q := r.at[l.File]; q.Software.mpi() {
				r.uses(&program, q, l)
			}
		}
		for _, m := range program.process.Missing {
			program.Missing = append(program.Missing, m.Name)
		}
		r.opened(&program, p)
		if len(program.MPI) > 0 || slices.ContainsFunc(program.Missing, IsMPI) {
			r.Programs = append(r.Programs, program)
		}
	}
}

// uses notes that a program loads a library of MPI.
func (r *Report) uses(program *Program, q *placed, l loader.Loaded) {
	program.MPI = append(program.MPI, q.path)
	if m := r.mpiAt(q); m != nil {
		m.Programs++
	}
	switch l.Way {
	case loader.RPath:
		program.Swap, program.Why = false, "it is found by RPATH, which goes before LD_LIBRARY_PATH"
	case loader.Absolute:
		program.Swap, program.Why = false, "it is asked for by its path"
	}
}

// opened adds what a program loads by name, if it loads no MPI otherwise: mpi4py does so.
func (r *Report) opened(program *Program, p *placed) {
	if len(program.MPI) > 0 {
		return
	}
	for _, name := range p.Names {
		if q := r.opens(p, name); IsMPI(name) && q != nil && q.Software.mpi() {
			r.uses(program, q, loader.Loaded{})
			return
		}
	}
}

// wanting returns the files that load, by themselves or others, one that is wanted, or one whose name is, in order.
// It goes by names, so that it returns too many rather than too few.
func (r *Report) wanting(wanted func(*placed) bool, named func(string) bool) []*placed {
	users := make(map[string][]int) // by name that is needed
	var todo []int
	in := make([]bool, len(r.files))
	add := func(i int) {
		if !in[i] {
			in[i] = true
			todo = append(todo, i)
		}
	}
	for i, p := range r.files {
		for _, name := range slices.Concat(p.Needed, p.Names) {
			users[path.Base(name)] = append(users[path.Base(name)], i)
			if named(path.Base(name)) {
				add(i)
			}
		}
		if wanted(p) {
			add(i)
		}
	}
	for len(todo) > 0 {
		p := r.files[todo[len(todo)-1]]
		todo = todo[:len(todo)-1]
		for _, name := range []string{path.Base(p.path), p.Soname} {
			for _, i := range users[name] {
				add(i)
			}
			delete(users, name)
		}
	}
	var list []*placed
	for i, p := range r.files {
		if in[i] {
			list = append(list, p)
		}
	}
	return list
}
