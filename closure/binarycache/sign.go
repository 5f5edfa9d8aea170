package binarycache

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// DefaultKey is the key of cache.nixos.org, which Nix trusts unless told otherwise.
const DefaultKey = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="

// A PublicKey checks the signatures that its owner has made.
type PublicKey struct {
	Name string
	Key  ed25519.PublicKey
}

// ParsePublicKey reads a key as nix.conf has it: a name, a colon, and 32 bytes in base 64.
func ParsePublicKey(s string) (PublicKey, error) {
	name, key, err := named(s, ed25519.PublicKeySize)
	if err != nil {
		return PublicKey{}, fmt.Errorf("binarycache: parse public key %q: %w", shorten(s), err)
	}
	return PublicKey{name, key}, nil
}

// A Signature says who has signed, and how.
type Signature struct {
	Name string // of the key
	Sig  []byte
}

// ParseSignature reads a name, a colon, and 64 bytes in base 64.
func ParseSignature(s string) (Signature, error) {
	name, sig, err := named(s, ed25519.SignatureSize)
	if err != nil {
		return Signature{}, fmt.Errorf("binarycache: parse signature %q: %w", shorten(s), err)
	}
	return Signature{name, sig}, nil
}

func (s Signature) String() string {
	return s.Name + ":" + base64.StdEncoding.EncodeToString(s.Sig)
}

func named(s string, size int) (string, []byte, error) {
	name, text, ok := strings.Cut(s, ":")
	if !ok || name == "" {
		return "", nil, errors.New("want a name, a colon, and base 64")
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != size {
		return "", nil, fmt.Errorf("want %d bytes in base 64 after the colon", size)
	}
	return name, b, nil
}

// Trust says whose word is taken for what an object contains.
type Trust struct {
	Keys []PublicKey
	// All takes anybody's.
	All bool
}

// ParseTrust returns the trust in the owners of public keys: see [ParsePublicKey].
func ParseTrust(keys ...string) (t Trust, err error) {
	for _, text := range keys {
		key, err := ParsePublicKey(text)
		if err != nil {
			return Trust{}, err
		}
		t.Keys = append(t.Keys, key)
	}
	return t, nil
}

// A SignatureError says why an object cannot be trusted.
type SignatureError struct{ Reason string }

func (e *SignatureError) Error() string { return e.Reason }

// Check returns a [*SignatureError] if an object cannot be trusted.
// A nil Trust takes nobody's word, but what follows from a hash of the contents.
func (t *Trust) Check(n *NARInfo) error {
	switch {
	case n == nil:
		return &SignatureError{"there is no narinfo"}
	case n.checkCA() == nil:
		return nil
	case t == nil:
		t = new(Trust)
	}
	if t.All {
		return nil
	}
	if len(n.Sigs) == 0 && len(n.OtherSigs) > 0 {
		_, err := ParseSignature(n.OtherSigs[0])
		return &SignatureError{fmt.Sprintf("it is not signed in a form that is known: %v", err)}
	}
	if len(n.Sigs) == 0 {
		return &SignatureError{"it is not signed"}
	}
	fingerprint := []byte(n.Fingerprint())
	var unknown []string
	for _, sig := range n.Sigs {
		known := false
		for _, k := range t.Keys {
			if k.Name == sig.Name && len(k.Key) == ed25519.PublicKeySize {
				known = true
				if ed25519.Verify(k.Key, fingerprint, sig.Sig) {
					return nil
				}
			}
		}
		if !known {
			unknown = append(unknown, shorten(sig.Name))
		}
	}
	if len(unknown) == len(n.Sigs) {
		return &SignatureError{"it is signed by " + strings.Join(unknown[:min(len(unknown), 5)], ", ") + ", and by no key that is trusted"}
	}
	return &SignatureError{"its signature is wrong: it was signed with other contents or references"}
}
