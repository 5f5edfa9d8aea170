package squashfs

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"sort"
)

// Segment takes a tree out of an image of this package: the segment that it was encoded as,
// and the segment's data, which are still read from the image.
// name is where the tree lies.
//
// It undoes what [Write] does to segments: data that the tree shares with others are found where they are.
// The image must have been written with the same [SegmentVersion],
// and name must be the place of a tree with which no other was merged.
// Otherwise the result is of no use, or an error.
func (fsys *FS) Segment(name string) (*Segment, io.ReaderAt, error) {
	r := reclaimer{
		fsys: fsys,
		seg:  &Segment{codec: fsys.super.Compression, blockSize: fsys.super.BlockSize},
		data: scattered{fsys: fsys},
		frag: noFragment,
	}
	info, err := fsys.Lstat(name)
	if err == nil {
		err = r.node(name, "", info, none)
	}
	if err == nil {
		err = r.flush()
	}
	if err == nil {
		err = r.seg.check()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("squashfs: take segment of %q: %w", name, err)
	}
	return r.seg, &r.data, nil
}

// A reclaimer goes the way of the encoder again.
type reclaimer struct {
	fsys *FS
	seg  *Segment
	data scattered
	frag uint32 // fragment block of the tails read last, or noFragment
}

func (r *reclaimer) node(name, base string, info fs.FileInfo, parent int32) error {
	target := ""
	if info.Mode().Type() == fs.ModeSymlink {
		var err error
		if target, err = r.fsys.ReadLink(name); err != nil {
			return err
		}
	}
	n, err := newNode(info, target)
	if err != nil {
		return err
	}
	n.parent = parent
	if n.kind == typeFile {
		if err := r.contents(&n, &info.(*fileInfo).inode); err != nil {
			return err
		}
	}
	index := r.seg.nodes.len()
	if err := r.seg.addNode(n, base, target); err != nil {
		return err
	}
	if n.kind == typeDir {
		list, err := r.fsys.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range list {
			info, err := e.Info()
			if err != nil {
				return err
			}
			if err := r.node(join(name, e.Name()), e.Name(), info, index); err != nil {
				return err
			}
		}
	}
	r.seg.nodes.at(index).end = r.seg.nodes.len()
	return nil
}

func (r *reclaimer) contents(n *node, in *inode) error {
	c := r.fsys.contents(in)
	if c.blocks.count > 0 {
		n.extent = int32(len(r.seg.extents))
		r.seg.begin(false)
		for i := range c.blocks.count {
			key, err := c.blocks.find(i)
			if err != nil {
				return err
			}
			if err := r.block(key); err != nil {
				return err
			}
		}
	}
	if c.frag == noFragment {
		return nil
	}
	if c.frag != r.frag {
		if err := r.flush(); err != nil {
			return err
		}
		r.frag = c.frag
	}
	n.frag, n.offset = int32(len(r.seg.frags)), uint32(c.offset)
	return nil
}

// flush adds the fragment block of the tails read last.
func (r *reclaimer) flush() error {
	if r.frag == noFragment {
		return nil
	}
	b, err := r.fsys.record(&r.fsys.frags, r.frag)
	if err != nil {
		return err
	}
	r.seg.begin(true)
	return r.block(blockKey{int64(le.Uint64(b)), le.Uint32(b[8:])})
}

// block adds a block to the newest extent.
func (r *reclaimer) block(key blockKey) error {
	b := block{size: key.size}
	if b.len() > int64(r.seg.blockSize) {
		return corrupt("data block at %d has %d bytes", key.pos, b.len())
	}
	if b.size != 0 {
		p := make([]byte, b.len())
		if err := r.fsys.readAt(p, key.pos); err != nil {
			return err
		}
		b.sum = crc32.Checksum(p, castagnoli)
		r.data.add(key.pos, b.len())
	}
	r.seg.add(b)
	return nil
}

// scattered is data that lie in several places of an image.
type scattered struct {
	fsys  *FS
	spots []scatteredSpot
	size  int64
}

type scatteredSpot struct{ off, pos int64 }

// add appends n bytes that lie at pos.
func (s *scattered) add(pos, n int64) {
	if k := len(s.spots) - 1; k < 0 || s.spots[k].pos+s.size-s.spots[k].off != pos {
		s.spots = append(s.spots, scatteredSpot{s.size, pos})
	}
	s.size += n
}

func (s *scattered) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("squashfs: read segment: negative offset")
	}
	for n < len(p) {
		if off >= s.size {
			return n, io.EOF
		}
		k := sort.Search(len(s.spots), func(i int) bool { return s.spots[i].off > off }) - 1
		end := s.size
		if k+1 < len(s.spots) {
			end = s.spots[k+1].off
		}
		m := int(min(int64(len(p)-n), end-off))
		if err := s.fsys.readAt(p[n:n+m], s.spots[k].pos+off-s.spots[k].off); err != nil {
			return n, err
		}
		n, off = n+m, off+int64(m)
	}
	return n, nil
}
