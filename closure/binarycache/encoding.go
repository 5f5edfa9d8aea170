package binarycache

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zlib"
)

// maxEncodings is how many times a server may compress one file.
const maxEncodings = 2

// parseEncoding reads the header Content-Encoding: what has been done to a file, in this order.
// The names are those of [buffers.decoder], and "deflate".
func parseEncoding(header []string) ([]string, error) {
	var list []string
	for name := range strings.SplitSeq(strings.Join(header, ","), ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		switch name {
		case "", "identity":
			continue
		case "x-gzip":
			name = "gzip"
		case "gzip", "br", "zstd", "deflate":
		default:
			return nil, fmt.Errorf("the server sends it with encoding %q, which is none of gzip, br, zstd and deflate", shorten(name))
		}
		list = append(list, name)
	}
	if len(list) > maxEncodings {
		return nil, fmt.Errorf("the server sends it with %d encodings, more than %d", len(list), maxEncodings)
	}
	return list, nil
}

// decode returns a reader of a file that was sent with encodings.
// How much it may give is for its reader to say.
func decode(encodings []string, file io.Reader) io.Reader {
	for _, name := range slices.Backward(encodings) {
		raw := &errorReader{r: file}
		file = &decoding{name: name, raw: raw, in: bufio.NewReader(raw)}
	}
	return file
}

// A decoding takes back one encoding.
type decoding struct {
	name string
	raw  *errorReader
	in   *bufio.Reader // of raw
	out  io.Reader     // nil: it has not begun
	err  error
}

func (d *decoding) Read(p []byte) (n int, err error) {
	if d.err != nil {
		return 0, d.err
	}
	defer func() {
		if r := recover(); r != nil { // see unpacker
			n, err = 0, fmt.Errorf("panic: %v", r)
		}
		switch {
		case d.raw.err != nil && err != nil && err != io.EOF:
			err = d.raw.err
		case err != nil && err != io.EOF:
			err = fmt.Errorf("encoding %s: %w", d.name, err)
		}
		d.err = err
	}()
	if d.out == nil {
		if d.out, err = d.begin(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	return d.out.Read(p)
}

func (d *decoding) begin() (io.Reader, error) {
	if d.name != "deflate" {
		r, _, err := new(buffers).decoder(d.name, d.in)
		return r, err
	}
	// It should have the two bytes of zlib before it. Some servers leave them out.
	b, err := d.in.Peek(2)
	if err != nil {
		return nil, err
	}
	if b[0]&0xf == 8 && (int(b[0])<<8|int(b[1]))%31 == 0 {
		return zlib.NewReader(d.in)
	}
	return flate.NewReader(d.in), nil
}
