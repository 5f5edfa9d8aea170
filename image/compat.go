package image

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/internal/elf"
)

// compatDir is where an image has links to the libraries of NVIDIA's CUDA compatibility package.
const compatDir = "/.nix2img/compat"

// compat is NVIDIA's CUDA compatibility package (cuda_compat) in a closure:
// the libraries of a newer driver, which work with the kernel's part of some older ones.
type compat struct {
	links   []libraryLink
	version string // that of the driver that they are from, "575.57.08" for instance
	major   int    // its branch, 575
	drivers []int  // branches that they work with; nil: older ones
	jetson  bool   // they are for Jetson boards, where drivers are not numbered like this
}

// minBranch is less than any branch of NVIDIA's drivers for which there are compatibility packages.
// The versions of Jetson's are 1.1.
const minBranch = 300

// resolveCompat looks for a compatibility package. Of several it takes the newest.
func (r *Resolved) resolveCompat() error {
	drivers, err := r.libraries(func(soname string) bool { return soname == "libcuda.so.1" })
	if err != nil {
		return err
	}
	drivers = slices.DeleteFunc(drivers, func(l library) bool { return !isCompat(&l) })
	if len(drivers) == 0 {
		return nil
	}
	slices.SortFunc(drivers, newer)
	driver := drivers[0]
	dir := path.Dir(driver.path)
	if len(drivers) > 1 {
		r.note("the closure has %d CUDA compatibility packages: the image uses %s", len(drivers), dir)
	}
	siblings, err := r.libraries(isSoname)
	if err != nil {
		return err
	}
	siblings = slices.DeleteFunc(siblings, func(l library) bool { return path.Dir(l.path) != dir })
	c := &compat{links: newest(siblings, func(library, int) {})}
	_, c.version, _ = strings.Cut(path.Base(driver.path), ".so.")
	if v := driver.version(); len(v) > 0 {
		c.major = v[0]
	}
	if strings.Trim(c.version, ".0123456789") != "" { // it comes into a script
		c.version = "unknown"
	}
	c.jetson = r.Arch == "arm64" && c.major < minBranch
	if c.drivers, err = r.compatDrivers(driver.path); err != nil {
		return err
	}
	r.compat = c
	return nil
}

// isCompat reports whether a libcuda is not that of a driver:
// by the note that newer ones have, the name of the folder, or that of the package.
func isCompat(l *library) bool {
	name := strings.ReplaceAll(l.object.Name(), "-", "_")
	return slices.Contains(l.Marks, gpu.MarkCompat) || path.Base(path.Dir(l.path)) == "compat" || strings.Contains(name, "cuda_compat")
}

// compatDrivers returns what a compatibility package says itself about the drivers that it works with:
// a note with JSON in the section .note.cuda.fwd_compatibility of its libcuda, such as
//
//	{"format":1,"CUDA version":"12.9","driver":[535,550,560,565,570,575],"device":[1,2,7,8]}
//
// It is nil if there is no such note. The layout is what the NVIDIA Container Toolkit 1.18 reads.
func (r *Resolved) compatDrivers(abs string) ([]int, error) {
	name, _, err := r.store.stat(abs)
	if err != nil {
		return nil, err
	}
	f, err := r.store.files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("image: read %s: %w", abs, err)
	}
	defer f.Close()
	at, err := readerAt(f)
	if err != nil {
		return nil, fmt.Errorf("image: read %s: %w", abs, err)
	}
	o, _ := elf.ReadObject(at)
	if o == nil {
		return nil, nil
	}
	const maxNote = 1 << 16
	for _, s := range o.Sections {
		if s.Name != ".note.cuda.fwd_compatibility" || s.Size > maxNote {
			continue
		}
		note := make([]byte, s.Size)
		if _, err := at.ReadAt(note, int64(s.Offset)); err != nil && err != io.EOF {
			return nil, fmt.Errorf("image: read %s: %w", abs, err)
		}
		return parseCompatNote(note, o.Order), nil
	}
	return nil, nil
}

