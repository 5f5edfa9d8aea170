// Nix2img turns realized Nix closures into container images.
//
//	nix2img build --sif -o hello.sif ./result
//	singularity run hello.sif
//
// See "nix2img help" for its commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nix2img/nix2img/internal/par"
	"github.com/nix2img/nix2img/internal/tempfile"
)

func main() {
	par.OnPanic(exitOfBug)
	defer par.Recover()
	// Most of what lives long are lists without pointers: to go through them often costs nothing,
	// and garbage is kept from doubling the memory that they take.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(15)
	}
	beBatch()
	os.Exit(run(os.Args[1:]))
}

// run runs the command and returns its exit code.
func run(args []string) int {
	a := &app{ui: newUI(os.Stdin, os.Stdout, os.Stderr)}
	ctx, stop := a.handleSignals()
	defer stop()
	defer tempfile.RemoveUnfinished()
	defer pprof.StopCPUProfile()

	root := newRoot(a)
	root.SetArgs(joinOptional(args))
	err := root.ExecuteContext(ctx)
	if ctx.Err() != nil && err != nil {
		err = errInterrupted
	}
	if a.given != nil {
		err = a.given.explain(err)
	}
	if err != nil && !unread(err) { // whoever reads has seen enough
		a.ui.fail(err)
	}
	return exitCode(err)
}

// app is what the commands share.
type app struct {
	ui         *ui
	cpuProfile string
	given      *given // once the command line has been judged
}

// startProfile begins the profile that is asked for. It ends with the program.
func (a *app) startProfile() error {
	if a.cpuProfile == "" {
		return nil
	}
	f, err := os.Create(a.cpuProfile)
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(f)
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "nix2img",
		Short: "Turn Nix closures into container images",
		Long: `nix2img turns a realized Nix closure into a container image:
a SIF file for SingularityCE and Apptainer, a bare squashfs, or the layers of an OCI image.

The same closure, options and version of nix2img give the same bytes,
on any machine and with any number of jobs.`,
		Example: `  nix2img build --sif -o hello.sif ./result
  nix2img inspect hello.sif
  nix2img ls -R hello.sif /nix/store
  nix2img cat hello.sif /etc/passwd
  nix2img extract hello.sif ./root`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		DisableAutoGenTag:          true,
		SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := "see nix2img --help"
			if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
				hint = "did you mean nix2img " + strings.Join(s, " or nix2img ") + "?"
			}
			return withHint(usagef("unknown command %q", args[0]), "%s", hint)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SetOut(a.ui.stderr)
			cmd.Help()
			return usagef("no command given")
		},
	}
	root.SetIn(a.ui.stdin)
	root.SetOut(a.ui.stdout)
	root.SetErr(a.ui.stderr)
	root.SetFlagErrorFunc(wrongFlag)
	root.PersistentFlags().BoolVarP(&a.ui.quiet, "quiet", "q", false, "do not say what is going on")
	root.PersistentFlags().BoolVarP(&a.ui.verbose, "verbose", "v", false, "say more of what is going on")
	root.PersistentFlags().StringVar(&a.cpuProfile, "cpuprofile", "", "write a profile for go tool pprof to `FILE`")
	root.PersistentFlags().MarkHidden("cpuprofile")
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		a.given = &given{cmd: cmd, args: args, settings: make(map[string]string)}
		if err := a.given.refuse(); err != nil {
			return withHint(err, "see %s --help", cmd.CommandPath())
		}
		if err := a.given.fill(a.ui); err != nil {
			return err
		}
		return a.startProfile()
	}
	root.AddCommand(
		newBuild(a), newWarm(a), newCache(a), newPush(a), newPull(a), newLayers(a), newClosure(a), newWhy(a), newGPU(a), newNet(a),
		newInspect(a), newList(a), newCat(a), newExtract(a), newDoctor(a), newVersion(a),
	)
	watch(root)
	completeFlags(root)
	// cobra's own commands take any arguments.
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	arrangeHelp(root)
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if found, _, err := root.Find(args); err != nil || len(args) > 0 && found == root {
					return withHint(usagef("help: no command %q", strings.Join(args, " ")), "see nix2img --help")
				}
				return nil
			}
		case "completion":
			cmd.Args = exactArgs(0, "a shell: bash, zsh, fish or powershell")
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				return wrongArgs(cmd, args, "a shell: bash, zsh, fish or powershell")
			}
		}
	}
	return root
}

// exactArgs and minArgs are cobra's, with errors of our own kind.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return wrongArgs(cmd, args, what)
		}
		return nil
	}
}

func minArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return wrongArgs(cmd, args, what)
		}
		return nil
	}
}

func wrongArgs(cmd *cobra.Command, args []string, what string) error {
	return withHint(usagef("%s: got %s, want %s", cmd.Name(), plural(len(args), "argument"), what),
		"see %s --help", cmd.CommandPath())
}

// handleSignals returns a context that is canceled by the first signal that asks to end.
// The work then has some time to end in order.
// After that, or at a second signal, only the temporary files are removed.
func (a *app) handleSignals() (ctx context.Context, stop func()) {
	const grace = 2 * time.Second
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	// A file that exceeds "ulimit -f" is to be an error like others, and so is a pipe that nobody reads.
	// If it is that of the messages, the work goes on.
	signal.Ignore(syscall.SIGXFSZ, syscall.SIGPIPE)

	ctx, cancel := context.WithCancel(context.Background())
	c := make(chan os.Signal, 2)
	signal.Notify(c, signals...)
	go func() {
		defer par.Recover()
		select {
		case <-c:
		case <-ctx.Done():
			return
		}
		cancel()
		select {
		case <-c:
		case <-time.After(grace):
		}
		tempfile.RemoveUnfinished()
		a.ui.fail(errInterrupted)
		os.Exit(exitCode(errInterrupted))
	}()
	return ctx, func() { signal.Stop(c); cancel() }
}
