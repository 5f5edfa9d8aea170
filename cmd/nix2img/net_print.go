package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/nix2img/nix2img/image/net"
)

// print prints a report for a person: the verdict, what there is, and what is suspicious.
func (res *netResult) print(u *ui) error {
	var b strings.Builder
	res.printVerdict(&b)
	res.printSummary(&b)
	res.printPrograms(&b)
	for _, s := range res.Suspects {
		fmt.Fprintf(&b, "\nwarning: %s", printable(shortPath(s.Path)+" "+s.Text))
	}
	for line := range strings.Lines(strings.TrimLeft(b.String(), "\n")) {
		if err := u.resultf("%s\n", strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// netOutcomes says in few words what outcomes mean.
var netOutcomes = map[net.Outcome]string{
	net.Runs: "runs", net.OverTCP: "runs over TCP only", net.NeedsHost: "needs the host's library",
	net.Unknown: "not known", net.WillFail: "will not start",
}

func (res *netResult) printVerdict(out io.Writer) {
	v := res.Verdict
	if v == nil {
		return
	}
	w := newFieldWriter(out)
	name := string(v.Fabric)
	if name == "" {
		name = "host's"
	}
	w.field(name, "%s", netOutcomes[v.Outcome])
	const most = 12
	for i, r := range v.Reasons {
		if i == most {
			w.field("", "and %d more", len(v.Reasons)-most)
			break
		}
		text := r.Text
		if r.Path != "" {
			text = shortPath(r.Path) + ": " + text
		}
		if r.Outcome != v.Outcome {
			text = netOutcomes[r.Outcome] + ": " + text
		}
		w.field("", "%s", text)
	}
	w.Flush()
	fmt.Fprintln(out)
}

func (res *netResult) printSummary(out io.Writer) {
	w := newFieldWriter(out)
	defer w.Flush()
	if len(res.MPI)+len(res.Collectives)+len(res.Libfabric)+len(res.UCX) == 0 {
		w.field("networks", "no MPI, libfabric, UCX, NCCL or RCCL")
		return
	}
	for i := range res.MPI {
		printMPI(w, &res.MPI[i])
	}
	for _, f := range res.Libfabric {
		w.field("libfabric", "%s, with %s (%s)", f.Version, partNames(f.Providers), shortPath(f.Path))
	}
	for _, x := range res.UCX {
		w.field("UCX", "%s, with %s (%s)", x.Version, partNames(x.Transports), shortPath(x.Path))
	}
	for _, c := range res.Collectives {
		how := "libibverbs is not found: takes sockets"
		if c.Verbs != "" {
			how = "finds libibverbs"
		}
		if len(c.Plugins) > 0 {
			how += ", and " + counted(len(c.Plugins), "plugin", "plugins")
		}
		w.field(string(c.Name), "%s %s (%s)", c.Version, how, shortPath(c.Path))
	}
	if len(res.Verbs) > 0 {
		w.field("RDMA drivers", "%s", strings.Join(res.Verbs, " "))
	}
	if res.Glibc != "" {
		w.field("glibc", "%s: what a host brings must need no later one", res.Glibc)
	}
	name := "of the host"
	for _, h := range res.Host {
		w.field(name, "%s: %s", h.Path, h.Why)
		name = ""
	}
}

func printMPI(w fieldWriter, m *net.MPI) {
	w.field("MPI", "%s, for %s (%s)", m, counted(m.Programs, "program", "programs"), shortPath(m.Path))
	how := "mpirun of the image or of a host with the same one"
	if m.Srun != "" {
		how = "srun --mpi=" + m.Srun
		if m.PMIx != "" {
			how += fmt.Sprintf(" (PMIx %s)", m.PMIx)
		}
	}
	w.field("  started by", "%s", how)
	switch m.ABI {
	case net.ABIMPICH:
		w.field("  ABI", "MPICH's: another library with it can take its place, as %s in %s", m.Soname, net.HostMPI)
	case net.ABIOpenMPI:
		w.field("  ABI", "Open MPI's: only the same Open MPI, all of it, can take its place")
	case net.ABIStandard:
		w.field("  ABI", "the standard's: any library with it can take its place")
	}
	var by []string
	if m.Device != "" {
		by = append(by, m.Device)
	}
	by = append(by, m.Components...)
	if len(by) > 0 {
		w.field("  has", "%s", strings.Join(by, " "))
	}
}

func partNames(parts []net.Part) string {
	var names []string
	for _, p := range parts {
		name := p.Name
		if p.Path != "" {
			name += "*"
		}
		if len(p.Missing) > 0 {
			name += " (without " + strings.Join(p.Missing, ", ") + ")"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, " ")
}

// printPrograms lists the programs, those whose MPI cannot be replaced with the reason.
func (res *netResult) printPrograms(out io.Writer) {
	if len(res.Programs) == 0 {
		return
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "program\tMPI\tthe host's may take its place")
	const most = 40
	for i, p := range res.Programs {
		if i == most {
			fmt.Fprintf(w, "and %d more\t\t\n", len(res.Programs)-most)
			break
		}
		var names []string
		for _, m := range p.MPI {
			names = append(names, shortPath(m))
		}
		swap := "yes"
		if !p.Swap {
			swap = "no: " + p.Why
		}
		if len(names) == 0 {
			names = []string{"none in the image"}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", printable(shortPath(p.Path)), printable(strings.Join(names, ", ")), swap)
	}
	w.Flush()
}

// netLines says what the record of an image has about networks.
func netLines(s *net.Summary) (lines []string) {
	for i, name := range s.MPI {
		if i < len(s.Srun) && s.Srun[i] != "" {
			name += ", started by srun --mpi=" + s.Srun[i]
		}
		lines = append(lines, name)
	}
	for _, l := range []struct {
		name  string
		parts []string
	}{{"libfabric with", s.Providers}, {"UCX with", s.UCX}, {"drivers of libibverbs:", s.Verbs}, {"has", s.Collectives}} {
		if len(l.parts) > 0 {
			lines = append(lines, l.name+" "+strings.Join(l.parts, " "))
		}
	}
	return lines
}
