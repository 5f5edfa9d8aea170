package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// An Observer has inspectors look at a tree that somebody else reads, so that it is read only once.
// It is a [closure.Observer]: it is shown the tree in the order of a NAR, each node, and the contents of regular files.
type Observer struct {
	ctx   context.Context
	fsys  fs.FS  // to read files again, or nil
	root  string // of the tree in there
	spool *Spool // for copies of files that cannot be read again

	results []result
	facts   Facts

	// The node that is being shown.
	node  Node
	shown int64 // bytes of it
	head  [HeadSize]byte
	looks []*look // into its contents
	small *[smallSize]byte
	again *contents
	copy  *spooled
}

// A look is that of one inspector into the file that is being shown.
type look struct {
	*result
	want Want
	pass *pass // nil: it begins when all of the file is there
}

// Observe returns an Observer of the tree at root, a name in fsys, where files can be read again:
// so little is that inspectors do it themselves, while the file is shown.
func Observe(ctx context.Context, list []Inspector, fsys fs.FS, root string) *Observer {
	return &Observer{ctx: ctx, fsys: fsys, root: root, results: newResults(list)}
}

// ObserveStream returns an Observer of a tree of which nothing can be read again.
// Files that are wanted [Anywhere] are looked at when they are complete, and are in the spool until then,
// once for all inspectors. If one has more than [MaxSpooled] bytes, or cannot be written there,
// the inspectors that want it give up: what they would find in the tree has to be found in another way.
func ObserveStream(ctx context.Context, list []Inspector, spool *Spool) *Observer {
	return &Observer{ctx: ctx, spool: spool, root: ".", results: newResults(list)}
}

// Facts returns what has been found, once Close has been called: without what inspectors have given up.
func (o *Observer) Facts() Facts { return o.facts }

// Node announces a node of the tree, by its path in there. target is where a symbolic link points to.
func (o *Observer) Node(name string, info fs.FileInfo, target string) error {
	if err := o.finish(); err != nil {
		return err
	}
	if info == nil {
		return o.failed(fmt.Errorf("%s: nothing is known of it", name))
	}
	o.node, o.shown = newNode(name, info.Mode()), 0
	o.node.Target = target
	if o.node.IsFile() {
		if err := o.node.setSize(info.Size()); err != nil {
			return o.failed(err)
		}
		if o.node.Size > 0 {
			return nil // its first bytes are to come
		}
	}
	return o.failed(o.begin())
}

// Write takes contents of the regular file that was announced last.
func (o *Observer) Write(p []byte) (int, error) {
	n := len(p)
	if int64(n) > o.node.Size-o.shown {
		return 0, o.failed(fmt.Errorf("%s: there is more of it than %d bytes", o.name(), o.node.Size))
	}
	if missing := min(o.node.Size, HeadSize) - o.shown; missing > 0 {
		k := copy(o.head[o.shown:][:missing], p)
		o.shown += int64(k)
		if int64(k) < missing {
			return n, nil
		}
		p = p[k:]
		o.node.Head = o.head[:o.shown]
		if err := o.begin(); err != nil {
			return 0, o.failed(err)
		}
	}
	if len(o.looks) == 0 {
		o.shown += int64(len(p))
		return n, nil
	}
	return n, o.failed(o.take(p))
}

// Close ends the tree, and makes the facts.
func (o *Observer) Close() (err error) {
	if err := o.finish(); err != nil {
		return err
	}
	o.facts, err = facts(o.results)
	return err
}

// Stop gives up a tree that has not been shown to its end, in place of Close.
// It may also be called after an error, and after Close, where it does nothing.
func (o *Observer) Stop() { o.release() }

// name is that of the node in the file system.
func (o *Observer) name() string { return path.Join(o.root, o.node.Path) }

// finish ends the node that has been shown.
func (o *Observer) finish() error {
	if o.node.Size > o.shown {
		return o.failed(fmt.Errorf("%s: it ends after %d of %d bytes", o.name(), o.shown, o.node.Size))
	}
	o.release()
	return nil
}

// failed forgets the node if there is an error.
func (o *Observer) failed(err error) error {
	if err == nil {
		return nil
	}
	o.release()
	o.node, o.shown = Node{}, 0
	return fmt.Errorf("inspect: %w", err)
}

