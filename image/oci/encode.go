package oci

import (
	"cmp"
	"context"
	"encoding"
	"errors"
	"hash"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/internal/par"
)

// A job is what is to be encoded, or only hashed, one unit after another.
type job struct {
	units []*unit
	sum   *layerSum // nil: nobody wants hashes
}

// A piece is so much of a unit's tar entries as is compressed on its own.
type piece struct {
	job         *job
	unit        *unit
	first, last bool // of the unit
	fresh       bool // raw was there first: it is to be kept
	raw, packed []byte
	nodes       []node // of the unit, with its last piece

	s    *blobs
	refs atomic.Int32 // goroutines that have yet to read it
}

// buffer returns memory for a piece, in either form.
func (s *blobs) buffer() []byte {
	select {
	case b := <-s.buffers:
		return b[:0]
	default:
		return make([]byte, 0, s.room())
	}
}

// room is how many bytes a piece has at most, in either form: more than what does not compress becomes.
func (e *coding) room() int { return e.piece + e.piece/64 + 1024 }

func (s *blobs) reuse(b []byte) {
	select {
	case s.buffers <- b:
	default:
	}
}

// release gives the piece's memory to others when all have read it.
func (p *piece) release() {
	if p.refs.Add(-1) == 0 {
		p.s.reuse(p.raw)
		p.s.reuse(p.packed)
		p.raw, p.packed = nil, nil
	}
}

// encode goes through jobs, in order:
//
//	walk ──> compress or expand ──> drain ──> blob
//	          (many at once)          ├─────> NAR hash, and inspectors
//	                                  ├─────> digest     of the layer
//	                                  ├─────> diffID     of the layer
//	                                  └─────> file       of the layer, if there is a layout for it
//
// What has a blob is expanded, for its hashes; all else is compressed and kept.
// Pieces are cut by sizes alone, so the bytes do not depend on the number of workers.
func (s *blobs) encode(ctx context.Context, jobs []*job) error {
	workers := par.Workers(s.rt.Workers)
	stopFetching, err := s.fetch(ctx, jobs)
	if err != nil {
		return err
	}
	defer stopFetching()
	d := drain{s: s}
	defer d.stop()
	for p, err := range par.Map(ctx, workers, 2*workers+2, s.walk(ctx, jobs), s.convert) {
		if err == nil {
			err = d.take(ctx, p)
		}
		if err != nil {
			stopFetching() // the walk must not wait for it
			return err
		}
	}
	return nil
}

// fetch begins to fetch the objects that come over a network and have no blob.
// What it returns ends that, and may be called more than once.
func (s *blobs) fetch(ctx context.Context, jobs []*job) (stop func(), err error) {
	f, ok := s.closure.Files.(closure.Fetcher)
	if !ok {
		return func() {}, nil
	}
	var objects []closure.Object
	var units []*unit
	for _, j := range jobs {
		for _, u := range j.units {
			remote, err := s.isRemote(ctx, f, u)
			if err != nil {
				return nil, err
			}
			if remote {
				objects, units = append(objects, *u.object), append(units, u)
			}
		}
	}
	fetch := f.Fetch(ctx, objects)
	for _, u := range units {
		u.tree = fetch.Tree(u.object.Path)
	}
	return func() { fetch.Close() }, nil
}

// isRemote reports whether a unit comes over a network and has no blob.
func (s *blobs) isRemote(ctx context.Context, f closure.Fetcher, u *unit) (bool, error) {
	if u.object == nil || !f.Remote(u.object.Path) {
		return false, nil
	}
	return s.isAbsent(ctx, u)
}

// A drain takes pieces in order, and gives them to all who want them.
type drain struct {
	s *blobs
	k *keeper // of the unit at hand, if it is fresh
	w *watch  // likewise
}

func (d *drain) stop() {
	d.k.discard()
	if d.w != nil {
		d.w.finish()
	}
}

