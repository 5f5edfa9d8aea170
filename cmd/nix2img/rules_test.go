package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// free are the flags that have an effect whatever else is given, by command.
// What is in none of the tables has no place in the program.
var free = map[string]string{
	"":             "cpuprofile",
	"build":        "compression jobs no-cache cache-from no-verify entrypoint cmd env label workdir file created nv rocm mpi json",
	"warm":         "compression jobs cache cache-size cache-from trust-cache shard oci json",
	"cache":        "cache trust-cache",
	"cache info":   "cache trust-cache json",
	"cache prune":  "cache trust-cache keep all json dry-run",
	"cache verify": "cache trust-cache json",
	"push":         "dry-run mount-from oci authfile insecure json",
	"pull":         "output authfile insecure json",
	"why":          "json",
	"layers":       "layers layers-file previous json",
	"doctor":       "cache json",
	"gpu":          "jobs json",
	"net":          "fabric host-lib jobs json",
	"inspect":      "json",
	"ls":           "recursive json",
	"extract":      "exact",
	"version":      "json",
}

// commandTree returns a fresh tree of commands, and its commands by what is behind the program's name.
func commandTree(t *testing.T) (root *cobra.Command, all map[string]*cobra.Command) {
	t.Helper()
	a := &app{ui: newUI(os.Stdin, os.Stdout, os.Stderr)}
	root = newRoot(a)
	all = make(map[string]*cobra.Command)
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if name := cmd.Name(); name != "help" && name != "completion" {
			all[strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), "nix2img"))] = cmd
			for _, sub := range cmd.Commands() {
				walk(sub)
			}
		}
	}
	walk(root)
	return root, all
}

// allFlags returns the names of the flags that a command takes.
func allFlags(cmd *cobra.Command) (names []string) {
	add := func(f *pflag.Flag) { names = append(names, f.Name) }
	cmd.NonInheritedFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	return names
}

func TestEveryFlagIsInTheTables(t *testing.T) {
	_, all := commandTree(t)
	for path, cmd := range all {
		judged := append(strings.Fields(free[path]), strings.Fields(free[""])...)
		for _, e := range exclusive {
			if among(e.commands, cmd.Name()) {
				judged = append(judged, strings.Fields(e.flags)...)
			}
		}
		for _, need := range needs {
			if among(need.commands, cmd.Name()) {
				judged = append(judged, strings.Fields(need.flags)...)
			}
		}
		names := allFlags(cmd)
		for _, name := range names {
			if !slices.Contains(judged, name) {
				t.Errorf("%s --%s: neither in a table of what it needs, nor among those that always have an effect", path, name)
			}
		}
		for _, name := range strings.Fields(free[path]) {
			if !slices.Contains(names, name) {
				t.Errorf("%s has no flag --%s", path, name)
			}
		}
	}
}

func TestTablesNameFlagsThatAreThere(t *testing.T) {
	_, all := commandTree(t)
	known := func(commands, name string) bool {
		for _, cmd := range all {
			if among(commands, cmd.Name()) && cmd.Flags().Lookup(name) != nil || cmd.InheritedFlags().Lookup(name) != nil {
				return true
			}
		}
		return false
	}
	for _, e := range exclusive {
		for _, name := range strings.Fields(e.flags) {
			if !known(e.commands, name) {
				t.Errorf("%q has no flag --%s", e.commands, name)
			}
		}
	}
	for _, need := range needs {
		for _, name := range strings.Fields(need.flags) {
			if !known(need.commands, name) {
				t.Errorf("%q has no flag --%s", need.commands, name)
			}
		}
	}
}

// judge parses a command line and judges its flags, without running the command.
func judge(t *testing.T, line string) error {
	t.Helper()
	root, _ := commandTree(t)
	cmd, rest, err := root.Find(joinOptional(strings.Fields(line)))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return (&given{cmd: cmd, args: cmd.Flags().Args()}).refuse()
}

