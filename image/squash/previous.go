package squash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/squashfs"
)

// Previous is an earlier image as a source of segments:
// what has not changed since need not be compressed again.
type Previous struct {
	fsys     *squashfs.FS
	encoding *image.Encoding
	places   map[closure.Hash]string // where in the image the object with a NAR hash lies
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
	p := &Previous{fsys: fsys, encoding: record.Squashfs, places: make(map[closure.Hash]string), trust: trust}
	for _, o := range record.Objects {
		p.places[o.NARHash] = place(o.Path)
	}
	return p, nil
}

func (p *Previous) segment(ctx context.Context, o closure.Object, e *image.Encoding) (*segment, error) {
	now, then := entryMeta{o.NARHash, *e}, entryMeta{o.NARHash, *p.encoding}
	name, ok := p.places[o.NARHash]
	if !ok || now.key() != then.key() {
		return nil, fs.ErrNotExist
	}
	found, data, err := p.fsys.Segment(name)
	if err != nil {
		return nil, fmt.Errorf("previous image: %w", err)
	}
	return &segment{
		Segment: found, object: o, data: data,
		close:   func() error { return nil },
		foreign: !p.trust,
	}, nil
}