func (d *drain) take(ctx context.Context, p *piece) (err error) {
	s, u, last, fresh, sum := d.s, p.unit, p.last, p.fresh, p.job.sum
	if p.first && fresh {
		d.k = s.keep(u, sum)
		if o := s.observer(ctx, u); o != nil {
			d.w = newWatch(u.object.Path, o)
		}
	}
	p.refs.Store(4)
	raw, packed := len(p.raw), len(p.packed)
	if fresh {
		if err := d.k.add(p); err != nil {
			return err
		}
	}
	if err := sum.add(p); err != nil {
		return err
	}
	if d.w != nil {
		d.w.add(p)
	} else {
		p.release()
	}
	p.release()
	s.report(u, int64(raw), int64(packed))
	if !last {
		return nil
	}
	if w := d.w; w != nil {
		d.w = nil
		if err := w.finish(); err != nil {
			return err
		}
	}
	if k := d.k; k != nil {
		d.k = nil
		if err := k.commit(); err != nil {
			return err
		}
	}
	return sum.mark()
}

// observer returns the observer of a store object that is being compressed, or nil.
func (s *blobs) observer(ctx context.Context, u *unit) closure.Observer {
	if u.object == nil {
		return nil
	}
	var list closure.Observers
	if s.rt.Cache != nil || !s.rt.SkipVerify || u.tree != nil {
		list = append(list, narhash.NewVerifier(*u.object))
	}
	if s.observe {
		again := u.files
		if u.tree != nil {
			again = nil
		}
		if o := s.survey.Observe(ctx, *u.object, again); o != nil {
			list = append(list, o)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// errStopped ends a walk whose pieces nobody wants any more.
var errStopped = errors.New("stopped")

// walk gives the pieces of all units.
func (s *blobs) walk(ctx context.Context, jobs []*job) func(func(*piece, error) bool) {
	return func(yield func(*piece, error) bool) {
		for _, j := range jobs {
			for _, u := range j.units {
				if err := s.walkUnit(ctx, j, u, yield); err != nil {
					if !errors.Is(err, errStopped) {
						yield(nil, err)
					}
					return
				}
			}
		}
	}
}

func (s *blobs) walkUnit(ctx context.Context, j *job, u *unit, yield func(*piece, error) bool) error {
	cut := &cutter{s: s, job: j, unit: u, yield: yield}
	if b, err := s.lookup(ctx, u); err == nil {
		ok, err := cut.blob(b)
		if ok || err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeTar(ctx, cut, &u.source, cut.saw); err != nil {
		if e, ok := errors.AsType[*SourceError](err); ok && u.object != nil {
			e.Object = u.object.Path
		}
		return err
	}
	return cut.end()
}

// A cutter cuts what is written to it into pieces.
type cutter struct {
	s     *blobs
	job   *job
	unit  *unit
	yield func(*piece, error) bool
	buf   []byte
	n     int64 // bytes so far
	nodes []node
	begun bool
}

// saw takes note of a file of an object.
func (c *cutter) saw(name string, info fs.FileInfo, link string) {
	if c.unit.object != nil {
		c.nodes = append(c.nodes, newNode(c.unit.name, name, info, link, c.n))
	}
}

func (c *cutter) Write(b []byte) (n int, err error) {
	for n < len(b) {
		room, err := c.room()
		if err != nil {
			return n, err
		}
		n += c.grow(copy(room, b[n:]))
	}
	return n, nil
}

// copyN takes n bytes of r, or fewer if it ends before. They are not copied on the way.
func (c *cutter) copyN(r io.Reader, n int64) (done int64, err error) {
	for done < n {
		room, err := c.room()
		if err != nil {
			return done, err
		}
		m, err := r.Read(room[:min(int64(len(room)), n-done)])
		done += int64(c.grow(m))
		if err == io.EOF {
			break
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// room returns the memory behind what there is of a piece. A piece that is full is given: more is to come, so it is not the last.
func (c *cutter) room() ([]byte, error) {
	if len(c.buf) == c.s.piece {
		if err := c.give(&piece{raw: c.buf, fresh: true}); err != nil {
			return nil, err
		}
		c.buf = nil
	}
	if c.buf == nil {
		c.buf = c.s.buffer()
	}
	return c.buf[len(c.buf):c.s.piece], nil
}

// grow takes n more bytes to the piece.
func (c *cutter) grow(n int) int {
	c.buf = c.buf[:len(c.buf)+n]
	c.n += int64(n)
	return n
}

func (c *cutter) end() error {
	return c.give(&piece{raw: c.buf, fresh: true, last: true, nodes: c.nodes})
}

func (c *cutter) give(p *piece) error {
	p.s, p.job, p.unit, p.first = c.s, c.job, c.unit, !c.begun
	c.begun = true
	if !c.yield(p, nil) {
		return errStopped
	}
	return nil
}

// blob gives the pieces of a unit that has a blob.
// It returns false, and has given none, if the blob is damaged.
func (c *cutter) blob(b *blob) (bool, error) {
	var buf []byte
	off := int64(0)
	for _, m := range b.Members { // before hashes have taken anything in
		var err error
		if buf, err = b.member(buf, m, off); err != nil {
			return false, c.s.giveUp(c.unit, err)
		}
		off += int64(m.Size)
	}
	if c.job.sum == nil {
		return true, nil
	}
	off = 0
	for i, m := range b.Members {
		packed, err := b.member(c.s.buffer(), m, off)
		if err != nil { // now that hashes have taken some of it in
			return false, cmp.Or(c.s.giveUp(c.unit, err), errDropped)
		}
		if err := c.give(&piece{packed: packed, last: i == len(b.Members)-1}); err != nil {
			return false, err
		}
		off += int64(m.Size)
	}
	return true, nil
}

// convert compresses a piece, or expands it. Calls run in parallel.
func (s *blobs) convert(_ context.Context, p *piece) (*piece, error) {
	st, err := s.stream()
	if err != nil {
		return p, err
	}
	defer s.streams.Put(st)
	if p.fresh {
		p.packed, err = st.Append(s.buffer(), p.raw)
	} else {
		p.raw, err = st.Expand(s.buffer(), p.packed)
	}
	return p, err
}

// A watch shows a store object to an observer, as it has been written.
type watch struct {
	pieces chan *piece
	result chan error
}

func newWatch(p closure.Path, o closure.Observer) *watch {
	w := &watch{make(chan *piece, 2), make(chan error, 1)}
	go func() {
		defer par.Recover()
		r := &pieceReader{pieces: w.pieces}
		err := showTar(r, p, o)
		r.rest()
		w.result <- err
	}()
	return w
}

func (w *watch) add(p *piece) { w.pieces <- p }

func (w *watch) finish() error {
	close(w.pieces)
	return <-w.result
}

// A pieceReader reads the contents of pieces, and releases them.
type pieceReader struct {
	pieces <-chan *piece
	cur    *piece
	left   []byte
}

func (r *pieceReader) Read(b []byte) (int, error) {
	for len(r.left) == 0 {
		if r.cur != nil {
			r.cur.release()
			r.cur = nil
		}
		p, ok := <-r.pieces
		if !ok {
			return 0, io.EOF
		}
		r.cur, r.left = p, p.raw
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}

// rest releases what has not been read.
func (r *pieceReader) rest() {
	if r.cur != nil {
		r.cur.release()
	}
	for p := range r.pieces {
		p.release()
	}
}

// A hasher computes a hash on a goroutine of its own.
type hasher struct {
	hash  hash.Hash
	n     int64
	work  chan func()
	ended sync.WaitGroup
}

func newHasher(h hash.Hash, n int64) *hasher {
	s := &hasher{hash: h, n: n, work: make(chan func(), 4)}
	s.ended.Go(func() {
		defer par.Recover()
		for f := range s.work {
			f()
		}
	})
	return s
}

// add hashes b, and then calls done.
func (h *hasher) add(b []byte, done func()) {
	h.work <- func() {
		h.hash.Write(b)
		h.n += int64(len(b))
		done()
	}
}

// mark has the state of the hash put into *to, and the number of bytes so far into *n.
func (h *hasher) mark(to *[]byte, n *int64) {
	h.work <- func() {
		*to, _ = h.hash.(encoding.BinaryAppender).AppendBinary(nil) // SHA-256 has no error
		*n = h.n
	}
}

func (h *hasher) finish() {
	close(h.work)
	h.ended.Wait()
}