func TestFlagsWithoutEffectAreRefused(t *testing.T) {
	sif := t.TempDir() + "/image.sqsh"
	if err := os.WriteFile(sif, append([]byte("hsqs"), make([]byte, 1000)...), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ line, want string }{
		{"build --sif --user root x", "--user is for OCI images"},
		{"build --sif --expose 80 x", "--expose is for OCI images"},
		{"build --squashfs --annotation a=b x", "--annotation is for --oci"},
		{"build --docker-archive a.tar --annotation a=b x", "--annotation is for --oci"},
		{"build --oci-sif --layers 3 x", "--layers is for OCI images"},
		{"build --sif --layers-file f x", "--layers-file is for OCI images"},
		{"build --sif --previous d x", "--previous is for OCI images"},
		{"build -o a.sif --tag a:1 x", "--tag is for OCI images"},
		{"build --oci d --tag a:1 --tag a:2 x", "--tag is given more than once"},
		{"build --oci d --tag a:1 --tag a:1 x", "--tag is given more than once"},
		{"build --sif --sif=false x", "--sif is given more than once"},
		{"build --oci d -o a.sif x", "-o is for --sif"},
		{"build --oci d --digest x", "--digest is for --sif"},
		{"build --oci d --reuse old.sif x", "--reuse is for --sif"},
		{"build --oci d --block-size 1M x", "--block-size is for --sif"},
		{"build --sif --oci d x", "exclude each other"},
		{"build --oci-archive a --docker-archive b x", "exclude each other"},
		{"build -q -v --sif x", "--quiet and --verbose exclude each other"},
		{"version -q -v", "--quiet and --verbose exclude each other"},
		{"build --sif --trusted-public-keys k x", "--trusted-public-keys is for binary caches"},
		{"build --sif --from hello.export --no-check-sigs x", "--no-check-sigs is for binary caches"},
		{"why --netrc-file n a b", "--netrc-file is for binary caches"},
		{"closure --refresh a", "--refresh is for binary caches"},
		{"closure --from https://c --no-check-sigs --trusted-public-keys k a", "exclude each other"},
		{"build --sif --arch amd64 --platform linux/amd64 x", "exclude each other"},
		{"build --sif --cache-size 1G --no-cache x", "--cache-size and --no-cache exclude each other"},
		{"build --sif --cache-size 1G --no-verify x", "--cache-size and --no-verify exclude each other"},
		{"build --sif --trust-cache --no-cache x", "--trust-cache is for caches"},
		{"build --sif --from x.export --store s x", "--store is for the store"},
		{"build --sif --from https://c --closure - x", "exclude each other"},
		{"build --sif --waive lib x", "--waive is for --for"},
		{"build --sif --partition p x", "--partition is for --site"},
		{"build --sif --site s --for A100 x", "exclude each other"},
		{"gpu --nv no x", "--nv is for --for"},
		{"gpu --arch arm64 x", "--arch chooses an OCI image"},
		{"gpu --cache c " + sif, "--cache is for closures"},
		{"gpu --store s " + sif, "--store is for closures"},
		{"inspect --arch arm64 " + sif, "--arch chooses an OCI image"},
		{"inspect --insecure " + sif, "--insecure is for images in registries"},
		{"warm --layers 3 x", "--layers is for layers"},
		{"warm --oci --block-size 1M x", "--block-size is for --sif"},
		{"push r.example.org/a:1 --oci d --compression zstd", "--compression is for store paths"},
		{"push oras://r.example.org/a:1 --env A=b a.sif", "--env is for store paths"},
		{"pull --arch arm64 oras://r.example.org/a:1", "--arch is for OCI images"},
		{"closure --tree --top 3 x", "exclude each other"},
		{"closure --top --json x", "exclude each other"},
	} {
		err := judge(t, tc.line)
		if !is[*usageError](err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.line, err, tc.want)
		}
	}
}

// With what a flag needs, it is taken.
func TestFlagsWithAnEffectAreTaken(t *testing.T) {
	lines := []string{
		"build --sif --sif x",
		"build --oci d --tag a:1 --user root --expose 80 --expose 81 --annotation a=b --layers 3 --layers-file f --previous d x",
		"build --sif --no-cache --cache-from c --trust-cache x",
		"build --sif --from auto --store s --trusted-public-keys k --netrc-file n --refresh x",
		"build --sif --site s --partition p --waive w x",
		"closure --top 3 x", "closure --top x", "closure --top=3 x",
		"gpu --for A100 --nv no x",
		"inspect --arch arm64 --authfile f --insecure registry.example.org/a:1",
		"push registry.example.org/a:1 --arch arm64 --no-record x",
		"warm --oci --layers 3 x",
	}
	// What the help advises is taken in any case.
	_, all := commandTree(t)
	for _, cmd := range all {
		for line := range strings.Lines(cmd.Example) {
			if _, line, ok := strings.Cut(line, "nix2img "); ok && !strings.Contains(line, "$") {
				line, _, _ = strings.Cut(line, "|")
				line, _, _ = strings.Cut(line, ">")
				lines = append(lines, line)
			}
		}
	}
	for _, line := range lines {
		if err := judge(t, line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if len(lines) < 40 {
		t.Errorf("%d lines: where are the examples?", len(lines))
	}
}

// What is in a file or in the environment is the default of a flag of some command, and none that says what is in an image.
func TestSettingsAreFlags(t *testing.T) {
	_, all := commandTree(t)
	for _, s := range settable {
		n := 0
		for _, cmd := range all {
			if slices.Contains(allFlags(cmd), s.name) {
				n++
			}
		}
		if n == 0 {
			t.Errorf("no command has a flag --%s", s.name)
		}
	}
}
