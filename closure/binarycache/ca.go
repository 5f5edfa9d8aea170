package binarycache

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// A contentAddress is the field CA, taken apart.
type contentAddress struct {
	method string // one of the following
	algo   string // name of a hash function
	new    func() hash.Hash
	sum    []byte
}

// Ways in which a path can follow from contents.
const (
	caRecursive = "fixed:r:" // from the NAR
	caFlat      = "fixed:"   // from the one file that the object consists of
	caText      = "text:"    // as well, and from its references
)

// hashes are those that Nix knows. The weak ones are for old files whose authors have published nothing else:
// to have other contents with the same hash takes more than a collision of two contents that somebody chose.
var hashes = map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

// contentAddress takes the field CA apart.
func (n *NARInfo) contentAddress() (*contentAddress, error) {
	for _, method := range []string{caRecursive, caFlat, caText} {
		text, ok := strings.CutPrefix(n.CA, method)
		if !ok {
			continue
		}
		algo, digits, _ := strings.Cut(text, ":")
		ca := &contentAddress{method, algo, hashes[algo], nil}
		if ca.new == nil || method == caText && algo != "sha256" {
			return nil, errors.New("a content address of an unknown kind")
		}
		if ca.sum = parseDigits(digits, ca.new().Size()); ca.sum == nil {
			return nil, errors.New("a content address that is no hash")
		}
		return ca, nil
	}
	return nil, errors.New("no content address")
}

// checkCA returns nil if the store path follows from the hash in the field CA.
// That the contents have this hash remains to be checked: see contentHash.
//
// Paths are made as the function makeStorePath of Nix makes them:
// they begin with 160 bits, folded, of the SHA-256 of
//
//	TYPE:sha256:HASH:STOREDIR:NAME
//
// For texts, and for the SHA-256 of a NAR, HASH is the one in CA, and TYPE is "text" or "source",
// followed by a colon and a path for each reference, and by ":self" if there is one to the object itself.
// For all others, which have no references, TYPE is "output:out", and HASH that of a text with the one in CA.
func (n *NARInfo) checkCA() error {
	ca, err := n.contentAddress()
	if err != nil {
		return err
	}
	kind, inner := "", ca.sum
	switch self := n.refersToItself(); {
	case ca.method == caText && !self:
		kind = "text"
	case ca.method == caRecursive && ca.algo == "sha256":
		if !self && !bytes.Equal(n.NARHash[:], ca.sum) {
			return errors.New("the hash in CA is not that of the NAR")
		}
		kind = "source"
	case len(n.References) == 0:
		sum := sha256.Sum256(fmt.Appendf(nil, "fixed:out:%s%s:%x:", strings.TrimPrefix(ca.method, caFlat), ca.algo, ca.sum))
		kind, inner = "output:out", sum[:]
	default:
		return errors.New("an object of such a content address cannot have these references")
	}
	for _, ref := range n.References {
		if ref != n.Path {
			kind += ":" + string(ref)
		}
	}
	if n.refersToItself() {
		kind += ":self"
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s:sha256:%x:%s:%s", kind, inner, n.Path.Dir(), n.Path.Name()))
	if digest(sum) != n.Path.Digest() {
		return errors.New("the path does not follow from the hash in CA")
	}
	return nil
}

func (n *NARInfo) refersToItself() bool { return slices.Contains(n.References, n.Path) }

// contentHash returns what computes, from the NAR, the hash that the path follows from;
// or nil if that is the NAR hash itself, or if the path follows from no hash.
func (n *NARInfo) contentHash() hash.Hash {
	ca, err := n.contentAddress()
	switch {
	case err != nil || n.checkCA() != nil:
		return nil
	case ca.method != caRecursive:
		return &flatHash{Hash: ca.new()}
	case n.refersToItself():
		return &moduloHash{Hash: ca.new(), digest: []byte(n.Path.Digest())}
	case ca.algo == "sha256":
		return nil
	}
	return ca.new()
}

const alphabet = "0123456789abcdfghijklmnpqrsvwxyz" // of Nix's base 32

// digest writes 160 bits in Nix's base 32.
func digest(sum [sha256.Size]byte) string {
	const digits = 32
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

// parseDigits reads a hash of so many bytes, in base 16, 32 or 64. It returns nil if the text is none.
func parseDigits(text string, size int) []byte {
	digits := (8*size + 4) / 5
	if len(text) != digits {
		decode := hex.DecodeString
		if len(text) != hex.EncodedLen(size) {
			decode = base64.StdEncoding.DecodeString
		}
		if b, err := decode(text); err == nil && len(b) == size {
			return b
		}
		return nil
	}
	b := make([]byte, size+1)
	for i := range digits {
		v := strings.IndexByte(alphabet, text[i])
		if v < 0 {
			return nil
		}
		bit := 5 * (digits - 1 - i)
		b[bit/8] |= byte(v << (bit % 8))
		b[bit/8+1] |= byte(v << (bit % 8) >> 8)
	}
	if b[size] != 0 {
		return nil
	}
	return b[:size]
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

// A moduloHash computes the hash of a NAR that has the digest of its own path in it:
// with zeros in place of the digest, and followed by where those are, each as "|" and the decimal offset.
type moduloHash struct {
	hash.Hash
	digest []byte
	tail   []byte // in which a digest may have begun, so it has not been hashed yet
	pos    int    // of tail
	found  []byte
}

func (m *moduloHash) Write(p []byte) (int, error) {
	b := append(m.tail, p...)
	for at := 0; ; {
		i := bytes.Index(b[at:], m.digest)
		if i < 0 {
			break
		}
		at += i
		m.found = fmt.Appendf(m.found, "|%d", m.pos+at)
		clear(b[at : at+len(m.digest)])
	}
	done := max(0, len(b)-len(m.digest)+1)
	m.Hash.Write(b[:done])
	m.pos += done
	m.tail = append(m.tail[:0], b[done:]...)
	return len(p), nil
}

func (m *moduloHash) Sum(b []byte) []byte {
	m.Hash.Write(m.tail)
	m.Hash.Write(m.found)
	m.tail, m.found = nil, nil
	return m.Hash.Sum(b)
}
