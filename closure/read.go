package closure

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxInput bounds what ReadObjects reads, in bytes: a million objects.
const maxInput = 1 << 30

// ReadObjects reads descriptions of store objects, sorted by path,
// from any of the forms in which Nix writes them, which it tells apart by their content:
//
//   - JSON, as nix path-info --json --recursive prints it:
//     a list of objects (Nix 2.4 to 2.18, and Lix), a map from paths (from 2.19 on),
//     or a map with the key "info" and names instead of paths (formats 2 and 3, from 2.33 on);
//   - JSON, as a derivation with structured attributes gets it from exportReferencesGraph:
//     one list or all attributes, of which the lists of objects are taken;
//   - text, as nix-store --dump-db prints it, and the file registration of nixpkgs' closureInfo;
//   - text, as other derivations get it from exportReferencesGraph,
//     which has neither NAR hashes nor sizes.
//
// Facts that Nix adds for itself, such as signatures and times, are ignored.
// Objects that Nix says are not valid lead to a [*MissingError],
// malformed paths and hashes to a [*SyntaxError].
// That the objects are closed is for [New] to check.
func ReadObjects(r io.Reader) ([]Object, error) {
	if r == nil {
		return nil, errors.New("closure: read objects: nothing to read from")
	}
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("closure: read objects: %w", err)
	}
	objects, err := parseObjects(data)
	if err != nil {
		switch err.(type) {
		case *SyntaxError, *MissingError:
			return nil, err
		}
		return nil, fmt.Errorf("closure: read objects: %w", err)
	}
	for i := range objects {
		refs := objects[i].References
		slices.Sort(refs)
		objects[i].References = slices.Compact(refs)
	}
	slices.SortStableFunc(objects, func(a, b Object) int { return strings.Compare(string(a.Path), string(b.Path)) })
	return objects, nil
}

func parseObjects(data []byte) ([]Object, error) {
	if len(data) > maxInput {
		return nil, errors.New("more than 1 GiB")
	}
	text := bytes.TrimLeft(data, " \t\r\n")
	switch {
	case len(text) == 0:
		return nil, errors.New("empty input")
	case len(data) >= 8 && binary.LittleEndian.Uint64(data) <= 1:
		return nil, errors.New("this is an export stream, which brings its files along")
	case text[0] == '[':
		return parseList(text, "")
	case text[0] == '{':
		return parseMap(text)
	case text[0] == '/':
		return parseText(string(text))
	}
	return nil, errors.New("neither JSON nor a registration")
}

// pathInfo is an object in JSON.
// Nix up to 2.18 leaves out what it does not know, later ones have null: both are the zero value here.
// References are not among that: every Nix prints a list of them, if an empty one.
type pathInfo struct {
	Path       string    `json:"path"`
	Valid      *bool     `json:"valid"`
	StoreDir   string    `json:"storeDir"`
	NARHash    hashJSON  `json:"narHash"`
	NARSize    int64     `json:"narSize"`
	References *[]string `json:"references"`
}

// hashJSON is a hash in JSON: a string, or an object with the keys algorithm, format and hash.
type hashJSON string

func (h *hashJSON) UnmarshalJSON(b []byte) error {
	if b[0] != '{' {
		return json.Unmarshal(b, (*string)(h))
	}
	var v struct{ Algorithm, Hash string }
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*h = hashJSON(v.Hash)
	if !strings.HasPrefix(v.Hash, v.Algorithm) {
		*h = hashJSON(v.Algorithm + ":" + v.Hash)
	}
	return nil
}

var errInvalid = errors.New("not in the store that the description is of")

// object makes an Object of what JSON says.
// Its path and references may be base names in storeDir.
func (info *pathInfo) object(storeDir string) (o Object, err error) {
	if info.StoreDir != "" {
		storeDir = info.StoreDir
	}
	if o.Path, err = absPath(storeDir, info.Path); err != nil {
		return o, err
	}
	if info.Valid != nil && !*info.Valid {
		return o, &MissingError{Path: o.Path, Err: errInvalid}
	}
	if info.References == nil {
		return o, fmt.Errorf("%s: references are missing or null", o.Path)
	}
	if info.NARSize < 0 {
		return o, fmt.Errorf("%s: negative NAR size %d", o.Path, info.NARSize)
	}
	o.NARSize = info.NARSize
	if info.NARHash != "" {
		if o.NARHash, err = ParseHash(string(info.NARHash)); err != nil {
			return o, inObject(o.Path, err)
		}
	}
	for _, s := range *info.References {
		ref, err := absPath(o.Path.Dir(), s)
		if err != nil {
			return o, inObject(o.Path, err)
		}
		o.References = append(o.References, ref)
	}
	return o, nil
}

func absPath(storeDir, s string) (Path, error) {
	if storeDir != "" && !strings.Contains(s, "/") {
		return JoinPath(storeDir, s)
	}
	return ParsePath(s)
}

