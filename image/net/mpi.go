package net

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/internal/loader"
)

// ABI is what a program that was linked with one library of MPI asks of another.
type ABI string

// ABIs. Libraries that share one can take each other's place.
const (
	// ABIMPICH is that of MPICH since 3.1, Intel MPI, Cray MPICH and MVAPICH: libmpi.so.12.
	// See the MPICH ABI Compatibility Initiative.
	ABIMPICH ABI = "mpich"
	// ABIOpenMPI is that of Open MPI, libmpi.so.40. It holds for libmpi.so alone, not for its components,
	// so that what takes its place has to bring all of Open MPI along.
	ABIOpenMPI ABI = "openmpi"
	// ABIStandard is that of MPI 5: libmpi_abi.so.
	ABIStandard ABI = "mpi-abi"
)

// MPI is a library of MPI.
type MPI struct {
	Path     string   `json:"path"`
	Flavour  Software `json:"flavour"`
	Version  string   `json:"version,omitzero"`
	Soname   string   `json:"soname"`
	ABI      ABI      `json:"abi,omitzero"`
	Programs int      `json:"programs"` // that load it, modules of interpreters among them
	// Device is what carries messages, as MPICH calls it: "ch4:ofi", "ch4:ucx", "ch3:nemesis".
	Device string `json:"device,omitzero"`
	// Components are those of Open MPI that decide about networks: "pml_ucx", "mtl_ofi", "btl_openib", ...
	Components []string `json:"components,omitempty"`
	// Libfabric and UCX are the paths of those that it uses; its own if they are inside of it.
	Libfabric string `json:"libfabric,omitzero"`
	UCX       string `json:"ucx,omitzero"`
	// PMI are the ways in which it can be told what other processes there are: "pmix", "pmi2", "pmi1".
	PMI []string `json:"pmi"`
	// PMIx is the version of the library for that, if it has one.
	PMIx string `json:"pmix,omitzero"`
	// Srun is the value of srun's --mpi that fits. It is empty if there is none, or if it is not known.
	Srun string `json:"srun,omitzero"`

	file *placed
	ofi  *Libfabrics
	ucx  *UCXs
	psm2 bool
}

// flavour returns the name of a library, with its version.
func (m *MPI) String() string {
	return strings.TrimSpace(string(m.Flavour) + " " + m.Version)
}

// findMPI lists the libraries of MPI.
func (r *Report) findMPI() {
	for _, p := range r.files {
		if !p.Software.mpi() {
			continue
		}
		m := MPI{Path: p.path, Flavour: p.Software, Version: r.version(p), Soname: p.Soname, PMI: []string{}, file: p}
		m.ABI = m.abi()
		for _, part := range p.Parts {
			if strings.Contains(part, ":") {
				m.Device = part
			}
		}
		r.findComponents(&m)
		r.findPMI(&m)
		r.MPI = append(r.MPI, m)
	}
}

func (m *MPI) abi() ABI {
	switch {
	case strings.HasPrefix(m.Soname, "libmpi_abi.so"):
		return ABIStandard
	case m.Flavour == OpenMPI:
		return ABIOpenMPI
	case m.Flavour != UnknownMPI && strings.HasSuffix(m.Soname, ".so.12"), m.Soname == "libmpi.so.12":
		return ABIMPICH
	}
	return ""
}

// networking are the components of Open MPI that decide about networks and starting.
var networking = regexp.MustCompile(`^mca_((?:pml|mtl|btl|osc)_(?:ucx|ofi|cm|psm2?|openib|uct|tcp|portals4)|pmix_\w+)\.so$`)

