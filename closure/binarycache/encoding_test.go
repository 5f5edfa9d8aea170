package binarycache

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// FuzzDecode checks that whatever a server sends in whatever encoding has an end, which stays the same.
func FuzzDecode(f *testing.F) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write([]byte("StorePath: /nix/store/x\n"))
	w.Close()
	f.Add("gzip", packed.Bytes())
	f.Add("gzip, gzip", packed.Bytes())
	f.Add("", []byte("text"))
	f.Add("identity, X-GZIP", packed.Bytes()[:12])
	f.Add("br", []byte("\x0b\x02\x80text\x03"))
	f.Add("zstd", []byte("\x28\xb5\x2f\xfd\x04\x58\x21\x00\x00text"))
	f.Add("deflate", []byte("\x78\x9c\x2b\x49\xad\x28\x01\x00\x04\x5d\x01\xc1"))
	f.Add("deflate", []byte("\x2b\x49\xad\x28\x01\x00"))
	f.Add("rot13, br", []byte("x"))
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		list, err := parseEncoding(strings.Split(header, "\n"))
		if err != nil {
			return
		}
		if len(list) > maxEncodings {
			t.Fatalf("%q", list)
		}
		const most = 1 << 20
		r := decode(list, bytes.NewReader(body))
		n, err := io.Copy(io.Discard, io.LimitReader(r, most))
		if len(list) == 0 && (n != int64(len(body)) || err != nil) {
			t.Errorf("not encoded, and %d bytes, %v", n, err)
		}
		if n == most {
			return
		}
		if m, again := r.Read(make([]byte, 1)); m != 0 || again == nil || err != nil && again != err {
			t.Errorf("%d bytes, %v, then %d, %v", n, err, m, again)
		}
	})
}

// What goes wrong below an encoding is told as it is: it may pass.
func TestErrorsBelowEncodings(t *testing.T) {
	broken := errors.New("connection lost")
	for _, list := range [][]string{{"gzip"}, {"br"}, {"zstd"}, {"deflate"}, {"gzip", "br"}} {
		if _, err := io.ReadAll(decode(list, io.MultiReader(strings.NewReader("\x1f"), failing{broken}))); err != broken {
			t.Errorf("%q: %v", list, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
