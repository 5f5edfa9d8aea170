package squashfs

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/nix2img/nix2img/internal/codec"
	"github.com/nix2img/nix2img/internal/par"
)

// Encode encodes trees, and gives the segments to their Keepers.
// The trees share the workers of rt, and the next ones are read
// while the data of one is still being compressed.
// Calls of Keepers come in the order of trees and do not overlap,
// but Done of one may be called when data of the next have been written.
//
// A nil opts or rt means the zero value.
// Files that cannot be read are a [*SourceError].
func Encode(ctx context.Context, trees []Tree, opts *Options, rt *Runtime) error {
	l, err := newLayout(opts)
	if err == nil {
		err = checkFiles(trees)
	}
	if err != nil {
		return err
	}
	return newEncoder(l, rt).encode(ctx, trees, nowhere{})
}

// nowhere is the sink of Encode.
type nowhere struct{}

func (nowhere) begin(*encoding) error { return nil }
func (nowhere) write([]byte) error    { return nil }
func (nowhere) extent() error         { return nil }

// An encoder turns trees into segments.
//
//	walk -> load ... load -> split -> compress ... compress -> drain
//	                           |
//	                           +-> observers
//
// walk goes through the trees and cuts them into pieces.
// load reads the pieces' contents, many at once.
// split, again in order, shows the pieces to the tree's observer,
// and sorts contents into full blocks and tails, of which it fills fragment blocks.
// compress works on many blocks at once.
// drain hands the blocks to the sink in the order in which split gave them.
//
// Units are cut by sizes and contents alone, so the bytes do not depend on the number of workers.
type encoder struct {
	codec         codec.ID
	blockSize     int
	workers       int
	newCompressor func() (codec.Compressor, error)
	progress      func(Progress)

	buffers *buffers
	scratch sync.Pool // *[]byte for compressed blocks and for fragment blocks
	idle    chan codec.Compressor

	mu      sync.Mutex
	sources map[*source]struct{} // open files
}

// A sink takes the data of segments, in order.
type sink interface {
	// begin is called before the first data of a tree.
	begin(*encoding) error
	// write takes the bytes of one block.
	write(p []byte) error
	// extent is called after the last block of an extent.
	extent() error
}

func newEncoder(l *layout, rt *Runtime) *encoder {
	if rt == nil {
		rt = &Runtime{}
	}
	workers, blockSize := par.Workers(rt.Workers), l.opts.BlockSize
	e := &encoder{
		codec:         l.codec.ID,
		blockSize:     blockSize,
		workers:       workers,
		newCompressor: l.newCompressor,
		progress:      rt.Progress,
		idle:          make(chan codec.Compressor, workers),
		sources:       make(map[*source]struct{}),
	}
	// Beside what is loaded or compressed, observers may lag behind.
	e.buffers = newBuffers(e.loadWindow()+e.compressWindow()+2*workers+8, blockSize)
	e.scratch.New = func() any {
		// libzstd wants some room beyond the size of a block.
		b := make([]byte, 0, blockSize+blockSize/128+512)
		return &b
	}
	return e
}

func (e *encoder) loadWindow() int     { return 2*e.workers + 4 }
func (e *encoder) compressWindow() int { return 4 * e.workers }

// encode encodes trees and gives their data to out.
func (e *encoder) encode(ctx context.Context, trees []Tree, out sink) (err error) {
	s := &splitter{e: e}
	var done []*encoding // complete, and not yet accepted
	defer func() {
		// An observer's error comes first: its tree lies before whatever else failed.
		for _, enc := range done {
			found := <-enc.verdict
			if found == nil && err == nil {
				found = enc.keep()
			}
			if found != nil {
				err = found
				break
			}
		}
		s.observers.Wait()
		for src := range e.sources {
			src.f.Close()
		}
	}()

	loaded := par.Map(ctx, e.workers, e.loadWindow(), e.walk(ctx, trees), e.load)
	units := par.Map(ctx, e.workers, e.compressWindow(), s.split(loaded), e.compress)
	var so Progress
	for u, err := range units {
		if err == nil {
			err = e.drain(ctx, u, out)
		}
		if err == nil && u.end {
			done = append(done, u.enc)
			done, err = accept(done)
		}
		if err != nil {
			e.buffers.close()
			closeNodes(trees)
			return err
		}
		so.Tree = u.enc.tree.Name
		so.Read += int64(u.used)
		so.Written += u.block.len()
		if e.progress != nil {
			e.progress(so)
		}
	}
	return nil
}

