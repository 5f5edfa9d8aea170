package nar

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Writer writes an archive node by node.
// It is used like the one of package archive/tar:
// WriteHeader starts a node, and Write provides the contents of a regular file.
// Nodes come in the order of the format:
// the root first, a directory before its entries, and entries sorted by the bytes of their names.
type Writer struct {
	w    *bufio.Writer
	dirs []directory // that are open, from the root on
	path string      // of the current node
	left int64       // contents to come
	pad  int         // bytes after them
	open bool        // the current node is a regular file that has not ended
	some bool        // there is a root
	err  error       // the first
}

// NewWriter returns a Writer that writes an archive to w.
func NewWriter(w io.Writer) *Writer {
	if w == nil {
		return new(Writer)
	}
	return &Writer{w: bufio.NewWriterSize(w, 16<<10)}
}

var errNoWriter = errors.New("nar: write: nothing to write to")

// WriteHeader ends the current node and starts another.
func (w *Writer) WriteHeader(h *Header) error {
	switch {
	case w.err != nil:
	case w.w == nil:
		w.err = errNoWriter
	case h == nil:
		w.err = errors.New("nar: write: no header")
	default:
		w.err = w.writeHeader(h)
	}
	return w.err
}

// Write writes contents of the current node, a regular file.
// It is an error to write more than the header announced.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > w.left {
		w.err = w.errorf("more contents than the header announces")
		return 0, w.err
	}
	n, err := w.w.Write(p)
	w.left -= int64(n)
	w.err = err
	return n, err
}

// Close ends the archive. It does not close the underlying writer.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	w.err = w.finish()
	if w.err == nil && !w.some {
		w.err = errors.New("nar: write: no nodes")
	}
	if w.err != nil {
		return w.err
	}
	for range len(w.dirs) {
		w.popDir()
	}
	if w.err = w.w.Flush(); w.err != nil {
		return w.err
	}
	w.err = errors.New("nar: write: archive is closed")
	return nil
}

func (w *Writer) writeHeader(h *Header) error {
	path := h.Path
	if path == "" {
		path = "."
	}
	if err := w.finish(); err != nil {
		return err
	}
	last := w.path
	w.path = path
	if reason := checkHeader(h); reason != "" {
		return w.errorf("%s", reason)
	}
	if !w.some {
		if path != "." {
			return w.errorf("the first node is not the root")
		}
		w.some = true
		w.string(magic)
		return w.node(h)
	}
	if path == "." {
		return w.errorf("the root comes twice")
	}
	dir, name := ".", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	for len(w.dirs) > 0 && w.dirs[len(w.dirs)-1].path != dir {
		w.popDir()
	}
	if len(w.dirs) == 0 {
		return w.errorf("comes after %q, but its directory is not open there", last)
	}
	if reason := checkName(name); reason != "" {
		return w.errorf("%s", reason)
	}
	if len(path) > maxPath {
		return w.errorf("path is longer than 4095 bytes")
	}
	top := &w.dirs[len(w.dirs)-1]
	if top.last >= name {
		return w.errorf("comes after %q", top.last)
	}
	top.last = name
	w.string("entry", "(", "name", name, "node")
	return w.node(h)
}

// checkHeader returns what is wrong with what a header says beside the path.
func checkHeader(h *Header) string {
	switch h.Mode.Type() {
	case 0:
		if h.Size < 0 {
			return "negative size"
		}
	case fs.ModeDir:
	case fs.ModeSymlink:
		return checkTarget(h.LinkTarget)
	default:
		return fmt.Sprintf("%v is neither a regular file, a directory, nor a symbolic link", h.Mode)
	}
	return ""
}

func (w *Writer) node(h *Header) error {
	w.string("(", "type")
	switch h.Mode.Type() {
	case fs.ModeDir:
		w.dirs = append(w.dirs, directory{path: w.path})
		return w.string("directory")
	case fs.ModeSymlink:
		w.string("symlink", "target", h.LinkTarget)
		return w.end()
	}
	w.string("regular")
	if h.Mode&0o100 != 0 {
		w.string("executable", "")
	}
	w.left, w.pad, w.open = h.Size, padding(h.Size), true
	w.string("contents")
	return w.uint64(uint64(h.Size))
}

// finish ends the current node if it is a regular file.
func (w *Writer) finish() error {
	if !w.open {
		return nil
	}
	if w.left > 0 {
		return w.errorf("contents end %d bytes before the size in the header", w.left)
	}
	w.open = false
	var zeros [8]byte
	w.w.Write(zeros[:w.pad])
	return w.end()
}

// end ends a node, and its entry unless it is the root.
func (w *Writer) end() error {
	if len(w.dirs) > 0 {
		w.string(")")
	}
	return w.string(")")
}

func (w *Writer) popDir() {
	w.dirs = w.dirs[:len(w.dirs)-1]
	w.end()
}

// string writes strings.
// As with the other writes, errors stay in the bufio.Writer and may be ignored until the last.
func (w *Writer) string(list ...string) (err error) {
	var zeros [8]byte
	for _, s := range list {
		w.uint64(uint64(len(s)))
		w.w.WriteString(s)
		_, err = w.w.Write(zeros[:padding(int64(len(s)))])
	}
	return err
}

func (w *Writer) uint64(n uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	_, err := w.w.Write(b[:])
	return err
}

func (w *Writer) errorf(format string, args ...any) error {
	return fmt.Errorf("nar: write %q: %s", w.path, fmt.Sprintf(format, args...))
}
