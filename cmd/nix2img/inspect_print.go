package main

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/gpu"
)

// fieldWriter prints what is known of something, a field a line.
type fieldWriter struct{ *tabwriter.Writer }

func newFieldWriter(w io.Writer) fieldWriter {
	return fieldWriter{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
}

func (w fieldWriter) field(name, format string, args ...any) {
	fmt.Fprintf(w, "%s\t%s\n", printable(name), printable(fmt.Sprintf(format, args...)))
}

// text prints a field unless it is empty.
func (w fieldWriter) text(name, value string) {
	if value != "" {
		w.field(name, "%s", value)
	}
}

// list prints a field of several lines.
func (w fieldWriter) list(name string, values []string) {
	for _, v := range values {
		w.field(name, "%s", v)
		name = ""
	}
}

// formatNames has words for the formats.
var formatNames = map[string]string{
	"sif": "SIF", "oci-sif": "OCI-SIF", "squashfs": "squashfs", "oci": "OCI layout", "oci-archive": "OCI archive",
	"docker-archive": "archive of docker save", "registry": "in a registry", "registry-sif": "SIF in a registry",
}

// print prints an inspection for a person: first what can be seen, then what the image says of itself.
func (in *inspection) print(u *ui) error {
	w := newFieldWriter(u.stdout)
	size := ""
	if in.Size > 0 {
		size = ", " + formatSize(in.Size)
	}
	w.field("file", "%s (%s%s)", quoteName(in.File), formatNames[in.Format], size)
	w.text("digest", in.Digest)
	w.text("UUID", in.UUID)
	w.text("architecture", in.Architecture)
	if !in.Created.IsZero() {
		w.field("created", "%s", in.Created.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	if p := in.Partition; p != nil {
		w.field("partition", "%d bytes at offset %d", p.Size, p.Offset)
	}
	w.text("unreadable", in.Unreadable)
	if s := in.Squashfs; s != nil {
		w.field("compression", "%s, blocks of %s", s.Compression, formatBlockSize(s.BlockSize))
		w.field("inodes", "%d", s.Inodes)
	}
	in.printLayers(w)
	if in.Record == nil || in.Unreadable != "" {
		in.printObjects(w)
	}
	w.list("signed by", in.signatures())
	in.printClaims(w)
	w.text("run it with", in.commandLine())
	return w.Flush()
}

func (in *inspection) printObjects(w fieldWriter) {
	var lines []string
	for _, o := range in.Objects {
		kind := o.Type
		if p := o.Partition; p != nil {
			kind = fmt.Sprintf("%s (%s/%s/%s)", kind, p.FS, p.Use, p.Arch)
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%d %s, %s %s", o.ID, kind, formatSize(o.Size), o.Name)))
	}
	w.list("objects", lines)
}

// maxLayers is how many layers are printed.
const maxLayers = 20

func (in *inspection) printLayers(w fieldWriter) {
	var lines []string
	for _, l := range in.Layers[:min(len(in.Layers), maxLayers)] {
		line := cmp.Or(l.Digest, l.DiffID)
		if l.Size > 0 {
			line = fmt.Sprintf("%s  %s", line, formatSize(l.Size))
		}
		lines = append(lines, strings.TrimSpace(line+"  "+l.MediaType))
	}
	if more := len(in.Layers) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	w.list("layers", lines)
}

// signatures says who has signed, as the signatures have it.
func (in *inspection) signatures() (lines []string) {
	for _, o := range in.Objects {
		s := o.Signature
		if s == nil {
			continue
		}
		key := "a key that has no name there"
		switch {
		case s.Fingerprint != "":
			key = "key " + s.Fingerprint
		case len(s.KeyIDs) > 0:
			key = "key " + strings.Join(s.KeyIDs, ", ")
		}
		of := fmt.Sprintf("object %d", s.Object)
		if s.Group != 0 {
			of = fmt.Sprintf("group %d", s.Group)
		}
		lines = append(lines, fmt.Sprintf("%s (%s, of %s), which is not verified", key, cmp.Or(s.Format, "unknown form"), of))
	}
	return lines
}

// printClaims prints the build record, and what an image without one says of itself.
func (in *inspection) printClaims(w fieldWriter) {
	r := in.Record
	switch {
	case in.Format == "registry-sif":
		return
	case r == nil:
		w.field("made by", "not nix2img: there is no build record")
		if in.Config != nil {
			printConfig(w, in.Config, in.User)
		}
		return
	}
	w.field("claims", "what follows is what the image says of itself; it is not verified")
	w.field("made by", "nix2img %s", r.Version)
	w.text("image ID", in.ImageID)
	w.text("encoded by", encodingText(r))
	var roots []string
	for _, p := range r.Roots {
		roots = append(roots, string(p))
	}
	w.list("roots", roots)
	var total int64
	for _, o := range r.Objects {
		total += o.NARSize
	}
	w.field("store paths", "%d, %s uncompressed", len(r.Objects), formatSize(total))
	w.list("largest", largest(r.Objects, 5))
	printConfig(w, &r.Config, in.User)
	if r.GPU != nil {
		w.list("GPU", gpuLines(r))
	}
	if r.Net != nil {
		w.list("networks", netLines(r.Net))
	}
}

func printConfig(w fieldWriter, c *image.Config, user string) {
	w.text("entrypoint", shellWords(c.Entrypoint))
	w.text("command", shellWords(c.Cmd))
	w.text("working dir", c.WorkingDir)
	w.text("user", user)
	w.list("environment", c.Env)
	var labels []string
	for k, v := range c.Labels {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	w.list("labels", labels)
}

// encodingText says with which level of which library an image was compressed.
func encodingText(r *image.Record) string {
	var name, library, version string
	var level int
	switch {
	case r.Squashfs != nil:
		name, level, library, version = r.Squashfs.Compression, r.Squashfs.Level, r.Squashfs.Library, r.Squashfs.Version
	case r.OCI != nil:
		name, level, library, version = r.OCI.Compression, r.OCI.Level, r.OCI.Library, r.OCI.Version
	}
	if level != 0 {
		name += fmt.Sprintf(":%d", level)
	}
	if library != "" {
		name += fmt.Sprintf(" (%s %s)", library, version)
	}
	return name
}

// commandLine returns what a person may type to start the image, or "" if there is nothing to start, or nobody who starts it.
func (in *inspection) commandLine() string {
	if in.Unreadable != "" || in.programs == noPrograms {
		return ""
	}
	file := in.File
	switch in.Format {
	case "oci", "oci-archive", "docker-archive":
		file = in.Format + ":" + file
	}
	program := ""
	if in.programs == needName {
		program = " PROGRAM"
	}
	return in.runtime() + " " + shellWords([]string{file}) + program
}

// runtime returns the command that starts an image, with its flags.
func (in *inspection) runtime() string {
	words := []string{"singularity", "run"}
	switch in.Format {
	case "oci", "oci-archive", "docker-archive", "registry":
		return "podman run --rm"
	case "oci-sif":
		words = append(words, "--oci")
	}
	if in.programs == needName {
		words[1] = "exec"
	}
	if in.Squashfs != nil && in.Squashfs.Compression == "zstd" {
		words[0] = "apptainer" // SingularityCE refuses zstd
	}
	if r := in.Record; r != nil && r.NV {
		words = append(words, "--nv")
	}
	if r := in.Record; r != nil && r.ROCm {
		words = append(words, "--rocm")
	}
	return strings.Join(words, " ")
}

// gpuLines says what an image needs of a GPU.
func gpuLines(r *image.Record) []string {
	s := r.GPU
	if s.Use == gpu.UseOptional {
		return []string{"no code for one, but a driver is used if there is one"}
	}
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if len(s.CUDA) > 0 {
		add("CUDA %s", strings.Join(s.CUDA, ", "))
	}
	if targets := slices.Concat(s.SASS, s.HIP); len(targets) > 0 {
		add("runs on %s", strings.Join(targets, " "))
	}
	if s.PTX != "" {
		add("and on others from %s on, when the driver has compiled PTX", s.PTX)
	}
	if s.Driver != "" {
		add("driver %s or later; code for the very GPU runs from %s on", s.Driver, s.MinDriver)
	}
	return append(lines, "more: nix2img gpu")
}

func largest(objects []image.Object, n int) []string {
	objects = slices.Clone(objects)
	slices.SortStableFunc(objects, func(a, b image.Object) int { return cmp.Compare(b.NARSize, a.NARSize) })
	var lines []string
	for _, o := range objects[:min(n, len(objects))] {
		lines = append(lines, fmt.Sprintf("%8s  %s", formatSize(o.NARSize), filepath.Base(string(o.Path))))
	}
	return lines
}

func formatBlockSize(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// shellWords returns arguments as a shell would read them again.
func shellWords(args []string) string {
	var words []string
	for _, arg := range args {
		plain := arg != "" && strings.IndexFunc(arg, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
				strings.ContainsRune("-_./:=@%+,", r))
		}) < 0
		if !plain {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}
