package binarycache

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nar"
	"github.com/nix2img/nix2img/internal/par"
)

// What may wait in memory, in bytes: of one NAR, and of all that are fetched ahead.
const (
	waitSize   = 2 << 20
	memorySize = 32 << 20
)

// manyCores is how many cores compress more than one unpacks and divides into blocks:
// then these are worth a core each.
const manyCores = 6

// Fetch fetches the objects of a closure that are in caches. They are to be read in the given order.
//
// As many are fetched at a time as there is room for, and none waits for another that is not read:
// the one that is asked for is fetched in any case.
func (f *Files) Fetch(ctx context.Context, objects []closure.Object) closure.Fetch {
	ctx, cancel := context.WithCancel(ctx)
	rt := f.rt.orDefault()
	q := &fetch{
		ctx: ctx, cancel: cancel, rt: rt,
		jobs:    make(map[closure.Path]*job),
		streams: min(max(4*rt.workers(), 8), 32),
		memory:  memorySize, disk: rt.spool(),
	}
	var before int64
	for _, o := range objects {
		s := f.sources[o.Path.Base()]
		if s == nil || q.jobs[o.Path] != nil {
			continue
		}
		j := &job{source: s, due: before / int64(rt.workers())}
		switch {
		case !slow(s.Compression):
			// It waits as it is in the cache, and is unpacked when it is read:
			// then it is still in the processor's caches when it comes to where it is wanted.
			j.packed, j.memory = true, min(cmp.Or(s.FileSize, s.NARSize), waitSize)
		case s.NARSize <= waitSize:
			j.memory = s.NARSize
		default:
			j.memory, j.disk = waitSize, s.NARSize
			// A large one must be begun before its turn, or all others have to wait for it in the end.
			j.due -= s.NARSize
		}
		j.memory = (j.memory + chunkSize - 1) &^ (chunkSize - 1) // a pipe has whole chunks
		before += s.NARSize
		q.jobs[o.Path] = j
		q.waiting = append(q.waiting, j)
	}
	slices.SortStableFunc(q.waiting, func(a, b *job) int { return cmp.Compare(a.due, b.due) })
	q.mu.Lock()
	defer q.mu.Unlock()
	q.begin()
	return q
}

// A fetch has NARs on their way.
type fetch struct {
	ctx     context.Context
	cancel  context.CancelFunc
	rt      *Runtime
	jobs    map[closure.Path]*job
	running sync.WaitGroup
	buffers buffers

	mu           sync.Mutex
	waiting      []*job // in the order in which they are to be begun
	pipes        []*pipe
	streams      int   // how many more may be begun
	memory, disk int64 // bytes that are free
}

// A job is a NAR on its way.
type job struct {
	*source
	due          int64 // when to begin, in bytes
	packed       bool  // it waits as it is in the cache
	memory, disk int64 // bytes that may wait

	pipe     *pipe // nil: it has not begun
	reserved bool  // memory and disk are its own
}

// begin begins all for which there is room. The lock must be held.
func (q *fetch) begin() {
	q.waiting = slices.DeleteFunc(q.waiting, func(j *job) bool {
		if j.pipe == nil && q.streams > 0 && j.memory <= q.memory && j.disk <= q.disk {
			q.memory -= j.memory
			q.disk -= j.disk
			j.reserved = true
			q.run(j)
		}
		return j.pipe != nil
	})
}

