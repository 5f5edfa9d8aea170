package image

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/image/net"
)

// Folders where a host may bind what takes the place of the closure's, or goes beside it:
// libraries of MPI, and providers of libfabric.
const (
	hostMPIDir       = ".nix2img/host-mpi"
	hostProvidersDir = ".nix2img/host-libfabric"
)

// mountPoints are folders of a host that programs with MPI look into. Who cannot write to the image can bind them only if they are there.
var mountPoints = []string{hostMPIDir, hostProvidersDir, "etc/libibverbs.d", "run/munge", "var/spool/slurmd"}

// resolveMPI settles whether the image serves the MPI of a host.
func (r *Resolved) resolveMPI(ctx context.Context) error {
	if r.image.MPI == No {
		return nil
	}
	all, err := r.factsOf(ctx, net.Inspector)
	if err != nil {
		return err
	}
	trees := make([]net.Tree, len(r.store.byName))
	for i, p := range r.store.byName {
		facts, err := net.FactsOf(all[p])
		if err != nil {
			return fmt.Errorf("image: %s: %w", p, err)
		}
		trees[i] = net.Tree{At: string(p), Facts: facts}
	}
	r.Net = net.New(trees)
	r.MPI = r.image.MPI == Yes || len(r.Net.MPI)+len(r.Net.Programs) > 0
	return nil
}

// addMPI adds what serves the MPI of a host.
func (r *Resolved) addMPI(t *baseTree) {
	if !r.MPI {
		return
	}
	t.mkdir(0o755, mountPoints...)
	// It comes after the script that has the last word on LD_LIBRARY_PATH otherwise.
	t.write(".singularity.d/env/99-nix2img_mpi.sh", 0o755, r.mpiScript())
}

// mpiScript returns the script that makes programs take what a host has bound.
//
// What fits is decided by names, as a script can do no more: an MPI that is bound must have the file that programs ask for,
// of an ABI that several libraries share. A folder with a libc is that of a whole system, and would take the place of far more.
// Open MPI cannot be replaced like that: its components belong to one libmpi.so.
func (r *Resolved) mpiScript() string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# Lets programs take the MPI and the providers of libfabric that a host has bound.\n")
	if names := r.replaceable(); len(names) > 0 {
		fmt.Fprintf(&b, `__n2i_dir=/%s
for __n2i_lib in %s; do
    if [ -e "$__n2i_dir/$__n2i_lib" ] && [ ! -e "$__n2i_dir/libc.so.6" ] && [ "${NIX2IMG_HOST_MPI:-}" != no ]; then
        LD_LIBRARY_PATH="$__n2i_dir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
        export LD_LIBRARY_PATH
        break
    fi
done
`, hostMPIDir, strings.Join(names, " "))
	}
	if len(r.Net.Libfabric) > 0 {
		fmt.Fprintf(&b, `for __n2i_lib in /%[1]s/lib*-fi.so; do
    if [ -e "$__n2i_lib" ] && [ -z "${FI_PROVIDER_PATH:-}" ]; then
        FI_PROVIDER_PATH=%[2]s
        export FI_PROVIDER_PATH
    fi
done
`, hostProvidersDir, strings.Join(append([]string{"/" + hostProvidersDir}, r.providerDirs()...), ":"))
	}
	if slices.ContainsFunc(r.Net.MPI, func(m net.MPI) bool { return slices.Contains(m.PMI, "pmix") }) {
		// Memory shared with a server of another version is what PMIx stumbles over.
		b.WriteString(`if [ -n "${PMIX_RANK:-}" ] && [ -z "${PMIX_MCA_gds:-}" ]; then
    PMIX_MCA_gds=hash
    export PMIX_MCA_gds
fi
`)
	}
	b.WriteString("unset __n2i_dir __n2i_lib\n")
	return b.String()
}

// replaceable returns the names of the libraries of MPI whose place others can take; sorted.
func (r *Resolved) replaceable() (names []string) {
	for i := range r.Net.MPI {
		if m := &r.Net.MPI[i]; m.ABI == net.ABIMPICH || m.ABI == net.ABIStandard {
			names = append(names, m.Soname)
		}
	}
	for i := range r.Net.Programs {
		for _, name := range r.Net.Programs[i].Missing {
			if net.IsMPI(name) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 && len(r.Net.MPI) == 0 {
		names = []string{"libmpi.so.12"} // it was asked for, for programs that nobody sees
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return !isPlainName(name) })
}

// isPlainName reports whether a name can stand in a script as it is.
func isPlainName(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-") == ""
}

// providerDirs returns the folders of the closure's own providers, which a path of providers must name, too.
func (r *Resolved) providerDirs() (dirs []string) {
	for i := range r.Net.Libfabric {
		for _, p := range r.Net.Libfabric[i].Providers {
			if dir := path.Dir(p.Path); p.Path != "" && !slices.Contains(dirs, dir) && !strings.Contains(dir, ":") {
				dirs = append(dirs, quote(dir))
			}
		}
	}
	return dirs
}
