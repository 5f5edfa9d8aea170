package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/image/net"
	"github.com/nix2img/nix2img/image/squash"
)

// netLooker is one run of "nix2img net".
type netLooker struct {
	*app
	source   source
	caching  caching
	fabric   string
	hostLibs []string
	arch     string
	asJSON   bool

	demand net.Demand
}

func newNet(a *app) *cobra.Command {
	n := &netLooker{app: a}
	cmd := &cobra.Command{
		Use:   "net [flags] ROOT...|IMAGE",
		Short: "Say how a closure or image will run on many nodes",
		Long: `Say what a closure or image has for programs that run on many nodes: which MPI, what starts
its programs, whether the host's MPI can take its place, what carries messages (libfabric,
UCX, NCCL, RCCL, with their parts), and what of the host has to be bound. Nothing is run.

A ROOT is what build takes, and a closure comes from the same places.
An IMAGE is a SIF, a squashfs, an OCI layout or archive, or what docker save writes, whoever made it.

With --fabric, it says how programs fare on a network: infiniband (and RoCE), slingshot, efa,
ethernet or omnipath. They run; run over TCP only; need the host's library at a place that is told;
will not start; or it is not known, which is neither good nor bad.
The command fails with exit code 6 if a program will not start.

--host-lib FILE compares a library of the host with the closure: its MPI, its libfabric or a
provider. The versions of symbols that it needs must be in the closure's glibc.
The command fails with exit code 6 if they are not.

An image of a closure with MPI has a folder, /.nix2img/host-mpi, where a host may bind its own:
programs take that if it has the ABI of MPICH and theirs has it, too (build --mpi).

With --json, the arrays mpi, programs, libfabric, ucx, collectives, verbs, host and suspects
have all of it, and verdict the outcome: runs, tcp, "needs host", unknown or fails.`,
		Example: `  nix2img net ./result
  nix2img net --fabric slingshot app.sif
  nix2img net --host-lib /opt/cray/pe/mpich/8.1.28/ofi/gnu/12.3/lib-abi-mpich/libmpi.so.12 app.sif
  srun --mpi=$(nix2img net --json app.sif | jq -r '.mpi[0].srun') ...`,
		RunE: func(cmd *cobra.Command, args []string) error {
			n.source.roots = args
			return n.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&n.fabric, "fabric", "", "say how it runs on a network of this `KIND`: infiniband, slingshot, efa, ethernet or omnipath")
	f.StringArrayVar(&n.hostLibs, "host-lib", nil, "fail if this library of the host, a `FILE`, cannot be used in the image")
	n.source.addFlags(f)
	f.BoolVar(&n.caching.off, "no-cache", false, "look into all files, and keep nothing in a cache")
	n.caching.addDirFlag(f)
	f.IntVarP(&n.source.jobs, "jobs", "j", 0, "use `N` cores, which never changes the output (default: all)")
	f.StringVar(&n.arch, "arch", "", "the CPU's `ARCH`, Go's name, of an OCI image for several")
	f.BoolVar(&n.asJSON, "json", false, "print JSON")
	return cmd
}

// netResult is what "net --json" prints.
type netResult struct {
	Summary *net.Summary `json:"summary"`
	Verdict *net.Verdict `json:"verdict,omitempty"` // if there was something to compare with
	*net.Report
}

func (n *netLooker) run(ctx context.Context) error {
	if err := n.parse(ctx); err != nil {
		return err
	}
	report, err := n.look(ctx)
	if err != nil {
		return err
	}
	res := &netResult{Summary: report.Summary(), Report: report}
	if n.demand.Fabric != "" || len(n.demand.Host) > 0 {
		res.Verdict = report.Check(&n.demand)
	}
	if n.asJSON {
		err = printEnvelope(n.ui, "net", res)
	} else {
		err = res.print(n.ui)
	}
	if err != nil {
		return err
	}
	return n.judge(res.Verdict)
}

// parse judges the flags, beside those that say where a closure comes from.
func (n *netLooker) parse(ctx context.Context) error {
	if n.source.jobs < 0 {
		return usagef("--jobs %d: want 0 or more", n.source.jobs)
	}
	if n.fabric != "" {
		var err error
		if n.demand.Fabric, err = net.ParseFabric(n.fabric); err != nil {
			return usagef("--fabric: %w", err)
		}
	}
	for _, name := range n.hostLibs {
		lib, err := readHostLibrary(ctx, name)
		if err != nil {
			return fmt.Errorf("--host-lib %s: %w", name, err)
		}
		n.demand.Host = append(n.demand.Host, *lib)
	}
	return nil
}

// readHostLibrary looks at a library of the host.
func readHostLibrary(ctx context.Context, name string) (*net.HostLibrary, error) {
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(target)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	facts, err := net.Inspect(ctx, os.DirFS(filepath.Dir(target)), filepath.Base(target), 1)
	if err != nil {
		return nil, err
	}
	if len(facts.Files) == 0 || facts.Files[0].Interp != "" && facts.Files[0].Soname == "" {
		return nil, errors.New("not a library")
	}
	f := &facts.Files[0]
	if f.Damaged != "" {
		return nil, errors.New(f.Damaged)
	}
	return &net.HostLibrary{Path: name, File: f}, nil
}

// look makes the report of an image or a closure.
func (n *netLooker) look(ctx context.Context) (*net.Report, error) {
	if len(n.source.roots) == 1 && isImage(n.source.roots[0]) {
		name := n.source.roots[0]
		n.ui.busyf("looking for networks in %s", name)
		defer n.ui.status("")
		return n.lookIntoImage(ctx, name)
	}
	if err := n.source.check(); err != nil {
		return nil, err
	}
	n.ui.busyf("reading the closure")
	c, err := n.source.open(ctx, n.ui)
	defer n.source.Close()
	if err != nil {
		return nil, err
	}
	if !n.caching.off {
		if err := n.caching.openOwn(n.ui); err != nil {
			return nil, err
		}
	}
	n.ui.busyf("looking for networks in %s", formatSize(c.NARSize()))
	defer n.ui.status("")
	found, err := squash.Inspect(ctx, c, &image.Runtime{Workers: n.source.jobs, Cache: n.caching.cache}, net.Inspector)
	if err != nil {
		return nil, n.source.advise(&sourceError{err})
	}
	return netReport(c, found)
}

func (n *netLooker) lookIntoImage(ctx context.Context, name string) (*net.Report, error) {
	fsys, done, err := openFiles(ctx, name, n.arch, true)
	if err != nil {
		return nil, err
	}
	defer done()
	facts, err := net.Inspect(ctx, fsys, ".", n.source.jobs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return net.New(net.Split(facts)), nil
}

// netReport makes the report of a closure.
func netReport(c *closure.Closure, found map[closure.Path]inspect.Facts) (*net.Report, error) {
	var trees []net.Tree
	for _, o := range c.Objects() {
		facts, err := net.FactsOf(found[o.Path])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Path, err)
		}
		trees = append(trees, net.Tree{At: string(o.Path), Facts: facts})
	}
	return net.New(trees), nil
}

// judge warns of what cannot be seen, and fails if programs will not start.
func (n *netLooker) judge(v *net.Verdict) error {
	if v == nil {
		return nil
	}
	var failed []string
	for _, r := range v.Reasons {
		text := strings.TrimPrefix(r.Path+": "+r.Text, ": ")
		switch r.Outcome {
		case net.WillFail:
			failed = append(failed, text)
		case net.Unknown:
			n.ui.warnf("not known: %s", text)
		}
	}
	if failed == nil {
		return nil
	}
	more := ""
	if len(failed) > 3 {
		more = fmt.Sprintf("; and %d more", len(failed)-3)
		failed = failed[:3]
	}
	return &targetError{fmt.Errorf("will not start: %s%s", strings.Join(failed, "; "), more)}
}
