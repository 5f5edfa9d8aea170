package squashfs

import (
	"bytes"
	"hash/crc32"
	"iter"
	"strings"
	"sync"
)

// An encoding is a tree on its way to become a segment.
type encoding struct {
	tree    *Tree
	segment *Segment

	observe chan observation // nil: there is no observer, or nothing for it yet
	verdict chan error       // what the observer says in the end

	begun bool // the sink knows of the tree
	open  bool // the extent that is being drained has more blocks

	complete bool // all of the tree has been split

	// The fragment block that is being filled.
	frag  *[]byte
	tails map[tailKey]uint32 // where in it tails lie
	fill  int                // bytes of contents it stands for
	dir   int32              // node of the directory whose entries are being read
	count int32              // extents so far
	nfrag int32              // fragment blocks so far
}

type tailKey struct {
	size int
	sum  uint32
}

func (e *encoder) newEncoding(t *Tree) *encoding {
	enc := &encoding{
		tree:    t,
		segment: &Segment{codec: e.codec, blockSize: e.blockSize},
		verdict: make(chan error, 1),
		dir:     none,
		tails:   make(map[tailKey]uint32),
	}
	if t.segment != nil {
		enc.segment = t.segment
	}
	if t.segment != nil || t.Observer == nil {
		enc.verdict <- nil
	}
	return enc
}

// keep gives the segment to the tree's Keeper.
func (enc *encoding) keep() error {
	if enc.tree.Keep == nil || enc.tree.segment != nil {
		return nil
	}
	return enc.tree.Keep.Done(enc.segment)
}

// A splitter is the middle of the pipeline, where everything is in order:
// pieces of trees become nodes, and blocks to be compressed.
type splitter struct {
	e         *encoder
	observers sync.WaitGroup
}

func (s *splitter) split(pieces iter.Seq2[piece, error]) iter.Seq2[unit, error] {
	return func(yield func(unit, error) bool) {
		var enc *encoding
		for p, err := range pieces {
			if err == nil && p.info != nil {
				enc = p.enc
				err = enc.announce(&p)
			}
			if err == nil {
				s.show(&p)
				if s.units(&p, yield) {
					continue
				}
			}
			// walk must not wait for buffers that nobody will release.
			s.e.buffers.close()
			if err != nil {
				yield(unit{}, err)
			}
			break
		}
		if enc != nil && enc.observe != nil && !enc.complete {
			close(enc.observe)
		}
	}
}

// announce adds the piece's node to the segment.
func (enc *encoding) announce(p *piece) error {
	seg := enc.segment
	name := p.path[strings.LastIndexByte(p.path, '/')+1:]
	if p.path == "." {
		name = ""
	}
	enc.leave(p.up)
	index := seg.nodes.len()
	n, err := newNode(p.info, p.link)
	if err == nil {
		n.parent, n.end = enc.dir, index+1
		err = seg.addNode(n, name, p.link)
	}
	if err != nil {
		return &SourceError{"encode", enc.tree.Name, join(enc.tree.root, p.path), err}
	}
	if n.kind == typeDir {
		enc.dir = index
	}
	return nil
}

// leave closes n directories.
func (enc *encoding) leave(n int) {
	for ; n > 0 && enc.dir != none; n-- {
		dir := enc.segment.nodes.at(enc.dir)
		dir.end = enc.segment.nodes.len()
		enc.dir = dir.parent
	}
}

// units yields the blocks that are complete with piece p.
func (s *splitter) units(p *piece, yield func(unit, error) bool) bool {
	enc := p.enc
	if p.end {
		for enc.dir != none {
			enc.leave(1)
		}
		enc.complete = true
		if enc.observe != nil {
			close(enc.observe)
		}
		return s.flush(enc, yield) && yield(unit{enc: enc, end: true}, nil)
	}
	if p.buf == nil {
		return true
	}
	n := enc.segment.nodes.at(enc.segment.nodes.len() - 1)
	if len(p.buf.data) == s.e.blockSize {
		if p.off == 0 {
			n.extent = enc.count
			enc.count++
		}
		last := n.size-p.off < 2*int64(s.e.blockSize)
		return yield(unit{enc: enc, raw: p.buf.data, buf: p.buf, used: len(p.buf.data), last: last}, nil)
	}
	ok := s.tail(enc, n, p.buf.data, yield)
	s.e.buffers.release(p.buf)
	return ok
}

// tail puts the last bytes of node n into a fragment block.
// One that the block holds already is not put there again.
func (s *splitter) tail(enc *encoding, n *node, data []byte, yield func(unit, error) bool) bool {
	key := tailKey{len(data), crc32.Checksum(data, castagnoli)}
	if at, ok := enc.tails[key]; ok && bytes.Equal((*enc.frag)[at:int(at)+len(data)], data) {
		n.frag, n.offset = enc.nfrag, at
		enc.fill += len(data)
		return true
	}
	if enc.frag != nil && len(*enc.frag)+len(data) > s.e.blockSize && !s.flush(enc, yield) {
		return false
	}
	if enc.frag == nil {
		enc.frag = s.e.scratch.Get().(*[]byte)
	}
	n.frag, n.offset = enc.nfrag, uint32(len(*enc.frag))
	if _, ok := enc.tails[key]; !ok {
		enc.tails[key] = n.offset
	}
	*enc.frag = append(*enc.frag, data...)
	enc.fill += len(data)
	return true
}

// flush yields the fragment block that is being filled, if there is one.
func (s *splitter) flush(enc *encoding, yield func(unit, error) bool) bool {
	if enc.frag == nil {
		return true
	}
	u := unit{enc: enc, raw: *enc.frag, frag: enc.frag, used: enc.fill, last: true}
	enc.frag, enc.fill = nil, 0
	enc.nfrag++
	enc.count++
	clear(enc.tails)
	return yield(u, nil)
}