// release ends the looks into the file that is being shown, and gives its memory to others.
func (o *Observer) release() {
	for _, l := range o.looks {
		if l.pass != nil {
			l.pass.stop()
		}
	}
	if o.small != nil {
		smallFiles.Put(o.small)
	}
	if o.again != nil {
		o.again.Close()
	}
	if o.copy != nil {
		o.copy.Close()
	}
	o.looks, o.small, o.again, o.copy = o.looks[:0], nil, nil, nil
}

// begin asks the inspectors what they want to see of a node, when its first bytes are there.
func (o *Observer) begin() error {
	for i := range o.results {
		r := &o.results[i]
		if r.gaveUp {
			continue
		}
		switch want := r.Wants(&o.node); {
		case want == Nothing:
		case want == Itself || o.node.Size == 0:
			if err := r.look(o.ctx, &File{Node: o.node, want: want}); err != nil {
				return err
			}
		default:
			o.looks = append(o.looks, &look{result: r, want: want})
		}
	}
	if len(o.looks) == 0 {
		return nil
	}
	o.prepare()
	o.shown -= int64(len(o.node.Head))
	return o.take(o.node.Head)
}

// prepare settles how the contents of the node get to those who want them.
func (o *Observer) prepare() {
	if o.node.Size <= smallSize {
		o.small = smallFiles.Get().(*[smallSize]byte)
		return
	}
	kept := o.looks[:0]
	for _, l := range o.looks {
		if l.want == Anywhere && o.fsys == nil && !o.keep() {
			l.gaveUp = true
			continue
		}
		kept = append(kept, l)
		f := &File{Node: o.node, want: l.want}
		if l.want == Anywhere && o.fsys == nil {
			continue // until the copy is complete
		}
		if l.want == Anywhere {
			if o.again == nil {
				o.again = &contents{fsys: o.fsys, name: o.name()}
			}
			f.all = o.again
		}
		l.pass = begin(func(p *pass) (any, error) {
			f.pass = p
			return l.Look(o.ctx, f)
		})
	}
	o.looks = kept
}

// keep begins a copy of the file that is being shown, unless there is one.
func (o *Observer) keep() bool {
	if o.copy == nil {
		c, err := o.spool.begin(o.node.Size)
		if err != nil {
			return false
		}
		o.copy = c
	}
	return true
}

// take has contents of a file looked at, or kept until it is complete.
func (o *Observer) take(p []byte) error {
	if o.small != nil {
		copy(o.small[o.shown:], p)
	}
	if o.copy != nil {
		if _, err := o.copy.Write(p); err != nil {
			o.abandonCopy()
		}
	}
	o.shown += int64(len(p))
	for _, l := range o.looks {
		if l.pass != nil {
			l.pass.more(p)
			if l.pass.err != nil {
				return l.wrap(l.pass.err)
			}
		}
	}
	if o.shown == o.node.Size {
		return o.complete()
	}
	return nil
}

// abandonCopy has those give up who wait for a copy that cannot be written.
func (o *Observer) abandonCopy() {
	o.copy.Close()
	o.copy = nil
	kept := o.looks[:0]
	for _, l := range o.looks {
		if l.pass == nil {
			l.gaveUp = true
		} else {
			kept = append(kept, l)
		}
	}
	o.looks = kept
}

// complete ends the looks into a file, all of which has been shown.
func (o *Observer) complete() error {
	var all io.ReaderAt = o.copy
	if o.small != nil {
		all = bytes.NewReader(o.small[:o.node.Size])
	}
	for _, l := range o.looks {
		if l.pass != nil {
			if !l.pass.done {
				return l.wrap(errors.New("it waits for more than there is"))
			}
			l.add(l.pass.finding)
		} else if err := l.look(o.ctx, &File{Node: o.node, want: l.want, all: all}); err != nil {
			return err
		}
	}
	o.release()
	return nil
}

// look has an inspector look at a node.
func (r *result) look(ctx context.Context, f *File) error {
	finding, err := r.Look(ctx, f)
	if err != nil {
		return r.wrap(err)
	}
	r.add(finding)
	return nil
}

func (r *result) wrap(err error) error { return fmt.Errorf("%s: %w", r.Name(), err) }
