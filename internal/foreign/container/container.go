//go:build unix

// Package container takes the part of a container runtime, as far as that has to do with an image's environment.
package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// Exec runs a program as SingularityCE and Apptainer do: it goes to a root file system,
// evaluates the environment scripts there, with the interpreter that they embed, and becomes the program.
// Arguments: the root; "oci" to take /etc/environment instead of the scripts,
// or "host" to keep the environment of the caller, as they do; variables that the user sets, KEY=value; "--"; the program.
func Exec(args []string) error {
	root, user := args[0], args[1:slices.Index(args, "--")]
	program := args[slices.Index(args, "--")+1:]
	if err := syscall.Chroot(root); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if len(user) > 0 && user[0] == "oci" {
		lines, err := os.ReadFile("/etc/environment")
		if err != nil {
			return err
		}
		return syscall.Exec(program[0], program, append(strings.Split(strings.TrimSpace(string(lines)), "\n"), user[1:]...))
	}
	var environ []string
	if len(user) > 0 && user[0] == "host" {
		environ, user = os.Environ(), user[1:]
	}
	scripts, err := filepath.Glob("/.singularity.d/env/*.sh")
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, script := range scripts {
		fmt.Fprintf(&text, ". %s\n", script)
		if filepath.Base(script) == "99-base.sh" {
			for _, kv := range user {
				fmt.Fprintf(&text, "export '%s'\n", kv)
			}
		}
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(text.String()), "")
	if err != nil {
		return err
	}
	r, err := interp.New(interp.StdIO(nil, os.Stderr, os.Stderr), interp.Env(expand.ListEnviron(environ...)))
	if err != nil {
		return err
	}
	if err := r.Run(context.Background(), file); err != nil {
		return err
	}
	var env []string
	for name, v := range r.Vars {
		if v.Exported && v.IsSet() {
			env = append(env, name+"="+v.String())
		}
	}
	return syscall.Exec(program[0], program, env)
}
