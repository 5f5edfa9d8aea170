package main

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/tempfile"
)

// issues is where bugs are reported.
const issues = "https://github.com/nix2img/nix2img/issues"

// inBug is held by the first panic, which is the only one that is reported.
var inBug sync.Mutex

// exitOfBug ends the program after a panic, in order: temporary files are removed, and what a report needs is printed.
// The exit code is that of other failures. Go's would be 2, which is for command lines that make no sense.
func exitOfBug(v any, stack []byte) {
	inBug.Lock()
	u := newUI(os.Stdin, os.Stdout, os.Stderr)
	u.line = u.live // there may be a status line
	tempfile.RemoveUnfinished()
	u.say(fmt.Sprintf("error: this is a bug in nix2img: %v", v))
	u.say("hint: please report it, with the lines below but without secrets, at " + issues)
	fmt.Fprint(u.stderr, bugReport(stack, os.Args[1:]))
	os.Exit(exitFailed)
}

// bugReport says what was run, and where it failed.
func bugReport(stack []byte, args []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: nix2img %s, %s %s/%s\n", image.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(&b, "command: %s\n", printable(withoutPasswords(shellWords(append([]string{"nix2img"}, args...)))))
	for line := range strings.Lines(string(stack)) {
		b.WriteString(printable(strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "    ")) + "\n")
	}
	return b.String()
}

var passwords = regexp.MustCompile(`://[^/@\s]*@`)

// withoutPasswords returns a command line without what addresses have for logging in.
func withoutPasswords(line string) string { return passwords.ReplaceAllString(line, "://...@") }
