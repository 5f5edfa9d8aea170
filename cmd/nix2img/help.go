package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/spelling"
)

// Groups of commands in the help.
var groups = []struct {
	title    string
	commands string
}{
	{"Make images:", "build push pull warm cache"},
	{"Look before and after:", "closure why layers gpu net inspect ls cat extract"},
	{"nix2img itself:", "doctor version help completion"},
}

// Sections of flags in the help of commands that have many. What is in none of them comes last.
var sections = []struct {
	title string
	flags string
}{
	{"Output", "sif oci-sif squashfs output oci oci-archive docker-archive tag digest json dry-run"},
	{"Registry", "mount-from authfile insecure no-record"},
	{"Closure", "store closure from trusted-public-keys no-check-sigs refresh netrc-file no-verify"},
	{"Compression", "compression block-size jobs"},
	{"Cache", "no-cache cache cache-size cache-from reuse trust-cache shard"},
	{"Image", "entrypoint cmd env label workdir file arch platform created user expose annotation"},
	{"OCI layers", "layers layers-file previous"},
	{"GPUs", "nv rocm for driver site partition waive"},
	{"Networks", "mpi fabric host-lib"},
}

// manyFlags are so many that a list of them needs sections.
const manyFlags = 15

// flagUsages lists the flags of a command.
func flagUsages(cmd *cobra.Command) string {
	all := cmd.LocalFlags()
	n := 0
	all.VisitAll(func(*pflag.Flag) { n++ })
	if n < manyFlags {
		return "Flags:\n" + all.FlagUsages()
	}
	var b strings.Builder
	seen := make(map[string]bool)
	section := func(title string, belongs func(*pflag.Flag) bool) {
		set := pflag.NewFlagSet(title, pflag.ContinueOnError)
		set.SortFlags = false
		all.VisitAll(func(f *pflag.Flag) {
			if !seen[f.Name] && belongs(f) {
				seen[f.Name] = true
				set.AddFlag(f)
			}
		})
		if set.HasAvailableFlags() {
			b.WriteString(title + ":\n" + set.FlagUsages() + "\n")
		}
	}
	for _, s := range sections {
		names := strings.Fields(s.flags)
		section(s.title, func(f *pflag.Flag) bool { return slices.Contains(names, f.Name) })
	}
	section("Other flags", func(*pflag.Flag) bool { return true })
	return b.String()
}

// arrangeHelp puts commands and flags in groups, and adds --version.
func arrangeHelp(root *cobra.Command) {
	cobra.AddTemplateFunc("flagUsages", flagUsages)
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(),
		"Flags:\n{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}", "{{flagUsages . | trimTrailingWhitespaces}}", 1))
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, cmd := range root.Commands() {
			if slices.Contains(strings.Fields(g.commands), cmd.Name()) {
				cmd.GroupID = g.title
			}
		}
	}
	root.Version = image.Version
	root.SetVersionTemplate("nix2img {{.Version}}\n")
}

// wrongFlag is the error of a flag that cannot be parsed.
func wrongFlag(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && unknown.GetSpecifiedShortnames() == "" {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if meant := spelling.Nearest(unknown.GetSpecifiedName(), names); meant != "" {
			return withHint(&usageError{err}, "did you mean --%s?", meant)
		}
	}
	return withHint(&usageError{err}, "see %s --help", cmd.CommandPath())
}

// choices are the values of flags that shells are told.
var choices = map[string][]string{
	"compression": codecNames,
	"block-size":  {"64K", "128K", "256K", "512K", "1M"},
	"nv":          {"auto", "yes", "no"},
	"rocm":        {"auto", "yes", "no"},
	"mpi":         {"auto", "yes", "no"},
	"fabric":      {"infiniband", "slingshot", "efa", "ethernet", "omnipath"},
	"arch":        {"amd64", "arm64"},
	"platform":    {"linux/amd64", "linux/arm64"},
	"for":         {"V100", "T4", "A100", "A40", "L40S", "H100", "H200", "B200", "MI210", "MI250X", "MI300X", "sm_80", "gfx90a"},
	"from":        {fromAuto},
}

// completeFlags tells shells about the values of all flags.
func completeFlags(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if values := choices[f.Name]; values != nil {
				after := cobra.ShellCompDirectiveNoFileComp
				if f.Name == "from" {
					after = cobra.ShellCompDirectiveDefault // files, too
				}
				cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(values, after))
			}
		})
		for _, dir := range []string{"store", "cache", "cache-from"} {
			cmd.MarkFlagDirname(dir) // an error if there is no such flag
		}
	}
}
