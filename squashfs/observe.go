package squashfs

import (
	"io/fs"

	"github.com/nix2img/nix2img/internal/par"
)

// An observation is one call of an Observer.
type observation struct {
	path string
	info fs.FileInfo
	link string
	buf  *buffer
}

// show passes a piece on to the tree's observer, which works on a goroutine of its own:
// hashing a tree takes longer than reading it.
func (s *splitter) show(p *piece) {
	enc := p.enc
	if enc.tree.Observer == nil || p.end {
		return
	}
	if enc.observe == nil {
		enc.observe = make(chan observation, 64)
		s.observers.Go(func() {
			defer par.Recover()
			enc.verdict <- s.watch(enc)
		})
	}
	if p.buf != nil {
		s.e.buffers.retain(p.buf)
	}
	enc.observe <- observation{p.path, p.info, p.link, p.buf}
}

func (s *splitter) watch(enc *encoding) error {
	o := enc.tree.Observer
	var err error
	for step := range enc.observe {
		if err == nil && step.info != nil {
			err = o.Node(step.path, step.info, step.link)
		}
		if step.buf != nil {
			if err == nil {
				_, err = o.Write(step.buf.data)
			}
			s.e.buffers.release(step.buf)
		}
	}
	if err == nil && enc.complete {
		err = o.Close()
	}
	return err
}
