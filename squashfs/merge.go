package squashfs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A ConflictError reports two files at the same place of an image.
type ConflictError struct {
	Path   string    // in the image
	Trees  [2]string // the names of the trees that the files come from
	Reason string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("squashfs: place %q: both the tree %q and the tree %q have it: %s",
		e.Path, e.Trees[0], e.Trees[1], e.Reason)
}

// checkTrees judges the names of trees, and the options of those that have been encoded.
func (l *layout) checkTrees(trees []Tree) error {
	if err := checkFiles(trees); err != nil {
		return err
	}
	for i := range trees {
		t := &trees[i]
		if err := checkPlace(t.Name); err != nil {
			return err
		}
		if s := t.segment; s != nil && (s.codec != l.codec.ID || s.blockSize != l.opts.BlockSize) {
			return fmt.Errorf("squashfs: place tree %q: it is encoded with other options", t.Name)
		}
	}
	return nil
}

func checkPlace(name string) error {
	if name == "." {
		return nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !validName(part) {
			return fmt.Errorf("squashfs: place tree %q: want a relative path without \".\" and \"..\"", name)
		}
	}
	return nil
}

// A fileRef names a node of one of the image's parts.
type fileRef struct{ part, node int32 }

// A mount is a directory, or the place of trees, in the image.
type mount struct {
	subs  map[string]*mount
	trees []fileRef // roots of the trees that lie here
}

func (m *mount) sub(name string) *mount {
	s := m.subs[name]
	if s == nil {
		s = &mount{}
		if m.subs == nil {
			m.subs = make(map[string]*mount)
		}
		m.subs[name] = s
	}
	return s
}

// An entry is a file of the image.
// Most are a node of one segment. Directories may be several at once, or none:
// then merged tells what they consist of.
type entry struct {
	name string
	fileRef
	merged *merged
}

type merged struct {
	refs  []fileRef // directories of which the first gives the attributes
	mount *mount    // nil: no more trees lie below
}

func (l *layout) node(r fileRef) *node { return l.parts[r.part].Segment.nodes.at(r.node) }

func (l *layout) isDir(e *entry) bool {
	return e.merged != nil || l.node(e.fileRef).kind == typeDir
}

// merge gives the root directory of all segments together.
func (l *layout) merge() (entry, error) {
	top := &mount{}
	for i := range l.parts {
		m := top
		if name := l.parts[i].Name; name != "." {
			for part := range strings.SplitSeq(name, "/") {
				m = m.sub(part)
			}
		}
		m.trees = append(m.trees, fileRef{int32(i), 0})
	}
	root, err := l.combine(entry{}, top.trees, top, ".")
	if err == nil && !l.isDir(&root) {
		err = fmt.Errorf("squashfs: place tree %q: its root is no directory", l.parts[root.part].Name)
	}
	return root, err
}

// combine makes one file of all that lie at the same place.
func (l *layout) combine(e entry, refs []fileRef, m *mount, place string) (entry, error) {
	if len(refs) == 1 && (m == nil || m.subs == nil) {
		e.fileRef, e.merged = refs[0], nil
		return e, nil
	}
	for i, r := range refs {
		a, b := l.node(refs[0]), l.node(r)
		reason := ""
		switch {
		case b.kind != typeDir || a.kind != typeDir:
			reason = "only directories can be merged"
		case a.mode != b.mode || a.uid != b.uid || a.gid != b.gid || a.mtime != b.mtime:
			reason = "they have other modes, owners or times"
		}
		if reason != "" && (i > 0 || len(refs) == 1) {
			// A lone file is in the way of the trees that lie below it.
			other := r
			if i == 0 {
				other = m.any()
			}
			return e, &ConflictError{place, [2]string{l.parts[refs[0].part].Name, l.parts[other.part].Name}, reason}
		}
	}
	e.merged = &merged{refs, m}
	return e, nil
}

// any returns one of the trees below m, always the same.
func (m *mount) any() fileRef {
	best := fileRef{part: none}
	consider := func(r fileRef) {
		if best.part < 0 || r.part < best.part {
			best = r
		}
	}
	for _, s := range m.subs {
		if len(s.trees) > 0 {
			consider(s.trees[0])
		} else {
			consider(s.any())
		}
	}
	return best
}

// entries lists directory d, by the bytes of the names.
func (l *layout) entries(d *entry, place string) ([]entry, error) {
	if d.merged == nil {
		return l.appendEntries(nil, d.fileRef), nil
	}
	var all []entry
	for _, r := range d.merged.refs {
		all = l.appendEntries(all, r)
	}
	if m := d.merged.mount; m != nil {
		for name, sub := range m.subs {
			all = append(all, entry{name: name, merged: &merged{sub.trees, sub}})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(a.name, b.name) })

	out := all[:0]
	for i := 0; i < len(all); {
		e := all[i]
		var refs []fileRef
		var m *mount
		for ; i < len(all) && all[i].name == e.name; i++ {
			if x := all[i].merged; x != nil {
				refs, m = append(refs, x.refs...), x.mount
			} else {
				refs = append(refs, all[i].fileRef)
			}
		}
		// The order must not follow from that of a map.
		slices.SortFunc(refs, func(a, b fileRef) int { return cmp.Compare(a.part, b.part) })
		e, err := l.combine(e, refs, m, join(place, e.name))
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func (l *layout) appendEntries(list []entry, dir fileRef) []entry {
	s := l.parts[dir.part].Segment
	for i := dir.node + 1; i < s.nodes.at(dir.node).end; i = s.nodes.at(i).end {
		list = append(list, entry{name: s.name(s.nodes.at(i)), fileRef: fileRef{dir.part, i}})
	}
	return list
}
