package gpu

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// An Observer finds the facts of a tree that somebody else reads, so that it is read but once.
// It is shown the tree in the order of a NAR, as by package squashfs: each node, and the contents of regular files.
// Only the headers of large files, and those of the containers in them, are read again.
type Observer struct {
	ctx   context.Context
	fsys  fs.FS  // to read files again, or nil
	spool *Spool // for their copies, then
	root  string
	facts *Facts // nil: it has given up

	// The regular file that is being shown.
	name string // in the file system
	path string // in the tree
	size int64
	seen int64   // bytes so far
	head [4]byte // the first of them
	file *File   // nil: it is of no interest, or that is not known yet
	scan *scanner
	from *contents // for the scanner; nil: it has all of the file, or will have
	copy *spooled  // likewise, if nothing can be read again
}

// Observe returns an Observer of the tree at root, a name in fsys.
func Observe(ctx context.Context, fsys fs.FS, root string) *Observer {
	return &Observer{ctx: ctx, fsys: fsys, root: root, facts: &Facts{Version: FactsVersion}}
}

// ObserveStream returns an Observer of a tree of which nothing can be read again.
// It looks at libraries and programs of more than 256 KiB when they are complete, and has them in the spool until then.
// If one has more than [MaxSpooled] bytes, or cannot be written there, the Observer gives up.
func ObserveStream(ctx context.Context, spool *Spool, root string) *Observer {
	return &Observer{ctx: ctx, spool: spool, root: root, facts: &Facts{Version: FactsVersion}}
}

// Facts returns what [Inspect] would find, or nil if the Observer has given up. It is to be called after Close.
func (o *Observer) Facts() *Facts { return o.facts }

// Node announces a node of the tree, by its path in there. target is where a symbolic link points to.
func (o *Observer) Node(name string, info fs.FileInfo, target string) error {
	o.stop()
	if o.facts == nil {
		return nil
	}
	valid := strings.ToValidUTF8(name, "\uFFFD")
	full := path.Join(o.root, name)
	switch info.Mode().Type() {
	case fs.ModeSymlink:
		if isLibrary(path.Base(full)) {
			o.facts.Links = append(o.facts.Links, Link{valid, strings.ToValidUTF8(target, "\uFFFD")})
		}
	case 0:
		o.name, o.path, o.size, o.seen = full, valid, info.Size(), 0
		if o.size == 0 {
			return o.failed(o.begin())
		}
	}
	return nil
}

// Write takes contents of the regular file that was announced last.
func (o *Observer) Write(p []byte) (int, error) {
	n := len(p)
	if o.facts == nil {
		return n, nil
	}
	if decided := min(o.size, int64(len(o.head))); o.seen < decided {
		k := copy(o.head[o.seen:decided], p)
		o.seen += int64(k)
		if p = p[k:]; o.seen < decided {
			return n, nil
		}
		if err := o.begin(); err != nil {
			return 0, o.failed(err)
		}
	}
	o.seen += int64(len(p))
	return n, o.failed(o.take(p))
}

// Close ends the tree.
func (o *Observer) Close() error {
	o.stop()
	return nil
}

// failed ends the file that is being shown if there is an error.
func (o *Observer) failed(err error) error {
	if err == nil {
		return nil
	}
	o.stop()
	return fmt.Errorf("gpu: inspect: %w", err)
}

// begin decides by the first bytes of a file whether it is to be looked into.
func (o *Observer) begin() error {
	head := o.head[:o.seen]
	if o.file = interesting(o.name, head); o.file == nil {
		return nil
	}
	o.file.Path = o.path
	o.scan = scanners.Get().(*scanner)
	if o.size <= windowSize {
		// It is looked at when all of it is in the window.
		o.scan.reset(o.ctx, bytes.NewReader(o.scan.buf[:o.size]), o.size)
		return o.take(head)
	}
	if o.fsys == nil {
		return o.keep(head)
	}
	o.from = &contents{fsys: o.fsys, name: o.name}
	o.scan.reset(o.ctx, o.from, o.size)
	if more, err := o.scan.head(o.file); err != nil || !more {
		o.end()
		return err
	}
	return o.take(head)
}

// take looks into some contents of a file.
func (o *Observer) take(p []byte) error {
	s := o.scan
	if s == nil {
		return nil
	}
	switch {
	case o.from != nil:
		if err := s.feed(p); err != nil {
			return err
		}
	case o.copy != nil:
		if _, err := o.copy.Write(p); err != nil {
			o.giveUp()
			return nil
		}
	default:
		s.n += copy(s.buf[s.n:], p)
	}
	if o.seen < o.size {
		return nil
	}
	more, err := true, error(nil)
	if o.from == nil {
		if more, err = s.head(o.file); err == nil && more {
			err = s.scan()
		}
	}
	if err == nil {
		if more {
			s.finish(o.file)
		}
		o.end()
	}
	return err
}

// keep begins a copy of the file that is being shown.
func (o *Observer) keep(head []byte) error {
	c, err := o.spool.begin(o.size)
	if err != nil {
		o.giveUp()
		return nil
	}
	o.copy = c
	o.scan.reset(o.ctx, c, o.size)
	return o.take(head)
}

// giveUp forgets the tree: what is needed of it has to be found in another way.
func (o *Observer) giveUp() {
	o.stop()
	o.facts = nil
}

// end keeps what has been found out about a file.
func (o *Observer) end() {
	if o.file.Format != "" {
		o.facts.Files = append(o.facts.Files, *o.file)
	}
	o.stop()
}

// stop forgets the file that is being shown.
func (o *Observer) stop() {
	if o.scan != nil {
		scanners.Put(o.scan)
	}
	if o.from != nil {
		o.from.Close()
	}
	if o.copy != nil {
		o.copy.Close()
	}
	o.file, o.scan, o.from, o.copy = nil, nil, nil, nil
}
