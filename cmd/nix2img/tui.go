package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci/registry"
	"github.com/nix2img/nix2img/sif"
)

// This file is the command's voice.
//
// Standard output carries results only.
// Everything else goes to standard error, in lines that begin with "nix2img: ",
// in lower case and without a full stop:
//
//	nix2img: error: operation subject: reason
//	nix2img: hint: what can be done about it
//	nix2img: warning: ...

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitClosure     = 3 // the closure is incomplete or its metadata are malformed
	exitNetwork     = 4 // registry or network
	exitVerify      = 5 // a hash is not what it should be
	exitTarget      = 6 // the image would not run where it is to
	exitInterrupted = 130
	exitPipe        = 141 // nobody reads the result; as a shell has it of what SIGPIPE ends
)

// exitCode tells kinds of errors apart for whoever called.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case unread(err):
		return exitPipe
	case is[*usageError](err), is[*image.ConfigError](err), is[*binarycache.AddressError](err):
		return exitUsage
	case is[*closure.HashError](err), is[*verifyError](err), is[*binarycache.VerifyError](err), is[*registry.DigestError](err):
		return exitVerify
	case is[*binarycache.NetworkError](err):
		return exitNetwork
	case is[*closure.MissingError](err), is[*closure.CycleError](err), is[*closure.ConflictError](err),
		is[*closure.SyntaxError](err), is[*sourceError](err), is[*binarycache.InfoError](err):
		return exitClosure
	case is[*sif.ArchError](err), is[*targetError](err):
		return exitTarget
	case is[*registry.NotFoundError](err):
		return exitFailed
	case is[*registry.Error](err):
		return exitNetwork
	}
	return exitFailed
}

