package image_test

import (
	"cmp"
	"io/fs"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/elf"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

var mpiPath, fabricPath = object("mpich-4.2.0"), object("libfabric-1.22.0")

// mpiLibrary returns a library with texts in it.
func mpiLibrary(soname string, needed []string, texts ...string) string {
	o := elftest.Object{Arch: "amd64", Soname: soname, Needed: needed, Sections: []elftest.Section{
		{Name: ".rodata", Flags: elf.SectionAlloc, Data: []byte("\x00" + strings.Join(texts, "\x00") + "\x00")},
	}}
	return string(o.Bytes())
}

// mpiNamed has a program, and a library of MPI under its soname.
func mpiNamed(soname string, needed []string, more files, texts ...string) *image.Image {
	f := files{mpiPath + "/lib/" + soname: mpiLibrary(soname, needed, texts...)}
	for name, text := range more {
		f[name] = text
	}
	f[hello+"/bin/hello"] = elfFile("amd64", "")
	return &image.Image{Closure: closureOf(f, hello)}
}

const (
	hostMPI       = "/.nix2img/host-mpi"
	hostProviders = "/.nix2img/host-libfabric"
)

func TestTheHostsMPITakesThePlaceIfItFits(t *testing.T) {
	fabric := files{
		fabricPath + "/lib/libfabric.so.1":          mpiLibrary("libfabric.so.1", nil),
		fabricPath + "/lib/libfabric/libpsm3-fi.so": mpiLibrary("libpsm3-fi.so", nil),
	}
	mpich := mpiNamed("libmpi.so.12", []string{"libfabric.so.1"}, fabric, "MPICH Version", "ch4:ofi")
	openmpi := mpiNamed("libmpi.so.40", []string{"libpmix.so.2"}, files{mpiPath + "/lib/libpmix.so.2": mpiLibrary("libpmix.so.2", nil)}, "Open MPI")
	const ld, fi, gds = "LD_LIBRARY_PATH", "FI_PROVIDER_PATH", "PMIX_MCA_gds"
	for _, test := range []struct {
		name string
		img  *image.Image
		host host
		env  string // that is set before, separated by semicolons
		key  string
		want string // "-": not set
	}{
		{"nothing bound", mpich, host{}, "", ld, "-"},
		{"an MPI that fits", mpich, with(hostMPI, "libmpi.so.12", "libcxi.so.1"), "", ld, hostMPI},
		{"in front of the user's", mpich, with(hostMPI, "libmpi.so.12"), "LD_LIBRARY_PATH=/x:/.singularity.d/libs", ld, hostMPI + ":/x:/.singularity.d/libs"},
		{"another ABI", mpich, with(hostMPI, "libmpi.so.40"), "", ld, "-"},
		{"another name", mpich, with(hostMPI, "libmpich.so.12"), "", ld, "-"},
		{"a whole system", mpich, with(hostMPI, "libmpi.so.12", "libc.so.6"), "", ld, "-"},
		{"switched off", mpich, with(hostMPI, "libmpi.so.12"), "NIX2IMG_HOST_MPI=no", ld, "-"},
		{"beside a driver", mpich, with(hostMPI, "libmpi.so.12").with(libs+"/libcuda.so.1", ""), "", ld, hostMPI + ":" + libs},
		{"Open MPI cannot be replaced", openmpi, with(hostMPI, "libmpi.so.40", "libmpi.so.12"), "", ld, "-"},
		{"no provider", mpich, host{}, "", fi, "-"},
		{"a provider, beside the closure's", mpich, with(hostProviders, "libcxi-fi.so"), "", fi, hostProviders + ":" + fabricPath + "/lib/libfabric"},
		{"a provider, and the user's", mpich, with(hostProviders, "libcxi-fi.so"), "FI_PROVIDER_PATH=/y", fi, "/y"},
		{"no libfabric", openmpi, with(hostProviders, "libcxi-fi.so"), "", fi, "-"},
		{"PMIx, not started by it", openmpi, host{}, "", gds, "-"},
		{"PMIx", openmpi, host{}, "PMIX_RANK=0", gds, "hash"},
		{"PMIx, and the user's", openmpi, host{}, "PMIX_RANK=0;PMIX_MCA_gds=ds21", gds, "ds21"},
		{"no PMIx", mpich, host{}, "PMIX_RANK=0", gds, "-"},
	} {
		env, more, _ := strings.Cut(test.env, ";")
		c := scriptCase{img: test.img, env: env}
		got, ok := evaluate(t, "export "+cmp.Or(more, "A=")+"\n"+c.text(t), test.host)[test.key]
		if !ok {
			got = "-"
		}
		if got != test.want {
			t.Errorf("%s: %s is %q, want %q", test.name, test.key, got, test.want)
		}
	}
}

func TestImagesThatServeMPIHaveWhatIsBoundThere(t *testing.T) {
	places := []string{".nix2img/host-mpi", ".nix2img/host-libfabric", "etc/libibverbs.d", "run/munge", "var/spool/slurmd", ".singularity.d/env/99-nix2img_mpi.sh"}
	plain := goldenImages()["hello"]
	serving := func(img *image.Image, choice image.Choice) *image.Image {
		served := *img
		served.MPI = choice
		return &served
	}
	mpich := mpiNamed("libmpi.so.12", nil, nil, "MPICH Version", "ch4:ofi", "4.2.0")
	for name, test := range map[string]struct {
		img    *image.Image
		serves bool
	}{
		"nothing": {plain, false}, "nothing, and no": {serving(plain, image.No), false}, "nothing, and yes": {serving(plain, image.Yes), true},
		"MPICH": {mpich, true}, "MPICH, and no": {serving(mpich, image.No), false},
	} {
		fsys := base(t, test.img)
		for _, place := range places {
			if _, err := fs.Stat(fsys, place); (err == nil) != test.serves {
				t.Errorf("%s: %s: %v", name, place, err)
			}
		}
		rec, err := resolve(t, test.img).Record()
		if err != nil {
			t.Fatal(err)
		}
		if (rec.Net != nil) != strings.HasPrefix(name, "MPICH") && name != "MPICH, and no" {
			t.Errorf("%s: the record has %+v", name, rec.Net)
		}
	}
	// Whoever wants it for programs that nobody sees gets it for the most usual name.
	c := scriptCase{img: serving(plain, image.Yes)}
	if got := evaluate(t, c.text(t), with(hostMPI, "libmpi.so.12"))["LD_LIBRARY_PATH"]; got != hostMPI {
		t.Errorf("got %q", got)
	}
}

// What a closure says of itself does not get into the script as anything but a name.
func TestNamesOfLibrariesAreNoShell(t *testing.T) {
	img := mpiNamed("libmpi.so.12", nil, nil, "MPICH Version")
	odd := mpiNamed("libmpi.so.12", nil, files{mpiPath + "/lib/libmpich.so.12": mpiLibrary("libmpich.so.12; touch x", nil, "MPICH Version")}, "MPICH Version")
	const script = ".singularity.d/env/99-nix2img_mpi.sh"
	if a, b := readFile(t, base(t, img), script), readFile(t, base(t, odd), script); a != b {
		t.Errorf("got\n%s\nwant\n%s", b, a)
	}
}
