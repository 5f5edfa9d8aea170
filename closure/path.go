package closure

import (
	"path"
	"strings"
)

// digestLen is the length of the digest in a store path: 160 bits in base 32.
const digestLen = 32

// maxName is the greatest length of a store path's name that Nix allows.
const maxName = 211

// Path is an absolute store path such as
// "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60".
// [ParsePath] makes one; its methods take it apart.
type Path string

// ParsePath returns s as a Path if it is one.
// The store directory may be any absolute path but the root directory itself.
// Errors are of type [*SyntaxError].
func ParsePath(s string) (Path, error) {
	dir, base, ok := cutBase(s)
	if !ok {
		return "", pathError(s, "not an absolute path below a store directory")
	}
	if err := checkDir(dir); err != "" {
		return "", pathError(s, err)
	}
	if err := checkBase(base); err != "" {
		return "", pathError(s, err)
	}
	return Path(s), nil
}

// JoinPath returns the path of the object with the given base name in a store directory.
func JoinPath(storeDir, base string) (Path, error) {
	if strings.Contains(base, "/") {
		return "", pathError(base, "not the base name of a store path")
	}
	return ParsePath(storeDir + "/" + base)
}

// Dir returns the store directory.
func (p Path) Dir() string {
	dir, _, _ := cutBase(string(p))
	return dir
}

// Base returns the path's last element: digest, "-" and name.
func (p Path) Base() string {
	_, base, _ := cutBase(string(p))
	return base
}

// Digest returns the 32 digits that tell objects of the same name apart.
// They say how the object was made, not what is in it: see [Hash].
func (p Path) Digest() string {
	base := p.Base()
	return base[:min(digestLen, len(base))]
}

// Name returns what follows the digest, such as "net-tools-1.60".
func (p Path) Name() string {
	base := p.Base()
	return base[min(digestLen+1, len(base)):]
}

func (p Path) String() string { return string(p) }

func cutBase(s string) (dir, base string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i <= 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// checkDir returns what is wrong with a store directory.
func checkDir(dir string) string {
	switch {
	case !path.IsAbs(dir) || dir == "/":
		return "the store directory is not an absolute path"
	case path.Clean(dir) != dir:
		return "the store directory has empty, . or .. elements"
	case strings.ContainsAny(dir, "\x00\n"):
		return "the store directory contains a control character"
	}
	return ""
}

// checkBase returns what is wrong with a base name.
func checkBase(base string) string {
	if len(base) < digestLen+2 || base[digestLen] != '-' {
		return "the base name is not a digest of 32 characters, - and a name"
	}
	for i := range digestLen {
		if base32Digit[base[i]] < 0 {
			return "the digest contains a character that is not a base 32 digit"
		}
	}
	name := base[digestLen+1:]
	if len(name) > maxName {
		return "the name is longer than 211 bytes"
	}
	first, _, _ := strings.Cut(name, "-")
	if first == "." || first == ".." {
		return "the name starts with a . or .. that nothing but - follows"
	}
	for i := range len(name) {
		if !nameByte(name[i]) {
			return "the name contains a character other than letters, digits and +-._?="
		}
	}
	return ""
}

func nameByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
		strings.IndexByte("+-._?=", c) >= 0
}

func pathError(s, reason string) error {
	return &SyntaxError{What: "store path", Text: s, Reason: reason}
}