// unread reports whether nobody reads the result.
func unread(err error) bool {
	return errors.Is(err, syscall.EPIPE) && !is[*binarycache.NetworkError](err)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

var errInterrupted = errors.New("interrupted")

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// sourceError is a closure that cannot be read.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// hintError is an error with advice from where it was noticed.
type hintError struct {
	err  error
	hint string
}

func withHint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// hint returns advice on what to do about an error, or "".
func hint(err error) string {
	if e, ok := errors.AsType[*hintError](err); ok {
		return e.hint
	}
	if e, ok := errors.AsType[*registry.Error](err); ok {
		return registryHint(e)
	}
	switch {
	case is[*image.ArchError](err):
		return "say which one it is for with --arch, amd64 or arm64 for instance"
	case errors.Is(err, syscall.ENOSPC):
		return "free some space, or write to another place (TMPDIR is that of temporary files)"
	case errors.Is(err, syscall.EDQUOT):
		return "your disk quota is used up; write to another place (TMPDIR is that of temporary files)"
	case errors.Is(err, syscall.EFBIG):
		return "the file system or ulimit -f does not allow files of this size"
	}
	return ""
}

// ui is where the command speaks.
type ui struct {
	stdin          *os.File
	stdout, stderr *os.File
	quiet, verbose bool
	live           bool // standard error is a terminal

	mu   sync.Mutex
	line bool // the cursor is behind a status line
}

func newUI(stdin, stdout, stderr *os.File) *ui {
	return &ui{
		stdin:  stdin,
		stdout: stdout,
		stderr: stderr,
		live:   term.IsTerminal(int(stderr.Fd())) && os.Getenv("TERM") != "dumb",
	}
}

// resultf prints a result, of one or more lines.
func (u *ui) resultf(format string, args ...any) error {
	lines := strings.Split(fmt.Sprintf(format, args...), "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	_, err := io.WriteString(u.stdout, strings.Join(lines, "\n"))
	return err
}

// writeJSON writes v as JSON, on one line if there is no indent.
// What could play tricks on a terminal is escaped, so that it is the same to programs.
func writeJSON(w io.Writer, v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(printableJSON(b.Bytes()))
	return err
}

// printableJSON is [printable] for JSON, which has line breaks between its values.
func printableJSON(data []byte) []byte {
	tricky := func(r rune) bool { return r != '\n' && isTricky(r) }
	if bytes.IndexFunc(data, tricky) < 0 {
		return data
	}
	var b []byte
	for _, r := range string(data) {
		if !tricky(r) {
			b = utf8.AppendRune(b, r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			b = fmt.Appendf(b, `\u%04x`, unit)
		}
	}
	return b
}

// infof says what goes on, unless that is not wanted.
func (u *ui) infof(format string, args ...any) {
	if !u.quiet {
		u.say(fmt.Sprintf(format, args...))
	}
}

// detailf says what goes on if that is wanted expressly.
func (u *ui) detailf(format string, args ...any) {
	if u.verbose && !u.quiet {
		u.say(fmt.Sprintf(format, args...))
	}
}

// busyf says on a terminal what is going on, until there is something else to say.
func (u *ui) busyf(format string, args ...any) {
	if u.live && !u.quiet {
		u.status(printable(fmt.Sprintf(format, args...)) + " ...")
	}
}

func (u *ui) warnf(format string, args ...any) {
	u.say("warning: " + fmt.Sprintf(format, args...))
}

func (u *ui) fail(err error) {
	u.say("error: " + err.Error())
	if h := hint(err); h != "" {
		u.say("hint: " + h)
	}
}

func (u *ui) say(msg string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clear()
	const most = 4000 // bytes, at each end: what is read can be made to lead to messages as long as itself
	if cut := len(msg) - 2*most; cut > most {
		msg = fmt.Sprintf("%s [%d bytes left out] %s", msg[:most], cut, msg[most+cut:])
	}
	fmt.Fprintf(u.stderr, "nix2img: %s\n", printable(msg))
}

// status replaces the status line. An empty one removes it.
func (u *ui) status(line string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clear()
	if line != "" {
		fmt.Fprint(u.stderr, line)
		u.line = true
	}
}

func (u *ui) clear() {
	if u.line {
		fmt.Fprint(u.stderr, "\r\x1b[K")
		u.line = false
	}
}

// printable escapes what could play tricks on a terminal.
func printable(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, isTricky) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if invalid := r == utf8.RuneError && n == 1; invalid || isTricky(r) {
			q := strconv.Quote(s[:n])
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

func isTricky(r rune) bool { return !unicode.IsPrint(r) }

// quoteName returns a file name as it can be told from others:
// as it is, or quoted as in Go if it has characters that do not print.
func quoteName(s string) string {
	if s == "" || strings.HasPrefix(s, `"`) || printable(s) != s {
		return strconv.Quote(s)
	}
	return s
}

// formatSize returns a number of bytes with three digits, as in "1.35 GB".
func formatSize(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, unit := float64(n), 0
	for f >= 999.5 && unit < 6 {
		f /= 1000
		unit++
	}
	decimals := 2
	if f >= 9.995 {
		decimals = 1
	}
	if f >= 99.95 {
		decimals = 0
	}
	return strconv.FormatFloat(f, 'f', decimals, 64) + " " + " kMGTPE"[unit:unit+1] + "B"
}

// parseSize reads a number of bytes such as "131072", "128K" or "1M".
func parseSize(s string) (int64, error) {
	num, shift := strings.TrimSuffix(strings.TrimSuffix(s, "B"), "i"), 0
	if num != "" {
		if i := strings.IndexByte("KMGT", num[len(num)-1]&^0x20); i >= 0 {
			num, shift = num[:len(num)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(num, 10, 62-shift)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size such as 128K or 1M", s)
	}
	return int64(n) << shift, nil
}

// plural returns "1 thing" or "2 things".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if stem, ok := strings.CutSuffix(thing, "y"); ok {
		thing = stem + "ie"
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// reason returns what is behind an [fs.PathError], when its path has been said already.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
