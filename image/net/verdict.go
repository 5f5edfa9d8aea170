package net

import (
	"fmt"
	"slices"
	"strings"
)

// Fabric is a kind of network between nodes.
type Fabric string

// Fabrics.
const (
	InfiniBand Fabric = "infiniband" // NVIDIA's (Mellanox); RoCE too, which has the same libraries
	Slingshot  Fabric = "slingshot"  // HPE's
	EFA        Fabric = "efa"        // Amazon's
	Ethernet   Fabric = "ethernet"   // by TCP
	OmniPath   Fabric = "omnipath"   // Cornelis'
)

// Fabrics has all of them.
var Fabrics = []Fabric{InfiniBand, Slingshot, EFA, Ethernet, OmniPath}

// ParseFabric reads the name of a fabric.
func ParseFabric(name string) (Fabric, error) {
	if f := Fabric(strings.ToLower(name)); slices.Contains(Fabrics, f) {
		return f, nil
	}
	return "", fmt.Errorf("%q is no fabric that is known: want infiniband, slingshot, efa, ethernet or omnipath", name)
}

// carriers says by what each is used: providers of libfabric, modules of UCX, components of Open MPI.
// An empty list means that there is none. The sources are those of libfabric, UCX and Open MPI.
var carriers = map[Fabric]struct {
	providers, modules, components, drivers []string
}{
	InfiniBand: {[]string{"verbs", "ucx"}, []string{"ib", "ib_mlx5"}, nil, []string{"mlx5", "mlx4", "mthca"}},
	Slingshot:  {[]string{"cxi"}, nil, nil, nil},
	EFA:        {[]string{"efa"}, []string{"ib_efa"}, nil, []string{"efa"}},
	Ethernet:   {[]string{"tcp", "net", "sockets"}, []string{"tcp"}, nil, nil},
	OmniPath:   {[]string{"opx", "psm2"}, nil, []string{"mtl_psm2"}, nil},
}

// Outcome is how programs fare.
type Outcome string

// Outcomes, the better ones first.
const (
	Runs      Outcome = "runs"       // by the fabric's own means
	OverTCP   Outcome = "tcp"        // over TCP only, which is slow
	NeedsHost Outcome = "needs host" // by a library of the host, at a place that the text tells
	Unknown   Outcome = "unknown"    // it cannot be seen: neither good nor bad
	WillFail  Outcome = "fails"      // it will not start
)

var outcomes = []Outcome{Runs, OverTCP, NeedsHost, Unknown, WillFail}

// worse returns the worse of two.
func worse(a, b Outcome) Outcome {
	if slices.Index(outcomes, a) < slices.Index(outcomes, b) {
		return b
	}
	return a
}

// Demand is what an image is compared with.
type Demand struct {
	Fabric Fabric        // "" for none
	Host   []HostLibrary // that are to be used
}

// Verdict says how programs fare.
type Verdict struct {
	Fabric  Fabric   `json:"fabric,omitzero"`
	Outcome Outcome  `json:"outcome"` // the worst of the reasons'
	Reasons []Reason `json:"reasons"`
	Host    []Fit    `json:"host"` // of libraries of the host
}

// Reason is what is to be said of one library or program.
type Reason struct {
	Outcome Outcome `json:"outcome"`
	Path    string  `json:"path,omitzero"`
	Text    string  `json:"text"`
}

// HostMPI is the folder of an image where a host may bind its MPI. See docs/net.md.
const HostMPI = "/.nix2img/host-mpi"

