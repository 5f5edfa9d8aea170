package binarycache

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nix2img/nix2img/closure"
)

// NARInfo describes a store object in a cache.
type NARInfo struct {
	closure.Object              // StorePath, NarHash, NarSize, References
	URL            string       // of the file with the NAR: absolute, or relative to the cache, or with a slash to its host
	Compression    string       // "xz", "zstd", "bzip2", ...; never empty
	FileHash       closure.Hash // SHA-256 of the file; zero: not known
	FileSize       int64        // bytes; 0: not known
	Deriver        string       // base name of the derivation, or empty
	Sigs           []Signature  // by whoever has vouched for it
	OtherSigs      []string     // those of a form that is not known, which count for nothing
	CA             string       // how the path follows from the contents; empty: it does not
}

// Limits of what a cache may say of an object, in bytes.
const (
	maxInfo    = 4 << 20
	maxNARSize = 1 << 50
)

// ParseNARInfo reads a narinfo about an object in the given store directory.
// Fields that are not known are ignored, as in Nix. Of a field that comes twice, the last counts;
// but References and CA, of which there must be one, and Sig, of which there may be any number.
func ParseNARInfo(storeDir string, text []byte) (*NARInfo, error) {
	n, err := parseNARInfo(storeDir, text)
	if err != nil {
		return nil, fmt.Errorf("binarycache: parse narinfo: %w", err)
	}
	return n, nil
}

func parseNARInfo(storeDir string, text []byte) (*NARInfo, error) {
	n := &NARInfo{}
	seen := make(map[string]bool)
	for key, value := range fields(text) {
		if key == "" {
			return nil, fmt.Errorf("line %q is not a key, a colon and a value", shorten(value))
		}
		if seen[key] && (key == "References" && len(n.References) > 0 || key == "CA" && n.CA != "") {
			return nil, fmt.Errorf("%s comes twice", key)
		}
		seen[key] = true
		if err := n.set(storeDir, key, value); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	for _, key := range []string{"StorePath", "URL", "NarHash", "NarSize"} {
		if !seen[key] {
			return nil, fmt.Errorf("%s is missing", key)
		}
	}
	if n.Compression == "" {
		n.Compression = "bzip2" // what there was before there was a choice
	}
	return n, nil
}

func (n *NARInfo) set(storeDir, key, value string) (err error) {
	switch key {
	case "StorePath":
		n.Path, err = closure.ParsePath(value)
		if err == nil && n.Path.Dir() != storeDir {
			err = fmt.Errorf("%s is not in %s", shorten(value), storeDir)
		}
	case "URL":
		n.URL, err = value, checkURL(value)
	case "Compression":
		n.Compression = value
	case "FileHash":
		n.FileHash, err = closure.ParseHash(value)
	case "FileSize":
		n.FileSize, err = parseSize(value)
	case "NarHash":
		n.NARHash, err = closure.ParseHash(value)
	case "NarSize":
		n.NARSize, err = parseSize(value)
		if err == nil && n.NARSize == 0 {
			err = errors.New("is 0") // the smallest NAR has more
		}
	case "References":
		for base := range strings.FieldsSeq(value) {
			p, err := closure.JoinPath(storeDir, base)
			if err != nil {
				return err
			}
			n.References = append(n.References, p)
		}
		slices.Sort(n.References)
		n.References = slices.Compact(n.References)
	case "Deriver":
		if value != "unknown-deriver" {
			n.Deriver = value
		}
	case "Sig":
		if sig, err := ParseSignature(value); err == nil {
			n.Sigs = append(n.Sigs, sig)
		} else if value != "" {
			n.OtherSigs = append(n.OtherSigs, value)
		}
	case "CA":
		n.CA = value
	}
	return err
}

// parseSize reads a number of bytes.
func parseSize(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > maxNARSize {
		return 0, fmt.Errorf("%q is not a number of bytes up to 2^50", shorten(s))
	}
	return int64(n), nil
}

// checkURL judges where a NAR is said to be.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no URL", shorten(s))
	case u.Scheme == "http" || u.Scheme == "https":
		return nil
	case u.Scheme != "" || u.Host != "" || u.Opaque != "" || !localPath(strings.TrimPrefix(u.Path, "/")):
		return fmt.Errorf("%q is neither a file of the cache nor on a web server", shorten(s))
	}
	return nil
}

// localPath reports whether a path cannot lead out of the directory that it starts from.
func localPath(p string) bool {
	return p != "" && p != "." && !path.IsAbs(p) && path.Clean(p) == p && p != ".." && !strings.HasPrefix(p, "../") &&
		!strings.ContainsAny(p, "\\\x00")
}

// Fingerprint returns the text that is signed.
func (n *NARInfo) Fingerprint() string {
	var b strings.Builder
	fmt.Fprintf(&b, "1;%s;%s;%d;", n.Path, n.NARHash.Base32(), n.NARSize)
	for i, ref := range n.References {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(string(ref))
	}
	return b.String()
}

// String returns the narinfo as a cache has it.
func (n *NARInfo) String() string {
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, value)
		}
	}
	line("StorePath", string(n.Path))
	line("URL", n.URL)
	line("Compression", n.Compression)
	if !n.FileHash.IsZero() {
		line("FileHash", n.FileHash.Base32())
	}
	if n.FileSize > 0 {
		line("FileSize", strconv.FormatInt(n.FileSize, 10))
	}
	line("NarHash", n.NARHash.Base32())
	line("NarSize", strconv.FormatInt(n.NARSize, 10))
	refs := make([]string, len(n.References))
	for i, ref := range n.References {
		refs[i] = ref.Base()
	}
	fmt.Fprintf(&b, "References: %s\n", strings.Join(refs, " "))
	line("Deriver", n.Deriver)
	for _, s := range n.Sigs {
		line("Sig", s.String())
	}
	for _, s := range n.OtherSigs {
		line("Sig", s)
	}
	line("CA", n.CA)
	return b.String()
}

// fields gives keys and values of a text, or no key and a line that has none.
func fields(text []byte) func(yield func(key, value string) bool) {
	return func(yield func(key, value string) bool) {
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			if line == "" {
				continue
			}
			key, value, ok := strings.Cut(line, ":")
			if !ok || key == "" {
				key, value = "", line
			}
			if !yield(key, strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// shorten makes hostile text fit for a message.
func shorten(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
