package gpu

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// findNames looks for names of libraries in the part of the window between two offsets.
func (s *scanner) findNames(from, to int64) {
	for _, e := range s.data {
		if a, b := max(from, e.from), min(to, e.to); a < b {
			s.namesIn(a, b)
		}
	}
}

func (s *scanner) namesIn(from, to int64) {
	b := s.buf[from-s.base : to-s.base]
	for i := 0; ; {
		dot := nextSO(b, i)
		if dot < 0 {
			return
		}
		i = dot + 3
		start, stop := dot, dot+3
		for start > 0 && dot-start < 64 && isNameByte(b[start-1]) {
			start--
		}
		for stop < len(b) && stop-dot < 64 && isNameByte(b[stop]) {
			stop++
		}
		if stop == len(b) || b[stop] != 0 {
			continue // not a string, or one that the next window has
		}
		if name := b[start:stop]; isGPULibrary(name) && len(s.names) < maxNames {
			s.names[string(name)] = true
		}
	}
}

// nextSO returns the first index of ".so" in b that is not less than i, or -1.
func nextSO(b []byte, i int) int {
	const (
		each = 0x0101010101010101
		high = 0x8080808080808080
	)
	word := binary.LittleEndian.Uint64
	for {
		k := bytes.IndexByte(b[i:], '.')
		if k < 0 {
			return -1
		}
		if k >= 64 || i+k+10 > len(b) {
			i += k
			if i+3 <= len(b) && b[i+1] == 's' && b[i+2] == 'o' {
				return i
			}
			i++
			continue
		}
		// Text is full of dots: look at some more places, eight at once, before the next search.
		for end := min(i+512, len(b)-9); i < end; i += 8 {
			c := (*[10]byte)(b[i:])
			// A byte of x is zero where there is a dot, and then where all three are as they should be.
			x := word(c[:]) ^ '.'*each
			if (x-each)&^x&high == 0 {
				continue
			}
			x |= (word(c[1:]) ^ 's'*each) | (word(c[2:]) ^ 'o'*each)
			if (x-each)&^x&high == 0 {
				continue
			}
			if k := bytes.Index(c[:], []byte(".so")); k >= 0 {
				return i + k
			}
		}
	}
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_' || c == '+'
}

// gpuLibraries are the beginnings of the names of libraries that have to do with GPUs.
var gpuLibraries = []string{
	"libcuda", "libnvidia-", "libnvcuvid.", "libnvoptix.", "libGLX_nvidia.", "libEGL_nvidia.", "libOpenCL.",
	"libnvrtc", "libnvJitLink.", "libnvvm.", "libcublas", "libcudnn", "libcufft", "libcurand.", "libcusolver", "libcusparse",
	"libnccl", "libnvinfer", "libcupti.", "libnvToolsExt.",
	"libvulkan.", "libEGL.", "libGL.", "libGLX.", "libze_loader.", "libze_intel_gpu.",
	"libamdhip64.", "libhsa-runtime64.", "libhiprtc", "libamd_comgr", "librocm_smi64.", "libamd_smi.", "libMIOpen.", "librocblas.",
}

func isGPULibrary(name []byte) bool {
	if len(name) < 4 || name[0] != 'l' || name[1] != 'i' || name[2] != 'b' {
		return false
	}
	return slices.ContainsFunc(gpuLibraries, func(prefix string) bool { return bytes.HasPrefix(name, []byte(prefix)) })
}