// Check compares the image with a fabric, and with libraries of a host. A nil Demand has neither.
func (r *Report) Check(d *Demand) *Verdict {
	if d == nil {
		d = new(Demand)
	}
	v := &Verdict{Fabric: d.Fabric, Outcome: Runs, Reasons: []Reason{}, Host: []Fit{}}
	for i := range d.Host {
		fit := r.fit(&d.Host[i], d.Host)
		v.Host = append(v.Host, fit)
		v.add(fit.Outcome, fit.Path, "%s", fit.Text)
	}
	r.checkPrograms(v, d)
	if d.Fabric != "" {
		for i := range r.MPI {
			r.checkMPI(v, d, &r.MPI[i])
		}
		for i := range r.Collectives {
			r.checkCollective(v, d, &r.Collectives[i])
		}
	}
	if len(v.Reasons) == 0 {
		v.add(Unknown, "", "nothing in the image loads MPI, NCCL or RCCL")
	}
	slices.SortStableFunc(v.Reasons, func(a, b Reason) int { return slices.Index(outcomes, b.Outcome) - slices.Index(outcomes, a.Outcome) })
	return v
}

func (v *Verdict) add(outcome Outcome, path, format string, args ...any) {
	v.Reasons = append(v.Reasons, Reason{outcome, path, fmt.Sprintf(format, args...)})
	v.Outcome = worse(v.Outcome, outcome)
}

// checkPrograms looks for what keeps a program from starting, wherever that is.
func (r *Report) checkPrograms(v *Verdict, d *Demand) {
	for i := range r.Programs {
		p := &r.Programs[i]
		if names := r.flavoursOf(p); len(names) > 1 {
			v.add(WillFail, p.Path, "it loads two libraries of MPI in one process: %s", strings.Join(names, " and "))
		}
		r.checkMissing(v, d, p)
	}
}

// checkMissing says what becomes of a program that needs what the image does not have.
// A module may find it in the process of its interpreter.
func (r *Report) checkMissing(v *Verdict, d *Demand, p *Program) {
	var gone []string
	for _, name := range p.Missing {
		switch {
		case d.given(name) != nil:
			v.add(NeedsHost, p.Path, "it needs %s, and takes the host's, bound into %s", name, HostMPI)
		case IsMPI(name):
			v.add(NeedsHost, p.Path, "the image has no %s: it needs the host's at %s", name, HostMPI)
		default:
			gone = append(gone, name)
		}
	}
	if gone == nil {
		return
	}
	outcome := WillFail
	if p.module {
		outcome = Unknown
	}
	v.add(outcome, p.Path, "it needs what the image does not have: %s", strings.Join(gone, ", "))
}

// flavoursOf returns the flavours that a program has in its process.
func (r *Report) flavoursOf(p *Program) (names []string) {
	for _, abs := range p.MPI {
		for i := range r.MPI {
			if m := &r.MPI[i]; m.Path == abs && !slices.Contains(names, m.String()) {
				names = append(names, m.String())
			}
		}
	}
	return names
}

// given returns the library of the host that has a name, or nil.
func (d *Demand) given(name string) *HostLibrary {
	for i := range d.Host {
		if d.Host[i].File.Soname == name {
			return &d.Host[i]
		}
	}
	return nil
}

// checkMPI says how a library of MPI gets to a fabric.
func (r *Report) checkMPI(v *Verdict, d *Demand, m *MPI) {
	if m.Programs == 0 && len(r.Programs) > 0 {
		return // others are used
	}
	if m.Flavour == UnknownMPI {
		v.add(Unknown, m.Path, "it is not known what library of MPI this is")
		return
	}
	if d.Fabric == Ethernet {
		v.add(Runs, m.Path, "%s runs over TCP", m)
		return
	}
	if text := r.reaches(d.Fabric, m); text != "" {
		v.add(Runs, m.Path, "%s gets there by %s", m, text)
		return
	}
	if texts := r.fromHost(d, m); len(texts) > 0 {
		v.add(NeedsHost, m.Path, "%s runs over TCP only, unless the host brings %s", m, strings.Join(texts, ", or "))
		return
	}
	if m.ofi == nil && m.ucx == nil && len(m.Components) == 0 && m.Device == "" {
		v.add(Unknown, m.Path, "it cannot be seen what %s sends messages by", m)
		return
	}
	v.add(OverTCP, m.Path, "%s has nothing for %s", m, d.Fabric)
}