// run begins a job. The lock must be held.
func (q *fetch) run(j *job) {
	j.pipe = q.newPipe(j.memory, j.reserved && j.disk > 0)
	q.streams--
	q.running.Go(func() {
		defer par.Recover()
		d := j.download(q.ctx)
		defer d.Close()
		if j.packed {
			q.buffers.pump(j.pipe, d)
		} else {
			q.buffers.pump(j.pipe, j.unpack(&q.buffers, d))
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		q.streams++
		q.begin()
	})
}

// newPipe returns a pipe that Close closes. The lock must be held.
func (q *fetch) newPipe(limit int64, spill bool) *pipe {
	p := newPipe(int(limit), spill, q.rt.TempDir, &q.buffers.chunks)
	q.pipes = append(q.pipes, p)
	return p
}

// open returns the job of an object, which begins now if it has not, and a reader of the NAR.
func (q *fetch) open(p closure.Path) (*job, io.Reader, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j := q.jobs[p]
	switch {
	case j == nil:
		return nil, nil, &closure.MissingError{Path: p}
	case q.ctx.Err() != nil:
		return nil, nil, q.ctx.Err()
	case j.pipe == nil:
		q.run(j)
	}
	if !j.packed {
		return j, j.pipe, nil
	}
	u := j.unpack(&q.buffers, j.pipe)
	if q.rt.workers() < manyCores {
		return j, u, nil
	}
	unpacked := q.newPipe(2*chunkSize, false)
	q.running.Go(func() {
		defer par.Recover()
		q.buffers.pump(unpacked, u)
	})
	return j, unpacked, nil
}

// done says that a job has been read to its end.
func (q *fetch) done(j *job) {
	j.pipe.release()
	q.mu.Lock()
	defer q.mu.Unlock()
	if j.reserved {
		j.reserved = false
		q.memory += j.memory
		q.disk += j.disk
	}
	q.begin()
}

// Close ends all that is going on. What is read afterwards gives errors.
func (q *fetch) Close() error {
	q.mu.Lock()
	q.cancel()
	q.waiting = nil
	pipes := q.pipes
	q.mu.Unlock()
	for _, p := range pipes {
		p.close()
	}
	q.running.Wait()
	for _, p := range pipes {
		p.release()
	}
	return nil
}

// Tree returns an object's tree, which is fetched when it is first asked for, if not before.
func (q *fetch) Tree(p closure.Path) closure.Tree { return &tree{q: q, path: p} }

// A tree is an object that is being read.
type tree struct {
	q    *fetch
	path closure.Path
	j    *job
	in   *bufio.Reader
	r    *nar.Reader
}

func (t *tree) Next() (closure.Node, error) {
	if t.j == nil {
		j, r, err := t.q.open(t.path)
		if err != nil {
			return closure.Node{}, err
		}
		t.j = j
		t.in = bufio.NewReaderSize(r, 32<<10)
		t.r = nar.NewReader(t.in)
	}
	h, err := t.r.Next()
	if err == io.EOF {
		return closure.Node{}, t.finish()
	}
	if err != nil {
		return closure.Node{}, t.wrong(err)
	}
	return closure.Node{Path: h.Path, Info: h.FileInfo(), Target: h.LinkTarget}, nil
}

func (t *tree) Read(p []byte) (int, error) {
	if t.r == nil { // there has been no Next
		return 0, io.EOF
	}
	n, err := t.r.Read(p)
	if err != nil && err != io.EOF {
		err = t.wrong(err)
	}
	return n, err
}

// finish waits for what is found out at the very end, and returns io.EOF if all is well.
func (t *tree) finish() error {
	if _, err := t.in.ReadByte(); err == nil {
		return t.j.wrong("bytes follow the end of the NAR")
	} else if err != io.EOF {
		return t.wrong(err)
	}
	t.q.done(t.j)
	return io.EOF
}

func (t *tree) Close() error { return t.q.Close() }

// wrong returns why something cannot be read: an error that says where it comes from,
// or that the NAR is none.
func (t *tree) wrong(err error) error {
	if e := known(err); e != nil {
		return e
	}
	if e := t.q.ctx.Err(); e != nil {
		return e
	}
	return t.j.wrong("%w", err)
}

// known returns the error of this package that is behind another, or nil.
func known(err error) error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		switch e.(type) {
		case *NetworkError, *VerifyError, *SpoolError, *InfoError, *closure.MissingError:
			return e
		}
		if e == context.Canceled || e == context.DeadlineExceeded || e == errClosed {
			return e
		}
	}
	return nil
}
