package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/image/oci/layout"
)

// This file says which flags go together.
//
// A flag that would change nothing is refused, so that nobody believes that it did.
// A flag that is not in these tables has an effect whatever else is given.

// exclusive are flags of which only one can have an effect.
var exclusive = []struct {
	commands string // separated by spaces; empty: all that have the flags
	flags    string // separated by spaces
	why      string
}{
	{"", "quiet verbose", ""},
	{"build", "sif oci-sif squashfs oci oci-archive docker-archive", ""},
	{"closure", "tree top json", ""},
	{"", "arch platform", ""},
	{"", "cache no-cache", ""},
	{"", "cache-size no-cache", ""},
	{"build", "cache no-verify", "what is not verified is not kept"},
	{"build", "cache-size no-verify", "what is not verified is not kept"},
	{"", "from closure", "what --from names brings its metadata along"},
	{"", "trusted-public-keys no-check-sigs", ""},
	{"build", "dry-run for", "nix2img gpu says it before there is an image"},
	{"build", "dry-run site", "nix2img gpu says it before there is an image"},
	{"build", "dry-run driver", "nix2img gpu says it before there is an image"},
	{"build", "dry-run digest", ""},
	{"build push gpu", "site for", "a site says which GPUs there are"},
	{"build push gpu", "site driver", "a site says which drivers there are"},
}

// needs say what flags need to have an effect.
var needs = []struct {
	commands string // separated by spaces; empty: all that have the flags
	flags    string // separated by spaces
	met      func(*given) bool
	reason   string
}{
	{"build", "tag user expose layers layers-file previous", (*given).layers, "is for OCI images: --oci, --oci-archive and --docker-archive"},
	{"build", "annotation", hasAny("oci", "oci-archive"), "is for --oci and --oci-archive: other images have no annotations"},
	{"build", "block-size reuse", not((*given).layers), "is for --sif, --oci-sif and --squashfs"},
	{"build", "digest", not((*given).layers), "is for --sif, --oci-sif and --squashfs; the result of an OCI image is a digest"},
	{"build", "output", not((*given).layers), "is for --sif, --oci-sif and --squashfs; the flag for an OCI image names its output"},

	{"warm", "layers layers-file previous", hasAny("oci"), "is for layers of OCI images: --oci"},
	{"warm", "block-size", not(hasAny("oci")), "is for --sif and --squashfs, and so not for --oci"},

	{"push", closureFlags + " " + buildFlags, not(hasAny("oci")), "is for store paths; what --oci names is an image already"},
	{"push", closureFlags + " " + buildFlags, (*given).toRegistry, "is for store paths; a SIF is an image already"},
	{"pull", "arch", (*given).toRegistry, "is for OCI images; a SIF is fetched as it is"},

	{"gpu net", closureFlags + " cache no-cache", not((*given).image), "is for closures, and what is to be looked at is an image"},
	{"gpu net inspect", "arch", (*given).ociImage, "chooses an OCI image from several, and there are none"},
	{"inspect", "authfile insecure", (*given).reference, "is for images in registries"},
	{"ls", "xattrs", not((*given).ociImage), "is for SIF and squashfs: layers of OCI images are listed without"},
	{"build push gpu", "partition", hasAny("site"), "is for --site, which says what the partitions are"},
	{"build push gpu", "waive", hasAny("for", "driver", "site"), "is for --for, --driver and --site: nothing else fails for a library"},
	{"gpu", "nv", hasAny("for", "site"), "is for --for and --site: nothing else asks for GPU code"},

	{"", "trust-cache", func(g *given) bool { return !g.has("no-cache", "no-verify") || g.has("cache-from", "reuse") },
		"is for caches and earlier images, and none is used"},
	{"", "trusted-public-keys no-check-sigs netrc-file refresh", (*given).remote, "is for binary caches: --from URL or --from auto"},
	{"", "store", (*given).local, "is for the store: what --from names brings its files along"},
}

const (
	// closureFlags say where a closure comes from.
	closureFlags = "store closure from trusted-public-keys no-check-sigs netrc-file refresh"
	// buildFlags say what an image of a closure is, and how it is made.
	buildFlags = "no-record compression jobs no-cache cache cache-size cache-from trust-cache entrypoint cmd env label workdir file" +
		" arch platform created nv rocm mpi for driver site partition waive user expose annotation layers layers-file previous"
)

// given is a command line.
type given struct {
	cmd  *cobra.Command
	args []string
	// settings are flags that are not on the command line, with where their values come from.
	settings map[string]string
}

func (g *given) flag(name string) *pflag.Flag { return g.cmd.Flags().Lookup(name) }