// reaches returns by what a library gets to a fabric with what is in the image, or "".
func (r *Report) reaches(f Fabric, m *MPI) string {
	c := carriers[f]
	if len(c.drivers) > 0 && !r.drives(c.drivers) {
		return ""
	}
	for _, name := range c.modules {
		if m.ucx != nil && m.ucx.has(name) && m.takesUCX() {
			return "UCX's module " + name
		}
	}
	for _, name := range c.components {
		if slices.Contains(m.Components, name) {
			return "its component " + name
		}
	}
	for _, name := range c.providers {
		if m.ofi != nil && m.ofi.has(name) && m.takesLibfabric() {
			return "libfabric's provider " + name
		}
	}
	if f == OmniPath && m.Flavour == OpenMPI && m.psm2 {
		return "PSM2"
	}
	return ""
}

// takesUCX and takesLibfabric report whether a library sends messages by one of them.
// MPICH is built for one of them. Open MPI has components, or all of them in itself.
func (m *MPI) takesUCX() bool { return m.Device == "" || strings.HasSuffix(m.Device, ":ucx") }

func (m *MPI) takesLibfabric() bool {
	if len(m.Components) > 0 {
		return slices.Contains(m.Components, "mtl_ofi") || slices.Contains(m.Components, "btl_ofi")
	}
	return m.Device == "" || strings.HasSuffix(m.Device, ":ofi")
}

// drives reports whether libibverbs has one of some drivers.
func (r *Report) drives(drivers []string) bool {
	return slices.ContainsFunc(drivers, func(name string) bool { return slices.Contains(r.Verbs, name) })
}

// fromHost returns what a host can bring, and where it has to be bound.
func (r *Report) fromHost(d *Demand, m *MPI) (texts []string) {
	if m.ABI == ABIMPICH && r.swappable(m) {
		texts = append(texts, fmt.Sprintf("a library with MPICH's ABI as %s in %s", m.Soname, HostMPI))
	}
	c := carriers[d.Fabric]
	if m.ofi != nil && m.takesLibfabric() && len(c.providers) > 0 {
		texts = append(texts, fmt.Sprintf("lib%s-fi.so in a folder that FI_PROVIDER_PATH names", c.providers[0]))
	}
	if len(c.drivers) > 0 && len(r.Verbs) == 0 && (m.ucx != nil || m.ofi != nil) {
		texts = append(texts, "the drivers of libibverbs, which /etc/libibverbs.d names")
	}
	return texts
}

// swappable reports whether all programs that load a library would take another.
func (r *Report) swappable(m *MPI) bool {
	for i := range r.Programs {
		if p := &r.Programs[i]; slices.Contains(p.MPI, m.Path) && !p.Swap {
			return false
		}
	}
	return true
}

// checkCollective says how NCCL or RCCL gets to a fabric.
func (r *Report) checkCollective(v *Verdict, d *Demand, c *Collective) {
	carrier := carriers[d.Fabric]
	switch {
	case d.Fabric == Ethernet:
		v.add(Runs, c.Path, "%s runs over sockets", c.Name)
	case c.ofi != nil && slices.ContainsFunc(carrier.providers, c.ofi.has):
		v.add(Runs, c.Path, "%s gets there by its plugin, and libfabric", c.Name)
	case d.Fabric == InfiniBand && c.Verbs != "" && r.drives(carrier.drivers):
		v.add(Runs, c.Path, "%s gets there by libibverbs", c.Name)
	case d.Fabric == InfiniBand && c.Verbs != "":
		v.add(NeedsHost, c.Path, "%s takes sockets, unless the host brings the drivers of libibverbs, which /etc/libibverbs.d names", c.Name)
	case d.Fabric == InfiniBand:
		v.add(OverTCP, c.Path, "%s does not find libibverbs, and takes sockets", c.Name)
	case len(c.Plugins) > 0 && c.ofi == nil:
		v.add(Unknown, c.Path, "it is not known what the plugin %s can do", c.Plugins[0])
	default:
		v.add(NeedsHost, c.Path, "%s takes sockets, unless the host brings libnccl-net.so, with its libfabric, in a folder of LD_LIBRARY_PATH", c.Name)
	}
}
