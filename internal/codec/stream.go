package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A Stream makes pieces that can be put one after another:
// gzip members, or zstd frames, which readers of these formats take for one stream.
// It must not be shared by goroutines.
type Stream interface {
	// Append compresses src to a piece that stands alone, and appends it to dst.
	Append(dst, src []byte) ([]byte, error)
	// Expand appends the contents of one piece to dst.
	// What is larger than the room that dst has left is an error.
	Expand(dst, src []byte) ([]byte, error)
}

// NewStream returns a Stream for pieces of at most size bytes.
// There are streams of gzip, zstd, zstd-go and none. Level 0 means the default.
func (c *Codec) NewStream(level, size int) (Stream, error) {
	if level == 0 {
		level = c.Default
	} else if err := c.checkLevel(level); err != nil {
		return nil, err
	}
	switch c.Name {
	case "gzip":
		w, err := gzip.NewWriterLevel(nil, level)
		return &gzipStream{w: w}, err
	case "zstd", "zstd-go":
		comp, err := c.newCompressor(level, size)
		return &zstdStream{comp: comp}, err
	case "none":
		return plain{}, nil
	}
	return nil, fmt.Errorf("%s is not a format of streams", c.Name)
}

// errLong reports a piece that is larger than it should be.
var errLong = errors.New("the piece is longer than it was")

type plain struct{}

func (plain) Append(dst, src []byte) ([]byte, error) { return append(dst, src...), nil }

func (plain) Expand(dst, src []byte) ([]byte, error) {
	if len(src) > cap(dst)-len(dst) {
		return dst, errLong
	}
	return append(dst, src...), nil
}

// The header of a gzipStream's members has no name, no time, and 255, "unknown", for the system.
type gzipStream struct {
	w  *gzip.Writer
	r  gzip.Reader
	in bytes.Reader
}

// appender is a writer that appends to a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

func (s *gzipStream) Append(dst, src []byte) ([]byte, error) {
	out := &appender{dst}
	s.w.Reset(out)
	_, err := s.w.Write(src)
	if err == nil {
		err = s.w.Close()
	}
	return out.b, err
}

func (s *gzipStream) Expand(dst, src []byte) ([]byte, error) {
	s.in.Reset(src)
	if err := s.r.Reset(&s.in); err != nil {
		return dst, err
	}
	s.r.Multistream(false)
	n := len(dst)
	for {
		if n == cap(dst) { // room for the end only
			var b [1]byte
			if m, err := s.r.Read(b[:]); m > 0 || err != io.EOF {
				return dst, errors.Join(err, errLong)
			}
			break
		}
		m, err := s.r.Read(dst[n:cap(dst)])
		if n += m; err == io.EOF {
			break
		} else if err != nil {
			return dst, err
		}
	}
	if s.in.Len() > 0 {
		return dst, errors.New("something follows the gzip member")
	}
	return dst[:n], nil
}

// Frames have no checksum: they lie in files whose digests are known.
type zstdStream struct {
	comp Compressor
	dec  *zstd.Decoder
}

func (s *zstdStream) Append(dst, src []byte) ([]byte, error) {
	room := dst[len(dst):len(dst):cap(dst)]
	if bound := len(src) + len(src)/128 + 1024; cap(room) < bound {
		room = make([]byte, 0, bound)
	}
	out, err := s.comp.Compress(room, src)
	if err != nil {
		return dst, err
	}
	if out == nil {
		return storedFrame(dst, src), nil
	}
	return append(dst, out...), nil
}

// storedFrame appends a zstd frame of raw blocks: RFC 8878, section 3.1.1.
func storedFrame(dst, src []byte) []byte {
	const maxBlock = 128 << 10
	// A single segment, so the window is its size, which takes four bytes.
	n := len(src)
	dst = append(dst, 0x28, 0xb5, 0x2f, 0xfd, 0xa0, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	for {
		b := src[:min(len(src), maxBlock)]
		src = src[len(b):]
		h := len(b) << 3
		if len(src) == 0 {
			h |= 1
		}
		dst = append(append(dst, byte(h), byte(h>>8), byte(h>>16)), b...)
		if len(src) == 0 {
			return dst
		}
	}
}

func (s *zstdStream) Expand(dst, src []byte) ([]byte, error) {
	if s.dec == nil {
		var err error
		s.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return dst, err
		}
	}
	return s.dec.DecodeAll(src, dst)
}
