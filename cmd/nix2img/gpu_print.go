package main

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/nix2img/nix2img/image/gpu"
)

// print prints a report for a person: the summary, libraries, how the driver is found, and suspects.
func (res *gpuResult) print(u *ui) error {
	var b strings.Builder
	if res.Partitions != nil {
		printSite(&b, res.Partitions)
		fmt.Fprintln(&b)
	}
	res.printSummary(&b)
	res.printLibraries(&b)
	res.printLookups(&b)
	res.printSuspects(&b)
	for line := range strings.Lines(b.String()) {
		if err := u.resultf("%s\n", strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// fields is a table of names and what is said of them.
type fields struct{ *tabwriter.Writer }

func (w fields) add(name, format string, args ...any) {
	fmt.Fprintf(w, "%s\t%s\n", printable(name), printable(fmt.Sprintf(format, args...)))
}

func (res *gpuResult) printSummary(out io.Writer) {
	w := fields{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	defer w.Flush()
	if res.Verdict != nil {
		res.printVerdict(w)
	}
	switch res.Use {
	case gpu.UseNone:
		w.add("GPU", "nothing here has to do with one: it runs on the CPU")
		return
	case gpu.UseOptional:
		w.add("GPU", "no code for one: it runs on the CPU, and %s if there is one", counted(res.users(), "file uses a driver", "files use a driver"))
	default:
		w.add("GPU", "%s with code", counted(len(res.Libraries), "file", "files"))
	}
	w.add("architecture", "%s", res.Arch)
	res.printCode(w)
	res.printDriver(w)
	res.printRunTime(w)
	if res.Glibc != nil {
		w.add("glibc", "%s (%s)", res.Glibc.Version, shortPath(res.Glibc.Path))
	}
	name := "driver's"
	for _, n := range res.Needs {
		if n.Driver && strings.Contains(n.Library, ".so.") {
			w.add(name, "%s, for %s", n.Library, counted(len(n.Linked)+len(n.Named), "file", "files"))
			name = ""
		}
	}
}

// printVerdict prints what comes of each GPU, and why.
func (res *gpuResult) printVerdict(w fields) {
	for i := range res.Verdict.Targets {
		t := &res.Verdict.Targets[i]
		name := t.Name()
		if res.Verdict.Driver != "" {
			name += ", driver " + res.Verdict.Driver.String()
		}
		if t.Target == nil {
			name = "driver " + res.Verdict.Driver.String()
		}
		w.add(name, "%s", outcomeText(t))
		for _, text := range shownReasons(t) {
			w.add("", "%s", text)
		}
	}
	fmt.Fprintln(w)
}

// printCode prints what there is code for, and what made it.
func (res *gpuResult) printCode(w fields) {
	var versions []string
	for _, c := range res.CUDA {
		version := c.Version.String()
		if c.From == gpu.FromNeed || c.From == gpu.FromName {
			version = strconv.Itoa(c.Version.Major)
		}
		versions = append(versions, fmt.Sprintf("%s (by %s)", version, evidence(c)))
	}
	if len(versions) > 0 {
		w.add("CUDA", "%s", strings.Join(versions, ", "))
	}
	s := res.Summary
	if len(s.SASS) > 0 {
		w.add("runs on", "%s", strings.Join(s.SASS, " "))
	}
	if len(s.HIP) > 0 {
		w.add("runs on", "%s", strings.Join(s.HIP, " "))
	}
	if s.PTX != "" {
		w.add("later GPUs", "run by compiling PTX, from %s on", s.PTX)
	} else if len(s.SASS) > 0 {
		w.add("later GPUs", "will fail: not every library has PTX")
	}
}

func (res *gpuResult) printDriver(w fields) {
	switch d := res.Driver; {
	case d.Native != "":
		w.add("driver", "%s or later; code for the very GPU runs from %s on", d.Native, d.Minimum)
	case d.Minimum != "":
		w.add("driver", "%s or later runs code for the very GPU", d.Minimum)
	}
	if res.Driver.Compat != "" {
		w.add("", "cuda_compat brings %s, for GPUs of data centres", res.Driver.Compat)
	}
}

// printRunTime prints what makes code at run time, and what uses a GPU in other ways.
func (res *gpuResult) printRunTime(w fields) {
	for _, c := range res.Compilers {
		version := ""
		if !c.CUDA.IsZero() {
			version = " of CUDA " + c.CUDA.String()
		}
		w.add("compiler", "%s%s: %s", c.Name, version, shortPath(c.Path))
	}
	for _, f := range res.Frameworks {
		state := "ready"
		if !f.CUDA.IsZero() {
			state += ", with CUDA " + f.CUDA.String()
		}
		if len(f.Missing) > 0 {
			state = "not ready: " + strings.Join(f.Missing, ", ") + " not in the closure"
		}
		w.add(f.Name, "%s", state)
	}
	for _, i := range res.Interfaces {
		w.add(i.Name, "used by %s, such as %s", counted(len(i.Users), "file", "files"), shortPath(i.Users[0]))
	}
}

// shownReasons returns what a person should know of a verdict: of reasons alike, the first ones,
// and what goes well only if all does.
func shownReasons(t *gpu.TargetVerdict) []string {
	const most = 8
	var texts []string
	for _, r := range t.Reasons {
		if r.Outcome != t.Outcome && r.Outcome != gpu.Unknown {
			continue
		}
		text := r.Text
		if r.Path != "" {
			text = shortPath(r.Path) + " " + text
		}
		if r.ReachedBy != "" && r.ReachedBy != r.Path {
			text += " (" + shortPath(r.ReachedBy) + " loads it)"
		}
		texts = append(texts, text)
	}
	if n := len(texts); n > most {
		texts = append(texts[:most-1], fmt.Sprintf("and %d more", n-most+1))
	}
	return texts
}

// users counts the files that load something of a driver.
func (res *gpuResult) users() int {
	var paths []string
	for _, n := range res.Needs {
		if n.Driver {
			paths = append(append(paths, n.Linked...), n.Named...)
		}
	}
	slices.Sort(paths)
	return len(slices.Compact(paths))
}

func evidence(c gpu.CUDAVersion) string {
	switch c.From {
	case gpu.FromFile, gpu.FromName:
		return path.Base(c.Path)
	case gpu.FromNeed:
		return "what " + path.Base(c.Path) + " needs"
	case gpu.FromStore:
		return shortPath(c.Path)
	}
	return "PTX in " + path.Base(c.Path)
}

func (res *gpuResult) printLibraries(out io.Writer) {
	if len(res.Libraries) == 0 {
		return
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "library\tcontainers\tcode")
	libraries := slices.Clone(res.Libraries)
	slices.SortStableFunc(libraries, func(a, b gpu.Library) int { return strings.Compare(shortPath(a.Path), shortPath(b.Path)) })
	for _, l := range libraries {
		first := []string{printable(shortPath(l.Path)), fmt.Sprint(l.Containers)}
		for _, kind := range []gpu.Kind{gpu.SASS, gpu.PTXCode, gpu.LTO, gpu.HIP} {
			var targets []string
			for _, c := range l.Code {
				if c.Kind == kind {
					targets = append(targets, strings.TrimPrefix(c.Target, "sm_"))
				}
			}
			if targets != nil {
				fmt.Fprintf(w, "%s\t%s\t%s %s\n", first[0], first[1], strings.ToUpper(string(kind)), printable(strings.Join(targets, " ")))
				first = []string{"", ""}
			}
		}
		if len(l.Code) == 0 {
			fmt.Fprintf(w, "%s\t%s\t%s\n", first[0], first[1], l.Marks[0])
		}
	}
	w.Flush()
}

// printLookups counts how many lookups end at the driver.
func (res *gpuResult) printLookups(out io.Writer) {
	all := len(res.Lookups)
	if all == 0 {
		return
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "finds the driver's libraries\tin an image of nix2img\twithout its script")
	for _, rt := range []struct{ key, name string }{
		{gpu.ByNV, "singularity --nv"}, {gpu.ByHook, "NVIDIA's hook, --nvccli, enroot"},
		{gpu.ByCDI, "CDI"}, {gpu.ByLink, "NixOS, without a container"},
	} {
		script, bare := 0, 0
		for _, l := range res.Lookups {
			if l.Script[rt.key] != "" {
				script++
			}
			if l.Bare[rt.key] != "" {
				bare++
			}
		}
		with := fmt.Sprintf("%d of %d", script, all)
		if rt.key == gpu.ByLink {
			with = ""
		}
		fmt.Fprintf(w, "%s\t%s\t%d of %d\n", rt.name, with, bare, all)
	}
	w.Flush()
}

func (res *gpuResult) printSuspects(out io.Writer) {
	for i, s := range res.Suspects {
		if i == 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "%s: %s", s.Severity, printable(s.Path+" "+s.Text))
		if s.Count > 1 && s.Kind != gpu.MixedCUDA {
			fmt.Fprintf(out, " (and %d more in this store path)", s.Count-1)
		}
		fmt.Fprintln(out)
		if len(s.Why) > 1 {
			var names []string
			for _, p := range s.Why {
				names = append(names, shortPath(p))
			}
			fmt.Fprintf(out, "  it is there for %s\n", printable(strings.Join(names, " -> ")))
		}
	}
}

// shortPath returns a path without store directory and digest.
func shortPath(p string) string {
	elems := strings.Split(p, "/")
	for i, elem := range elems {
		if len(elem) > 33 && elem[32] == '-' {
			elems[i] = elem[33:]
			return strings.Join(elems[i:], "/")
		}
	}
	return p
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
