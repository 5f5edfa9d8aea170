package closure

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// Hash is the SHA-256 of an object's NAR serialisation.
// The zero Hash stands for one that is not known.
type Hash [sha256.Size]byte

// ParseHash reads a SHA-256 in any of the spellings that Nix uses:
//
//	sha256-M/CloPpjI9vXIkI5Tjum5Xmsn/UoiLHLFuDO9hf5FVQ=                      base 64 (SRI)
//	sha256:0m0mz4bzdkp02v5v3218yngsqyg5lqxlwfa24bbxn8v3zahabw1k              base 32
//	sha256:33f0a5a0fa6323dbd72242394e3ba6e579ac9ff52888b1cb16e0cef617f91554  base 16
//
// The last two are also read without their prefix.
// Errors are of type [*SyntaxError].
func ParseHash(s string) (Hash, error) {
	if text, ok := strings.CutPrefix(s, "sha256-"); ok {
		return parseBase64(s, text)
	}
	text, ok := strings.CutPrefix(s, "sha256:")
	if !ok && strings.ContainsAny(s, ":-") {
		return Hash{}, hashError(s, "not a SHA-256")
	}
	switch len(text) {
	case hex.EncodedLen(sha256.Size):
		var h Hash
		if _, err := hex.Decode(h[:], []byte(text)); err != nil {
			return Hash{}, hashError(s, "contains a character that is not a hexadecimal digit")
		}
		return h, nil
	case base32Len:
		return parseBase32(s, text)
	case base64.StdEncoding.EncodedLen(sha256.Size):
		return parseBase64(s, text)
	}
	return Hash{}, hashError(s, "has neither 64 hexadecimal digits, 52 of base 32, nor 44 characters of base 64")
}

// IsZero reports whether the hash is not known.
func (h Hash) IsZero() bool { return h == Hash{} }

// String returns the SRI spelling, "sha256-" and base 64, or "" for the zero Hash.
func (h Hash) String() string {
	if h.IsZero() {
		return ""
	}
	return "sha256-" + base64.StdEncoding.EncodeToString(h[:])
}

// Base32 returns the spelling of registrations and binary caches:
// "sha256:" and 52 digits of Nix's base 32.
func (h Hash) Base32() string {
	var digits [base32Len]byte
	for i := range digits {
		bit := 5 * (base32Len - 1 - i)
		n := uint(h[bit/8]) >> (bit % 8)
		if bit/8+1 < len(h) {
			n |= uint(h[bit/8+1]) << (8 - bit%8)
		}
		digits[i] = base32Alphabet[n&31]
	}
	return "sha256:" + string(digits[:])
}

// MarshalText returns what [Hash.String] does.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what [ParseHash] does, and the empty text as the zero Hash.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*h = Hash{}
		return nil
	}
	parsed, err := ParseHash(string(text))
	if err == nil {
		*h = parsed
	}
	return err
}

func parseBase64(s, text string) (Hash, error) {
	// A byte more than a Hash, because DecodedLen counts the padding.
	var buf [sha256.Size + 1]byte
	if len(text) != base64.StdEncoding.EncodedLen(sha256.Size) {
		return Hash{}, hashError(s, "does not have 44 characters of base 64")
	}
	n, err := base64.StdEncoding.Strict().Decode(buf[:], []byte(text))
	if err != nil || n != sha256.Size || strings.ContainsAny(text, "\r\n") {
		return Hash{}, hashError(s, "is not 32 bytes in base 64")
	}
	return Hash(buf[:sha256.Size]), nil
}

// Nix's base 32 has no e, o, t and u.
// It reads the bytes as one number, the first byte being the lowest,
// and writes its digits from the highest to the lowest, without padding.
const (
	base32Alphabet = "0123456789abcdfghijklmnpqrsvwxyz"
	base32Len      = (8*sha256.Size + 4) / 5 // digits of a Hash
)

// base32Digit has the value of each digit, and -1 for all other bytes.
var base32Digit = func() (value [256]int8) {
	for i := range value {
		value[i] = int8(strings.IndexByte(base32Alphabet, byte(i)))
	}
	return value
}()

func parseBase32(s, text string) (Hash, error) {
	var h Hash
	for i := range len(text) {
		value := base32Digit[text[i]]
		if value < 0 {
			return Hash{}, hashError(s, "contains a character that is not a base 32 digit")
		}
		bit := 5 * (base32Len - 1 - i)
		n := uint(value) << (bit % 8)
		h[bit/8] |= byte(n)
		if bit/8+1 < len(h) {
			h[bit/8+1] |= byte(n >> 8)
		} else if n>>8 != 0 {
			return Hash{}, hashError(s, "is greater than 256 bits can be")
		}
	}
	return h, nil
}

func hashError(s, reason string) error {
	return &SyntaxError{What: "hash", Text: s, Reason: reason}
}
