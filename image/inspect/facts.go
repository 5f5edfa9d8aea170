package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Facts are what inspectors have found in one tree, by the names of the inspectors.
// They follow from the tree alone, and can be kept as long as the tree stays as it is.
type Facts map[string]Found

// Found is what one inspector has found in a tree.
type Found struct {
	Version int             `json:"version"` // of the inspector
	Data    json.RawMessage `json:"data"`    // what its Facts returned
}

var errNoInspector = errors.New("inspect: there is no inspector")

// Of returns the facts that one inspector has found: v, as its Facts returns it.
func Of(i Inspector, v any) (Facts, error) {
	if i == nil {
		return nil, errNoInspector
	}
	if !validName(i.Name()) || i.Version() < 1 {
		return nil, fmt.Errorf("inspect: an inspector cannot be %q in version %d", i.Name(), i.Version())
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("inspect: write facts: %s: %w", i.Name(), err)
	}
	return Facts{i.Name(): {i.Version(), data}}, nil
}

// Missing returns those of a list of inspectors that have not looked at the tree, or in another version.
func (f Facts) Missing(list []Inspector) []Inspector {
	return slices.DeleteFunc(slices.Clone(list), func(i Inspector) bool { return f[i.Name()].Version == i.Version() })
}

// With returns the facts and further ones, which take the place of older ones. Neither is changed.
func (f Facts) With(more Facts) Facts {
	all := make(Facts, len(f)+len(more))
	maps.Copy(all, f)
	maps.Copy(all, more)
	return all
}

// Marshal writes a record of the facts, as [Parse] reads it. Equal facts have equal records.
func (f Facts) Marshal() ([]byte, error) {
	data, err := json.Marshal(map[string]Found(f))
	if err != nil {
		return nil, fmt.Errorf("inspect: write facts: %w", err)
	}
	return data, nil
}

// Parse reads a record of facts:
//
//	{"gpu": {"version": 1, "data": ...}, ...}
//
// What the data are, only their inspector knows.
func Parse(data []byte) (Facts, error) {
	f := make(Facts)
	if err := json.Unmarshal(data, (*map[string]Found)(&f)); err != nil {
		return nil, fmt.Errorf("inspect: read facts: %w", err)
	}
	if f == nil {
		return nil, fmt.Errorf("inspect: read facts: there is no record")
	}
	for name, found := range f {
		if !validName(name) || found.Version < 1 || len(found.Data) == 0 {
			return nil, fmt.Errorf("inspect: read facts: %q has version %d and %d bytes of data", name, found.Version, len(found.Data))
		}
	}
	return f, nil
}

// Decode reads what an inspector has found, as JSON, into v, which must be a pointer.
// Without facts of this inspector in its version the error is a [*MissingError].
func (f Facts) Decode(i Inspector, v any) error {
	if i == nil {
		return errNoInspector
	}
	found, ok := f[i.Name()]
	if !ok || found.Version != i.Version() {
		return &MissingError{Inspector: i.Name(), Version: i.Version(), Found: found.Version}
	}
	if err := json.Unmarshal(found.Data, v); err != nil {
		return fmt.Errorf("inspect: read facts: %s: %w", i.Name(), err)
	}
	return nil
}

// A MissingError reports that a tree has not been looked at by an inspector.
type MissingError struct {
	Inspector string
	Version   int // that is needed
	Found     int // that there is; 0 for none
}

func (e *MissingError) Error() string {
	if e.Found == 0 {
		return fmt.Sprintf("inspect: there are no facts of %s", e.Inspector)
	}
	return fmt.Sprintf("inspect: facts of %s have version %d, not %d", e.Inspector, e.Found, e.Version)
}

// validName reports whether an inspector may have a name.
func validName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// result is what one inspector finds in a tree, while it does.
type result struct {
	Inspector
	findings []any
	gaveUp   bool
}

func newResults(list []Inspector) []result {
	all := make([]result, len(list))
	for i := range list {
		all[i].Inspector = list[i]
	}
	return all
}

func (r *result) add(finding any) {
	if finding != nil {
		r.findings = append(r.findings, finding)
	}
}

// facts are those of the inspectors that have not given up.
func facts(all []result) (Facts, error) {
	f := make(Facts, len(all))
	for i := range all {
		r := &all[i]
		if r.gaveUp {
			continue
		}
		v, err := r.Facts(r.findings)
		if err != nil {
			return nil, fmt.Errorf("inspect: %s: %w", r.Name(), err)
		}
		found, err := Of(r, v)
		if err != nil {
			return nil, err
		}
		maps.Copy(f, found)
	}
	return f, nil
}