// parseCompatNote returns the drivers of a note, or nil. A note has, with 32 bits for each number,
// the sizes of name and description, a type, and then both, each padded to a multiple of 4.
func parseCompatNote(note []byte, order binary.ByteOrder) []int {
	const header = 12
	if len(note) < header {
		return nil
	}
	name, size := uint64(order.Uint32(note)), uint64(order.Uint32(note[4:]))
	begin := header + (name+3)&^3
	if begin+size > uint64(len(note)) {
		return nil
	}
	var d struct {
		Driver []uint16 `json:"driver"`
	}
	text := strings.TrimRight(string(note[begin:begin+size]), "\x00")
	if json.Unmarshal([]byte(text), &d) != nil {
		return nil
	}
	var drivers []int
	for _, branch := range d.Driver {
		drivers = append(drivers, int(branch))
	}
	slices.Sort(drivers)
	return slices.Compact(drivers)
}

// consumer are words in the names of GPUs that compatibility packages do not work with.
var consumer = []string{"GeForce", "GTX", "NVS", "Quadro", "RTX", "TITAN"}

// compatScript returns the lines that decide whether the compatibility package goes before the host's driver.
// It should if that is older. Otherwise it would take features away, or not work at all;
// with consumer GPUs, whatever the driver, it does not.
func (r *Resolved) compatScript() string {
	c := r.compat
	if c == nil {
		return ""
	}
	head := `# The closure has CUDA compatibility libraries, of version ` + c.version + `.
# NIX2IMG_CUDA_COMPAT says whether they are used: yes, no or auto.
__n2i_compat="${NIX2IMG_CUDA_COMPAT:-auto}"
if [ "$__n2i_compat" = auto ]; then
`
	tail := `fi
if [ "$__n2i_compat" = yes ]; then
    __n2i_compat=` + compatDir + `:
else
    __n2i_compat=
fi
`
	if c.jetson {
		// Neither driver nor board can be told from within a container.
		// The closure's builder has chosen them, and RUNPATHs of nixpkgs name them first, too.
		return head + `    for __n2i_lib in ` + strings.Join(r.driverDirs(), "/libnvrm_gpu.so* ") + `/libnvrm_gpu.so*; do
        if [ -e "$__n2i_lib" ]; then
            __n2i_compat=yes
        fi
    done
` + tail
	}
	return head + `    # auto: if all GPUs are for data centres, and their driver ` + c.wants() + `
    for __n2i_lib in /proc/driver/nvidia/gpus/*/information; do
        __n2i_dir=
        if [ -e "$__n2i_lib" ]; then
            read -r __n2i_dir <"$__n2i_lib"
        fi
        case "$__n2i_dir" in
        *` + strings.Join(consumer, "* | *") + `*) __n2i_compat=no ;;
        Model:*) ;;
        *) __n2i_compat=no ;; # no GPU, or one of which nothing is known
        esac
    done
    __n2i_dir=
    if [ "$__n2i_compat" = auto ] && [ -e /proc/driver/nvidia/version ]; then
        read -r __n2i_dir </proc/driver/nvidia/version
    fi
    for __n2i_lib in $__n2i_dir; do
        case "$__n2i_lib" in
        [1-9][0-9][0-9].[0-9]* | [1-9][0-9][0-9][0-9].[0-9]*)
` + c.compare() + `            break
            ;;
        esac
    done
` + tail
}

// wants says in words which drivers a package is for.
func (c *compat) wants() string {
	if c.drivers == nil {
		return "is older than " + strconv.Itoa(c.major)
	}
	return "is one that they are for"
}

// compare returns the lines that compare a driver's version.
func (c *compat) compare() string {
	if c.drivers == nil {
		return `            if [ "${__n2i_lib%%.*}" -lt ` + strconv.Itoa(c.major) + ` ]; then
                __n2i_compat=yes
            fi
`
	}
	var b strings.Builder
	b.WriteString("            case \"$__n2i_lib\" in\n")
	for _, branch := range c.drivers {
		if branch < c.major {
			fmt.Fprintf(&b, "            %d.*) __n2i_compat=yes ;;\n", branch)
		}
	}
	b.WriteString("            esac\n")
	return b.String()
}