// closeNodes ends reading that nobody will wait for.
func closeNodes(trees []Tree) {
	for _, t := range trees {
		if t.nodes != nil {
			t.nodes.Close()
		}
	}
}

// accept takes the verdicts that have been reached from the front of list.
func accept(list []*encoding) ([]*encoding, error) {
	for len(list) > 0 {
		select {
		case err := <-list[0].verdict:
			if err == nil {
				err = list[0].keep()
			}
			if list = list[1:]; err != nil {
				return nil, err
			}
		default:
			return list, nil
		}
	}
	return nil, nil
}

// A unit is a block on its way to the sink, or the end of a tree.
type unit struct {
	enc  *encoding
	raw  []byte
	buf  *buffer // holds raw, or nil
	frag *[]byte // holds raw if it is a fragment block
	used int     // bytes of contents that have been read for it
	last bool    // ends its extent
	end  bool    // ends the tree

	block block
	out   *[]byte // holds the compressed form, or nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// compress compresses a unit. Calls run in parallel.
func (e *encoder) compress(_ context.Context, u unit) (unit, error) {
	if u.end {
		return u, nil
	}
	if u.frag == nil && isZero(u.raw) {
		return u, nil
	}
	var c codec.Compressor
	select {
	case c = <-e.idle:
	default:
		var err error
		if c, err = e.newCompressor(); err != nil {
			return u, fmt.Errorf("squashfs: compress: %w", err)
		}
	}
	u.out = e.scratch.Get().(*[]byte)
	out, err := c.Compress(*u.out, u.raw)
	if err != nil {
		return u, fmt.Errorf("squashfs: compress: %w", err)
	}
	e.idle <- c
	if out != nil {
		u.block.size = uint32(len(out))
		*u.out = out
		if u.buf != nil {
			e.buffers.release(u.buf)
			u.buf = nil
		}
	} else {
		u.block.size = uint32(len(u.raw)) | blockStored
		e.recycle(u.out)
		u.out = nil
		out = u.raw
	}
	u.block.sum = crc32.Checksum(out, castagnoli)
	return u, nil
}

func isZero(p []byte) bool {
	// A slice that equals itself, moved by one byte, is all of one value.
	return p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

func (e *encoder) recycle(b *[]byte) {
	*b = (*b)[:0]
	e.scratch.Put(b)
}

// drain gives a unit to the sink and its memory back.
func (e *encoder) drain(ctx context.Context, u unit, out sink) error {
	enc, seg := u.enc, u.enc.segment
	if !enc.begun {
		enc.begun = true
		if err := out.begin(enc); err != nil {
			return err
		}
	}
	if u.end {
		if enc.tree.segment != nil {
			return e.copy(ctx, enc, out)
		}
		return nil
	}
	if !enc.open {
		seg.begin(u.frag != nil)
	}
	enc.open = !u.last
	seg.add(u.block)
	data := u.raw
	if u.out != nil {
		data = *u.out
	}
	err := e.write(enc, data[:u.block.len()], out)
	if err == nil && u.last {
		err = out.extent()
	}
	if u.out != nil {
		e.recycle(u.out)
	}
	if u.frag != nil {
		e.recycle(u.frag)
	}
	if u.buf != nil {
		e.buffers.release(u.buf)
	}
	return err
}

// write gives the bytes of one block to all who want them.
func (e *encoder) write(enc *encoding, data []byte, out sink) error {
	if len(data) == 0 {
		return nil
	}
	if enc.tree.Keep != nil {
		if _, err := enc.tree.Keep.Write(data); err != nil {
			return err
		}
	}
	return out.write(data)
}

// copy gives the data of a segment that has been encoded before to the sink.
func (e *encoder) copy(ctx context.Context, enc *encoding, out sink) error {
	s := enc.segment
	var off int64
	for _, x := range s.extents {
		for c := range cut(enc.tree.Name, enc.tree.data, off, s.of(x)) {
			c, err := readChunk(ctx, c)
			if err == nil {
				err = out.write(c.data)
			}
			copyBuffers.Put(c.buf)
			if err != nil {
				return err
			}
		}
		if err := out.extent(); err != nil {
			return err
		}
		off += x.size
	}
	return nil
}
