package binarycache

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/nix2img/nix2img/closure"
)

// Ways in which a path can follow from contents.
const (
	caRecursive = "fixed:r:" // from the NAR
	caFlat      = "fixed:"   // from the one file that the object consists of
	caText      = "text:"    // as well, and from its references
)

// checkCA returns nil if the store path follows from the hash in the field CA.
// That the contents have this hash remains to be checked: see contentHash.
//
// Paths are made as the function makeStorePath of Nix makes them:
// they begin with 160 bits, folded, of the SHA-256 of
//
//	TYPE:sha256:HASH:STOREDIR:NAME
//
// with TYPE "source" or "text", followed by a colon before each reference, and for flat files "output:out".
func (n *NARInfo) checkCA() error {
	method, want, err := n.contentAddress()
	if err != nil {
		return err
	}
	kind, inner := "", want[:]
	switch method {
	case caRecursive:
		kind = "source"
		if n.NARHash != want {
			return errors.New("the hash in CA is not that of the NAR")
		}
	case caText:
		kind = "text"
	case caFlat:
		if len(n.References) > 0 {
			return errors.New("an object of a flat hash has references")
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "fixed:out:sha256:%x:", want[:]))
		kind, inner = "output:out", sum[:]
	}
	for _, ref := range n.References {
		if ref == n.Path {
			return errors.New("a content-addressed object refers to itself") // its hash would be of another text
		}
		kind += ":" + string(ref)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s:sha256:%x:%s:%s", kind, inner, n.Path.Dir(), n.Path.Name()))
	if digest(sum) != n.Path.Digest() {
		return errors.New("the path does not follow from the hash in CA")
	}
	return nil
}

// contentAddress takes the field CA apart.
func (n *NARInfo) contentAddress() (method string, h closure.Hash, err error) {
	for _, method := range []string{caRecursive, caFlat, caText} {
		if text, ok := strings.CutPrefix(n.CA, method); ok {
			if !strings.HasPrefix(text, "sha256:") {
				return "", h, errors.New("a content address of another hash than SHA-256")
			}
			h, err := closure.ParseHash(text)
			return method, h, err
		}
	}
	return "", h, errors.New("no content address")
}

// digest writes 160 bits in Nix's base 32.
func digest(sum [sha256.Size]byte) string {
	const alphabet, digits = "0123456789abcdfghijklmnpqrsvwxyz", 32
	var b [20]byte
	for i, c := range sum {
		b[i%len(b)] ^= c
	}
	var s [digits]byte
	for i := range s {
		bit := 5 * (digits - 1 - i)
		v := uint(b[bit/8]) >> (bit % 8)
		if bit/8+1 < len(b) {
			v |= uint(b[bit/8+1]) << (8 - bit%8)
		}
		s[i] = alphabet[v&31]
	}
	return string(s[:])
}

// flatHead is where the contents of a NAR of one file, not executable, begin; their length is before them.
const flatHead = 96

// A flatHash computes the hash of the one file in a NAR that is written to it.
type flatHash struct {
	hash.Hash
	head [flatHead]byte
	pos  int64
	end  int64 // of the contents
}

func (f *flatHash) Write(p []byte) (int, error) {
	n := len(p)
	if f.pos < flatHead {
		m := copy(f.head[f.pos:], p)
		f.pos += int64(m)
		p = p[m:]
		if f.pos == flatHead {
			f.end = flatHead + int64(binary.LittleEndian.Uint64(f.head[flatHead-8:]))
		}
	}
	if left := f.end - f.pos; left > 0 && len(p) > 0 {
		f.Hash.Write(p[:min(left, int64(len(p)))])
	}
	f.pos += int64(len(p))
	return n, nil
}
