package gpu

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	bundleMagic     = "__CLANG_OFFLOAD_BUNDLE__"
	compressedMagic = "CCOB"
	bundleAlign     = 4096

	maxBundle  = 1024 // entries; about a dozen have been seen
	maxEntryID = 256  // bytes
)

// isBundle reports whether a bundle may begin here.
func isBundle(b []byte) bool {
	return len(b) >= 8 && (string(b[:8]) == bundleMagic[:8] || string(b[:4]) == compressedMagic && b[4] <= 3 && b[5] == 0)
}

// bundle reads the list at the begin of a ROCm bundle and adds its entries.
// It returns where the bundle ends, or 0 if it is none.
func (s *scanner) bundle(at int64) (stop int64, err error) {
	s.begin()
	head, err := s.view(at, 32)
	if err != nil {
		return 0, err
	}
	if len(head) < 24 {
		return 0, nil
	}
	if string(head[:4]) == compressedMagic {
		return s.compressedBundle(at, head)
	}
	rest := uint64(s.size - at)
	end, err := s.bundleList(io.NewSectionReader(s.r, at, s.size-at), rest)
	if err != nil {
		return 0, noBundle(err)
	}
	return at + int64(end), nil
}

// errBundle is about what turns out to be no bundle.
var errBundle = errors.New("no bundle")

func noBundle(err error) error {
	if errors.Is(err, errBundle) || err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

// bundleList reads the list of a bundle's entries.
// It returns the size of the bundle, which must not exceed limit.
func (s *scanner) bundleList(r io.Reader, limit uint64) (size uint64, err error) {
	var b [24 + maxEntryID]byte
	if _, err := io.ReadFull(r, b[:32]); err != nil {
		return 0, err
	}
	count := binary.LittleEndian.Uint64(b[24:])
	if string(b[:24]) != bundleMagic || count == 0 || count > maxBundle {
		return 0, errBundle
	}
	size = 32
	for range count {
		s.steps++
		if _, err := io.ReadFull(r, b[:24]); err != nil {
			return 0, err
		}
		offset, length := binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])
		idLen := binary.LittleEndian.Uint64(b[16:])
		if offset > limit || length > limit-offset || idLen > maxEntryID {
			return 0, errBundle
		}
		id := b[24:][:idLen]
		if _, err := io.ReadFull(r, id); err != nil {
			return 0, err
		}
		size = max(size, offset+length)
		switch target := hipTarget(string(id)); {
		case target != "":
			s.add(entry{kind: HIP, target: target})
		case !bytes.HasPrefix(id, []byte("host")):
			s.marks[MarkUnknown] = true
		}
	}
	return size, nil
}

// hipTarget returns what an entry of a bundle is for, if it is an AMD GPU: "gfx90a:xnack+" for instance.
// The ID is a kind, four elements of a triple and the target, with hyphens between them.
func hipTarget(id string) string {
	parts := strings.SplitN(id, "-", 6)
	if len(parts) < 6 || !strings.HasPrefix(parts[0], "hip") && parts[0] != "openmp" {
		return ""
	}
	if t := parts[5]; strings.HasPrefix(t, "gfx") || t == targetSPIRV {
		return strings.ToValidUTF8(t, "\uFFFD")
	}
	return ""
}

// targetSPIRV is code that is compiled for the GPU when the program starts.
const targetSPIRV = "amdgcnspirv"

// compressedBundle does the same for a bundle that is compressed as a whole. It has a header:
//
//	offset
//	0       "CCOB"
//	4       u16 version: 1, 2 or 3
//	6       u16 method: 0 zlib, 1 zstd
//	8       size of all, header included: not in version 1, u32 in 2, u64 in 3
//	then    size of the contents: u32 in versions 1 and 2, u64 in 3
//	then    u64 hash
func (s *scanner) compressedBundle(at int64, head []byte) (stop int64, err error) {
	version, method := binary.LittleEndian.Uint16(head[4:]), binary.LittleEndian.Uint16(head[6:])
	rest := uint64(s.size - at)
	var header int64
	total, contents := rest, uint64(0)
	switch {
	case version == 1:
		header, contents = 20, uint64(binary.LittleEndian.Uint32(head[8:]))
	case version == 2:
		header, total, contents = 24, uint64(binary.LittleEndian.Uint32(head[8:])), uint64(binary.LittleEndian.Uint32(head[12:]))
	case version == 3 && len(head) == 32:
		header, total, contents = 32, binary.LittleEndian.Uint64(head[8:]), binary.LittleEndian.Uint64(head[16:])
	default:
		return 0, nil
	}
	if total < uint64(header) || total > rest || method > 1 {
		return 0, nil
	}
	r, err := s.heads.open(method == 1, io.NewSectionReader(s.r, at+header, int64(total)-header))
	if err == nil {
		_, err = s.bundleList(r, contents)
	}
	if e := s.ctx.Err(); e != nil {
		return 0, e
	}
	if err != nil {
		s.begin()
		s.marks[MarkUnreadable] = true
	}
	if version == 1 {
		return at + header, nil // it does not say where it ends
	}
	return at + int64(total), nil
}

// headReader reads the begin of compressed data.
type headReader struct{ zstd *zstd.Decoder }

// zstdWindow is how far back zstd's decoder looks, in bytes.
const zstdWindow = 1 << 20

func (h *headReader) open(isZstd bool, r *io.SectionReader) (io.Reader, error) {
	if !isZstd {
		z, err := zlib.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.LimitReader(z, zstdWindow), nil
	}
	var b [zstd.HeaderMaxSize]byte
	n, err := r.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	var header zstd.Header
	if err := header.Decode(b[:n]); err != nil {
		return nil, err
	}
	if header.Skippable || header.DictionaryID != 0 {
		return nil, errBundle
	}
	// The window that the frame asks for may be as large as the bundle, and so would be the decoder's memory.
	// The first megabyte can refer to nothing before it, so a frame with a small window begins alike.
	small := []byte{0x28, 0xB5, 0x2F, 0xFD, 0, 10 << 3} // no size, no checksum; 2^(10+10)
	blocks := io.NewSectionReader(r, int64(header.HeaderSize), r.Size()-int64(header.HeaderSize))
	in := io.MultiReader(bytes.NewReader(small), blocks)
	if h.zstd == nil {
		h.zstd, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
	} else {
		err = h.zstd.Reset(in)
	}
	if err != nil {
		return nil, err
	}
	return io.LimitReader(h.zstd, zstdWindow), nil
}