// has reports whether one of the flags is given.
func (g *given) has(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		f := g.flag(name)
		return f != nil && (f.Changed || g.settings[name] != "") && (f.Value.Type() != "bool" || f.Value.String() == "true")
	})
}

func hasAny(names ...string) func(*given) bool {
	return func(g *given) bool { return g.has(names...) }
}

func not(met func(*given) bool) func(*given) bool {
	return func(g *given) bool { return !met(g) }
}

// layers reports whether build makes layers.
func (g *given) layers() bool { return g.has("oci", "oci-archive", "docker-archive") }

// from returns the sources of a closure.
func (g *given) from() []string {
	if f := g.flag("from"); f != nil {
		return f.Value.(pflag.SliceValue).GetSlice()
	}
	return nil
}

// remote reports whether binary caches are asked.
func (g *given) remote() bool { return slices.ContainsFunc(g.from(), isRemote) }

// local reports whether the store of this machine is read.
func (g *given) local() bool {
	from := g.from()
	return len(from) == 0 || slices.Contains(from, fromAuto)
}

// toRegistry reports whether the reference is one of OCI images, and not of SIFs.
func (g *given) toRegistry() bool {
	return len(g.args) == 0 || !strings.HasPrefix(g.args[0], orasScheme)
}

// image reports whether the only argument is an image, and not a root.
func (g *given) image() bool { return len(g.args) == 1 && isImage(g.args[0]) }

func (g *given) reference() bool { return len(g.args) > 0 && isReference(g.args[0]) }

func (g *given) ociImage() bool {
	return len(g.args) > 0 && (isReference(g.args[0]) || layout.Detect(g.args[0]))
}

// among reports whether a list of names, separated by spaces, has a name, or is empty.
func among(list, name string) bool {
	return list == "" || slices.Contains(strings.Fields(list), name)
}

// refuse judges a command line by the tables. The error is a [*usageError].
func (g *given) refuse() error {
	return cmp.Or(g.repeated(), g.excluded(), g.unmet())
}

// repeated refuses flags that are given again, and have one value.
func (g *given) repeated() (err error) {
	g.cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if s, ok := f.Value.(*single); ok && err == nil && s.conflict {
			err = usagef("%s: %s is given more than once, and has one value", g.cmd.Name(), flagName(f))
		}
	})
	return err
}

// excluded refuses flags that exclude each other.
func (g *given) excluded() error {
	for _, e := range exclusive {
		if !among(e.commands, g.cmd.Name()) {
			continue
		}
		var all []string
		n := 0
		for _, name := range strings.Fields(e.flags) {
			if g.has(name) {
				n++
			}
			all = append(all, "--"+name)
		}
		if n > 1 {
			return usagef("%s: %s exclude each other%s", g.cmd.Name(), enumerate(all), prefixed(": ", e.why))
		}
	}
	return nil
}

// unmet refuses flags that lack what they need.
func (g *given) unmet() error {
	for _, need := range needs {
		if !among(need.commands, g.cmd.Name()) {
			continue
		}
		for _, name := range strings.Fields(need.flags) {
			if f := g.flag(name); f != nil && (f.Changed || g.settings[name] != "") && !need.met(g) {
				return usagef("%s: %s %s", g.cmd.Name(), flagName(f), need.reason)
			}
		}
	}
	return nil
}

// flagName returns a flag as people write it.
func flagName(f *pflag.Flag) string {
	if f.Name == "output" {
		return "-o"
	}
	return "--" + f.Name
}

// enumerate returns "a, b and c".
func enumerate(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// single is a value that is given once. A switch may be given again if that says the same.
type single struct {
	pflag.Value
	given, conflict bool
}

func (s *single) Set(v string) error {
	before := s.String()
	err := s.Value.Set(v)
	s.conflict = s.conflict || s.given && (s.Type() != "bool" || s.String() != before)
	s.given = true
	return err
}

// watch has all flags that have one value notice when they are given again.
func watch(cmd *cobra.Command) {
	for _, set := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
		set.VisitAll(func(f *pflag.Flag) {
			if _, list := f.Value.(pflag.SliceValue); list {
				return
			}
			if _, done := f.Value.(*single); !done {
				f.Value = &single{Value: f.Value}
			}
		})
	}
	for _, sub := range cmd.Commands() {
		watch(sub)
	}
}

// joinOptional joins --top and a number behind it, which are one for people.
// To the parser, a flag that needs no value has one only behind an equals sign.
func joinOptional(args []string) []string {
	var joined []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(joined, args[i:]...)
		}
		if args[i] == "--top" && i+1 < len(args) {
			if _, err := strconv.Atoi(args[i+1]); err == nil {
				joined = append(joined, args[i]+"="+args[i+1])
				i++
				continue
			}
		}
		joined = append(joined, args[i])
	}
	return joined
}