func parseList(data []byte, storeDir string) ([]Object, error) {
	var infos []*pathInfo
	if err := json.Unmarshal(data, &infos); err != nil {
		return nil, err
	}
	var objects []Object
	for i, info := range infos {
		if info == nil {
			return nil, fmt.Errorf("entry %d of the list is null", i)
		}
		o, err := info.object(storeDir)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

func parseMap(data []byte) ([]Object, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	storeDir := ""
	if raw, ok := m["storeDir"]; ok {
		if err := json.Unmarshal(raw, &storeDir); err != nil {
			return nil, fmt.Errorf("storeDir: %w", err)
		}
	}
	if info, ok := m["info"]; ok && m["version"] != nil {
		m = nil
		if err := json.Unmarshal(info, &m); err != nil {
			return nil, fmt.Errorf("info: %w", err)
		}
		return parseInfos(m, storeDir)
	}
	delete(m, "storeDir")
	delete(m, "version")
	for _, key := range keys(m) {
		if !strings.Contains(key, "/") && checkBase(key) != "" {
			return parseAttrs(m)
		}
	}
	return parseInfos(m, storeDir)
}

// parseInfos reads a map from paths or base names.
func parseInfos(m map[string]json.RawMessage, storeDir string) ([]Object, error) {
	var objects []Object
	for _, key := range keys(m) {
		var info *pathInfo
		if err := json.Unmarshal(m[key], &info); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if info == nil { // null
			info = &pathInfo{Valid: new(bool)}
		}
		info.Path = key
		o, err := info.object(storeDir)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// parseAttrs reads the attributes of a derivation.
// Lists of maps with the keys path and references are graphs.
func parseAttrs(m map[string]json.RawMessage) ([]Object, error) {
	var objects []Object
	for _, key := range keys(m) {
		var list []struct {
			Path       *string   `json:"path"`
			References *[]string `json:"references"`
		}
		if json.Unmarshal(m[key], &list) != nil || len(list) == 0 || list[0].Path == nil || list[0].References == nil {
			continue
		}
		graph, err := parseList(m[key], "")
		if err != nil {
			return nil, err
		}
		objects = append(objects, graph...)
	}
	if len(objects) == 0 {
		return nil, errors.New("no store objects in this JSON")
	}
	return objects, nil
}

func keys(m map[string]json.RawMessage) []string {
	list := make([]string, 0, len(m))
	for key := range m {
		list = append(list, key)
	}
	slices.Sort(list)
	return list
}

// parseText reads lines, for each object:
//
//  1. path
//  2. NAR hash
//  3. NAR size in bytes, decimal
//  4. path of the derivation, or empty
//  5. number of references, decimal
//  6. each reference on a line
//
// Lines 2 and 3 are there in all entries or in none.
func parseText(text string) ([]Object, error) {
	p := &textParser{rest: text}
	var objects []Object
	for strings.TrimRight(p.rest, "\n") != "" {
		o, err := p.object()
		if err != nil {
			if _, ok := err.(*SyntaxError); ok {
				return nil, err
			}
			return nil, fmt.Errorf("line %d: %w", p.line, err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

type textParser struct {
	rest   string
	line   int  // number of the last line
	sure   bool // there has been an entry, and so it is clear
	hashed bool // whether there are lines 2 and 3
}

func (p *textParser) object() (o Object, err error) {
	line, err := p.next()
	if err != nil {
		return o, err
	}
	if o.Path, err = ParsePath(line); err != nil {
		return o, err
	}
	if line, err = p.next(); err != nil {
		return o, err
	}
	if !p.sure {
		p.sure, p.hashed = true, line != "" && line[0] != '/'
	}
	if p.hashed {
		if o.NARHash, err = ParseHash(line); err != nil {
			return o, inObject(o.Path, err)
		}
		if o.NARSize, err = p.number("NAR size"); err != nil {
			return o, err
		}
		if line, err = p.next(); err != nil {
			return o, err
		}
	}
	if line != "" && line[0] != '/' {
		return o, fmt.Errorf("%q where the path of a derivation should be", shorten(line))
	}
	count, err := p.number("number of references")
	if err != nil {
		return o, err
	}
	for range count {
		if line, err = p.next(); err != nil {
			return o, err
		}
		ref, err := ParsePath(line)
		if err != nil {
			return o, inObject(o.Path, err)
		}
		o.References = append(o.References, ref)
	}
	return o, nil
}

func (p *textParser) number(what string) (int64, error) {
	line, err := p.next()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q where the %s should be", shorten(line), what)
	}
	return n, nil
}

func (p *textParser) next() (string, error) {
	line, rest, ok := strings.Cut(p.rest, "\n")
	if !ok {
		return "", fmt.Errorf("the text ends in the middle of an object: %w", io.ErrUnexpectedEOF)
	}
	p.rest = rest
	p.line++
	return line, nil
}

func shorten(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