// findComponents finds out what carries messages: what is loaded with the library, or with components beside it.
func (r *Report) findComponents(m *MPI) {
	processes := []*loader.Process{r.loads(m.file)}
	if m.Flavour == OpenMPI {
		for _, p := range r.files {
			if name := networking.FindStringSubmatch(path.Base(p.path)); name != nil && p.beside(m.file) {
				process := r.loads(p)
				if len(process.Missing) > 0 {
					r.Suspects = append(r.Suspects, cannotLoad(p.path, m.Path, missingIn(process)))
					continue
				}
				m.Components = append(m.Components, name[1])
				processes = append(processes, process)
			}
		}
		slices.Sort(m.Components)
	}
	for _, process := range processes {
		if m.ofi == nil {
			m.ofi = r.libfabricAt(r.find(process, isOf(Libfabric)))
		}
		if m.ucx == nil {
			m.ucx = r.ucxAt(r.find(process, func(p *placed) bool {
				return p.Software == UCX && strings.HasPrefix(path.Base(p.path), "libucp.")
			}))
		}
		m.psm2 = m.psm2 || process.Find("libpsm2.so.2") != nil
	}
	// Many have a libfabric of their own inside.
	if providers := r.providers(m.file); m.ofi == nil && slices.ContainsFunc(providers, func(p Part) bool { return p.Path == "" }) {
		m.ofi = &Libfabrics{m.file.path, "", providers, m.file}
	}
	if m.ofi != nil {
		m.Libfabric = m.ofi.Path
	}
	if m.ucx != nil {
		m.UCX = m.ucx.Path
	}
}

// findPMI finds out how the library can be started.
func (r *Report) findPMI(m *MPI) {
	process := r.loads(m.file)
	pmix := r.find(process, isOf(PMIx))
	for _, p := range r.files {
		name := networking.FindStringSubmatch(path.Base(p.path))
		if name == nil || m.Flavour != OpenMPI || !p.beside(m.file) || !strings.HasPrefix(name[1], "pmix_") {
			continue
		}
		switch kind := strings.TrimPrefix(name[1], "pmix_"); kind {
		case "s1":
			m.addPMI("pmi1")
		case "s2":
			m.addPMI("pmi2")
		default:
			if strings.HasPrefix(kind, "ext") || strings.HasPrefix(kind, "pmix") {
				m.addPMI("pmix")
			}
			if pmix == nil {
				pmix = r.find(r.loads(p), isOf(PMIx))
			}
		}
	}
	if pmix != nil {
		m.addPMI("pmix")
		m.PMIx = r.version(pmix)
	}
	if m.Flavour != OpenMPI {
		r.findOtherPMI(m, process)
	}
	m.Srun = m.srun(process)
}

func (m *MPI) addPMI(kind string) {
	if !slices.Contains(m.PMI, kind) {
		m.PMI = append(m.PMI, kind)
	}
}

// findOtherPMI looks for what MPICH and its kin use.
func (r *Report) findOtherPMI(m *MPI, process *loader.Process) {
	if r.find(process, isOf(PMI2)) != nil {
		m.addPMI("pmi2")
	}
	if r.find(process, isOf(PMI1)) != nil || slices.Contains(m.file.Parts, "PMI") {
		m.addPMI("pmi1")
	}
}

// srun returns what fits. Slurm's plugin for PMI-2 also answers what MPICH asks by itself, which is PMI-1.
func (m *MPI) srun(process *loader.Process) string {
	switch {
	case slices.Contains(m.PMI, "pmix"):
		return "pmix"
	case m.Flavour == CrayMPICH:
		return "cray_shasta"
	case slices.Contains(m.PMI, "pmi2"), slices.Contains(m.file.Parts, "PMI"), m.Flavour == IntelMPI, m.Flavour == MVAPICH:
		return "pmi2"
	case slices.Contains(m.PMI, "pmi1"):
		return "none" // Slurm's own library asks srun
	}
	return ""
}

// mpiAt returns the MPI that a file is, or nil.
func (r *Report) mpiAt(p *placed) *MPI {
	for i := range r.MPI {
		if r.MPI[i].file == p {
			return &r.MPI[i]
		}
	}
	return nil
}
