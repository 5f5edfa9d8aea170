package image

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nix2img/nix2img/closure"
)

// Image is what a container image consists of, whatever its format.
type Image struct {
	Closure *closure.Closure

	// Files is a file system with what the user adds, rooted at "/". May be nil.
	//
	// Folders may be there already, and then keep the mode that they have.
	// Files and links may not, with the exception of those that are only a default:
	// /bin/sh, /usr/bin/env, and in /etc the files group, hostname, hosts, localtime,
	// machine-id, nsswitch.conf, passwd and resolv.conf, which must be regular files.
	// Nothing may be added in the store directory, nor in /.nix2img.
	// Everything else is a [*ConflictError].
	//
	// Of a file's mode, the permissions and the setuid, setgid and sticky bits count;
	// modification times and owners do not.
	// Files must implement [fs.ReadLinkFS] if it has symbolic links.
	Files fs.FS

	Config Config
	GPU    GPU
	// MPI says whether programs may take the MPI of a host, and what else of it goes with that: see docs/net.md.
	// Auto is yes if the closure has programs or a library of MPI.
	MPI Choice
}

// Config says how programs of the image are started.
// All text must be UTF-8, without NUL.
type Config struct {
	// Entrypoint is the program that the image starts, and its first arguments.
	// The program is an absolute path or the name of a program in the roots' bin folders.
	//
	// If neither Entrypoint nor Cmd is given and there is but one root,
	// the only program in its bin folder becomes the Entrypoint,
	// or of several the one that has the package's name.
	Entrypoint []string `json:"entrypoint,omitempty"`
	// Cmd is the default for the arguments that follow.
	// Without Entrypoint it is a program and its arguments.
	Cmd []string `json:"cmd,omitempty"`
	// Env has KEY=value entries that go beside and before what the image itself sets.
	// A KEY is a shell's: letters, digits and underscores. Values are literal, on one line.
	// Of several entries with the same KEY the last one counts.
	Env []string `json:"env,omitempty"`
	// WorkingDir is where programs are started, an absolute path.
	// Empty means that the runtime decides.
	WorkingDir string `json:"workingDir,omitzero"`
	// Labels are for people and tools that look at the image.
	Labels map[string]string `json:"labels,omitempty"`
	// Arch is Go's name of the CPU architecture. Empty means that of the closure's programs.
	Arch string `json:"-"`
	// CheckArch makes it an error if there are programs in the bin folders, and none of them is for Arch.
	CheckArch bool `json:"-"`
	// Created is the image's time of creation, in whole seconds.
	// The zero value means one second after the epoch.
	Created time.Time `json:"created"`
}

// archs are the names of architectures that an image can have.
var archs = []string{
	"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle",
	"ppc64", "ppc64le", "riscv64", "s390x",
}

// A ConfigError reports a field of a [Config] that does not have a legal value.
type ConfigError struct {
	Field  string // "Entrypoint", "Cmd", "Env", "WorkingDir", "Labels", "Arch" or "Created"
	Value  string
	Reason string
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("image: config: %s %q: %s", e.Field, e.Value, e.Reason)
}

// Validate checks what can be checked without the closure.
// The error is a [*ConfigError].
func (c *Config) Validate() error {
	for _, args := range []struct {
		field string
		list  []string
	}{{"Entrypoint", c.Entrypoint}, {"Cmd", c.Cmd}} {
		for _, s := range args.list {
			if reason := checkText(s); reason != "" {
				return &ConfigError{args.field, s, reason}
			}
		}
	}
	if prog := c.program(); len(prog.list) > 0 {
		switch name := prog.list[0]; {
		case name == "":
			return &ConfigError{prog.field, name, "the program's name is empty"}
		case !path.IsAbs(name) && strings.Contains(name, "/"):
			return &ConfigError{prog.field, name, "neither an absolute path nor a name to look for"}
		}
	}
	for _, kv := range c.Env {
		if reason := checkEnv(kv); reason != "" {
			return &ConfigError{"Env", kv, reason}
		}
	}
	if dir := c.WorkingDir; dir != "" {
		if reason := checkText(dir); reason != "" {
			return &ConfigError{"WorkingDir", dir, reason}
		}
		if !path.IsAbs(dir) || path.Clean(dir) != dir {
			return &ConfigError{"WorkingDir", dir, "not an absolute path without empty, . or .. elements"}
		}
	}
	for _, key := range sortedKeys(c.Labels) {
		if reason := checkLabel(key, c.Labels[key]); reason != "" {
			return &ConfigError{"Labels", key, reason}
		}
	}
	if c.Arch != "" && !slices.Contains(archs, c.Arch) {
		return &ConfigError{"Arch", c.Arch, archReason(c.Arch)}
	}
	// The limits of a time stamp in a squashfs.
	if t := c.Created; !t.IsZero() && (t.Unix() < 0 || t.Unix() >= 1<<32 || t.Nanosecond() != 0) {
		return &ConfigError{"Created", t.UTC().Format(time.RFC3339Nano), "not a whole second from 1970 to 2106"}
	}
	return nil
}

// args is a command line and the field it comes from.
type args struct {
	field string
	list  []string
}

// program returns the arguments that begin with the program to start.
func (c *Config) program() args {
	if len(c.Entrypoint) > 0 {
		return args{"Entrypoint", c.Entrypoint}
	}
	return args{"Cmd", c.Cmd}
}

func checkText(s string) string {
	switch {
	case strings.Contains(s, "\x00"):
		return "contains a NUL"
	case !utf8.ValidString(s):
		return "not UTF-8"
	}
	return ""
}

// untouchable are variables that the shells which evaluate an image's environment
// do not allow to be set, or that would change how they read the rest.
var untouchable = []string{
	"APPTAINER_CONTAINER", "APPTAINER_INSTANCE", "APPTAINER_NAME",
	"BASHOPTS", "BASH_VERSINFO", "EUID", "GID", "IFS", "PPID", "SHELLOPTS",
	"SINGULARITY_CONTAINER", "SINGULARITY_INSTANCE", "SINGULARITY_NAME", "UID",
}

func checkEnv(kv string) string {
	key, value, ok := strings.Cut(kv, "=")
	switch {
	case !ok:
		return "not KEY=value"
	case !isShellName(key):
		return "the key is not made of letters, digits and underscores, with no digit first"
	case slices.Contains(untouchable, key):
		return "shells do not allow this variable to be set"
	case strings.ContainsAny(value, "\n\r"):
		return "the value has more than one line, which an environment file cannot hold"
	}
	return checkText(kv)
}

func isShellName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func checkLabel(key, value string) string {
	switch {
	case key == "":
		return "the key is empty"
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r == '=' || r == 0x7f }):
		return "the key contains a space, a control character or ="
	}
	if reason := checkText(key); reason != "" {
		return reason
	}
	if reason := checkText(value); reason != "" {
		return "the value: " + reason
	}
	return ""
}

// archReason says what is wrong with an architecture's name.
func archReason(name string) string {
	other := map[string]string{
		"aarch64": "arm64", "armv6l": "arm", "armv7l": "arm", "i386": "386", "i686": "386",
		"loongarch64": "loong64", "powerpc64": "ppc64", "powerpc64le": "ppc64le", "x86_64": "amd64",
	}
	cpu, _, _ := strings.Cut(name, "-") // from Nix's names of systems
	if goName := other[cpu]; goName != "" {
		return "the name to use is " + goName
	}
	return "not one of " + strings.Join(archs, ", ")
}
