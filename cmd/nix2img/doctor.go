package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// A finding is one thing that "nix2img doctor" has looked at.
type finding struct {
	Topic  string `json:"topic"`          // "runtimes", "kernel", "nix", "cache", "drivers" or "nix2img"
	Name   string `json:"name"`           // what was looked at
	State  state  `json:"state"`          //
	Detail string `json:"detail"`         // a few words: a version, a place, a reason
	Hint   string `json:"hint,omitempty"` // what can be done about it
}

// doctorResult is what "doctor --json" prints.
type doctorResult struct {
	Findings []finding `json:"findings"`
}

// state is how a finding is to be taken.
type state string

const (
	stateOK      state = "ok"      // it is there and works
	stateAbsent  state = "absent"  // it is not there, and need not be
	stateProblem state = "problem" // something that one would expect to work does not
	stateUnknown state = "unknown" // it could not be found out
)

// A doctor looks at a machine.
type doctor struct {
	root    string // below which the files of the machine are: "/"
	caching caching
	// run starts a program with arguments, and returns the line with its version.
	// The error wraps [exec.ErrNotFound] if there is no such program.
	run func(ctx context.Context, name string, args ...string) (string, error)

	findings []finding
}

func newDoctor(a *app) *cobra.Command {
	d := &doctor{root: "/", run: versionLine, caching: caching{size: defaultCacheSize}}
	asJSON := false
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is on this machine, and what works",
		Long: `Say what is on this machine that has to do with images, and what works:
container runtimes and what they read, the kernel, Nix, the cache, and the drivers of GPUs.

Nothing is changed. Programs are started only to ask for their version.
The exit code is 0 whatever is found, for most of this need not be on a machine that builds images.`,
		Example: `  nix2img doctor
  srun --gres gpu:1 nix2img doctor`,
		Args: exactArgs(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.examine(cmd.Context())
			if asJSON {
				return printEnvelope(a.ui, "doctor", &doctorResult{d.findings})
			}
			return d.print(a.ui)
		},
	}
	d.caching.addDirFlag(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// examine looks at everything.
func (d *doctor) examine(ctx context.Context) {
	d.examineSelf()
	d.examineRuntimes(ctx)
	d.examineKernel()
	d.examineNix(ctx)
	d.examineCache()
	d.examineDrivers()
}

func (d *doctor) found(topic, name string, s state, detail string) *finding {
	d.findings = append(d.findings, finding{topic, name, s, detail, ""})
	return &d.findings[len(d.findings)-1]
}

// print prints the findings, in groups.
func (d *doctor) print(u *ui) error {
	topic, width := "", 0
	for _, f := range d.findings {
		width = max(width, len(f.Name))
	}
	for _, f := range d.findings {
		if f.Topic != topic {
			if topic != "" {
				u.resultf("\n")
			}
			topic = f.Topic
			u.resultf("%s\n", topic)
		}
		mark := map[state]string{stateOK: "ok", stateAbsent: "-", stateProblem: "!!", stateUnknown: "?"}[f.State]
		if err := u.resultf("  %-3s %-*s  %s\n", mark, width, f.Name, f.Detail); err != nil {
			return err
		}
		if f.Hint != "" {
			u.resultf("      %-*s  %s\n", width, "", f.Hint)
		}
	}
	return nil
}

// file returns the contents of a file of the machine without white space around them, or "" if it cannot be read.
func (d *doctor) file(name string) string {
	data, err := os.ReadFile(filepath.Join(d.root, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// has reports whether the machine has a file that matches a pattern.
func (d *doctor) has(pattern string) bool {
	names, _ := filepath.Glob(filepath.Join(d.root, pattern))
	return len(names) > 0
}
