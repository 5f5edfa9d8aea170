package squash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/squashfs"
)

// Previous is an earlier image as a [cache.Source] of segments:
// what has not changed since need not be compressed again.
type Previous struct {
	fsys     *squashfs.FS
	encoding *image.Encoding
	objects  map[cache.Key]previous // by the keys of their segments
	trust    bool
}

// ErrNoRecord is the reason why an image that nix2img has not made is no [Previous].
var ErrNoRecord = errors.New("it has no build record")

// OpenPrevious opens a squashfs that [Write] has written, for instance the partition of a SIF.
// Its segments are decoded and compared with the NAR hash before they are used,
// unless the image is trusted.
func OpenPrevious(r io.ReaderAt, trust bool) (*Previous, error) {
	fsys, err := squashfs.Open(r)
	if err != nil {
		return nil, err
	}
	f, err := fsys.Open(image.RecordPath)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNoRecord
	}
	if err != nil {
		return nil, fmt.Errorf("squash: previous image: %w", err)
	}
	defer f.Close()
	record, err := image.ReadRecord(f)
	if err == nil && record.Squashfs == nil {
		err = ErrNoRecord
	}
	if err != nil {
		return nil, fmt.Errorf("squash: previous image: %w", err)
	}
	p := &Previous{fsys: fsys, encoding: record.Squashfs, objects: make(map[cache.Key]previous), trust: trust}
	for _, o := range record.Objects {
		meta := &entryMeta{o.NARHash, *p.encoding}
		p.objects[meta.key()] = previous{meta, place(o.Path)}
	}
	return p, nil
}

// previous is an object of an earlier image.
type previous struct {
	meta  *entryMeta
	place string // where it lies
}

// Entry returns the segment with a key.
func (p *Previous) Entry(_ context.Context, k cache.Key) (*cache.Entry, error) {
	o, ok := p.objects[k]
	if !ok {
		return nil, fs.ErrNotExist
	}
	found, data, err := p.fsys.Segment(o.place)
	if err != nil {
		return nil, err
	}
	meta, err := o.meta.marshal(found)
	return &cache.Entry{Data: data, Size: found.Size(), Meta: meta}, err
}

// Trusted reports whether the image is.
func (p *Previous) Trusted() bool { return p.trust }

func (p *Previous) String() string { return "previous image" }
