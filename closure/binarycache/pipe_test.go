package binarycache

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"
)

// Whoever reads hears of a temporary file that could not be written, after what could be kept.
func TestPipeWithoutTemporaryFile(t *testing.T) {
	var b buffers
	p := newPipe(chunkSize, true, filepath.Join(t.TempDir(), "missing"), &b.chunks)
	data := bytes.Repeat([]byte("nix"), chunkSize)
	b.pump(p, bytes.NewReader(data))
	got, err := io.ReadAll(p)
	if e := (*SpoolError)(nil); !errors.As(err, &e) {
		t.Errorf("got %v, want a SpoolError", err)
	}
	if !bytes.Equal(got, data[:chunkSize]) {
		t.Errorf("got %d bytes", len(got))
	}
}
